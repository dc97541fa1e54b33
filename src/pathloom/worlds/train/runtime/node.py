"""One iteration at one node: take what has arrived, do what the order of work says, send the result on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from pathloom.learn.language_model.decoder import DecoderPart
from pathloom.learn.language_model.weight_gradients import DeferredWeightGradients
from pathloom.worlds.train.problem import TrainProblem
from pathloom.worlds.train.runtime.attempt import Attempt
from pathloom.worlds.train.runtime.batches import Batches
from pathloom.worlds.train.runtime.gradients import FlatGradients, SumInOrder
from pathloom.worlds.train.runtime.order_of_work import OrderOfWork, Task
from pathloom.worlds.train.runtime.settings import RunSettings
from pathloom.worlds.train.runtime.wire import Message, Wire

FLUSH = 0.1
"""Seconds after which finished tasks are reported; the last ones of an iteration are reported at once."""


@dataclass
class Iteration:
    """What is to be done in an iteration.

    Attributes
    ----------
    number
        Counts the iterations of a run, so that late messages of one are not taken for messages of the next.
    start
        Second of the monotonic clock at which it begins.
    position
        Windows of the data used so far.
    attempts
        All attempts, those of other nodes too.
    forward_only
        True for an evaluation.
    share
        Weight of one microbatch's loss in the step's.
    """

    number: int
    start: float
    position: int
    attempts: Sequence[Attempt]
    forward_only: bool
    share: float


@dataclass
class _Visit:
    """An activation held for the backward pass: what came in (None at the source) and what went out."""

    incoming: torch.Tensor | None
    outgoing: torch.Tensor


@dataclass
class Node:
    """The node's side of an iteration; `commands` come from the coordinator between tasks.

    Parameters
    ----------
    parts
        Layers of each virtual stage that this node hosts.
    batches
        Training and validation data; needed at nodes of stage 0.
    report
        Called with lists of (row, task, start, end), seconds since the iteration began.
    """

    index: int
    problem: TrainProblem
    settings: RunSettings
    chunks: int
    split: bool
    parts: Mapping[int, DecoderPart]
    wire: Wire
    batches: Mapping[str, Batches]
    gradients: FlatGradients
    device: torch.device
    slots: int
    strict: bool
    report: Callable[[list[tuple[int, int, float, float]]], None]
    busy_since: float = 0.0
    _unreported: list[tuple[int, int, float, float]] = field(default_factory=list)

    def begin(self, iteration: Iteration) -> None:
        """Get ready for an iteration."""
        self.iteration = iteration
        self.wire.begin(iteration.number)
        self.order = OrderOfWork(self.slots, strict=self.strict)
        self.attempts: dict[int, Attempt] = {}
        self._followers: dict[int, list[int]] = {}
        self._inputs: dict[Task, torch.Tensor | None] = {}
        self._visits: dict[tuple[int, int], _Visit] = {}
        self._targets: dict[int, torch.Tensor] = {}
        self._weights: dict[Task, DeferredWeightGradients] = {}
        self._counted: set[tuple[int, int]] = set()
        self.losses: dict[int, float] = {}
        self._unreported = []
        self._reported = time.monotonic()
        self._add(iteration.attempts)
        self._sums = SumInOrder(self.gradients, self._gradient_tasks(iteration))

    def _gradient_tasks(self, iteration: Iteration) -> list[Task]:
        """Tasks of this node that compute gradients, in planned order."""
        found = [
            (attempt.keys[task], (attempt.row, task))
            for attempt in iteration.attempts
            for row, task in attempt.tasks_at(self.index, split=self.split)
            if task >= attempt.visits and not iteration.forward_only
        ]
        return [task for _, task in sorted(found)]

    def counts_already(self, pairs: Sequence[Sequence[int]]) -> None:
        """Only the gradients of these (microbatch, stage) pairs have been counted, and are not counted again.

        Stage -1 is the head, whose gradient comes with the loss.
        """
        self._counted = {(int(b), int(p)) for b, p in pairs}

    def reorder(self, keys: Mapping[int, Sequence[float]]) -> None:
        """New expected starts of the tasks of attempts under way."""
        self.order.reorder(keys)

    def recover(self, dropped: Sequence[int], attempts: Sequence[Attempt]) -> None:
        """Drop attempts and begin new ones, some of which go on from activations held here."""
        self._sums.any_order()
        heirs = {a.parent: a for a in attempts if a.first > 0}
        for row in dropped:
            attempt = self.attempts.pop(row, None)
            if attempt is None:
                continue
            held = [visit for r, visit in self._visits if r == row]
            held += [3 * attempt.visits - task for r, task in self._weights if r == row]
            kept = heirs[row].first if row in heirs else 0
            self.order.drop(row, held=len(held))
            for visit in held:
                activation = self._visits.pop((row, visit), None)
                if visit < kept and activation is not None:
                    self._visits[heirs[row].row, visit] = activation
            if row in self._targets and kept:
                self._targets[heirs[row].row] = self._targets.pop(row)
            self._targets.pop(row, None)
            for store in [task for task in self._weights if task[0] == row]:
                self._weights.pop(store).discard()
            for task in [task for task in self._inputs if task[0] == row]:
                del self._inputs[task]
        self._add(attempts)
        for attempt in attempts:
            if attempt.first and attempt.route[attempt.first - 1] == self.index:
                held_here = self._visits[attempt.row, attempt.first - 1]
                self.wire.send(attempt.route[attempt.first], attempt.row, attempt.first, held_here.outgoing)

    def finish_weights(self) -> None:
        """Compute the weight gradients that wait.

        The rest of their backward passes (norms, embedding) is in the sum already and cannot be taken out again, so
        that an attempt that is dropped between the two parts would count half.
        """
        for task in list(self._weights):
            self.order.begin(task)
            self._do(*task)

    def restart(self, iteration: Iteration) -> None:
        """Forget everything and begin anew."""
        for store in self._weights.values():
            store.discard()
        losses = self.losses
        self.begin(iteration)
        self.losses = losses

    def arrived(self) -> list[Task]:
        """Tasks whose input is here."""
        return [*self._inputs, *self.wire.waiting()]

    def work(self, wait: float) -> bool:
        """Do one task, or wait for a message up to `wait` seconds; True if a task was done."""
        while (message := self.wire.take(0.0)) is not None:
            self._receive(message)
        task = self.order.next()
        if task is None:
            if not len(self.order):
                self.flush()  # the iteration may have waited for this
            elif self._unreported:
                left = self._reported + FLUSH - time.monotonic()
                if left <= 0:
                    self.flush()
                else:
                    wait = min(wait, left)
            message = self.wire.take(wait)
            if message is not None:
                self._receive(message)
            return False
        self._do(*task)
        return True

    def flush(self) -> None:
        """Report what has been done."""
        if self._unreported:
            self.report(self._unreported)
            self._unreported = []
        self._reported = time.monotonic()

    def _add(self, attempts: Sequence[Attempt]) -> None:
        for attempt in attempts:
            self.attempts[attempt.row] = attempt
            if attempt.after >= 0 and attempt.first == 0:
                self._followers.setdefault(attempt.after, []).append(attempt.row)
            mine = attempt.tasks_at(self.index, split=self.split)
            if not mine:
                continue
            self.order.take_over(attempt.held_at(self.index))
            self.order.add(mine)
            if attempt.first == 0 and attempt.route[0] == self.index and attempt.after < 0:
                self._release(attempt)
        for task in [task for task in self._inputs if task[0] in self.attempts]:
            self.order.ready(task)

    def _release(self, attempt: Attempt) -> None:
        """Let a microbatch begin, at its planned release where the plan's times are imitated."""
        second = self.iteration.start
        if self.settings.compute == "planned":
            second += attempt.release * self.settings.time_scale
        if second > time.monotonic():
            self.wire.notify_at(attempt.row, 0, second)
        else:
            self._inputs[attempt.row, 0] = None
            self.order.ready((attempt.row, 0))

    def _receive(self, message: Message) -> None:
        task = (message.row, message.task)
        self._inputs[task] = message.tensor
        self.order.ready(task)

    def _do(self, row: int, task: int) -> None:
        began = self.busy_since = time.monotonic()
        attempt = self.attempts[row]
        k = attempt.visits
        incoming = self._inputs.pop((row, task), None)
        if incoming is not None:
            incoming = incoming.to(self.device)
        send: tuple[int, int, torch.Tensor | None] | None = None
        follow_up: Task | None = None
        slot = 0
        if task < k:
            outgoing = self._forward(attempt, task, incoming)
            send = (attempt.route[task + 1] if task + 1 < k else attempt.route[0], task + 1, outgoing)
        elif task == k:
            into = self._loss(attempt, incoming)
            if not self.iteration.forward_only:
                send = (attempt.route[k - 1], k + 1, into)
        elif task <= 2 * k:
            visit = 2 * k - task
            into = self._backward(attempt, visit, incoming)
            slot = 0 if self.split else -1
            if visit:
                send = (attempt.route[visit - 1], task + 1, into)
            if self.split:
                follow_up = (row, 3 * k - visit)
        else:
            with self._sums.turn_of((row, task)):
                self._weights.pop((row, task)).compute()
            slot = -1
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        rest = self._imitate(attempt, task, began)
        ended = time.monotonic()
        self.order.ended(slot)
        if send is not None:
            self.wire.send(send[0], row, send[1], send[2])
        if follow_up is not None:
            self.order.ready(follow_up)
        if task == 2 * k:
            self._returned(row)
            del self._targets[row]  # until now a new attempt might have had to compute the loss again
        start = self.iteration.start
        self._unreported.append((row, task, began - start, ended - start))
        if ended - self._reported > FLUSH:
            self.flush()
        if rest > 0:
            _sleep_until(ended + rest)
        self.busy_since = 0.0

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.precision == "bfloat16")

    def _forward(self, attempt: Attempt, visit: int, incoming: torch.Tensor | None) -> torch.Tensor:
        part = self.parts[attempt.stages[visit]]
        learning = not self.iteration.forward_only
        with torch.set_grad_enabled(learning), self._autocast():
            if visit == 0:
                split = "train" if learning else "validation"
                position = self.iteration.position + attempt.microbatch * self.batches[split].samples
                tokens, targets = self.batches[split].microbatch(position)
                self._targets[attempt.row] = targets.to(self.device)
                outgoing = part(part.embed(tokens.to(self.device)))
            else:
                assert incoming is not None
                incoming.requires_grad_(learning)
                outgoing = part(incoming)
        if learning:
            self._visits[attempt.row, visit] = _Visit(incoming, outgoing)
        return outgoing

    def _loss(self, attempt: Attempt, incoming: torch.Tensor | None) -> torch.Tensor | None:
        assert incoming is not None
        learning = not self.iteration.forward_only
        part = self.parts[0]
        hidden = incoming.detach().requires_grad_(learning)
        targets = self._targets[attempt.row]
        with torch.set_grad_enabled(learning), self._autocast():
            loss = part.loss(hidden, targets)
        self.losses[attempt.microbatch] = float(loss.detach())
        if not learning:
            return None
        scaled = loss * self.iteration.share
        if (attempt.microbatch, -1) in self._counted:
            return torch.autograd.grad(scaled, hidden)[0]
        with self._sums.turn_of((attempt.row, attempt.visits)):
            scaled.backward()  # type: ignore[no-untyped-call]
        return hidden.grad

    def _backward(self, attempt: Attempt, visit: int, gradient: torch.Tensor | None) -> torch.Tensor | None:
        assert gradient is not None
        held = self._visits.pop((attempt.row, visit))
        counts = (attempt.microbatch, attempt.stages[visit]) not in self._counted
        task = (attempt.row, 2 * attempt.visits - visit)
        if self.split:
            store = DeferredWeightGradients(count=counts)
            with self._sums.turn_of(task), store:
                torch.autograd.backward(held.outgoing, gradient)
            self._weights[attempt.row, 3 * attempt.visits - visit] = store
            return None if held.incoming is None else held.incoming.grad
        if counts:
            with self._sums.turn_of(task):
                torch.autograd.backward(held.outgoing, gradient)
            return None if held.incoming is None else held.incoming.grad
        if held.incoming is None:
            return None
        return torch.autograd.grad(held.outgoing, held.incoming, gradient)[0]

    def _returned(self, row: int) -> None:
        for follower in self._followers.get(row, ()):
            attempt = self.attempts.get(follower)
            if attempt is not None:
                self.wire.send(attempt.route[0], follower, 0, None)

    def _imitate(self, attempt: Attempt, task: int, began: float) -> float:
        """Wait until the task has taken what it takes in the plan; seconds of rest that follow it there."""
        if self.settings.compute == "real":
            return 0.0
        k, n, problem = attempt.visits, self.index, self.problem
        scale = self.settings.time_scale
        if task == k:
            planned = problem.loss[n]
        else:
            visit = task if task < k else 2 * k - task if task <= 2 * k else 3 * k - task
            stage = attempt.stages[visit] % problem.n_stages
            weight = problem.weight[n, stage] if self.split else 0.0
            table = problem.forward if task < k else problem.backward
            planned = (weight if task > 2 * k else table[n, stage] - (weight if task > k else 0.0)) / self.chunks
        _sleep_until(began + float(planned) * scale)
        return float(problem.injection_gap if task == 0 else problem.gap) * scale


def _sleep_until(second: float) -> None:
    while (left := second - time.monotonic()) > 0:
        time.sleep(left)
