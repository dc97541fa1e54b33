"""kill -9 of nodes of real training runs at random moments: does training go on, what is lost, how long does it take?

Six processes train along a plan whose links and passes take what the plan says. In each run one node is killed at a
random moment of a step. The run must go on to its last step; no step may be lost where a replica of the node's stage
lives, and none beyond the last checkpoint where there is none. The same kill, with the same policy told after the same
delay, is then simulated. Finished runs are kept under OUT/parts until all are done, so that a benchmark that was
stopped goes on where it was.
"""

from __future__ import annotations

import _one_thread  # noqa: F401  # isort: skip

import sys
import sysconfig
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from _fault_figures import FaultFigures, figures
from _killed_runs import (
    AVERAGING,
    CHECKPOINT,
    ITERATION,
    JOINING,
    KILL,
    RECOVERY,
    STOP,
    UPDATE,
    VALIDATION,
    Hit,
    killed_run,
)
from _saved_parts import SavedParts
from _table import Cell, Table, finish, options, say
from _targets import TARGETS, Verdict
from pathloom.plan import Plan, verified
from pathloom.worlds.train.check import check
from pathloom.worlds.train.files import loads
from pathloom.worlds.train.plan_files import write_plan
from pathloom.worlds.train.route_search import pathloom

NAME = "live_faults"
RUNS = 20
STEPS, STEPS_TO_GO_BACK = 4, 5
LIMIT = 300.0
"""Seconds after which a run counts as one that does not go on."""
SETTINGS: dict[str, Any] = {
    "steps": STEPS,
    "seed": 0,
    "device": "cpu",
    "schedule": "constant",
    "links": "planned",
    "compute": "planned",
    "patience": 30.0,
    "replan_seconds": 1.0,
    "recovery": "reroute",
    "redo_gradients": False,
    "checkpoint_every": 0,
    "validate_every": 0,
    "validation_windows": 8,
}
MODEL = "dim: 64, heads: 4, context: 64, vocab: 256, ffn_dim: 128"
SIX = f"""
name: six nodes in three regions
nodes:
  - {{region: a, name: a0, speed: 20 ms, memory: 6 activations}}
  - {{region: a, name: a1, speed: 20 ms, memory: 6 activations}}
  - {{region: b, name: b0, speed: 20 ms, memory: 6 activations}}
  - {{region: b, name: b1, speed: 20 ms, memory: 6 activations}}
  - {{region: c, name: c0, speed: 20 ms, memory: 6 activations}}
  - {{region: c, name: c1, speed: 20 ms, memory: 6 activations}}
links:
  pairs:
    - {{between: [a, b], delay: 30 ms, bandwidth: 20 MB/s}}
    - {{between: [a, c], delay: 50 ms, bandwidth: 10 MB/s}}
    - {{between: [b, c], delay: 40 ms, bandwidth: 20 MB/s}}
  inside: {{delay: 1 ms, bandwidth: 100 MB/s}}
  overhead: 0
model: {{{MODEL}, layers: 6}}
microbatches: 8
samples: 2
stages: {{count: 3, sizes: [2, 2, 2]}}
times: {{gap: 0, injection_gap: 0}}
synchronisation: all-reduce
"""
FOUR = f"""
name: four nodes, a stage each
nodes:
  - {{region: a, name: a0, speed: 20 ms, memory: 8 activations}}
  - {{region: b, name: b0, speed: 20 ms, memory: 8 activations}}
  - {{region: c, name: c0, speed: 20 ms, memory: 8 activations}}
  - {{region: d, name: d0, speed: 20 ms, memory: 8 activations}}
links:
  pairs:
    - {{between: [a, b], delay: 10 ms, bandwidth: 20 MB/s}}
    - {{between: [a, c], delay: 20 ms, bandwidth: 10 MB/s}}
    - {{between: [a, d], delay: 10 ms, bandwidth: 10 MB/s}}
    - {{between: [b, c], delay: 10 ms, bandwidth: 20 MB/s}}
    - {{between: [b, d], delay: 20 ms, bandwidth: 20 MB/s}}
    - {{between: [c, d], delay: 10 ms, bandwidth: 20 MB/s}}
  overhead: 0
model: {{{MODEL}, layers: 8}}
microbatches: 4
samples: 2
stages: {{count: 4, sizes: [1, 1, 1, 1]}}
times: {{gap: 0, injection_gap: 0}}
"""
IN_ORDER = "run_share: 1\nreordering: {distance: 0, swaps: 0, total: 0}\n"
"""Every microbatch goes through all stages in order, so that no plan computes anything else than another."""
SKIPPING, FULL, ALONE = "6 nodes, a third skipped", "6 nodes, nothing skipped", "4 nodes, no replicas"
PROBLEMS = {
    SKIPPING: SIX + "run_share: 2/3\n",
    FULL: SIX + IN_ORDER,
    ALONE: FOUR + IN_ORDER,
}
WITHIN = {AVERAGING: 0.02, UPDATE: 0.005, VALIDATION: 0.5, CHECKPOINT: 0.02, RECOVERY: 0.02, JOINING: 0.05}
"""Seconds from the beginning of a phase within which a hit that aims at it comes."""


