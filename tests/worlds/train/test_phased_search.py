"""The phases of SkipPipe's search: what they bind, what they count as an overlap, and how they resolve it."""

from __future__ import annotations

import numpy as np

from pathloom.worlds.train.phased_search import PhasedSearch, SkipPipeSettings, TreeNode
from pathloom.worlds.train.problem import BACKWARD, TrainProblem
from pathloom.worlds.train.reference import reference_instance
from pathloom.worlds.train.wave import Wave, first_wave

# Nodes of each stage that SkipPipe's own placement finds for its default instance.
STAGES = ((0, 6, 13, 18, 19), (10, 8, 11), (17, 16, 1), (3, 5, 2), (14, 15, 9), (4, 7, 12))


def default_instance() -> TrainProblem:
    placement = np.zeros(20, dtype=np.int64)
    for stage, nodes in enumerate(STAGES):
        placement[list(nodes)] = stage
    return reference_instance(placement=placement)


def search_over(wave: Wave) -> PhasedSearch:
    return PhasedSearch(wave, SkipPipeSettings(), True, np.inf, None, lambda best, phase: None)


def test_a_node_of_the_tree_without_overlaps_has_no_forward_pass_in_anothers_way() -> None:
    problem = default_instance()
    assert problem.placement is not None
    search = search_over(first_wave(problem, problem.placement))
    node = search.assignments()[0]
    seen = 0
    while True:
        alternatives = search.overlaps(node)
        tasks = [
            (n, start, leave, kind == BACKWARD, agent)
            for agent, path in enumerate(node.paths)
            for (n, kind), start, leave in zip(path.uses, path.start, path.leave, strict=True)
        ]
        met = [
            (a, b)
            for a in tasks
            for b in tasks
            if a[4] < b[4] and a[0] == b[0] and a[1] < b[2] and b[1] < a[2] and not (a[3] and b[3])
        ]
        forward_met = [(a, b) for a, b in met if not _late(node, a) or not _late(node, b)]
        assert bool(alternatives) == bool(forward_met)
        if not alternatives or seen > 40:
            break
        agent, window = alternatives[0]
        child = search.waiting(node, agent, window)
        assert child is not None
        assert child.paths[agent].end >= node.paths[agent].end
        (n, _), low, high = window
        for (at, _), start, leave in zip(child.paths[agent].uses, child.paths[agent].start, child.paths[agent].leave):
            assert at != n or start >= high or leave <= low + 1e-9
        node = child
        seen += 1
    assert seen > 0


def _late(node: TreeNode, task: tuple[int, float, float, bool, int]) -> bool:
    """True for what SkipPipe counts as the way back: the loss and the backward passes."""
    path = node.paths[task[4]]
    return bool(task[1] >= path.start[len(path.nodes)])


def test_phase_a_binds_every_agent_to_as_many_stages_as_it_visits_and_keeps_the_caps() -> None:
    problem = default_instance()
    assert problem.placement is not None
    wave = first_wave(problem, problem.placement)
    search = search_over(wave)
    nodes = search.assignments()
    assert len(nodes) == 32
    assert len({node.stage_open.tobytes() for node in nodes}) == 32
    for node in nodes:
        assert (node.stage_open.sum(axis=1) == problem.route_length).all()
        visits = 2 * node.stage_open.sum(axis=0)
        assert (visits <= problem.stage_cap).all()


def test_repair_keeps_tc1_and_the_assignment_of_stages() -> None:
    problem = default_instance()
    assert problem.placement is not None
    search = search_over(first_wave(problem, problem.placement))
    repaired = 0
    for node in search.assignments():
        leaf = search.repair(node)
        if leaf is None:
            continue
        repaired += 1
        assert search.keeps_caps(leaf)
        for before, after in zip(node.paths, leaf.paths, strict=True):
            assert set(before.stages) == set(after.stages)
    assert repaired >= 24
