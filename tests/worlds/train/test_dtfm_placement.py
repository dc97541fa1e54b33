"""Facts about the genetic placement of nodes on stages."""

import gzip
import json
from dataclasses import replace
from itertools import pairwise, permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from pathloom.data.network import measured_network
from pathloom.worlds.train.dtfm_placement import chains, dtfm_placement, partition_score, placement_score
from pathloom.worlds.train.placement_score import GRADIENT_FACTOR
from pathloom.worlds.train.problem import TrainProblem

Floats = NDArray[np.float64]

# In the order in which SkipPipe deals nodes to them.
REGIONS = ("Australia", "Belgium", "Canada", "Germany", "Iowa", "Japan", "LA", "NL", "Oregon", "Singapore", "Taiwan")
REGIONS += ("London",)


def problem_of(
    link: ArrayLike, sizes: list[int], forward: float = 1.76, sync: tuple[Floats, Floats] | None = None
) -> TrainProblem:
    n, s = len(np.asarray(link)), len(sizes)
    seconds = np.full((n, s), forward)
    latency, transfer = sync if sync is not None else (None, None)
    return TrainProblem(
        name="test",
        nodes=tuple(f"n{i}" for i in range(n)),
        locations=("here",) * n,
        forward=seconds,
        backward=1.5 * seconds,
        weight=0.5 * seconds,
        loss=0.25 * seconds[:, 0],
        link=np.asarray(link, dtype=np.float64),
        memory=np.full(n, 3),
        stage_sizes=np.array(sizes),
        microbatches=3,
        route_length=s,
        source_cap=3,
        stage_cap=np.full(s, 9),
        node_cap=np.full(n, 9),
        sync_latency=latency,
        sync_seconds=transfer,
    )


def random_problem(seed: int, sizes: list[int], forward: float = 1.0) -> TrainProblem:
    n = sum(sizes)
    link = np.triu(np.random.default_rng(seed).integers(1, 40, size=(n, n)) / 8.0, 1)
    return problem_of(link + link.T, sizes, forward)


def google_cloud() -> TrainProblem:
    """SkipPipe's default instance: 20 nodes in 12 regions, 32 MiB activations, 0.35 s of overhead on every link."""
    network = measured_network("gcp12", as_published=True)
    at = [network.index(REGIONS[i % 12]) for i in range(20)]
    link = network.seconds(32 * 2**20)[np.ix_(at, at)] + 0.35
    np.fill_diagonal(link, 0.0)
    return problem_of(link, [5, 3, 3, 3, 3, 3])


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch) -> dict:
    """The schedule that SkipPipe ships, where the data set lies on this machine."""
    from pathloom import data

    def offline(*_: object) -> None:
        pytest.skip("data set train-gcp is not on this machine")

    monkeypatch.setattr("pathloom.data.registry.download", offline)
    file = Path(data.find("train-gcp")) / "skippipe-schedule.json.gz"
    if not file.is_file():
        offline()
    with gzip.open(file, "rt") as stream:
        return json.load(stream)


def stage_of(partitions: list[list[int]]) -> NDArray[np.int64]:
    stage = np.empty(sum(map(len, partitions)), np.int64)
    for p, nodes in enumerate(partitions):
        stage[nodes] = p
    return stage


def test_the_score_of_the_shipped_skippipe_partition_is_the_shipped_one(shipped: dict) -> None:
    # Its profile: 4 layers, 2 samples, 0.055 s each.
    problem = problem_of(shipped["delays"], [5, 3, 3, 3, 3, 3], forward=0.44)
    stage = stage_of(shipped["partitions"])
    found = partition_score(problem, stage, truncated=True)
    assert found.score == shipped["GCMAscore"]
    assert found.order.tolist() == list(range(6))
    # Matching all five nodes of stage 0, as the definition asks, can only be cheaper.
    assert placement_score(problem, stage).score <= shipped["GCMAscore"]


