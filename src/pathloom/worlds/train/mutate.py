"""One-rule mutations of a training plan: a means to test checkers.

`mutate` takes a valid plan and breaks one rule of it, named beforehand, as a planner with one bug would: the rest of
the plan is kept or repaired, so that a checker that knows every rule but this one finds nothing. Mutated routes get a
new timetable of rigid trips; mutated timetables push everything behind the mutation to where it belongs. The rules are
judged here by plain loops that share no code with the checker, whose result is never looked at.

The rules' names are those that `pathloom.worlds.train.check` documents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pathloom.plan import Plan
from pathloom.worlds.train import route_mutations as routes
from pathloom.worlds.train import timetable_mutations as timetable
from pathloom.worlds.train.drawn_cases import draw_varied_case
from pathloom.worlds.train.problem import TrainProblem
from pathloom.worlds.train.rigid_trips import plan_of, rigid_timeline

Variant = Callable[[TrainProblem, Plan, str, np.random.Generator], routes.Mutant | None]

MUTATIONS: Mapping[str, tuple[Variant, ...]] = {
    "CC-a": (routes.reroute, routes.head_elsewhere),
    "CC-b": (routes.reroute, routes.wrong_length),
    "CC-c": (routes.reroute,),
    "CC-d": (routes.reroute,),
    "TC1-source": (routes.over_source_cap,),
    "TC1-stage": (routes.over_stage_cap,),
    "TC1-node": (routes.over_node_cap,),
    "placement": (routes.nodes_swapped, routes.stage_resized, routes.visit_misplaced),
    "completeness": (timetable.lost_or_twice, timetable.lost_or_twice, routes.task_elsewhere),
    "duration": (timetable.wrong_duration,),
    "precedence": (timetable.message_outrun,),
    "link": (timetable.message_outrun, routes.unlinked),
    "weight": (timetable.weight_first,),
    "TC2": (timetable.collision,),
    "memory": (routes.slots_ignored,),
    "release": (timetable.too_early,),
    "after": (timetable.not_returned,),
    "sync": (timetable.bad_sync,),
    "objective": (timetable.false_objective,),
    "malformed": (timetable.unreadable,),
}
"""Ways to break each rule."""

_NEEDS: Mapping[str, Mapping[str, Any]] = {
    "CC-c": {"route_length": 4},
    "CC-d": {"route_length": 3, "stages": 5, "chunks": 1},
    "TC1-source": {"nodes": 10, "microbatches": 6},
    "TC1-stage": {"route_length": 3, "stages": 5, "microbatches": 6},
    "weight": {"split_backward": True},
    "TC2": {"microbatches": 6},
    "memory": {"memory": (1, 2), "microbatches": 8},
    "after": {"microbatches": 4},
    "sync": {"sync": True},
}
"""What a drawn case should have where the rule could not be broken otherwise, or seldom."""


@dataclass(frozen=True)
class Mutation:
    """A plan that breaks a rule.

    Attributes
    ----------
    rule
        The rule that it breaks for certain.
    what
        What was done to the plan.
    alone
        True if by construction it breaks no other rule. Some rules cannot always be broken alone: one visit too many
        at a stage is one too many at a node, too, where the nodes' caps add up to the stage's.
    """

    plan: Plan
    rule: str
    what: str
    alone: bool


def mutate(
    problem: TrainProblem, plan: Plan, rule: str, rng: np.random.Generator, *, attempts: int = 20
) -> Mutation | None:
    """A plan like `plan` that breaks `rule`, and no other rule if one of `attempts` random mutations manages that.

    Parameters
    ----------
    plan
        A valid plan of `problem`; it is left as it is.
    rule
        A key of `MUTATIONS`.

    Returns
    -------
    Mutation or None
        None if no attempt breaks the rule: a problem without synchronisation has no rule on it to break, and memory
        is never exceeded where few microbatches meet.
    """
    fallback = None
    ways = MUTATIONS[rule]
    for attempt in range(attempts):
        # the first draw is free, then the ways take turns: one of them may never apply to this plan
        way = ways[int(rng.integers(len(ways))) if attempt == 0 else attempt % len(ways)]
        found = way(problem, plan, rule, rng)
        if found is None:
            continue
        mutation = Mutation(found[0], rule, found[1], found[2])
        if mutation.alone:
            return mutation
        fallback = fallback or mutation
    return fallback


def mutated_case(rule: str, rng: np.random.Generator) -> tuple[TrainProblem, Plan, Mutation]:
    """A small random problem, a valid plan of rigid trips for it, and a mutation of that plan that breaks `rule`.

    Cases are drawn until one can be mutated.
    """
    while True:
        problem, decisions = draw_varied_case(rng, **_NEEDS.get(rule, {}))
        timeline = rigid_timeline(problem, decisions)
        if timeline is None:
            continue
        plan = plan_of(problem, decisions, timeline)
        mutation = mutate(problem, plan, rule, rng)
        if mutation is not None:
            return problem, plan, mutation
