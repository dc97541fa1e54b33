"""Who waits for whom: the wait-for graph of a floor, and the circles in it.

A job that is finished on its machine and cannot leave waits for the job on its next machine. Without swaps a circle of
such jobs is a deadlock; with swaps its jobs change places at one instant. Circles are the strongly connected components
with more than one job, or with a job that waits for itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from numpy.typing import NDArray

WaitFor = Mapping[int, Sequence[int]]


def wait_for_graph(
    occupant: Sequence[int] | NDArray, finished: Sequence[bool] | NDArray, target: Sequence[int] | NDArray
) -> dict[int, tuple[int, ...]]:
    """Job to the jobs that it waits for, for all jobs on machines.

    Parameters
    ----------
    occupant
        Shape (machines,): job on each machine, -1 for none.
    finished
        Shape (machines,): whether that job is done there and waits to leave.
    target
        Shape (machines,): the machine that it is to go to.
    """
    edges: dict[int, tuple[int, ...]] = {}
    for machine, job in enumerate(occupant):
        if job >= 0:
            holder = int(occupant[int(target[machine])]) if finished[machine] else -1
            edges[int(job)] = (holder,) if holder >= 0 else ()
    return edges


def strongly_connected_components(edges: WaitFor) -> list[tuple[int, ...]]:
    """Components in reverse topological order (R. Tarjan, "Depth-first search and linear graph algorithms", 1972).

    Without recursion, as circles may be as long as the shop has machines.
    """
    number: dict[int, int] = {}
    lowest: dict[int, int] = {}
    stack: list[int] = []
    on_stack: set[int] = set()
    components: list[tuple[int, ...]] = []
    for root in edges:
        if root in number:
            continue
        path = [(root, iter(edges[root]))]
        number[root] = lowest[root] = len(number)
        stack.append(root)
        on_stack.add(root)
        while path:
            node, rest = path[-1]
            for other in rest:
                if other not in number:
                    number[other] = lowest[other] = len(number)
                    stack.append(other)
                    on_stack.add(other)
                    path.append((other, iter(edges.get(other, ()))))
                    break
                if other in on_stack:
                    lowest[node] = min(lowest[node], number[other])
            else:
                path.pop()
                if path:
                    lowest[path[-1][0]] = min(lowest[path[-1][0]], lowest[node])
                if lowest[node] == number[node]:
                    component = []
                    while True:
                        other = stack.pop()
                        on_stack.remove(other)
                        component.append(other)
                        if other == node:
                            break
                    components.append(tuple(reversed(component)))
    return components


def circles(edges: WaitFor) -> list[tuple[int, ...]]:
    """The circles of jobs that wait for each other, each from its first job on in waiting order."""
    return [
        component
        for component in strongly_connected_components(edges)
        if len(component) > 1 or component[0] in edges.get(component[0], ())
    ]
