"""Circles of jobs that wait for each other, found as strongly connected components."""

from __future__ import annotations

import networkx as nx
from hypothesis import given
from hypothesis import strategies as st

from pathloom.worlds.shop.online.waiting import circles, strongly_connected_components, wait_for_graph

GRAPHS = st.integers(1, 8).flatmap(
    lambda n: st.lists(st.lists(st.integers(0, n - 1), max_size=3), min_size=n, max_size=n)
)


@given(GRAPHS)
def test_components_are_those_of_networkx_in_reverse_order(rows: list[list[int]]) -> None:
    edges = dict(enumerate(rows))
    graph = nx.DiGraph([(a, b) for a, row in edges.items() for b in row])
    graph.add_nodes_from(edges)
    ours = strongly_connected_components(edges)
    assert {frozenset(each) for each in ours} == {frozenset(each) for each in nx.strongly_connected_components(graph)}
    place = {node: k for k, component in enumerate(ours) for node in component}
    assert all(place[b] <= place[a] for a, b in graph.edges)


def test_a_long_circle_needs_no_recursion() -> None:
    edges = {k: [(k + 1) % 5000] for k in range(5000)}
    assert [len(circle) for circle in circles(edges)] == [5000]


def test_a_finished_job_waits_for_the_job_on_its_next_machine() -> None:
    # Jobs 4, 5, 6 on machines 0, 1, 2; 5 still works; 4 wants machine 1, 6 wants machine 0; machine 3 is empty.
    edges = wait_for_graph([4, 5, 6, -1], [True, False, True, False], [1, 3, 0, 0])
    assert edges == {4: (5,), 5: (), 6: (4,)}
    assert circles(edges) == []
    assert circles(wait_for_graph([4, 5, 6, -1], [True, True, True, False], [1, 2, 0, 0])) == [(4, 5, 6)]


def test_a_job_that_stays_on_its_machine_is_a_circle_of_one() -> None:
    assert circles(wait_for_graph([7], [True], [0])) == [(7,)]
