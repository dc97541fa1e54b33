"""How many tokens a second does a pipeline train here, and how many with torch.distributed.pipelining?

The same decoder, cut into as many stages, on as many processes of one machine with one thread each; the same tokens,
initial weights, microbatches, clipping and AdamW. The two sides take turns, a few steps each, with both sets of
processes alive throughout and the idle one asleep. A step is everything from one step's end to the next one's:
forward and backward passes, gradient norm, optimizer, and here also metrics and the reports of every task.

Here the output head is on stage 0, so that a microbatch goes round a ring; the peer has its head on the last stage.
Each side is cut as is best for it, found in short runs of 1F1B before.
"""

from __future__ import annotations

import _one_thread  # noqa: F401  # isort: skip

import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import numpy as np
import torch

from _table import Cell, Table, finish, options, say
from _targets import TARGETS, Verdict
from _torch_pipeline import TorchPipeline, Workload
from pathloom.plan import Plan
from pathloom.schedule.pipelines import Operation, Orders
from pathloom.worlds.train import full_pipelines
from pathloom.worlds.train.files import loads
from pathloom.worlds.train.plan_files import write_plan
from pathloom.worlds.train.problem import TrainProblem

NAME = "pipelining_peer"
SIZES: dict[str, dict[str, int]] = {
    "dim 256": {"dim": 256, "layers": 8, "heads": 4, "ffn_dim": 768, "context": 128, "vocab": 256},
    "dim 64": {"dim": 64, "layers": 8, "heads": 4, "ffn_dim": 192, "context": 128, "vocab": 256},
}
QUICK = {"quick": {"dim": 64, "layers": 4, "heads": 4, "ffn_dim": 192, "context": 64, "vocab": 256}}
SAMPLES, MICROBATCHES = 4, 8
SETTINGS: dict[str, Any] = {"learning_rate": 1e-3, "schedule": "constant", "device": "cpu", "seed": 0}
WARM_UP = 3
SAME = 1e-3
"""Largest relative difference of losses and gradient norms of the warm-up steps: sums of millions of float32."""


def one_forward_more(problem: TrainProblem, *, time_limit: float) -> Plan:
    """1F1B whose warm-up has one forward more on every stage, for the loss's way back to stage 0 and out again."""

    def orders(limits: list[int], microbatches: int) -> Orders:
        stages = len(limits)
        found: Orders = []
        for s in range(stages):
            lead = min(stages - s + 1, microbatches)
            row = [Operation(s, "F", b) for b in range(lead)]
            for b in range(microbatches):
                row.append(Operation(s, "B", b))
                row += [Operation(s, "F", lead + b)] if lead + b < microbatches else []
            found.append(row)
        return found

    return full_pipelines._strict(problem, "1f1b", orders, time_limit, 0, None, None)


SCHEDULES: dict[str, tuple[Callable[..., Plan], str]] = {
    "1F1B": (full_pipelines.one_f_one_b, "1f1b"),
    "1F1B, a forward more": (one_forward_more, "1f1b"),
    "GPipe": (full_pipelines.gpipe, "gpipe"),
    "ZB-H1": (full_pipelines.zb_h1, "zb-h1"),
}
COLUMNS = [
    "model",
    "processes",
    "schedule",
    "layers here",
    "layers peer",
    "steps each",
    "tokens/s here",
    "its quartiles",
    "tokens/s peer",
    "quartiles of it",
    "here / peer",
    "least and most of a turn",
    "CPU s/step here",
    "CPU s/step peer",
]

Cut = list[int]


