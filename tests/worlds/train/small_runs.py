"""Runs of a model of a few thousand weights on a handful of processes: plans, tokens, and what runs leave behind."""

from __future__ import annotations

import contextlib
import json
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pathloom.data.token_files import write_tokens
from pathloom.data.tokenizers import load_tokenizer
from pathloom.plan import Plan
from pathloom.worlds.train import full_pipelines
from pathloom.worlds.train.check import check
from pathloom.worlds.train.llama import LlamaShape
from pathloom.worlds.train.plan_files import write_plan
from pathloom.worlds.train.problem import Reordering, TrainProblem, Workload
from pathloom.worlds.train.random_skips import random_skips

MARK = "PATHLOOM_TEST_PROCESSES"
"""Variable of the environment by which processes of these tests are told from others."""

os.environ.setdefault(MARK, str(os.getpid()))

SHAPE = LlamaShape(dim=32, layers=4, heads=4, kv_heads=2, ffn_dim=48, context=16, vocab=256)


def training(
    sizes: Sequence[int] = (2, 2, 2),
    *,
    layers: Sequence[int] | None = None,
    microbatches: int = 6,
    route_length: int | None = None,
    shape: LlamaShape = SHAPE,
    samples: int = 2,
    seconds: float = 0.004,
    memory: int | Any = 4,
    **changes: Any,
) -> TrainProblem:
    """Nodes "n0", "n1", ... in stages of these sizes, whose layers sum to those of the model.

    A forward pass takes `seconds`, a backward pass twice that, a message as long as a forward pass.
    """
    n, s = sum(sizes), len(sizes)
    own = [shape.layers // s + (p < shape.layers % s) for p in range(s)] if layers is None else list(layers)
    given: dict[str, Any] = {
        "name": "small run",
        "nodes": tuple(f"n{i}" for i in range(n)),
        "locations": tuple(f"region{i % 2}" for i in range(n)),
        "forward": np.full((n, s), seconds),
        "backward": np.full((n, s), 2 * seconds),
        "weight": np.full((n, s), 0.75 * seconds),
        "loss": np.full(n, seconds / 2),
        "link": seconds * (1 - np.eye(n)),
        "memory": np.broadcast_to(memory, n),
        "stage_sizes": np.array(sizes),
        "placement": np.repeat(np.arange(s), sizes),
        "microbatches": microbatches,
        "route_length": s if route_length is None else route_length,
        "source_cap": microbatches,
        "stage_cap": np.full(s, microbatches),
        "node_cap": np.full(n, microbatches),
        "reordering": Reordering(distance=1, swaps=2, total=2, jump=4),
        "gap": 0.0,
        "injection_gap": 0.0,
        "workload": Workload(shape, tuple(own), samples),
    }
    return TrainProblem(**{**given, **changes})


def skipping(seed: int = 0, **changes: Any) -> Plan:
    """A plan for six nodes in four stages of which a microbatch visits three, some of them swapped."""
    given: dict[str, Any] = {"sizes": (2, 2, 1, 1), "route_length": 3, **changes}
    problem = training(**given)
    return random_skips(problem, time_limit=0.0, seed=seed)


def full(method: str = "gpipe", problem: TrainProblem | None = None, **changes: Any) -> Plan:
    """A full pipeline on the nodes of `training`."""
    methods = {
        "gpipe": full_pipelines.gpipe,
        "1f1b": full_pipelines.one_f_one_b,
        "zb-h1": full_pipelines.zb_h1,
        "interleaved-1f1b": full_pipelines.interleaved,
        "dtfm": full_pipelines.dtfm,
    }
    problem = problem or training(**changes)
    return methods[method](problem, time_limit=0.0, placement=problem.placement)


def written(plan: Plan, file: Path) -> Path:
    """The plan as a file, accepted by its checker."""
    assert [str(v) for v in check(plan.problem, plan)] == []
    file.parent.mkdir(parents=True, exist_ok=True)
    write_plan(plan, file)
    return file


def text_tokens(folder: Path, *, characters: int = 20_000, seed: int = 0, validation_share: float = 0.1) -> Path:
    """A byte-level token data set of nonsense that has something to learn: words of a small vocabulary."""
    rng = np.random.default_rng(seed)
    words = ["".join(rng.choice(list("aeioulnrst"), rng.integers(2, 6))) for _ in range(40)]
    text = " ".join(rng.choice(words, characters // 4))[:characters]
    source = folder.parent / f"{folder.name}.txt"
    folder.parent.mkdir(parents=True, exist_ok=True)
    source.write_text(text, encoding="utf-8")
    write_tokens(folder, [source], load_tokenizer("bytes"), validation_share=validation_share)
    return folder


@dataclass
class Outcome:
    """What a run of a test came to."""

    out: Path
    result: Any
    steps: list[dict[str, Any]]
    events: list[dict[str, Any]]

    @property
    def losses(self) -> list[float]:
        return [record["loss"] for record in self.steps]

    def checkpoint(self, step: int | None = None) -> Any:
        """The checkpoint of a step, by default the newest."""
        from pathloom.worlds.train.runtime.checkpoint import Checkpoint, latest, step_folder

        return latest(self.out) if step is None else Checkpoint.open(step_folder(self.out, step))

    def metrics(self) -> list[dict[str, Any]]:
        """Lines of ``metrics.jsonl``."""
        return [json.loads(line) for line in (self.out / "metrics.jsonl").read_text().splitlines()]


def run(
    plan: Path,
    out: Path,
    *,
    on_step: Callable[[Mapping[str, Any]], None] | None = None,
    launcher: Any = None,
    resume: bool = False,
    initial: Path | None = None,
    port: int = 0,
    console: Any = None,
    **options: Any,
) -> Outcome:
    """Run a plan in this process, its nodes in processes of their own; `options` are settings."""
    from pathloom.worlds.train.runtime.run import run_plan

    steps: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []

    def noted(record: Mapping[str, Any]) -> None:
        steps.append(dict(record))
        if on_step is not None:
            on_step(record)

    result = run_plan(
        plan,
        out=out,
        options=options,
        resume=resume,
        initial=initial,
        port=port,
        launcher=launcher,
        console=console,
        on_step=noted,
        on_event=lambda record: events.append(dict(record)),
    )
    return Outcome(out, result, steps, events)


@dataclass
class Watched:
    """A launcher of local nodes that remembers their process ids."""

    pids: dict[str, int] = field(default_factory=dict)

    def __call__(self, name: str, address: tuple[str, int]) -> Any:
        from pathloom.worlds.train.runtime.local_processes import local_launcher

        process = local_launcher()(name, address)
        self.pids[name] = process.pid
        return process

    def signal(self, name: str, number: int) -> None:
        """Send the node's process a signal."""
        os.kill(self.pids[name], number)


def _own_helpers() -> set[int]:
    """Servers that multiprocessing keeps for the whole session."""
    found = {os.getpid()}
    for server, name in (
        (multiprocessing.forkserver._forkserver, "_forkserver_pid"),  # type: ignore[attr-defined]
        (multiprocessing.resource_tracker._resource_tracker, "_pid"),  # type: ignore[attr-defined]
    ):
        pid = getattr(server, name, None)
        if pid is not None:
            found.add(pid)
    return found


def running() -> dict[int, str]:
    """Processes that tests of this session have started and that are still there: id -> command line."""
    mark, helpers = f"{MARK}={os.environ[MARK]}".encode(), _own_helpers()
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in helpers:
            continue
        with contextlib.suppress(OSError):
            state = (entry / "stat").read_text().rpartition(")")[2].split()
            if state[0] == "Z":
                continue
            if int(state[1]) in helpers - {os.getpid()} or mark in (entry / "environ").read_bytes().split(b"\0"):
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:200]
    return found


@contextlib.contextmanager
def nothing_left(seconds: float = 10.0) -> Iterator[None]:
    """Fail where processes that were begun inside are still there some seconds after; they are ended."""
    before = set(running())
    yield
    left = wait_for(lambda: not set(running()) - before, seconds)
    if not left:
        late = {pid: command for pid, command in running().items() if pid not in before}
        for pid in late:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        raise AssertionError(f"processes are left over: {late}")


def wait_for(condition: Callable[[], Any], seconds: float = 30.0) -> bool:
    """Whether the condition comes true within that many seconds."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True
