"""A shop's plan on the online floor: undisturbed it happens as planned, and disturbances cost what they cost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathloom.plan import InputError, Plan, Progress
from pathloom.schedule.problem import Problem
from pathloom.worlds.shop import files
from pathloom.worlds.shop.methods import constraint, rules
from pathloom.worlds.shop.online.disturbances import Disturbances
from pathloom.worlds.shop.simulate import FloorReport, floor_of, simulate_plan

EXAMPLES = Path(__file__).parents[3] / "examples"
CHOICE = "3 2 1.5\n2  1 1 3  2 1 4 2 5\n1  2 1 6 2 4\n2  1 2 2  1 1 3\n"


def job_shop(folder: Path, seed: int, jobs: int = 4, machines: int = 3, least: int = 0, **options: bool) -> Problem:
    random = np.random.default_rng(seed)
    rows = [" ".join(f"{m} {random.integers(least, 9)}" for m in random.permutation(machines)) for _ in range(jobs)]
    path = folder / "shop.txt"
    path.write_text(f"{jobs} {machines}\n" + "\n".join(rows) + "\n")
    return files.load(path, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shops")


@pytest.fixture(scope="module")
def blocking_plan() -> Plan:
    return constraint(files.load(EXAMPLES / "job-shop.txt", blocking=True), time_limit=2.0)


def spans(report: FloorReport, kind: str) -> np.ndarray:
    shown = report.timeline
    rows = shown.kind == shown.kinds.index(kind)
    return (shown.end - shown.start)[rows]


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_an_undisturbed_floor_keeps_a_plan_without_gaps(folder: Path, seed: int) -> None:
    """Rules start everything as early as its order allows, so the floor starts it then too."""
    plan = rules(job_shop(folder, seed), time_limit=5.0)
    shape, _, _ = floor_of(plan)
    report = simulate_plan(plan)
    assert report.seconds.tolist() == [plan.objective.value]
    assert report.breakdowns.tolist() == report.blocked.tolist() == [0]
    shown = report.timeline
    starts = np.zeros(len(plan.problem.tasks))
    starts[shown.columns["task"]] = shown.start
    lasting = plan.decisions.end[shape.task] > plan.decisions.start[shape.task]
    assert (starts[shape.task] == plan.decisions.start[shape.task])[lasting].all()


@given(seed=st.integers(0, 10_000), swap=st.booleans())
@settings(max_examples=6, deadline=None)
def test_a_plan_of_a_blocking_shop_is_never_later_without_disturbances(folder: Path, seed: int, swap: bool) -> None:
    plan = constraint(job_shop(folder, seed, 3, 3, blocking=True, swap=swap), time_limit=10.0)
    report = simulate_plan(plan)
    assert report.seconds[0] <= plan.objective.value
    assert report.blocked[0] == spans(report, "blocked").sum()


def test_a_flexible_shop_stays_on_the_machines_of_its_plan(tmp_path: Path) -> None:
    (tmp_path / "choice.fjs").write_text(CHOICE)
    plan = constraint(files.load(tmp_path / "choice.fjs"), time_limit=2.0)
    report = simulate_plan(plan, noise=0.5, seed=4)
    planned, shown = plan.timeline, report.timeline
    assert shown.resources == planned.resources and shown.unit == planned.unit
    assert shown.items[: len(planned.items)] == planned.items

    def places(timeline) -> set[tuple[int, int, int]]:
        return set(
            zip(timeline.columns["task"].tolist(), timeline.resource.tolist(), timeline.item.tolist(), strict=True)
        )

    assert places(shown) == places(planned)


def test_breakdowns_make_runs_longer_and_are_drawn_anew_for_each(blocking_plan: Plan) -> None:
    seen: list[Progress] = []
    report = simulate_plan(
        blocking_plan, runs=12, seed=3, breakdown_chance=0.1, mean_repair=30, repair="fixed", on_progress=seen.append
    )
    assert len(report.seconds) == len(seen) == 12
    assert len(set(report.seconds.tolist())) > 6
    assert report.interval[0] <= report.seconds.mean() <= report.interval[1]
    assert report.interval[0] > report.planned == blocking_plan.objective.value
    assert report.planned_blocked == (blocking_plan.decisions.departure - blocking_plan.decisions.end).sum() > 0
    assert (report.down <= 30 * report.breakdowns).all() and report.down.sum() > 0
    down = report.timeline.kind == report.timeline.kinds.index("down")
    # A machine that breaks down as the last job leaves is not shown.
    machines = len(report.timeline.resources)
    assert report.breakdowns[0] - machines <= down.sum() <= report.breakdowns[0]
    assert {report.timeline.items[item] for item in report.timeline.item[down]} == {"breakdown"}
    again = simulate_plan(blocking_plan, runs=1, seed=5, breakdown_chance=0.1, mean_repair=30, repair="fixed")
    assert again.seconds[0] == report.seconds[2], "run r draws from seed + r"


def test_operations_that_begin_anew_lose_work(blocking_plan: Plan) -> None:
    trouble = {"breakdown_chance": 0.2, "mean_repair": 10}
    resumed = simulate_plan(blocking_plan, runs=5, **trouble)
    restarted = simulate_plan(blocking_plan, runs=5, after_repair="restart", **trouble)
    assert resumed.lost.sum() == 0 < restarted.lost.sum()
    assert restarted.lost[0] == spans(restarted, "lost").sum()


def test_noise_is_the_deviation_of_the_logarithm(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("1 1\n0 1000000\n")
    plan = rules(files.load(tmp_path / "one.txt"), time_limit=5.0)
    drawn = np.log(simulate_plan(plan, noise=0.3, runs=800).seconds)
    assert drawn.std() == pytest.approx(0.3, rel=0.1)
    assert np.exp(drawn).mean() == pytest.approx(1e6, rel=0.05)


def test_a_report_says_the_same_to_people_and_programs(blocking_plan: Plan) -> None:
    report = simulate_plan(blocking_plan, runs=4, breakdown_chance=0.1)
    figures, table = report.to_dict(), dict((row[0], row[1]) for row in report.rows)
    assert table["planned makespan"] == f"{figures['planned']:g} {figures['unit']}"
    assert table["simulated makespan, largest"].startswith(f"{max(figures['makespans']):g} ")
    assert table["simulated blocked time, mean"].startswith(f"{np.mean(figures['blocked']):.1f} ")
    assert all(len(row) == len(report.columns) for row in report.rows)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"breakdown_chance": 1.5}, "breakdown_chance: is 1.5"),
        ({"breakdown_chance": None}, "breakdown_chance: expected a number"),
        ({"mean_repair": "long"}, "mean_repair: expected a number, found 'long'"),
        ({"mean_repair": True}, "mean_repair: expected a number"),
        ({"repair": "soon"}, "repair: is 'soon', expected one of fixed"),
        ({"after_repair": 3}, "after_repair: is '3'"),
        ({"breakdown_chanc": 0.1}, "did you mean 'breakdown_chance'"),
        ({"noise": -0.1}, "noise: expected a number from 0 to 2"),
        ({"runs": 0}, "runs: expected a whole number of at least 1"),
        ({"seed": -1}, "seed: expected a whole number of at least 0"),
        ({"stragglers": [("a", 2.0)]}, "--straggler: is unknown to a shop floor"),
        ({"failures": [("a", 2.0)]}, "--fail: is unknown"),
        ({"policy": "restart"}, "--policy: is unknown"),
    ],
)
def test_what_makes_no_sense_is_refused(blocking_plan: Plan, options: dict, line: str) -> None:
    with pytest.raises(InputError) as caught:
        simulate_plan(blocking_plan, **options)
    assert line in str(caught.value)


def test_shapes_that_the_floor_does_not_know_are_refused_with_those_that_it_knows(folder: Path) -> None:
    shop = job_shop(folder, 0)
    links = tuple(replace(link, max_lag=0) for link in shop.precedences)
    general = files.load(EXAMPLES / "shop.yaml")
    for problem, word in (
        (replace(shop, precedences=links), "no-wait job shop"),
        (general, "general scheduling problem"),
    ):
        plan = constraint(problem, time_limit=2.0)
        with pytest.raises(
            InputError, match=f"is a {word}.*it knows job shops, blocking job shops and flexible job shops"
        ):
            simulate_plan(plan)


def test_a_project_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "two.yaml"
    path.write_text(
        "kind: shop\nresources: [{name: crew, kind: renewable, capacity: 3}]\n"
        "tasks: [{name: a, duration: 2, uses: {crew: 2}}, {name: b, duration: 3, uses: {crew: 2}}]\n"
    )
    with pytest.raises(InputError, match="is a project, which the shop floor cannot simulate"):
        simulate_plan(rules(files.load(path), time_limit=5.0))


def test_the_disturbances_of_the_command_line_are_those_of_the_floor() -> None:
    from pathloom.worlds.shop import WORLD

    assert set(WORLD.disturbances) == set(Disturbances.__dataclass_fields__) - {"noise"}
    assert not set(WORLD.disturbances) & set(WORLD.options)