@dataclass(frozen=True)
class Case:
    """Runs that differ in the node that is hit, and in the moment.

    Attributes
    ----------
    plan
        A key of `PROBLEMS`.
    phases
        One a run: the phase that its hit aims at. `ITERATION` stands for the whole step, at any moment of it.
    settings
        Those that differ from `SETTINGS`.
    steps
        Steps of which one, drawn at random, is hit.
    second
        Phases in which another node, of another stage, is killed too; as many as runs, or none.
    """

    plan: str
    phases: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[int, ...] = (2,)
    how: str = KILL
    second: tuple[str, ...] = ()

    @property
    def all_settings(self) -> dict[str, Any]:
        return {**SETTINGS, **self.settings}

    @property
    def calm_settings(self) -> dict[str, Any]:
        """Settings of the undisturbed run: those that matter to it."""
        alike = ("recovery", "redo_gradients", "patience")
        return {**self.all_settings, **{name: SETTINGS[name] for name in alike}}


ANY = (ITERATION,) * RUNS
GOES_BACK = {"steps": STEPS_TO_GO_BACK, "checkpoint_every": 2}
EVERY_PHASE = {"checkpoint_every": 1, "validate_every": 1}
REROUTE, RESTART, EXACT = "rerouted", "iteration restarted", "exact gradient"
BACK, HANG = "back to the checkpoint", "hang noticed"
CASES: dict[str, Case] = {
    REROUTE: Case(SKIPPING, ANY),
    RESTART: Case(SKIPPING, ANY, {"recovery": "restart"}),
    EXACT: Case(FULL, ANY, {"redo_gradients": True}),
    BACK: Case(ALONE, ANY, GOES_BACK, steps=(3, 4)),
    HANG: Case(SKIPPING, (ITERATION,) * 5, {"patience": 2.0}, how=STOP),
    "rerouted, aimed at other phases": Case(
        SKIPPING, (AVERAGING,) * 3 + (UPDATE,) * 2 + (VALIDATION,) * 3 + (CHECKPOINT,) * 3, EVERY_PHASE
    ),
    "exact gradient, aimed at averaging": Case(FULL, (AVERAGING,) * 3, {"redo_gradients": True}),
    "back to the checkpoint, aimed at other phases": Case(
        ALONE, (CHECKPOINT, UPDATE, VALIDATION, CHECKPOINT), {**GOES_BACK, "validate_every": 1}, steps=(3,)
    ),
    "rerouted, another dies meanwhile": Case(SKIPPING, (ITERATION,) * 4, second=(JOINING, RECOVERY) * 2),
}
TWENTY = (REROUTE, RESTART, EXACT, BACK)
REPLICAS = (REROUTE, RESTART, EXACT)