def stages_problem(workload: Workload, cut: Cut) -> TrainProblem:
    """One node a stage, links so fast that they do not matter, and memory for all microbatches."""
    names = [f"node-{p}" for p in range(len(cut))]
    nodes = ", ".join(
        f"{{name: {name}, region: {name}, speed: 1 ms, memory: {workload.microbatches}}}" for name in names
    )
    pairs = ", ".join(
        f"{{between: [{a}, {b}], delay: 0.05 ms, bandwidth: 5 GB/s}}" for i, a in enumerate(names) for b in names[:i]
    )
    model = ", ".join(f"{key}: {value}" for key, value in workload.model.items())
    return loads(
        f"""
name: {len(cut)} stages on one machine
nodes: [{nodes}]
links: {{pairs: [{pairs}], overhead: 0}}
model: {{{model}}}
microbatches: {workload.microbatches}
samples: {workload.samples}
stages: {{count: {len(cut)}, layers: {cut}, placement: [{", ".join(f"[{name}]" for name in names)}]}}
times: {{gap: 0, injection_gap: 0, backward: 2, loss: 0.25}}
"""
    )


@dataclass
class Turns:
    """Alternating measurement: `warm_up` steps each, then in every turn one step that does not count and `steps`."""

    warm_up: int
    turns: int
    steps: int

    @property
    def total(self) -> int:
        """Steps that each side does."""
        return self.warm_up + self.turns * (self.steps + 1)


@dataclass
class Side:
    """What was measured of one side: seconds of the counted steps of each turn, CPU seconds of its whole turns."""

    seconds: list[list[float]] = field(default_factory=list)
    cpu: float = 0.0
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)

    @property
    def counted(self) -> list[float]:
        """Seconds of all counted steps."""
        return list(chain.from_iterable(self.seconds))


class Alternation:
    """Both sides of one row; an object of it is called back by the run after each of its steps."""

    def __init__(self, turns: Turns, peer: TorchPipeline) -> None:
        self.turns, self.peer = turns, peer
        self.ours, self.theirs = Side(), Side()
        self._seconds: list[float] = []
        self._last = self._cpu = 0.0

    def begin(self) -> None:
        """Warm the peer up."""
        self._peer(self.turns.warm_up, counts=False)
        self._clock()

    def step(self, record: Mapping[str, Any]) -> None:
        """A step of ours has ended; the peer's turn comes after the last of a turn."""
        self._seconds.append(time.perf_counter() - self._last)
        done, turns = int(record["step"]), self.turns
        if done <= turns.warm_up:
            self.ours.losses.append(record["loss"])
            self.ours.norms.append(record["gradient_norm"])
            self._seconds = []
        elif (done - turns.warm_up) % (turns.steps + 1) == 0:
            self.ours.cpu += _cpu_of_nodes() + time.process_time() - self._cpu
            self.ours.seconds.append(self._seconds[1:])
            self._peer(turns.steps + 1, counts=True)
            self._seconds = []
        else:
            self._last = time.perf_counter()
            return
        self._clock()

    def _clock(self) -> None:
        self._cpu = _cpu_of_nodes() + time.process_time()
        self._last = time.perf_counter()

    def _peer(self, steps: int, *, counts: bool) -> None:
        pids = [int(process.pid or 0) for process in self.peer.processes]
        before = sum(map(_cpu_seconds, pids))
        done = self.peer.run(steps)
        if counts:
            self.theirs.cpu += sum(map(_cpu_seconds, pids)) - before
            self.theirs.seconds.append(done.seconds[1:])
        else:
            self.theirs.losses, self.theirs.norms = done.losses, done.norms


