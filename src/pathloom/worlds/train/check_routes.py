"""The checker's route rules: CC-a to CC-d, TC1 and placement, as `pathloom.worlds.train.check` documents them."""

from __future__ import annotations

import numpy as np

from pathloom.plan import Violation
from pathloom.worlds.train.check_reading import Described, Reading, report


def first_stage(r: Reading) -> list[Violation]:
    found = report(
        "CC-a",
        np.flatnonzero(r.stages[:, 0] != 0),
        lambda b: (
            f"mb{b} starts in stage {r.stages[b, 0]}, every microbatch starts in stage 0",
            [f"mb{b}"],
            [r.problem.nodes[r.routes[b, 0]]],
        ),
    )
    k = r.routes.shape[1]
    spans = np.flatnonzero(np.isin(r.code, (k, 2 * k)))
    source = r.routes[r.item[spans], 0]
    away = np.flatnonzero(r.node[spans] != source)

    def describe(at: int) -> Described:
        i, home = int(spans[at]), r.problem.nodes[source[at]]
        message = f"{r.span(i)} is not at {home}, where the microbatch starts"
        return message, r.item_names([i]), [*r.node_names([i]), home]

    return found + report("CC-a", away, describe)


def visits(r: Reading) -> list[Violation]:
    found = []
    expected, k = r.problem.route_length * r.chunks, r.stages.shape[1]
    if k != expected:
        names = tuple(f"mb{b}" for b in range(len(r.stages)))
        found.append(Violation("CC-b", f"routes have {k} visits, expected {expected}", names))
    ordered = np.sort(r.stages, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)

    def describe(b: int) -> Described:
        stages, counts = np.unique(r.stages[b], return_counts=True)
        again = stages[counts > 1]
        nodes = [r.problem.nodes[n] for n in r.routes[b, np.isin(r.stages[b], again)]]
        return f"mb{b} visits stage {', '.join(map(str, again))} more than once", [f"mb{b}"], nodes

    return found + report("CC-b", np.flatnonzero(twice), describe)


def reordering(r: Reading) -> list[Violation]:
    stages, budget = r.stages, r.problem.reordering
    nodes = r.problem.nodes
    if r.chunks > 1:
        back = np.argwhere(np.diff(stages, axis=1) < 0)
        return report(
            "CC-c",
            back,
            lambda at: (
                f"mb{at[0]} goes from virtual stage {stages[at[0], at[1]]} back to {stages[at[0], at[1] + 1]}",
                [f"mb{at[0]}"],
                [nodes[r.routes[at[0], at[1] + 1]]],
            ),
        )
    frontier = np.maximum.accumulate(stages, axis=1)[:, :-1]
    ahead = stages[:, 1:] - frontier
    swap = np.maximum(-ahead, 0)
    count, total = (swap > 0).sum(axis=1), swap.sum(axis=1)
    found = report(
        "CC-c",
        np.argwhere(swap > budget.distance),
        lambda at: (
            f"visit {at[1] + 1} of mb{at[0]} is {swap[at[0], at[1]]} stages behind its frontier, "
            f"the budget is {budget.distance}",
            [f"mb{at[0]}"],
            [nodes[r.routes[at[0], at[1] + 1]]],
        ),
    )
    for name, used, most in (("swaps", count, budget.swaps), ("stages of swap distance", total, budget.total)):
        found += report(
            "CC-c",
            np.flatnonzero(used > most),
            lambda b, name=name, used=used, most=most: (  # type: ignore[misc]
                f"mb{b} makes {used[b]} {name}, the budget is {most}",
                [f"mb{b}"],
                [nodes[n] for n in r.routes[b, 1:][swap[b] > 0]],
            ),
        )
    return found + report(
        "CC-d",
        np.argwhere(ahead > budget.jump),
        lambda at: (
            f"visit {at[1] + 1} of mb{at[0]} jumps {ahead[at[0], at[1]]} stages ahead, at most {budget.jump} allowed",
            [f"mb{at[0]}"],
            [nodes[r.routes[at[0], at[1] + 1]]],
        ),
    )


def caps(r: Reading) -> list[Violation]:
    n, s = r.problem.n_nodes, r.problem.n_stages
    b = len(r.routes)
    nodes, host = r.problem.nodes, r.stages % s
    comes = np.zeros((b, n), dtype=bool)
    comes[np.arange(b)[:, None], r.routes] = True
    passes = np.zeros((b, s), dtype=bool)
    passes[np.arange(b)[:, None], host] = True
    starts = np.bincount(r.routes[:, 0], minlength=n)
    at_node, at_stage = comes.sum(axis=0), passes.sum(axis=0)
    found = report(
        "TC1-source",
        np.flatnonzero(starts > r.problem.source_cap),
        lambda i: (
            f"{starts[i]} microbatches start at {nodes[i]}, at most {r.problem.source_cap} may",
            [f"mb{j}" for j in np.flatnonzero(r.routes[:, 0] == i)],
            [nodes[i]],
        ),
    )
    found += report(
        "TC1-stage",
        np.flatnonzero(at_stage > r.problem.stage_cap),
        lambda p: (
            f"{at_stage[p]} microbatches visit stage {p}, at most {r.problem.stage_cap[p]} may",
            [f"mb{j}" for j in np.flatnonzero(passes[:, p])],
            [nodes[i] for i in np.flatnonzero(r.placement == p)],
        ),
    )
    return found + report(
        "TC1-node",
        np.flatnonzero((at_node > r.problem.node_cap) & (r.placement != 0)),
        lambda i: (
            f"{at_node[i]} microbatches visit {nodes[i]}, at most {r.problem.node_cap[i]} may",
            [f"mb{j}" for j in np.flatnonzero(comes[:, i])],
            [nodes[i]],
        ),
    )


def placement(r: Reading) -> list[Violation]:
    problem, nodes = r.problem, r.problem.nodes
    sizes = np.bincount(r.placement, minlength=problem.n_stages)
    found = report(
        "placement",
        np.flatnonzero(sizes != problem.stage_sizes),
        lambda p: (
            f"stage {p} has {sizes[p]} nodes, expected {problem.stage_sizes[p]}",
            [],
            [nodes[i] for i in np.flatnonzero(r.placement == p)],
        ),
    )
    if problem.placement is not None:
        given = problem.placement
        found += report(
            "placement",
            np.flatnonzero(r.placement != given),
            lambda i: (f"{nodes[i]} is in stage {r.placement[i]}, the problem puts it in {given[i]}", [], [nodes[i]]),
        )
    return found + report(
        "placement",
        np.argwhere(r.placement[r.routes] != r.stages % problem.n_stages),
        lambda at: (
            f"visit {at[1]} of mb{at[0]} to stage {r.stages[at[0], at[1]] % problem.n_stages} is at "
            f"{nodes[r.routes[at[0], at[1]]]}, a node of stage {r.placement[r.routes[at[0], at[1]]]}",
            [f"mb{at[0]}"],
            [nodes[r.routes[at[0], at[1]]]],
        ),
    )