COLUMNS = [
    "case",
    "plan",
    "runs",
    "go on to the last step",
    "steps lost",
    "beyond the last checkpoint",
    "microbatches lost (mean)",
    "routed anew (mean)",
    "noticed s: median",
    "noticed s: most",
    "decided s: median",
    "decided s: most",
    "planned anew s: median",
    "planned anew s: most",
    "recovery s: median",
    "recovery s: most",
    "change of the last loss: median",
    "change of the last loss: most",
    "steps begun anew",
    "other nodes lost",
    "iterations compared",
    "iteration longer by s: median",
    "iteration longer by s: most",
    "simulated s: median",
    "simulated s: most",
    "difference s: median",
    "difference s: most",
]


def planned(text: str, seed: int) -> Plan:
    """A checked plan that depends on the seed alone."""
    return verified(pathloom(loads(text), time_limit=60.0, seed=seed, threads=1, iterations=60), check)


def hits_of(case: Case, number: int, plan: Plan, seconds: float, rng: np.random.Generator) -> list[Hit]:
    """The hits of a run; `seconds` is what a step takes undisturbed."""
    nodes, phase = plan.problem.nodes, case.phases[number]
    at = int(rng.integers(len(nodes)))
    step = int(rng.choice(case.steps))
    span = WITHIN.get(phase, seconds)
    found = [Hit(nodes[at], step, phase, float(rng.random() * span), case.how)]
    if case.second:
        placement = np.asarray(plan.decisions.placement)
        other = int(rng.choice(np.flatnonzero(placement != placement[at])))
        phase = case.second[number]
        found.append(Hit(nodes[other], step, phase, float(rng.random() * WITHIN[phase])))
    return found


class Measured:
    """All runs, made when first asked for."""

    def __init__(self, scratch: Path, saved: SavedParts, seed: int) -> None:
        self.scratch, self.saved, self.seed = scratch, saved, seed
        self.plans: dict[str, Plan] = {}
        data = scratch / "tokens"
        if not data.exists():
            from pathloom.data.token_files import write_tokens
            from pathloom.data.tokenizers import load_tokenizer

            write_tokens(data, [Path(sysconfig.get_paths()["stdlib"]) / "argparse.py"], load_tokenizer("bytes"))
        self._data = str(data)

    def plan(self, name: str) -> Plan:
        """The plan of one of the problems."""
        if name not in self.plans:
            self.plans[name] = planned(PROBLEMS[name], self.seed)
            write_plan(self.plans[name], self._file(name))
        return self.plans[name]

    def _file(self, name: str) -> Path:
        return self.scratch / f"{list(PROBLEMS).index(name)}.json"

    def _run(self, plan: str, settings: Mapping[str, Any], hits: Sequence[Hit]) -> dict[str, Any]:
        self.plan(plan)
        given = {**settings, "data": self._data, "seed": self.seed}
        return killed_run(self._file(plan), given, hits, self.scratch / "run", LIMIT)

    def calm(self, case: Case) -> dict[str, Any]:
        """The undisturbed run."""
        settings = case.calm_settings

        def make() -> dict[str, Any]:
            say(f"{case.plan}: nobody is hit, {_briefly(settings)}")
            found = self._run(case.plan, settings, [])
            if found["status"] != "done" or found["losses"]:
                raise RuntimeError(f"the undisturbed run failed: {found['error'] or found['losses']}")
            return found

        found: dict[str, Any] = self.saved.part(f"{case.plan}, {_briefly(settings)}", make)
        return found

    def figures(self, name: str, runs: int) -> list[FaultFigures]:
        """Figures of each run of a case."""
        case = CASES[name]
        calm, plan = self.calm(case), self.plan(case.plan)
        ends = [record["second"] for record in calm["steps"]]
        found = []
        for number in range(min(runs, len(case.phases))):
            rng = np.random.default_rng([self.seed, list(CASES).index(name), number])
            hits = hits_of(case, number, plan, float(np.median(np.diff(ends))), rng)

            def make(hits: list[Hit] = hits) -> dict[str, Any]:
                return self._run(case.plan, case.all_settings, hits)

            run = self.saved.part(f"{name}, {number}", make)
            found.append(figures(run, calm, plan, {**case.all_settings, "seed": self.seed}))
            say(f"{name}, {number + 1}: {_in_words(run, found[-1])}")
        return found


