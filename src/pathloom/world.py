"""What a world declares to the rest of the house.

The command line, the service and the benchmarks find worlds through the entry-point group ``pathloom.worlds`` and
know none by name. A world's package exposes one `World`; its fields name functions by "module:function", so that
finding and listing worlds imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Protocol

from pathloom.timeline import Timeline

GROUP = "pathloom.worlds"


def resolve(target: str) -> Any:
    """The object that "module:name" points to."""
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


class SimulationResult(Protocol):
    """What a world's `World.simulate` returns."""

    @property
    def columns(self) -> Sequence[str]:
        """Titles of a table."""

    @property
    def rows(self) -> Sequence[Sequence[str]]:
        """Its cells, one sequence a row."""

    @property
    def seconds(self) -> Any:
        """Shape (runs,): the plan's objective in each run, infinite where a run never ends."""

    @property
    def timeline(self) -> Timeline:
        """What happened in the first run."""

    def to_dict(self) -> dict[str, Any]:
        """Plain figures for ``--json``."""


@dataclass(frozen=True)
class World:
    """Declaration of a world; every target is a "module:function" string, imported when it is called.

    Attributes
    ----------
    name, summary
        Name on the command line and one line about it.
    recognise
        ``(path: Path, head: str) -> str | None``: what kind of problem the file is, from its name and its first
        64 KiB of text; None if it is none of this world's. Must be cheap and must not raise.
    load
        ``(path: Path, **options) -> problem``; raises `InputError`. A problem has a `name` and can be pickled.
    check
        The world's checker, ``(problem, plan) -> list[Violation]``.
    methods
        Method name -> target with the `pathloom.plan.Method` signature.
    default_method
        The method whose plan is written and reported first.
    default_table
        Methods that `pathloom plan` runs beside the default one to show what others would do.
    columns, row
        Titles of the table's columns, and ``(plan) -> Sequence[str]`` with one cell a title.
    write
        ``(plan, others: Sequence[Plan], out: Path) -> dict[str, Path]``: writes plan.json, pages, pictures, traces
        into the folder `out`, which exists.
    read_plan, plan_format
        ``(path) -> Plan``: reads the plan.json that `write` wrote, raises `InputError`; and the value of the key
        "format" by which such a file is known.
    example
        ``() -> str``: a commented example input file, for ``pathloom plan --init``.
    bound
        ``(plan, known: Sequence[Plan], *, time_limit) -> tuple[float, str] | None``: a proven bound on the objective
        of any plan that does what `plan` may do, and the argument that gave it; for plans whose method proved none.
        `known` are plans of the same file that may have a bound already. Empty if there is no such function.
    draw
        ``(timelines: Mapping[str, Timeline], plan: Plan, out: Path) -> dict[str, Path]``: draws timelines of the plan's
        problem (plans, simulations, recorded runs) one below another; empty for a plain Gantt chart.
    simulate
        ``(plan, *, seed, runs, noise, stragglers, slow_links, failures, policy, on_progress, **disturbances)
        -> SimulationResult``, or empty where the world cannot be simulated.
    disturbances
        Further keyword arguments of `simulate` that ``--set NAME=VALUE`` may give, each with a line about it; their
        names are not among `options`.
    run
        ``(plan_file: Path, *, out, options, config, resume, initial, host, port, on_step, on_event) -> RunResult``:
        carries a plan out for real and writes the run's folder `out`; `pathloom.worlds.train.runtime.run.run_plan` says
        what the arguments and the result are. Empty where plans cannot be run.
    profile
        ``(file: Path, **options) -> ProfileResult``: measures this machine and writes its times into the problem file;
        see the train world. Empty where there is nothing to measure.
    losses
        ``(runs: Mapping[str, Path], out: Path) -> dict[str, Path]``: draws the learning curves of runs, by name and
        folder, one over another into the folder `out`. Empty where runs learn nothing.
    phase_errors
        ``(plan, timelines: Mapping[str, Timeline]) -> (columns, rows, figures)``: how far a recorded run is from its
        plan, phase by phase, as titles and cells of a table and as plain figures for ``--json``. `timelines` holds the
        recorded one as "run" and, where the plan could be simulated, that one as "simulation". Empty if the world has
        no phases.
    trainers
        Name of a policy -> ``(out: Path, *, seconds, seed, on_progress, **options) -> Path``: trains it and writes a
        checkpoint (safetensors) with a card (JSON) beside it, for ``pathloom learn policy``; see
        `pathloom.learn.dispatching.trainer.train`. One that has a parameter ``file: Path`` is trained for the problem
        in that file, which must then be given.
    options
        Keyword arguments of `load` that ``--set NAME=VALUE`` may give, each with a line about it.
    rank
        Worlds are listed by rank, then name; the first one's example is what ``--init`` writes.
    """

    name: str
    summary: str
    recognise: str
    load: str
    check: str
    methods: Mapping[str, str]
    default_method: str
    default_table: Sequence[str]
    columns: Sequence[str]
    row: str
    write: str
    read_plan: str
    plan_format: str
    example: str
    bound: str = ""
    draw: str = ""
    simulate: str = ""
    run: str = ""
    profile: str = ""
    phase_errors: str = ""
    losses: str = ""
    trainers: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    disturbances: Mapping[str, str] = field(default_factory=dict)
    rank: int = 100


def worlds() -> dict[str, World]:
    """Every installed world by name, ordered by rank and name."""
    found = {point.name: point.load() for point in entry_points(group=GROUP)}
    return dict(sorted(found.items(), key=lambda entry: (entry[1].rank, entry[0])))