def _cpu_seconds(pid: int) -> float:
    """Processor time of a process so far, all threads; nan where the system does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return float("nan")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _cpu_of_nodes() -> float:
    nodes = [process for process in multiprocessing.active_children() if process.name.startswith("node ")]
    return sum(_cpu_seconds(int(process.pid or 0)) for process in nodes)


def measure(
    workload: Workload, cuts: tuple[Cut, Cut], plan_of: Callable[..., Plan], schedule: str, turns: Turns
) -> tuple[Side, Side]:
    """Both sides in turn; RuntimeError if they do not train the same model on the same tokens."""
    from pathloom.worlds.train.runtime.run import run_plan

    here, there = cuts
    peer = TorchPipeline(workload, there, schedule)
    try:
        both = Alternation(turns, peer)
        both.begin()
        with tempfile.TemporaryDirectory() as folder:
            plan = plan_of(stages_problem(workload, here), time_limit=1.0)
            file = Path(folder) / "plan.json"
            write_plan(plan, file)
            run_plan(
                file,
                out=Path(folder) / "run",
                options={**workload.settings, "steps": turns.total, "links": "real", "compute": "real"},
                on_step=both.step,
            )
    finally:
        peer.close()
    for what, ours, theirs in (
        ("loss", both.ours.losses, both.theirs.losses),
        ("gradient norm", both.ours.norms, both.theirs.norms),
    ):
        if not np.allclose(ours, theirs, rtol=SAME, atol=0.0):
            raise RuntimeError(f"the two sides do not train the same model: {what} {ours} here, {theirs} at the peer")
    return both.ours, both.theirs


def candidate_cuts(layers: int, processes: int) -> list[tuple[Cut, Cut]]:
    """Cuts for either side: even ones, and ones with a layer less where the head is."""
    even = [layers // processes + (p < layers % processes) for p in range(processes)]
    here, there = even[::-1], even
    found = [(here, there)]
    if even[-1] > 1:
        found.append(([here[0] - 1, *here[1:-1], here[-1] + 1], [there[0] + 1, *there[1:-1], there[-1] - 1]))
    return found


def best_cuts(workload: Workload, processes: int, turns: Turns) -> tuple[Cut, Cut]:
    """The cut with the fastest 1F1B of either side."""
    plan_of, schedule = SCHEDULES["1F1B"]
    times: list[tuple[float, float]] = []
    cuts = candidate_cuts(workload.model["layers"], processes)
    for cut in cuts:
        ours, theirs = measure(workload, cut, plan_of, schedule, turns)
        times.append((median(ours.counted), median(theirs.counted)))
        say(f"  {processes} processes: here {cut[0]} {times[-1][0]:.3f} s, peer {cut[1]} {times[-1][1]:.3f} s a step")
    here, there = (int(np.argmin([pair[side] for pair in times])) for side in (0, 1))
    return cuts[here][0], cuts[there][1]


def row_of(label: list[Cell], tokens: int, ours: Side, theirs: Side) -> list[Cell]:
    """Cells of the table."""
    here, there = ours.counted, theirs.counted
    ratios = [median(b) / median(a) for a, b in zip(ours.seconds, theirs.seconds, strict=True)]
    steps = sum(len(turn) + 1 for turn in ours.seconds)  # processor time covers the steps that open a turn, too

    def quartiles(seconds: list[float]) -> str:
        low, _, high = quantiles([tokens / s for s in seconds], n=4)
        return f"{low:,.0f} to {high:,.0f}"

    def cpu(side: Side) -> float | None:
        return None if np.isnan(side.cpu) else round(side.cpu / steps, 3)

    return [
        *label,
        len(here),
        round(tokens / median(here)),
        quartiles(here),
        round(tokens / median(there)),
        quartiles(there),
        round(median(there) / median(here), 3),
        f"{min(ratios):.3f} to {max(ratios):.3f}",
        cpu(ours),
        cpu(theirs),
    ]


def write_text(folder: Path, letters: int, seed: int) -> Path:
    """A token data set of drawn words; what it says is of no matter for speed, but the models can learn something."""
    from pathloom.data.token_files import write_tokens
    from pathloom.data.tokenizers import ByteTokenizer

    rng = np.random.default_rng(seed)
    words = ["".join(rng.choice(list("etaoinshrdlu"), size)) for size in rng.integers(1, 9, 500)]
    rank = rng.zipf(1.3, letters // 4)
    text = folder / "text.txt"
    text.write_text(" ".join(words[(int(r) - 1) % len(words)] for r in rank), encoding="utf-8")
    write_tokens(folder / "tokens", [text], ByteTokenizer())
    return folder / "tokens"


def verdicts(rows: list[list[Cell]], short: str) -> list[Verdict]:
    """1F1B against 1F1B, the worst row of all sizes and numbers of processes."""
    found = [row for row in rows if row[2] == "1F1B"]
    ratio = COLUMNS.index("here / peer")
    shown = "; ".join(f"{row[ratio]} ({row[0]}, {row[1]} processes)" for row in found)
    least = min((float(row[ratio]) for row in found if isinstance(row[ratio], float)), default=None)
    key = "pipelining-peer"
    return [TARGETS[key].judge(least, shown, short_of=short)] if key in TARGETS else []


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark."""
    parser = options(NAME, __doc__)
    parser.add_argument("--quick", action="store_true", help="a tiny model and few steps, to see that everything works")
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--processes", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--schedules", nargs="+", default=list(SCHEDULES), choices=list(SCHEDULES))
    parser.add_argument("--turns", type=int, default=5, help="turns of each side")
    parser.add_argument("--steps", type=int, default=4, help="counted steps of a turn")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(argv)
    sizes = QUICK if chosen.quick else {name: SIZES[name] for name in chosen.sizes}
    processes = [2] if chosen.quick else chosen.processes
    turns = Turns(WARM_UP, 2, 2) if chosen.quick else Turns(WARM_UP, chosen.turns, chosen.steps)
    torch.set_num_threads(1)

    rows: list[list[Cell]] = []
    with tempfile.TemporaryDirectory() as folder:
        data = write_text(Path(folder), 300_000, chosen.seed)
        for size, shape in sizes.items():
            settings = {**SETTINGS, "data": str(data), "seed": chosen.seed}
            model = {**shape, "kv_heads": shape["heads"]}
            workload = Workload(model, SAMPLES, MICROBATCHES, str(data), settings)
            for count in processes:
                cuts = best_cuts(workload, count, Turns(WARM_UP, 2, 2))
                for schedule in chosen.schedules:
                    say(f"{size}, {count} processes, {schedule}")
                    ours, theirs = measure(workload, cuts, *SCHEDULES[schedule], turns)
                    shown = ["/".join(map(str, cut)) for cut in cuts]
                    rows.append(row_of([size, count, schedule, *shown], workload.tokens, ours, theirs))
                    say("  " + ", ".join(f"{title} {cell}" for title, cell in zip(COLUMNS[5:], rows[-1][5:])))

    short = "--quick" if chosen.quick else "20 steps" if turns.turns * turns.steps < 20 else ""
    if not short and (set(SIZES) - set(sizes) or {2, 4} - set(processes) or "1F1B" not in chosen.schedules):
        short = "all sizes and numbers of processes"
    table = Table(
        title="Training along a pipeline, beside torch.distributed.pipelining",
        columns=COLUMNS,
        rows=rows,
        settings={
            "torch": torch.__version__,
            "samples": SAMPLES,
            "microbatches": MICROBATCHES,
            "models": sizes,
            "training": SETTINGS,
            "turns": turns.turns,
            "steps a turn": turns.steps,
        },
        seeds=[chosen.seed],
        notes=[
            "The peer: Schedule1F1B, ScheduleGPipe and, for ZB-H1, ScheduleInterleavedZeroBubble with one stage a "
            "process, over gloo, with the same decoder layers, fused AdamW and clipping.",
            "Both sides began with the same weights and saw the same tokens: losses and gradient norms of the first "
            f"{turns.warm_up} steps agree within {SAME:g}.",
            "A row's ratio is that of the median steps; the column after it has the least and the largest of the "
            "ratios of single turns.",
            "1F1B, a forward more: here every stage begins with one forward pass more than in 1F1B, as the loss on "
            "stage 0 puts a microbatch's way back one node further off; the peer does its 1F1B.",
            "Processor time is that of all processes and threads, here the coordinator's too.",
            "With more processes than cores, what counts is the work done rather than how the pipeline is filled.",
        ],
        verdicts=verdicts(rows, short),
    )
    finish(table, NAME, chosen)
    return 0


if __name__ == "__main__":
    sys.exit(main())
