"""What may stand in our own file of scheduling problems: one model a mapping, checked key by key."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from pathloom.data.input_model import InputModel, parsed, ratio, whole
from pathloom.schedule.problem import LATEST, MEASURES, NoiseKind, Relation, SelectionRule

Text = Annotated[str, Field(min_length=1, description="a text")]
Time = Annotated[int, whole(0, LATEST - 1), Field(description="a whole number of units of time")]
Lag = Annotated[int, whole(1 - LATEST, LATEST - 1)]
Count = Annotated[int, whole(0, LATEST - 1)]
Pair = tuple[int, int]


def _pairs(value: Any) -> list[Pair]:
    fits = isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(type(number) is int for number in pair) for pair in value
    )
    if not fits:
        raise ValueError("expected a list of [number, number]")
    return [(pair[0], pair[1]) for pair in value]


Pairs = Annotated[list[Any], parsed(_pairs)]


def _matrix(value: Any) -> list[list[int]]:
    fits = isinstance(value, list) and all(
        isinstance(row, list) and len(row) == len(value) and all(type(number) is int and number >= 0 for number in row)
        for row in value
    )
    if not fits:
        raise ValueError("expected a square table of times of at least 0")
    return value


Matrix = Annotated[list[Any], parsed(_matrix)]


class ResourceEntry(InputModel):
    """One of ``resources``."""

    name: Text
    kind: Literal["machine", "renewable", "consumable", "addresses", "state"]
    capacity: Count | None = None
    breaks: Pairs = Field(default_factory=list)
    speeds: Pairs = Field(default_factory=list)
    setup: Matrix = Field(default_factory=list)
    states: list[Text] = Field(default_factory=list)
    initial: Text | None = None
    no_idle: bool = False
    supplies: Pairs = Field(default_factory=list)


class UseEntry(InputModel):
    """A demand in its long form."""

    resource: Text = Field(description="the name of a resource")
    amount: Annotated[int, whole(1 - LATEST, LATEST - 1)] = 1
    start: Time = 0
    end: Time | None = None
    state: Text | None = None


def _uses(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, str):
        return [{"resource": value}]
    if isinstance(value, dict) and "resource" not in value:
        return [{"resource": str(name), "amount": amount} for name, amount in value.items()]
    found = value if isinstance(value, list) else [value]
    return [{"resource": use} if isinstance(use, str) else use for use in found]


Uses = Annotated[list[UseEntry], BeforeValidator(_uses)]


class NoiseEntry(InputModel):
    """Random factor on a duration."""

    kind: NoiseKind = "lognormal"
    spread: Annotated[float, ratio(least=0)] = 0.1


class ModeEntry(InputModel):
    """One way to do a task."""

    duration: Time
    uses: Uses = Field(default_factory=list)
    cost: Count = 0
    noise: NoiseEntry | None = None


class TaskEntry(InputModel):
    """A task: a duration and what it uses, or a list of modes."""

    name: Text | None = None
    duration: Time | None = None
    uses: Uses = Field(default_factory=list)
    cost: Count = 0
    noise: NoiseEntry | None = None
    modes: list[ModeEntry] = Field(default_factory=list)
    optional: bool = False
    earliest_start: Time = 0
    latest_start: Time | None = None
    earliest_end: Time = 0
    latest_end: Time | None = None
    allow_breaks: bool = False
    allow_idle: bool = False


class LinkEntry(InputModel):
    """How the tasks of a job follow each other."""

    blocking: bool = False
    transport: bool = False
    min_lag: Lag = 0
    max_lag: Lag | None = None


class JobEntry(InputModel):
    """A job and its tasks."""

    name: Text | None = None
    release: Time = 0
    due: Time | None = None
    deadline: Time | None = None
    weight: Count = 1
    ordered: bool = True
    link: LinkEntry = LinkEntry()
    tasks: list[TaskEntry] = Field(default_factory=list)


class PrecedenceEntry(InputModel):
    """One of ``precedences``."""

    first: Text
    second: Text
    relation: Relation = "end-start"
    min_lag: Lag = 0
    max_lag: Lag | None = None
    transport: bool = False
    blocking: bool = False


class SelectionEntry(InputModel):
    """One of ``selections``."""

    rule: SelectionRule
    tasks: list[Text]
    condition: Text | None = None


class PairEntry(InputModel):
    """Two tasks."""

    first: Text
    second: Text
    same: bool = True


class SequenceEntry(InputModel):
    """One of ``same_sequences``."""

    first_machine: Text
    second_machine: Text
    first_tasks: list[Text]
    second_tasks: list[Text]


class DependencyEntry(InputModel):
    """One of ``mode_dependencies``; modes are positions from 0."""

    first: Text
    first_mode: Count
    second: Text
    second_modes: list[Count]


def _levels(value: Any) -> list[dict[str, int]]:
    levels = value if isinstance(value, list) else [value]
    found: list[dict[str, int]] = []
    for level in levels:
        weights = {level: 1} if isinstance(level, str) else level
        if not isinstance(weights, dict) or not weights:
            raise ValueError("expected a measure, measures with weights, or a list of these")
        for measure, weight in weights.items():
            if measure not in MEASURES:
                raise ValueError(f"unknown measure '{measure}', expected one of {', '.join(MEASURES)}")
            if type(weight) is not int or weight < 0:
                raise ValueError(f"{measure}: expected a whole number of at least 0")
        found.append(weights)
    return found


class ProblemFile(InputModel):
    """The whole file."""

    kind: Literal["shop"]
    name: Text | None = None
    unit: Text = "units"
    resources: list[ResourceEntry] = Field(default_factory=list)
    jobs: list[JobEntry] = Field(default_factory=list)
    tasks: list[TaskEntry] = Field(default_factory=list)
    precedences: list[PrecedenceEntry] = Field(default_factory=list)
    selections: list[SelectionEntry] = Field(default_factory=list)
    same_resources: list[PairEntry] = Field(default_factory=list)
    consecutive: list[PairEntry] = Field(default_factory=list)
    same_sequences: list[SequenceEntry] = Field(default_factory=list)
    mode_dependencies: list[DependencyEntry] = Field(default_factory=list)
    objective: Annotated[list[Any], parsed(_levels)] = Field(default_factory=lambda: [{"makespan": 1}])
    transport: dict[str, dict[str, Time]] = Field(default_factory=dict)
    swap: bool = True