def _briefly(settings: Mapping[str, Any]) -> str:
    names = ("steps", "checkpoint_every", "validate_every")
    return ", ".join(f"{name} {settings[name]}" for name in names)


def _in_words(run: Mapping[str, Any], found: FaultFigures) -> str:
    hits = ", ".join(f"{s['how']} {s['node']} in {s['phase']} after {s['since_start']:.3f} s" for s in run["struck"])
    if not found.goes_on:
        return f"{hits}: DOES NOT GO ON: {run['error'] or run['status']}"
    shown = {name: value for name, value in asdict(found).items() if value is not None and name not in ("hit", "phase")}
    return f"{hits}: " + ", ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in shown.items())


def row_of(name: str, found: Sequence[FaultFigures]) -> list[Cell]:
    """Cells of a case."""

    def spread(values: Sequence[float | None], places: int = 3) -> list[Cell]:
        known = [value for value in values if value is not None]
        if not known:
            return [None, None]
        return [round(float(np.median(known)), places), round(float(np.max(known)), places)]

    compared = [f for f in found if f.gap is not None]
    return [
        name,
        CASES[name].plan,
        len(found),
        sum(f.goes_on for f in found),
        sum(f.steps_lost for f in found),
        sum(f.beyond for f in found),
        round(float(np.mean([f.microbatches_lost for f in found])), 2),
        round(float(np.mean([f.rerouted for f in found])), 2),
        *spread([f.noticed for f in found]),
        *spread([f.decided for f in found]),
        *spread([f.replanned for f in found]),
        *spread([f.recovery for f in found]),
        *spread([f.loss_difference for f in found], 6),
        sum(f.begun_anew for f in found),
        sum(f.others_lost for f in found),
        len(compared),
        *spread([f.measured for f in compared]),
        *spread([f.simulated for f in compared]),
        *spread([f.gap for f in compared]),
    ]


def verdicts(all_found: Mapping[str, Sequence[FaultFigures]], short_of: str) -> list[Verdict]:
    """The targets that the list of targets has, judged by all runs together."""
    every = [f for found in all_found.values() for f in found]
    stopped = sum(not f.goes_on for f in every)
    beyond = sum(f.beyond for f in every)
    with_replica = sum(f.steps_lost for name in REPLICAS for f in all_found.get(name, ()))
    recovery = [f.recovery for f in all_found.get(REROUTE, ()) if f.recovery is not None]
    gaps = [gap for f in all_found.get(REROUTE, ()) if (gap := f.gap) is not None]
    middle = float(np.median(recovery)) if recovery else None
    gap = float(np.median(gaps)) if gaps else None
    answers: dict[str, tuple[float | None, str]] = {
        "live-faults-go-on": (stopped, f"{stopped} of {len(every)} runs"),
        "live-faults-steps": (
            beyond,
            f"{beyond} steps in {len(every)} runs, {with_replica} of them with a replica alive",
        ),
        "live-faults-recovery": (
            middle,
            "none"
            if middle is None
            else f"median {middle:.2f} s, most {max(recovery):.2f} s, of which "
            f"{SETTINGS['replan_seconds']:g} s are the search for the next plan",
        ),
        "live-faults-simulated": (gap, "none" if gap is None else f"median {gap:.3f} s, most {max(gaps):.3f} s"),
    }
    return [
        TARGETS[key].judge(value, words, short_of=short_of) for key, (value, words) in answers.items() if key in TARGETS
    ]


