"""What an iteration would come to under a recovery: the simulator as the objective of a search.

A search changes one or two attempts at a time, so that only their rows are laid out anew before the next run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pathloom.worlds.train._recovery_kernels import judge, lay_row
from pathloom.worlds.train.attempts import Attempts, Conditions, Prepared, Reissue, Replay, prepare
from pathloom.worlds.train.problem import Floats
from pathloom.worlds.train.recovery import Expectation, Recovery


class Outlook:
    """Callable of a recovery; remembers the last one.

    Parameters
    ----------
    conditions
        With `known_until` at the time of the decision.
    history
        What has happened, with all attempts so far.
    time
        Time of the decision.
    failures
        Deaths that have been noticed (node -> second).
    averaging
        From the last useful end by stage, shape (S,), to the end of the last gradient averaging.
    """

    def __init__(
        self,
        conditions: Conditions,
        history: Replay,
        time: float,
        failures: Mapping[int, float],
        averaging: Callable[[Floats], float],
    ) -> None:
        self._conditions, self._history, self._time = conditions, history, time
        self._failures, self._averaging = failures, averaging
        problem, decisions = conditions.problem, conditions.decisions
        self._tables = (problem.forward, problem.backward, problem.weight, problem.loss, problem.link)
        self._shape = (decisions.chunks, decisions.split_backward)
        self._placement = np.asarray(decisions.placement, dtype=np.int64)
        self._planned_release = Attempts.planned(decisions).release
        self._returned = np.empty(len(decisions.routes))
        self._done = np.empty(problem.n_stages)
        self._known: tuple[Reissue, ...] = ()
        self._restart: bool | None = None
        self._ready: Prepared | None = None

    def __call__(self, recovery: Recovery) -> Expectation:
        """Simulate on; what cannot be known yet is taken to go as planned."""
        reissues = recovery.reissues
        if self._ready is None or recovery.restart != self._restart or len(reissues) != len(self._known):
            self._begin(recovery)
        else:
            self._change(reissues)
        ready = self._ready
        assert ready is not None
        last, never = judge(  # type: ignore[call-arg]
            *ready.work_of_nodes, ready.fail_at, ready.dropped_at, *ready.windows, ready.start, ready.end,
            ready.workspace, self._conditions.loosen_at, ready.first, ready.heir,
            self._present, self._placement, self._returned, self._done,
        )  # fmt: skip
        seconds = max(float(last), self._averaging(self._done)) if never == 0 else np.inf
        return Expectation(seconds, self._returned.copy())

    def attempts(self, recovery: Recovery) -> Attempts:
        """All attempts after the recovery."""
        if recovery.restart:
            return Attempts.restarted(self._conditions.decisions, recovery.reissues, self._time)
        return self._history.attempts.extended(recovery.reissues, self._time, self._history)

    def _begin(self, recovery: Recovery) -> None:
        attempts = self.attempts(recovery)
        history = None if recovery.restart else self._history
        self._ready = prepare(self._conditions, attempts, self._failures, history=history)
        self._present = attempts.present.copy()
        self._known, self._restart = recovery.reissues, recovery.restart
        self._first_row = len(attempts) - len(recovery.reissues)

    def _change(self, reissues: Sequence[Reissue]) -> None:
        ready, history = self._ready, self._history
        assert ready is not None
        changed = [i for i, (new, old) in enumerate(zip(reissues, self._known, strict=True)) if new is not old]
        moved = False
        for i in changed:
            new, row = reissues[i], self._first_row + i
            moved |= new.microbatch != self._known[i].microbatch
            lay_row(row, new.route, new.stages, *self._tables, *self._shape, ready.node, ready.duration, ready.hop)
            ready.first[row] = new.first
            if self._restart:
                ready.release[row] = self._planned_release[new.microbatch] + self._time
                continue
            old_row = int(history.attempts.present[new.microbatch])
            ready.heir[old_row] = row if new.first > 0 else -1
            ready.release[row] = (
                history.leaves(old_row, new.first, new.route, self._time) if new.first > 0 else self._time
            )
        if moved:
            priority = self._conditions.decisions.priority
            for i in changed:
                microbatch, row = reissues[i].microbatch, self._first_row + i
                self._present[microbatch] = row
                if priority is not None:
                    ready.key[row, : priority.shape[1]] = priority[microbatch]
        for i in range(len(reissues)) if moved else changed:
            new = reissues[i]
            waits = new.after >= 0 and new.first == 0
            ready.after[self._first_row + i] = self._present[new.after] if waits else -1
        self._known = tuple(reissues)
