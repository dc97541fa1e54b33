"""Independent checker of training plans.

It reads the decisions and the timetable of a plan and says which rules they break. It is written from the definitions
in `pathloom.worlds.train.problem` and shares no code with what makes plans. Nothing is simulated: each rule is looked
up in the spans as they stand, whatever order of work, priorities or strictness led to them.

Route rules (of the decisions; names of the convergence and throughput constraints after SkipPipe, 2025)

``CC-a``
    The first visit of a microbatch is stage 0; the node of that visit also does the loss and the last backward pass.
``CC-b``
    A microbatch visits exactly ``route_length`` stages (``route_length * chunks`` virtual stages), none twice.
``CC-c``
    Visits behind the frontier keep the budget of swaps: distance of each, number, sum of distances. With model chunks
    the virtual stages of a route increase.
``CC-d``
    No visit is more than ``reordering.jump`` stages ahead of the frontier (not asked with model chunks).
``TC1-source``, ``TC1-stage``, ``TC1-node``
    At most ``source_cap`` microbatches start at one node, ``stage_cap[p]`` visit stage p, and ``node_cap[n]`` visit
    node n if it is not in stage 0. A microbatch counts once, however often it comes.
``placement``
    Stage p has ``stage_sizes[p]`` nodes, a given placement is kept, and every visit is at a node of its stage.

Timetable rules

``completeness``
    Every task of every microbatch has exactly one span, on the node and with the stage that the route says; there are
    no other spans. (Loss or last backward pass away from the source break ``CC-a`` instead.)
``duration``
    A span lasts what the problem says for its node and the stage of its task. A model chunk does ``1/chunks`` of a
    stage's work; the loss is the whole microbatch's and is not divided.
``precedence``
    A task starts no earlier than the task before it in its microbatch ends.
``link``
    It starts no earlier than that task's message arrives, and there is a link for the message (none is needed within
    a node).
``weight``
    A postponed weight-gradient task starts no earlier than the backward pass that it belongs to ends.
``TC2``
    A node does one task at a time and rests after each: ``injection_gap`` after a first forward pass, else ``gap``.
``memory``
    At no time does a node hold more than ``memory * chunks`` activations. One is held from the start of a forward pass
    to the end of the same visit's backward pass, or of its weight task if there is one.
``release``
    No first forward pass starts before its release, nor before time 0.
``after``
    Nor before the microbatch that it waits for has returned.
``sync``
    If synchronisation is part of the problem, every node has one span of item "sync", labelled with its stage, that
    starts no earlier than the last task on any node of that stage ends and lasts as long as the stage's all-reduce.
``objective``
    The objective's value is finite and is the latest end of all spans; a bound, where given, does not exceed it.

``malformed``
    The plan cannot be read: missing or misshapen arrays, numbers that are not finite, positions that
    point nowhere, other resources, items or kinds than the problem's. Nothing else is checked then.

Times are compared with a tolerance of one millionth of the timetable's length.
"""

from __future__ import annotations

from collections.abc import Callable

from pathloom.plan import Plan, Violation
from pathloom.worlds.train import check_routes, check_timetable
from pathloom.worlds.train.check_reading import Malformed, Reading, read
from pathloom.worlds.train.problem import TrainProblem

RULES = (
    *("CC-a", "CC-b", "CC-c", "CC-d", "TC1-source", "TC1-stage", "TC1-node", "placement"),
    *("completeness", "duration", "precedence", "link", "weight", "TC2", "memory", "release", "after", "sync"),
    *("objective", "malformed"),
)
"""Names of all rules."""

_PARTS: tuple[Callable[[Reading], list[Violation]], ...] = (
    check_routes.first_stage,
    check_routes.visits,
    check_routes.reordering,
    check_routes.caps,
    check_routes.placement,
    check_timetable.completeness,
    check_timetable.durations,
    check_timetable.messages,
    check_timetable.weights,
    check_timetable.collisions,
    check_timetable.memory,
    check_timetable.injections,
    check_timetable.synchronisation,
    check_timetable.objective,
)


def check(problem: TrainProblem, plan: Plan) -> list[Violation]:
    """Every rule of the problem that the plan breaks, see the module's text; empty for a valid plan.

    Parameters
    ----------
    problem
        The problem that the plan must solve (``plan.problem`` is not looked at).
    plan
        Its `decisions` are `TrainDecisions`; its `timeline` has the problem's nodes as resources, the items "mb0",
        "mb1", ..., `KINDS` as kinds, and the integer columns "stage" and "visit" (-1 for the loss).

    Returns
    -------
    list of Violation
        Never raises on a bad plan: what cannot be read is a violation of the rule "malformed".
    """
    try:
        reading = read(problem, plan)
    except Malformed as error:
        return [Violation("malformed", str(error))]
    return [violation for part in _PARTS for violation in part(reading)]
