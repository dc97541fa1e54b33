"""Faults at a chosen moment of a run: when the coordinator says something, or has heard of so many finished tasks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from pathloom.worlds.train.runtime.cluster import Cluster
from pathloom.worlds.train.runtime.live_view import LiveIteration


@dataclass
class Moments:
    """Calls what was asked for at moments of the coordinator in this process.

    Attributes
    ----------
    said
        How often the coordinator has said what.
    finished
        Tasks that have been reported since the last iteration began.
    """

    said: dict[str, int] = field(default_factory=dict)
    finished: int = 0
    _at: list[tuple[str, int, int, Callable[[], Any]]] = field(default_factory=list)

    def when(self, do: str, number: int, act: Callable[[], Any], *, after: int | None = None) -> None:
        """Act before the coordinator says `do` for the `number`-th time, or, with `after`, so many tasks later."""
        self._at.append((do, number, -1 if after is None else after, act))

    def _look(self, do: str, finished: int) -> None:
        for entry in list(self._at):
            wanted, number, after, act = entry
            if (
                wanted == do
                and self.said.get(do, 0) == number
                and (after == finished if after < 0 else finished >= after)
            ):
                self._at.remove(entry)
                act()

    def install(self, patch: pytest.MonkeyPatch) -> Moments:
        """Watch every cluster and every iteration from now on."""
        tell, report = Cluster.tell, LiveIteration.report

        def telling(cluster: Cluster, message: Any) -> None:
            do = message("")["do"] if callable(message) else message["do"]
            do = "save" if do == "rest" else do
            self.said[do] = self.said.get(do, 0) + 1
            self.finished = 0 if do in ("iterate", "restart") else self.finished
            self._look(do, -1)
            tell(cluster, message)

        def reporting(live: LiveIteration, row: int, task: int, start: float, end: float) -> None:
            report(live, row, task, start, end)
            self.finished += 1
            self._look("iterate", self.finished)

        patch.setattr(Cluster, "tell", telling)
        patch.setattr(LiveIteration, "report", reporting)
        return self
