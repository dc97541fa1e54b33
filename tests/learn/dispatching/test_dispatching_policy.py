"""The policy network: what its logits may depend on, and the schedules that come of them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from pathloom.learn.dispatching.expert_suffix import ClippedObjective, attempt, improve  # noqa: E402
from pathloom.learn.dispatching.generated_shops import flexible_shop, taillard_shop  # noqa: E402
from pathloom.learn.dispatching.inference import best_of, choose, greedy, roll_out  # noqa: E402
from pathloom.learn.dispatching.lessons import Decisions, ShopSeed, StudiedLesson, packed, study, unpacked, wanted_mask  # noqa: E402
from pathloom.learn.dispatching.policy import (  # noqa: E402
    DispatchingPolicy,
    PolicyShape,
    Rows,
    log_probabilities,
    rows_of,
    set_log_probability,
)
from pathloom.learn.dispatching.teacher import teach  # noqa: E402
from pathloom.schedule.interval_environment import WAIT, IntervalEnvironment  # noqa: E402
from pathloom.schedule.shops import FlexibleShop, JobShop  # noqa: E402

SMALL = PolicyShape(width=8, heads=1, hidden=16, decision=8)


def untrained(seed: int = 0) -> DispatchingPolicy:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        policy = DispatchingPolicy(SMALL)
    with torch.no_grad():
        policy.wait[-1].bias.fill_(-2.0)
    return policy.eval()


def feasible(shop: JobShop | FlexibleShop, start: np.ndarray, alternative: np.ndarray) -> bool:
    flexible = isinstance(shop, FlexibleShop)
    machine = (shop.alternative_machine if flexible else shop.machine)[alternative]
    end = start + (shop.alternative_duration if flexible else shop.duration)[alternative]
    own = shop.alternative_start if flexible else np.arange(shop.operations + 1)
    chosen = (own[:-1] <= alternative) & (alternative < own[1:])
    chain = all(start[o] >= end[o - 1] for o in range(shop.operations) if o not in shop.job_start)
    pairs = itertools.combinations(range(shop.operations), 2)
    apart = all(machine[a] != machine[b] or end[a] <= start[b] or end[b] <= start[a] for a, b in pairs)
    return bool(chosen.all()) and chain and apart and bool((start >= 0).all())


@pytest.mark.parametrize("flexible", [False, True])
def test_every_pass_gives_a_feasible_schedule(flexible: bool) -> None:
    generator = np.random.default_rng(1)
    shops = [flexible_shop(5, 4, 3, generator) if flexible else taillard_shop(n, 4, generator) for n in (3, 6)]
    for shop, found in zip(shops, greedy(untrained(), shops), strict=True):
        assert feasible(shop, found.start, found.alternative)
        best = best_of(untrained(), shop, 8, seed=3)
        assert best is not None
        assert feasible(shop, best.start, best.alternative)
        assert best.makespan <= found.makespan


def test_a_shop_is_scheduled_alike_alone_and_in_a_batch() -> None:
    generator = np.random.default_rng(2)
    shops = [taillard_shop(n, m, generator) for n, m in ((3, 5), (8, 4), (5, 5))]
    together = greedy(untrained(), shops)
    alone = [greedy(untrained(), [shop])[0] for shop in shops]
    assert [found.makespan for found in together] == [found.makespan for found in alone]


def test_the_order_in_which_jobs_are_listed_does_not_matter() -> None:
    generator = np.random.default_rng(3)
    rows = [[(int(m), int(generator.integers(1, 60))) for m in generator.permutation(4)] for _ in range(5)]
    forth, back = greedy(untrained(), [JobShop.from_rows(rows), JobShop.from_rows(rows[::-1])])
    assert forth.makespan == back.makespan


def test_time_in_other_units_gives_the_same_decisions() -> None:
    generator = np.random.default_rng(4)
    rows = [[(int(m), int(generator.integers(1, 60))) for m in generator.permutation(4)] for _ in range(5)]
    seconds = JobShop.from_rows(rows)
    milliseconds = JobShop.from_rows([[(m, 1000 * d) for m, d in row] for row in rows])
    first, second = greedy(untrained(), [seconds, milliseconds])
    assert 1000 * first.makespan == second.makespan


def test_probabilities_of_the_legal_actions_sum_to_one() -> None:
    environment = IntervalEnvironment([taillard_shop(6, 3, np.random.default_rng(5)), JobShop.from_rows([[(0, 1)]])])
    rows = rows_of(environment.observe())
    found = log_probabilities(*untrained()(rows)).exp()
    assert torch.allclose(found.sum(1), torch.ones(2))
    assert found[1, 1:].sum() == 0  # one job: nothing else to start, and nothing to wait for


def test_samples_are_repeated_by_their_seed_and_differ_between_seeds() -> None:
    shop = taillard_shop(8, 5, np.random.default_rng(6))

    def made(seed: int) -> list[int]:
        environment = IntervalEnvironment([shop], np.zeros(6, int))
        roll_out(untrained(), environment, temperature=np.ones(6), generator=np.random.default_rng(seed))
        return environment.makespan.tolist()

    assert made(1) == made(1)
    assert made(1) != made(2)


def test_it_waits_only_where_that_is_likelier_than_all_starts_together() -> None:
    """Two equally good operations halve their probability; waiting must not win by that."""
    environment = IntervalEnvironment([JobShop.from_rows([[(0, 4)], [(0, 4)], [(1, 2), (0, 9)]])])
    environment.step(np.array([2]))
    seen = environment.observe()
    assert seen.legal.sum() == 2 and seen.may_wait.all()
    for weight, waits in ((1.9, False), (2.1, True)):

        def fixed(rows: Rows, weight: float = weight) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.zeros(rows.legal_row.shape), torch.full((1,), weight).log()

        action = choose(fixed, seen, np.zeros(1), None)
        assert (action[0] == WAIT) == waits


def test_at_temperature_one_samples_have_the_policys_own_probabilities() -> None:
    environment = IntervalEnvironment([JobShop.from_rows([[(0, 4)], [(0, 4)], [(1, 2), (0, 9)]])])
    environment.step(np.array([2]))
    seen = environment.observe().select(np.zeros(4000, int))

    def fixed(rows: Rows) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.tensor([0.2, 0.5]).log().repeat(4000, 1), torch.tensor([0.3]).log().repeat(4000)

    action = choose(fixed, seen, np.ones(4000), np.random.default_rng(0))
    shares = [(action == a).mean() for a in (0, 1, WAIT)]
    assert shares == pytest.approx([0.2, 0.5, 0.3], abs=0.04)


def test_a_pass_that_is_stopped_gives_nothing() -> None:
    assert best_of(untrained(), taillard_shop(4, 4, np.random.default_rng(7)), 4, stop=lambda: True) is None


def test_the_smallest_network_of_the_paper_has_its_size() -> None:
    """Sheet: about 2,400 parameters at width 8, one head, 32 units."""
    assert 2000 < DispatchingPolicy(PolicyShape(width=8, heads=1, hidden=32, decision=32)).parameters_count < 2800
    with pytest.raises(ValueError, match="width: expected a multiple of twice the 3 heads"):
        PolicyShape(width=16, heads=3)


def test_lessons_survive_being_packed() -> None:
    shops = [ShopSeed(4, 3, 0, 11), ShopSeed(3, 3, 2, 12)]
    lessons = []
    for shop in shops:
        environment = IntervalEnvironment([shop.make()])
        prefix = np.array(environment.legal(0)[:1])
        environment.replay(0, prefix)
        lesson = teach(environment, 0, effort=0.02)
        assert lesson is not None
        lessons.append(StudiedLesson(shop, prefix, lesson))
    for before, after in zip(lessons, unpacked(packed(lessons)), strict=True):
        assert before.shop == after.shop
        one, other = study(before), study(after)
        np.testing.assert_array_equal(one.wanted, other.wanted)
        np.testing.assert_array_equal(one.seen.values, other.seen.values)


def test_an_update_raises_what_the_teacher_does_and_lowers_what_the_pupil_did() -> None:
    policy = untrained(1)
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-3)
    generator = np.random.default_rng(8)
    settings = ClippedObjective(epochs=4, batches=4, divergence=1.0)
    tried = attempt(
        policy,
        [ShopSeed(6, 4, 0, 1), ShopSeed(6, 4, 0, 2)],
        episodes=3,
        effort=0.02,
        generator=generator,
        settings=settings,
    )
    assert tried is not None
    assert tried.improvement > 0
    assert -1.0 <= tried.advantage.min() < 0 < tried.advantage.max() <= 1.0

    def pushed() -> float:
        rows = rows_of(tried.decisions.seen)
        with torch.no_grad():
            found = set_log_probability(log_probabilities(*policy(rows)), wanted_mask(tried.decisions, rows))
        return float((found * torch.from_numpy(tried.advantage)).mean())

    before = pushed()
    improve(policy, optimizer, tried, generator=generator, settings=settings)
    assert pushed() > before


def test_an_update_ends_when_the_policy_has_moved_too_far() -> None:
    generator = np.random.default_rng(9)
    moved = []
    for limit in (1e-9, 10.0):
        policy = untrained(2)
        settings = ClippedObjective(epochs=10, batches=2, divergence=limit)
        tried = attempt(
            policy,
            [ShopSeed(5, 4, 0, 3)],
            episodes=3,
            effort=0.02,
            generator=np.random.default_rng(1),
            settings=settings,
        )
        assert tried is not None
        before = torch.cat([p.detach().clone().flatten() for p in policy.parameters()])
        improve(policy, torch.optim.Adam(policy.parameters(), lr=1e-3), tried, generator=generator, settings=settings)
        after = torch.cat([p.detach().flatten() for p in policy.parameters()])
        moved.append(float((after - before).norm()))
    assert moved[0] < moved[1]


def test_decisions_without_a_choice_are_left_out() -> None:
    environment = IntervalEnvironment([JobShop.from_rows([[(0, 1), (1, 1)]])])
    seen = environment.observe()
    assert Decisions(seen, seen.legal).open().tolist() == []