def test_the_score_of_the_default_partition_of_skippipe_is_the_one_that_its_program_prints() -> None:
    partitions = [[0, 6, 13, 18, 19], [10, 8, 11], [17, 16, 1], [3, 5, 2], [14, 15, 9], [4, 7, 12]]
    found = partition_score(google_cloud(), stage_of(partitions), truncated=True)
    assert found.score == pytest.approx(39.016573479636776, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_on_the_default_instance_the_search_beats_the_published_placement(seed: int) -> None:
    found = dtfm_placement(google_cloud(), seed=seed)
    assert found.score < 39.016573479636776
    assert len(found.history) == 8001


def by_definition(problem: TrainProblem, group: NDArray[np.int64], variant: str) -> float:
    s = problem.n_stages
    members = [np.flatnonzero(group == g) for g in range(s)]
    edge = problem.link + (problem.forward[0, 0] if variant == "skippipe" else 0.0)
    cross = np.zeros((s, s))
    for a, b in permutations(range(s), 2):
        small, large = sorted((members[a], members[b]), key=len)
        cross[a, b] = min(edge[small, list(p)].max() for p in permutations(large, len(small)))
    data = 0.0
    for m in members:
        for i in m:
            others = m[m != i]
            if variant == "skippipe":
                data = max(data, problem.link[i, others].max(initial=0.0))
            elif problem.sync_latency is not None and problem.sync_seconds is not None:
                seconds = problem.sync_latency[i, others] + problem.sync_seconds[i, others] / len(m)
                data = max(data, 2 * seconds.sum())
            else:
                data = max(data, 2 * (GRADIENT_FACTOR * problem.link[i, others] / len(m)).sum())
    costs = []
    for order in permutations(range(s)):
        if (variant == "skippipe" and order[0] != 0) or any(
            problem.stage_sizes[g] != problem.stage_sizes[p] for p, g in enumerate(order)
        ):
            continue
        cost = sum(cross[a, b] for a, b in pairwise(order))
        costs.append(cost + (cross[order[-1], 0] if variant == "skippipe" else 0.0))
    return float(data + 2 * min(costs))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.sampled_from([[2, 2, 2], [3, 2, 2], [1, 2, 3, 1], [4]]), st.booleans())
def test_both_scores_are_their_published_definitions(seed: int, sizes: list[int], sync: bool) -> None:
    problem = random_problem(seed, sizes)
    rng = np.random.default_rng(seed)
    if sync:
        latency, seconds = rng.random((2, problem.n_nodes, problem.n_nodes))
        problem = replace(problem, sync_latency=latency, sync_seconds=seconds)
    group = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    for variant in ("dtfm", "skippipe"):
        found = partition_score(problem, group, variant=variant)
        assert found.score == pytest.approx(by_definition(problem, group, variant))
        assert found.score == pytest.approx(found.data_cost + 2 * found.pipeline_cost)


@pytest.mark.parametrize("variant", ["dtfm", "skippipe"])
@pytest.mark.parametrize("sizes", [[2, 2, 2], [3, 2, 2]])
def test_on_small_instances_the_best_of_all_partitions_is_nearly_reached(variant: str, sizes: list[int]) -> None:
    n = sum(sizes)
    block = np.repeat(np.arange(len(sizes)), sizes)
    partitions = {tuple(block[list(p)]) for p in permutations(range(n))}
    for seed in range(2):
        problem = random_problem(seed, sizes)
        best = min(partition_score(problem, p, variant=variant).score for p in partitions)
        found = dtfm_placement(problem, variant=variant, trials=1000, seed=seed)
        assert best - 1e-9 <= found.score <= 1.1 * best


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 2**31),
    st.sampled_from([[2, 2, 2], [5, 3, 3, 3], [1, 2, 3, 2, 1], [3, 1], [6], [1, 1, 1]]),
    st.sampled_from(["dtfm", "skippipe"]),
)
def test_the_placement_keeps_the_sizes_and_is_worth_its_score_as_it_stands(
    seed: int, sizes: list[int], variant: str
) -> None:
    problem = random_problem(seed, sizes)
    found = dtfm_placement(problem, variant=variant, population=10, trials=40, seed=seed)
    assert np.bincount(found.placement, minlength=len(sizes)).tolist() == sizes
    again = placement_score(problem, found.placement, variant=variant)
    assert again.score == pytest.approx(found.score)
    assert (again.pipeline_cost, again.data_cost) == pytest.approx((found.pipeline_cost, found.data_cost))
    assert np.all(np.diff(found.history) <= 0)
    assert found.history[-1] == pytest.approx(found.score)


