"""Real runs of a plan whose nodes are killed, or stopped, at chosen moments, and a record of everything that followed.

The moments are chosen by what the coordinator has just told the nodes (begin the iteration, sum the gradients, take the
step, save, ...), which is watched where it leaves the coordinator; how nodes are lost is watched there too. The run
itself is an ordinary one.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from pathloom.plan import InputError
from pathloom.worlds.train.problem import SYNC

ITERATION, AVERAGING, UPDATE = "iteration", "averaging", "update"
VALIDATION, CHECKPOINT = "validation", "checkpoint"
RECOVERY, REPLANNING, JOINING = "recovery", "re-planning", "joining"
KILL, STOP = "kill -9", "stop"


@dataclass(frozen=True)
class Hit:
    """A node to be hit, and when.

    Attributes
    ----------
    node
        Name.
    step
        Optimizer step in progress, from 1; the checkpoint after step s belongs to step s + 1.
    phase
        The first of its kind in that step or later. The hit comes `seconds` after it has begun, whether it lasts that
        long or not.
    how
        `KILL` or `STOP`.
    """

    node: str
    step: int
    phase: str
    seconds: float
    how: str = KILL


def phase_of(message: Mapping[str, Any]) -> str | None:
    """The phase that a message of the coordinator to a node begins; None for one that begins none."""
    what = message.get("do")
    if what == "iterate":
        return VALIDATION if message["forward_only"] else ITERATION
    if what == "finish":
        return AVERAGING if message["reduce"] else REPLANNING
    phases = {"reduce": AVERAGING, "apply": UPDATE, "save": CHECKPOINT, "pause": RECOVERY, "join": JOINING}
    phases |= {"recover": ITERATION, "restart": ITERATION}
    return phases.get(str(what))


class Watch:
    """Looks on while a run is led, and hits the nodes when it is time, one after another."""

    def __init__(self, hits: Sequence[Hit], folder: Path) -> None:
        self.folder, self.pids = folder, dict[str, int]()
        self.phase, self.step, self.start = "", 1, 0.0
        self.struck: list[dict[str, Any]] = []
        self.losses: list[dict[str, Any]] = []
        self.pauses: list[float] = []
        self.decisions: list[float] = []
        self._pending = list(hits)
        self._timers: list[threading.Timer] = []

    @contextmanager
    def looking(self) -> Iterator[None]:
        """While inside, the coordinator of this process is watched."""
        from pathloom.worlds.train.runtime.cluster import Cluster
        from pathloom.worlds.train.runtime.control import Channel

        send, lose = Channel.send, Cluster.lose

        def watched_send(channel: Channel, message: dict[str, Any]) -> None:
            self._told(message)
            send(channel, message)

        def watched_lose(cluster: Cluster, name: str, why: str) -> None:
            if name in cluster.members:
                self.losses.append({"node": name, "second": time.monotonic(), "why": why})
            lose(cluster, name, why)

        with patch.object(Channel, "send", watched_send), patch.object(Cluster, "lose", watched_lose):
            try:
                yield
            finally:
                self._pending.clear()
                for timer in self._timers:
                    timer.cancel()
                    timer.join()

    def _told(self, message: Mapping[str, Any]) -> None:
        """A message leaves for one of the nodes; the first of a round counts."""
        phase, now = phase_of(message), time.monotonic()
        if phase is None:
            return
        if message["do"] in ("recover", "restart") and self.phase == RECOVERY:
            self.decisions.append(now)
        if phase == RECOVERY != self.phase:
            self.pauses.append(now)
        self.phase = phase
        if message["do"] == "iterate":
            self.start = float(message["start"])
        busy = any(timer.is_alive() for timer in self._timers)
        if self._pending and not busy and self._pending[0].phase == phase and self._pending[0].step <= self.step:
            hit = self._pending.pop(0)
            begins = self.start if message["do"] == "iterate" else now
            timer = threading.Timer(max(begins + hit.seconds - now, 0.0), self._strike, (hit,))
            timer.daemon = True
            self._timers.append(timer)
            timer.start()

    def _strike(self, hit: Hit) -> None:
        from pathloom.worlds.train.runtime import checkpoint as checkpoints

        saved = checkpoints.steps(self.folder)
        phase, step, start = self.phase, self.step, self.start
        with suppress(ProcessLookupError):
            os.kill(self.pids[hit.node], signal.SIGSTOP if hit.how == STOP else signal.SIGKILL)
            now = time.monotonic()
            struck = {"node": hit.node, "second": now, "since_start": now - start, "step": step, "phase": phase}
            self.struck.append({**struck, "checkpoint": saved[-1] if saved else 0, "how": hit.how})


def killed_run(plan: Path, settings: Mapping[str, Any], hits: Sequence[Hit], out: Path, limit: float) -> dict[str, Any]:
    """Run a plan, hit nodes, and say what came of it, in plain JSON values; `out` is removed afterwards.

    Parameters
    ----------
    limit
        Seconds after which all nodes are killed, so that a run that has come to a standstill ends as a failed one.

    Returns
    -------
    dict
        ``steps`` (each step's record as it was given, with the ``second`` at which it was), ``events``, ``struck``
        (node, second, seconds since the iteration began, step and phase, newest checkpoint then), ``losses`` (as the
        coordinator noticed them), ``pauses`` and ``decisions`` (seconds at which nodes were told to stand still, and
        how to go on), ``status``, ``error``, ``passes`` (end of the last pass of the last undisturbed iteration) and
        ``hits``. Seconds are those of the monotonic clock.
    """
    from pathloom.worlds.train.runtime.local_processes import local_launcher
    from pathloom.worlds.train.runtime.run import run_plan

    shutil.rmtree(out, ignore_errors=True)
    watch, launch = Watch(hits, out), local_launcher()
    steps: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []

    def launched(name: str, address: tuple[str, int]) -> Any:
        process = launch(name, address)
        watch.pids[name] = process.pid
        return process

    def step(record: Mapping[str, Any]) -> None:
        steps.append({**record, "second": time.monotonic()})
        watch.step = int(record["step"]) + 1

    def event(record: Mapping[str, Any]) -> None:
        events.append({**record, "second": time.monotonic()})
        watch.step -= int(record.get("steps_lost", 0))

    def end_all() -> None:
        for pid in watch.pids.values():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    status, error = "failed", ""
    guard = threading.Timer(limit, end_all)
    guard.daemon = True
    guard.start()
    try:
        with watch.looking():
            result = run_plan(plan, out=out, options=settings, launcher=launched, on_step=step, on_event=event)
        status = "failed" if result is None else str(result.figures["status"])
    except InputError as wrong:
        error = str(wrong)
    except Exception as wrong:  # whatever it is, it is this run's result, and the other runs go on
        error = f"{type(wrong).__name__}: {wrong}"
    finally:
        guard.cancel()
    found = {
        "steps": steps,
        "events": events,
        "struck": watch.struck,
        "losses": watch.losses,
        "pauses": watch.pauses,
        "decisions": watch.decisions,
        "status": status,
        "error": error,
        "passes": _end_of_passes(out / "timeline.json"),
        "hits": [asdict(hit) for hit in hits],
    }
    shutil.rmtree(out, ignore_errors=True)
    return found


def _end_of_passes(file: Path) -> float | None:
    """Second at which the last pass of a recorded iteration ended, the averaging of gradients left out."""
    from pathloom.timeline import Timeline

    if not file.exists():
        return None
    recorded = Timeline.from_dict(json.loads(file.read_text(encoding="utf-8")))
    return float(recorded.end[recorded.kind != SYNC].max())