def notes(all_found: Mapping[str, Sequence[FaultFigures]], measured: Measured) -> list[str]:
    """What a reader must know."""
    found = [
        "A run has 4 steps (5 where it goes back to a checkpoint) and is hit in its second (third or fourth). Moments "
        "are drawn from the whole step: the iteration, the averaging of gradients, the optimizer, what is between.",
        "Steps lost: steps that were done again. Beyond the last checkpoint: those of them that the newest checkpoint "
        "held; where the stage has a replica, every lost step counts.",
        "Noticed: from the kill. Decided: until all nodes stand still and the policy has decided. Planned anew: the "
        f"next plan, a search of {SETTINGS['replan_seconds']:g} s, and the new membership. Recovery: extra time until "
        "the disturbed step is done and the next plan in force, against the undisturbed run; steps done again count.",
        "Change of the last loss: against the undisturbed run. Where a third of the stages is skipped, the next plan "
        "skips other ones; where nothing is skipped, and no gradient given up, the loss must be the same but for "
        "rounding.",
        "Simulated: the same node dies at the same moment of the simulated iteration, and the same policy object "
        "is told after the same delay. There it decides in no time; the time that the real nodes stood still is added. "
        "Compared is by how much later the last pass ends than it does undisturbed. A message on its way dies with its "
        "sender in the simulator; in the run it has been sent, and is only held back as long as the link would take.",
    ]
    for name, case in CASES.items():
        if name in all_found:
            phases = Counter(f.phase for f in all_found[name])
            said = ", ".join(f"{phase} {count}" for phase, count in phases.most_common())
            planned_for = measured.plan(case.plan).objective.value
            found.append(f"Hit, {name}: {said}. The iteration takes {planned_for:.2f} s as planned.")
    missed = sum(not f.hit for each in all_found.values() for f in each)
    if missed:
        found.append(f"In {missed} runs a hit did not come, as the phase that it aimed at did not.")
    return found


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; the exit status is 1 if a run did not go on, or lost a step beyond its last checkpoint."""
    parser = options(NAME, __doc__)
    parser.add_argument("--quick", action="store_true", help="one run of the first case and one back to a checkpoint")
    parser.add_argument("--runs", type=int, default=RUNS, help="at most so many runs of each case")
    parser.add_argument(
        "--cases", nargs="+", choices=list(CASES), default=list(CASES), metavar="CASE", help="only these"
    )
    parser.add_argument("--fresh", action="store_true", help="forget the runs of a benchmark that was stopped")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(argv)
    names = [REROUTE, BACK] if chosen.quick else chosen.cases
    runs = 1 if chosen.quick else chosen.runs
    parts = chosen.out / "parts" / f"{NAME}.json"
    if chosen.fresh or chosen.quick:
        parts.unlink(missing_ok=True)
    settings = {**SETTINGS, "seed": chosen.seed}
    saved = SavedParts(parts, {"settings": settings, "problems": PROBLEMS, "quick": chosen.quick})
    with tempfile.TemporaryDirectory() as scratch:
        measured = Measured(Path(scratch), saved, chosen.seed)
        all_found = {name: measured.figures(name, runs) for name in names}
        said = notes(all_found, measured)

    short = "--quick" if chosen.quick else f"{RUNS} moments a case" if runs < RUNS else ""
    if not short and set(TWENTY) - set(names):
        short = "all cases"
    table = Table(
        title="Nodes of a real run are killed at random moments",
        columns=COLUMNS,
        rows=[row_of(name, found) for name, found in all_found.items()],
        settings={"instance": "three stages on six nodes, four on four", **settings},
        seeds=[chosen.seed],
        notes=said,
        verdicts=verdicts(all_found, short),
    )
    finish(table, NAME, chosen)
    every = [f for found in all_found.values() for f in found]
    return 0 if all(f.goes_on and not f.beyond for f in every) else 1


if __name__ == "__main__":
    sys.exit(main())
