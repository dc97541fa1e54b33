"""What a running iteration would come to under a recovery: its real history first, then the simulator.

The history is laid over the simulator's event loop: up to now every node does what it has really done, in that order
and at those times; from now on it takes, of the tasks that are ready, the one that the plan begins first.

The loop can still come to a standstill, where nodes full of activations wait for each other's slots. A run may come out
of that (its times differ, and its order of work looks ahead), so such a recovery is not worth infinity: it is judged
without memory limits, and everything is put off by the time that the microbatches would take one after another, so that
every recovery that comes to an end is preferred to it. Infinite remains only what no run can do: to send over a missing
link.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pathloom.worlds.train._recovery_kernels import judge
from pathloom.worlds.train.attempts import Attempts, Conditions, Replay
from pathloom.worlds.train.outlook import Outlook
from pathloom.worlds.train.problem import Floats, TrainDecisions, TrainProblem
from pathloom.worlds.train.recovery import Expectation, Recovery
from pathloom.worlds.train.simulator import simulate

ON_TIME = 1e-9  # seconds within which a time counts as the planned one, so that rounding reverses no order


def planned_order(problem: TrainProblem, decisions: TrainDecisions) -> TrainDecisions:
    """The decisions with a run's order of work: the task that the plan begins first, of those that are ready.

    Weight gradients, where they are tasks of their own, are done when nothing else is ready.
    """
    starts = simulate(problem, decisions).start
    last = float(np.nanmax(starts, initial=0.0))
    keys = np.where(np.isnan(starts), last + 1.0, starts)
    chain = 2 * decisions.routes.shape[1] + 1
    keys[:, chain:] += last + 2.0
    return replace(decisions, priority=keys, strict=False)


class LiveOutlook(Outlook):
    """Callable of a recovery, as `Outlook` is.

    Parameters
    ----------
    conditions
        The problem at the speeds that its nodes have now; decisions with the run's order of work.
    history
        What has happened: `start` and `end` are nan for tasks that have not begun, and `end` is an estimate, not
        earlier than `time`, for those that are under way.
    delivered
        Shape (R, T): the message after the task has arrived.
    time
        Now.
    dead
        Nodes that do nothing any more.
    averaging
        As for `Outlook`.
    """

    def __init__(
        self,
        conditions: Conditions,
        history: Replay,
        delivered: NDArray[np.bool_],
        time: float,
        dead: Sequence[int],
        averaging: Callable[[Floats], float],
    ) -> None:
        # what the dead have done before now is the history's; when exactly they died changes nothing after it
        gone = dict.fromkeys(dead, time + ON_TIME)
        super().__init__(replace(conditions, loosen_at=time), history, time, gone, averaging)
        self._delivered = delivered
        self._dead = np.zeros(conditions.problem.n_nodes, dtype=np.bool_)
        self._dead[list(dead)] = True
        self.stuck = False

    def __call__(self, recovery: Recovery) -> Expectation:
        """Simulate on; `stuck` says whether the last recovery asked about comes to a standstill."""
        expected = super().__call__(recovery)
        self.stuck = not np.isfinite(expected.seconds)
        return self._without_limits() if self.stuck else expected

    def attempts(self, recovery: Recovery) -> Attempts:
        """All attempts after the recovery, which may leave them as they are."""
        return super().attempts(recovery) if recovery.reissues else self._history.attempts

    def starts(self, recovery: Recovery) -> Floats:
        """Starts of all tasks of all attempts after the recovery, shape (R, T); nan for those that never start."""
        self(recovery)
        assert self._ready is not None
        return self._ready.start.copy()

    def _without_limits(self) -> Expectation:
        ready = self._ready
        assert ready is not None
        limitless = np.full(len(ready.fail_at), ready.node.size, dtype=np.int64)
        last, never = judge(  # type: ignore[call-arg]
            *ready.work_of_nodes[:-1], limitless, ready.fail_at, ready.dropped_at, *ready.windows, ready.start,
            ready.end, ready.workspace, self._conditions.loosen_at, ready.first, ready.heir,
            self._present, self._placement, self._returned, self._done,
        )  # fmt: skip
        if never:
            return Expectation(np.inf, self._returned.copy())
        rows, chain = self._present, ready.laid.chain
        serial = float(ready.duration[rows].sum() + ready.hop[rows, : chain - 1].sum())
        serial += len(rows) * float(ready.laid.rest.sum())
        return Expectation(max(float(last), self._averaging(self._done)) + serial, self._returned + serial)

    def _begin(self, recovery: Recovery) -> None:
        super()._begin(recovery)
        if not recovery.restart:
            self._lay_history()

    def _lay_history(self) -> None:
        """Make the event loop repeat what has happened, at the times at which it did."""
        ready, history, now = self._ready, self._history, self._time
        assert ready is not None
        start, end = history.start, history.end
        n_rows, n_tasks = start.shape
        chain, rest = ready.laid.chain, ready.laid.rest
        node, duration, hop = ready.node[:n_rows], ready.duration[:n_rows], ready.hop[:n_rows]
        ran = np.isfinite(start)
        ended = ran & np.isfinite(end)
        taken = np.where(ended, end - np.where(ran, start, 0.0), duration)
        duration[:] = np.where(np.abs(taken - duration) > ON_TIME, taken, duration)

        # the order of each node, and from when on it was free for each task
        row, task = np.nonzero(ran)
        order = np.lexsort((end[row, task], start[row, task], node[row, task]))
        row, task = row[order], task[order]
        same_node = node[row[1:], task[1:]] == node[row[:-1], task[:-1]]
        free = np.full(len(row), -np.inf)
        over = start[row, task] + duration[row, task] + rest[task]
        free[1:][same_node] = over[:-1][same_node]
        late = free > start[row, task]  # the node has rested less than planned: its task before ends as much earlier
        before = np.flatnonzero(late) - 1
        duration[row[before], task[before]] -= (free - start[row, task])[late]
        np.maximum(duration, 0.0, out=duration)
        free_for = np.full(start.shape, -np.inf)
        free_for[row, task] = np.where(late, -np.inf, free)

        # a message that was used came when its task began, unless it then lay and waited for the node
        begun = start[:, 1:chain]
        used = ran[:, 1:chain] & ran[:, : chain - 1]
        left = start[:, : chain - 1] + duration[:, : chain - 1]
        planned = left + hop[:, : chain - 1]
        as_planned = np.abs(np.maximum(planned, free_for[:, 1:chain]) - begun) <= ON_TIME
        measured = np.maximum(begun - left, 0.0)
        hop[:, : chain - 1] = np.where(used & ~as_planned, measured, hop[:, : chain - 1])
        here = self._delivered[:n_rows, : chain - 1] & ended[:, : chain - 1] & ~used
        hop[:, : chain - 1] = np.where(here & (planned > now), np.maximum(now - left, 0.0), hop[:, : chain - 1])
        on_dead = self._dead[node]
        duration[ran & ~ended & on_dead] = np.inf
        hop[:, : chain - 1][on_dead[:, : chain - 1] & ~used & ~here] = np.inf

        rows = np.arange(n_rows)
        injected = start[rows, ready.first[:n_rows]]
        under_way = np.isfinite(injected)
        ready.release[:n_rows] = np.where(under_way, injected, np.maximum(ready.release[:n_rows], now))
        ready.after[:n_rows][under_way] = -1
        sequence = (row * n_tasks + task).astype(np.int64)
        counts = np.bincount(node[row, task], minlength=len(ready.fail_at))
        sequence_start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        work = (*ready.work_of_nodes[:-3], sequence, sequence_start, ready.work_of_nodes[-1])
        self._ready = replace(ready, work_of_nodes=work)
