"""Does a run take as long as its plan says, and is skipping stages worth in seconds what it promises?

Six processes on this machine train a byte-level LLaMA along four plans of one network: full pipelines (1F1B, and
DT-FM's order), a third of the stages skipped in order, and skipped with swaps. Compute takes what the plan says (a
process sleeps the rest of each task's time, so that six of them fit on two cores); links are slow in two ways: messages
are held back by the receiver for as long as the plan says, and, where this can be built, a network of namespaces with
real TCP, real delays and real rates between the processes.
"""

from __future__ import annotations

import _one_thread  # noqa: F401  # isort: skip

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from _baselines import best_of_each, checked, placements
from _namespaces import Namespaces, unavailable
from _table import Table, finish, options, say
from _targets import TARGETS
from pathloom.plan import Plan
from pathloom.worlds.train.files import loads
from pathloom.worlds.train.full_pipelines import dtfm, one_f_one_b
from pathloom.worlds.train.plan_files import write_plan
from pathloom.worlds.train.problem import TrainProblem
from pathloom.worlds.train.route_search import pathloom
from pathloom.worlds.train.simulator import simulate

NAME = "plan_and_run"
COLUMNS = [
    "plan",
    "simulated, s",
    "run, links held back, s",
    "spread, s",
    "off the simulation, %",
    "run, namespaces, s",
    "off the held-back run, %",
    "shorter than 1F1B, %",
]
SITES = ("Oregon", "Iowa", "NL", "Japan", "Singapore", "London")
DELAY_MS = {
    ("Oregon", "Iowa"): 19, ("Oregon", "NL"): 69, ("Oregon", "Japan"): 45, ("Oregon", "Singapore"): 84,
    ("Oregon", "London"): 66, ("Iowa", "NL"): 50, ("Iowa", "Japan"): 63, ("Iowa", "Singapore"): 100,
    ("Iowa", "London"): 47, ("NL", "Japan"): 112, ("NL", "Singapore"): 82, ("NL", "London"): 5,
    ("Japan", "Singapore"): 35, ("Japan", "London"): 110, ("Singapore", "London"): 80,
}  # fmt: skip
"""One-way delays of the size that public clouds have between these places."""
RATE = 12.5e6
"""Bytes a second of every link: 100 Mbit/s."""
SHAPE = {"dim": 128, "layers": 6, "heads": 4, "context": 128, "vocab": 256, "ffn_dim": 256}
SAMPLES, MICROBATCHES, MEMORY, SPEED = 2, 12, 4, 0.03
TIE = 0.02
"""Plans whose simulated times differ by a smaller share have no order that a measurement could contradict."""
DELAYS = "delays rounded to what cloud regions at these places have"


def problem(route_length: int, swaps: int) -> TrainProblem:
    """Six sites, one node and one stage each."""
    pairs = "\n".join(
        f"    - {{between: [{a}, {b}], delay: {delay} ms, bandwidth: {RATE:.0f}}}" for (a, b), delay in DELAY_MS.items()
    )
    nodes = "\n".join(f"  - {{region: {s}, name: {s}, speed: {SPEED}, memory: {MEMORY}}}" for s in SITES)
    shape = ", ".join(f"{key}: {value}" for key, value in SHAPE.items())
    return loads(
        f"name: six sites\nnodes:\n{nodes}\nlinks:\n  overhead: 0\n  pairs:\n{pairs}\n"
        f"  inside: {{delay: 1 ms, bandwidth: 1 GB/s}}\nmodel: {{{shape}}}\nmicrobatches: {MICROBATCHES}\n"
        f"samples: {SAMPLES}\nstages: {len(SITES)}\nroute_length: {route_length}\n"
        f"reordering: {{swaps: {swaps}, distance: {min(swaps, 1)}, total: {swaps}}}\n"
        "balance: {node: free, stage: free}\n"
        "times: {gap: 0, injection_gap: 0}\n"
    )


def plans(seconds: float, seed: int) -> dict[str, Plan]:
    """The plans to run, each checked, by name."""
    full = problem(6, 2)
    baselines = best_of_each(
        {"dtfm": dtfm, "1f1b": one_f_one_b}, full, placements(full, trials=2000, seed=seed), seed=seed
    )
    return {
        "full pipeline, 1F1B": baselines["1f1b"],
        "full pipeline, DT-FM": baselines["dtfm"],
        "a third skipped": checked(pathloom(problem(4, 0), time_limit=seconds, seed=seed)),
        "a third skipped, swaps": checked(pathloom(problem(4, 2), time_limit=seconds, seed=seed)),
    }


