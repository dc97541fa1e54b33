"""A recommendation is the best measured rank around a budget, can be built, and shows its evidence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pathloom.learn.rates.budget_sweep import Run, SweepResult
from pathloom.learn.rates.recommendation import TABLE, ScheduleRanks, recommend
from pathloom.learn.rates.sweep_schedules import default_schedules, planned, without_schedule
from pathloom.plan import InputError

SCHEDULES = [
    planned("linear"),
    planned("rex"),
    planned("wsd", decay=0.2, warmup_share=0.05),
    without_schedule("schedule-free", 0.05, {}),
]


def table(errors: dict[float, dict[str, float]], optimizer: str = "sgdm") -> ScheduleRanks:
    """Of one seed and one rate."""
    runs = [Run(optimizer, at, name, 0.1, 0, error) for at, row in errors.items() for name, error in row.items()]
    return ScheduleRanks.of(SweepResult("made up", 1000, tuple(runs)), SCHEDULES, "2026-01-31")


LOW_REX = table(
    {
        0.05: {"linear": 30.0, "rex": 20.0, "wsd": 25.0, "schedule-free": 40.0},
        0.1: {"linear": 15.0, "rex": 10.0, "wsd": 12.0, "schedule-free": 20.0},
        1.0: {"linear": 6.0, "rex": 5.0, "wsd": 4.0, "schedule-free": 3.0},
    }
)


def test_the_best_rank_near_the_budget_is_recommended() -> None:
    assert recommend(0.05, "sgdm", LOW_REX).schedule == "rex"
    assert recommend(0.07, "sgdm", LOW_REX).schedule == "rex"
    assert recommend(1.0, "sgdm", LOW_REX).schedule == "wsd"


def test_what_is_no_schedule_of_ours_is_not_recommended_but_shown() -> None:
    found = recommend(1.0, "sgdm", LOW_REX)
    assert next(iter(found.evidence.mean_ranks)) == "schedule-free"
    assert found.evidence.errors["schedule-free"] == 3.0
    assert "schedule-free 3.0 %" in found.sentence()


def test_one_lucky_row_among_its_neighbours_decides_nothing() -> None:
    lucky = table(
        {
            at: {"linear": 1.0 if at == 0.2 else 3.0, "rex": 2.0, "wsd": 4.0, "schedule-free": 5.0}
            for at in (0.1, 0.15, 0.2, 0.27, 0.4)
        }
    )
    assert recommend(0.2, "sgdm", lucky).schedule == "rex"


def test_a_recommendation_builds_a_plan_with_its_warm_up() -> None:
    plan = recommend(1.0, "sgdm", LOW_REX).plan(400)
    assert (plan.steps, plan.warmup) == (400, 20)
    assert plan.factor(399) == pytest.approx(1 / 76)  # a fifth of the 380 steps after the warm-up is a linear tail


def test_budgets_outside_the_measured_ones_are_answered_with_the_nearest_and_say_so() -> None:
    assert recommend(0.001, "sgdm", LOW_REX).schedule == "rex"
    assert recommend(5.0, "sgdm", LOW_REX).schedule == "wsd"
    assert "no such budget was measured" in recommend(5.0, "sgdm", LOW_REX).sentence()
    assert "no such budget" not in recommend(0.5, "sgdm", LOW_REX).sentence()


@pytest.mark.parametrize("budget", [0.0, -1.0, float("nan"), float("inf"), True])
def test_a_budget_must_be_a_positive_share(budget: float) -> None:
    with pytest.raises(ValueError, match="budget"):
        recommend(budget, "sgdm", LOW_REX)


def test_an_optimizer_that_was_not_measured_is_refused() -> None:
    with pytest.raises(ValueError, match="optimizer"):
        recommend(0.1, "adamw", LOW_REX)
    with pytest.raises(ValueError, match="optimizer"):
        recommend(0.1, "lion")


def test_a_table_survives_its_file(tmp_path: Path) -> None:
    file = tmp_path / "ranks.json"
    LOW_REX.write(file)
    assert ScheduleRanks.read(file) == LOW_REX
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": "else"}', '{"format": "pathloom-schedule-ranks-1"}'])
def test_a_broken_table_is_refused_by_name(tmp_path: Path, text: str) -> None:
    file = tmp_path / "ranks.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"ranks\.json"):
        ScheduleRanks.read(file)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.json"):
        ScheduleRanks.read(tmp_path / "none.json")


@given(st.floats(0.001, 10.0), st.sampled_from(["sgdm", "adamw", "sgd", "Adam"]), st.integers(20, 5000))
def test_the_packages_own_table_answers_every_budget_with_a_plan(budget: float, optimizer: str, steps: int) -> None:
    found = recommend(budget, optimizer)
    plan = found.plan(steps)
    assert plan.steps == steps
    assert 0.0 <= plan.factor(steps - 1) <= 1.0
    scores = found.evidence.mean_ranks
    plans = {schedule.name for schedule in default_schedules() if schedule.plan is not None}
    assert scores[found.measured_as] == min(score for name, score in scores.items() if name in plans)


def test_the_packages_own_table_says_where_it_comes_from() -> None:
    saved = json.loads(TABLE.read_text(encoding="utf-8"))
    assert (saved["task"], saved["steps"]) == ("mnist1d", 2400)
    assert len(saved["seeds"]) >= 3
    assert {(row["optimizer"], row["budget"]) for row in saved["rows"]} == {
        (name, at) for name in ("sgdm", "adamw") for at in (0.05, 0.1, 0.25, 0.5, 1.0)
    }
    for row in saved["rows"]:
        ranks = [figures["rank"] for figures in row["schedules"].values()]
        assert sum(ranks) == pytest.approx(len(ranks) * (len(ranks) + 1) / 2)
        by_error = sorted(row["schedules"].values(), key=lambda figures: figures["error"])
        assert [figures["rank"] for figures in by_error] == sorted(ranks)