@settings(deadline=None, max_examples=50)
@given(
    st.integers(0, 2**31),
    st.sampled_from([[2, 2, 2], [5, 3, 3, 3], [3, 5, 2, 4, 1], [2, 5, 4, 3, 3], [1, 4], [6]]),
)
def test_chains_visit_every_node_of_every_stage_and_long_chains_come_first(seed: int, sizes: list[int]) -> None:
    problem = random_problem(seed, sizes)
    stage = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    matched = chains(problem, stage)
    for p, nodes in enumerate(matched):
        assert sorted(nodes.tolist()) == np.flatnonzero(stage == p).tolist()
    # Step by step no matching of the chains that still run has a cheaper dearest link.
    running = sizes[0]
    for p in range(1, len(sizes)):
        heads, nodes = matched[p - 1][:running], matched[p]
        running = min(running, sizes[p])
        dearest = problem.link[matched[p - 1][:running], matched[p][:running]].max()
        if len(heads) <= len(nodes):
            best = min(problem.link[heads, list(q)].max() for q in permutations(nodes, len(heads)))
        else:
            best = min(problem.link[list(q), nodes].max() for q in permutations(heads, len(nodes)))
        assert dearest == best


def test_nodes_of_one_site_end_up_in_one_stage_when_gradients_are_dear() -> None:
    site = np.arange(9) % 3
    link = np.where(site[:, None] == site[None, :], 0.1, 1.0)
    seconds = 100.0 * link
    problem = problem_of(link, [3, 3, 3], sync=(0.0 * link, seconds))
    found = dtfm_placement(problem, variant="dtfm", trials=500)
    assert len({(int(s), int(p)) for s, p in zip(site, found.placement)}) == 3
    # And a pipeline stays on its site when activations are.
    cheap = replace(problem, sync_seconds=seconds * 1e-6)
    found = dtfm_placement(cheap, variant="dtfm", trials=500)
    for c in range(3):
        assert len({int(site[nodes[c]]) for nodes in found.chains}) == 1


def test_a_given_placement_is_returned_with_its_chains() -> None:
    problem = random_problem(4, [3, 2, 2])
    stage = np.array([2, 0, 1, 0, 2, 1, 0])
    found = dtfm_placement(replace(problem, placement=stage))
    assert found.placement.tolist() == stage.tolist()
    assert [c.tolist() for c in found.chains] == [c.tolist() for c in chains(problem, stage)]
    assert found.score == placement_score(problem, stage).score
    assert len(found.history) == 1


def test_the_seed_decides_and_the_number_of_trials_extends_a_run() -> None:
    problem = random_problem(9, [4, 4, 4, 4])
    one = dtfm_placement(problem, trials=300, seed=3)
    assert one.placement.tolist() == dtfm_placement(problem, trials=300, seed=3).placement.tolist()
    longer = dtfm_placement(problem, trials=500, seed=3)
    assert longer.history[:301].tolist() == one.history.tolist()
    assert dtfm_placement(problem, trials=300, seed=4).history.tolist() != one.history.tolist()


def test_a_spent_time_limit_still_gives_a_placement() -> None:
    problem = random_problem(2, [8] * 4)
    found = dtfm_placement(problem, trials=10**9, time_limit=0.0)
    assert np.bincount(found.placement).tolist() == [8] * 4
    assert len(found.history) == 1


def test_a_missing_link_is_left_unused() -> None:
    # Two sites joined by one link only: each stage must lie on one site, or the chain would need a missing link.
    link = np.full((6, 6), np.inf)
    link[:3, :3] = link[3:, 3:] = 1.0
    link[2, 3] = link[3, 2] = 1.0
    np.fill_diagonal(link, 0.0)
    found = dtfm_placement(problem_of(link, [1] * 6), variant="dtfm", trials=500)
    order = np.argsort(found.placement)
    assert np.isfinite(link[order[:-1], order[1:]]).all()


def test_twenty_stages_are_ordered_without_dynamic_programming() -> None:
    where = np.random.default_rng(77).permutation(40) // 2
    link = np.abs(where[:, None] - where[None, :]) + 0.01
    np.fill_diagonal(link, 0.0)
    found = dtfm_placement(problem_of(link, [2] * 20), variant="dtfm", trials=2000)
    assert found.score < 0.7 * found.history[0]
    assert placement_score(problem_of(link, [2] * 20), found.placement, variant="dtfm").score == pytest.approx(
        found.score
    )


def test_wrong_arguments_are_named() -> None:
    problem = random_problem(0, [2, 2])
    with pytest.raises(ValueError, match="variant is 'gpipe'"):
        dtfm_placement(problem, variant="gpipe")
    with pytest.raises(ValueError, match="population is 0"):
        dtfm_placement(problem, population=0)
    with pytest.raises(ValueError, match="expected \\[2, 2\\]"):
        partition_score(problem, [0, 0, 0, 1])
    with pytest.raises(ValueError, match="one group from 0 to 1"):
        chains(problem, [0, 0, 2, 1])