def matrices() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Delays and rates between the sites, shape (6, 6)."""
    n = len(SITES)
    delay = np.zeros((n, n))
    for (a, b), ms in DELAY_MS.items():
        i, j = SITES.index(a), SITES.index(b)
        delay[i, j] = delay[j, i] = ms / 1e3
    return delay, np.full((n, n), RATE)


class InNamespace:
    """Starts nodes in their namespaces."""

    def __init__(self, network: Namespaces) -> None:
        self.network = network

    def __call__(self, name: str, coordinator: tuple[str, int]) -> Any:
        worker = [sys.executable, "-m", "pathloom.worlds.train.runtime.worker"]
        where = ["--coordinator", f"{coordinator[0]}:{coordinator[1]}", "--host", self.network.address(name)]
        return self.network.run_in(name, [*worker, "--node", name, *where], env=os.environ)


def run(plan: Plan, folder: Path, tokens: Path, steps: int, settings: Mapping[str, Any], **how: Any) -> list[float]:
    """Seconds of each undisturbed iteration but the first."""
    from pathloom.worlds.train.runtime.run import run_plan

    folder.mkdir(parents=True)
    seconds: list[float] = []
    result = run_plan(
        write_plan(plan, folder / "plan.json"),
        out=folder / "run",
        options={"data": str(tokens), "steps": steps, "compute": "planned", **settings},
        on_step=lambda record: seconds.append(record["iteration_seconds"]),
        **how,
    )
    assert result is not None and result.figures["nodes_lost"] == 0
    return seconds[1:]


@contextmanager
def network() -> Iterator[Namespaces | None]:
    """The network of namespaces, None where it cannot be built."""
    reason = unavailable()
    if reason is not None:
        say(f"no namespaces: {reason}")
        yield None
        return
    delay, rate = matrices()
    with Namespaces(SITES, delay, rate) as built:
        yield built


def tokens_in(folder: Path) -> Path:
    """A token data set of generated text: what is learned does not matter here."""
    from pathloom.data.token_files import write_tokens
    from pathloom.data.tokenizers import load_tokenizer

    text = folder / "text.txt"
    words = np.random.default_rng(0).choice(["to", "be", "or", "not", "that", "is", "the", "question"], 40_000)
    text.write_text(" ".join(words), encoding="utf-8")
    write_tokens(folder / "tokens", [text], load_tokenizer("bytes"))
    return folder / "tokens"


def main() -> None:
    parser = options(NAME, __doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=9, help="steps a run; the first is not counted")
    parser.add_argument("--planning", type=float, default=10.0, help="seconds of planning a plan")
    parser.add_argument("--quick", action="store_true", help="three steps a run, for a look")
    parser.add_argument("--picture", type=Path, help="folder for a picture of the last plan and its run")
    chosen = parser.parse_args()
    steps = 3 if chosen.quick else chosen.steps
    rows: list[list[Any]] = []
    worst, between, method = 0.0, 0.0, "none"
    measured: dict[str, float] = {}
    simulated: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch, network() as links:
        place = Path(scratch)
        data = tokens_in(place)
        for number, (name, plan) in enumerate(plans(chosen.planning, chosen.seed).items()):
            say(f"{name}: held back")
            order = {"order": "strict"} if plan.decisions.strict else {}
            held = run(plan, place / f"held{number}", data, steps, {"links": "planned", **order})
            real: list[float] = []
            if links is not None:
                say(f"{name}: namespaces")
                method = links.method
                real = run(
                    plan, place / f"real{number}", data, steps, {"links": "real", **order}, host=links.host,
                    launcher=InNamespace(links),
                )  # fmt: skip
            expected = simulate(plan.problem, plan.decisions).iteration_time
            seconds = float(np.median(held))
            measured[name], simulated[name] = seconds, expected
            off = 100 * (seconds / expected - 1)
            worst = max(worst, abs(off))
            apart = 100 * (float(np.median(real)) / seconds - 1) if real else None
            between = max(between, abs(apart)) if apart is not None else between
            gain = 100 * (1 - seconds / measured["full pipeline, 1F1B"])
            rows.append(
                [
                    name, round(expected, 3), round(seconds, 3), f"{min(held):.3f} to {max(held):.3f}", round(off, 1),
                    round(float(np.median(real)), 3) if real else None, None if apart is None else round(apart, 1),
                    round(gain, 1),
                ]
            )  # fmt: skip
            if chosen.picture is not None:
                draw(plan, place / f"held{number}" / "run", chosen.picture)
    gain = 100 * (1 - measured["a third skipped, swaps"] / measured["full pipeline, 1F1B"])
    same = all(
        measured[a] < measured[b] for a in simulated for b in simulated if simulated[a] < (1 - TIE) * simulated[b]
    )
    short = f"{steps} steps a run" if chosen.quick else ""
    off_order = "" if same else ", but their order is not that of the simulation"
    verdicts = [
        TARGETS["run-predicted"].judge(
            worst if same else None, f"largest error {worst:.1f} %, order of the plans {'the same' if same else 'not'}",
            short_of=short,
        ),
        TARGETS["run-transports"].judge(
            between if links is not None else None, f"largest difference {between:.1f} % ({method}){off_order}",
            short_of=short or ("" if links is not None else "a machine on which namespaces can be built"),
        ),
        TARGETS["run-gain"].judge(gain, f"{gain:.1f} % shorter", short_of=short),
    ]  # fmt: skip
    table = Table(
        title="Plan and run: six processes, emulated links",
        columns=COLUMNS,
        rows=rows,
        settings={
            "model": SHAPE, "samples": SAMPLES, "microbatches": MICROBATCHES, "activations a node": MEMORY,
            "seconds a layer and sample": SPEED, "links": f"{RATE / 1e6:g} MB/s, {DELAYS}", "steps a run": steps,
            "planning seconds": chosen.planning, "namespaces": method,
        },
        seeds=[chosen.seed],
        notes=[
            "Medians over iterations, the first left out; a task takes at least what the plan says, and what the "
            "machine needs beyond that is in the figures.",
            f"The order of plans counts where their simulated times differ by more than {TIE:.0%}.",
            "Full pipelines keep their strict order of work; the others take the plan as priority.",
            f"Namespaces: real TCP connections over links with delay and rate, made by {method}.",
        ],
        verdicts=verdicts,
    )  # fmt: skip
    finish(table, NAME, chosen)


def draw(plan: Plan, run_folder: Path, out: Path) -> None:
    """The plan over its run."""
    from pathloom.timeline import Timeline
    from pathloom.worlds.train.runtime.run_pictures import plan_over_run

    plan_over_run(plan, Timeline.load(run_folder / "timeline.json"), out)


if __name__ == "__main__":
    main()
