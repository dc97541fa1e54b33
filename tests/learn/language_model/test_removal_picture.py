"""Pictures of removed stages show every set, on an axis that holds them all."""

from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from pathloom.learn.language_model.evaluation import Evaluation, Removal
from pathloom.learn.language_model.removal_picture import (
    figure_text,
    removal_figure,
    removal_page,
    removal_png,
    removal_rows,
)


def curve(step: float, stages: int = 4, most: int = 3) -> list[Removal]:
    """Each removed stage costs `step` nats, and its number in hundredths of them."""
    rows = []
    for removed in range(most + 1):
        sets = tuple(combinations(range(1, stages), removed))
        losses = [1.0 + sum(step + stage / 100 for stage in gone) for gone in sets]
        rows.append(Removal(removed, sets, tuple(Evaluation((0,), loss, 10) for loss in losses), True))
    return rows


def pixels(path: Path) -> np.ndarray:
    from matplotlib.image import imread

    return np.asarray(imread(path))


def test_the_table_names_the_best_and_the_worst_set() -> None:
    rows = removal_rows(curve(0.5))
    assert rows[0] == ("0", "1", "1.0000", "2.718", "2.718", "-", "2.718", "-")
    assert rows[2][:3] == ("2", "3", "2.0400")
    assert rows[2][5] == "1, 2"
    assert rows[2][7] == "2, 3"
    assert float(rows[2][4]) == pytest.approx(math.exp(2.03), rel=1e-3)
    drawn = Removal(1, ((2,),), (Evaluation((0, 1), 1.0, 5),), complete=False)
    assert removal_rows([drawn])[0][1] == "1 drawn"


@pytest.mark.parametrize(
    ("value", "text"), [(2.71828, "2.718"), (12.3456, "12.35"), (999.96, "1000.0"), (5432.1, "5432"), (1e5, "1.00e+05"),
                        (math.inf, "inf")]
)  # fmt: skip
def test_perplexities_have_four_digits(value: float, text: str) -> None:
    assert figure_text(value) == text


def test_every_set_is_a_point_that_says_what_is_missing() -> None:
    figure = removal_figure({"full": curve(0.8), "skipped": curve(0.1)})
    points = [trace for trace in figure.data if trace.mode == "markers"]
    assert [len(trace.x) for trace in points] == [8, 8]
    assert [entry[0] for entry in points[0].customdata] == [
        "nothing", "1", "2", "3", "1, 2", "1, 3", "2, 3", "1, 2, 3"
    ]  # fmt: skip
    means = {trace.name: list(trace.y) for trace in figure.data if trace.mode == "lines+markers"}
    assert means["full"] == [row.mean_perplexity for row in curve(0.8)]
    assert figure.layout.yaxis.type == "log"
    low, high = figure.layout.yaxis.range
    assert 10**low < math.e < max(means["full"]) < 10**high
    assert removal_figure({"skipped": curve(0.1)}).layout.yaxis.type is None


@pytest.mark.parametrize(
    "curves",
    [
        {"one": curve(0.5)},
        {"full": curve(0.9), "skipped": curve(0.1), "random": curve(0.1)},
        {"whole only": curve(0.5, most=0)},
        {"broken": [*curve(0.5, most=1), Removal(2, ((1, 2),), (Evaluation((0,), 1e4, 5),), False)]},
        {"wild": curve(40.0)},
    ],
)
def test_pictures_are_drawn_for_any_curve(tmp_path: Path, curves: dict[str, list[Removal]]) -> None:
    drawn = pixels(removal_png(tmp_path / "removal.png", curves, title="title", subtitle="subtitle", dpi=60))
    assert drawn.shape[:2] == (324, 540)
    assert np.ptp(drawn[..., :3]) > 0.5
    page = removal_page(tmp_path / "removal.html", curves, title="<title>", subtitle="subtitle").read_text("utf-8")
    assert "&lt;title&gt;" in page
    assert all(name in page for name in curves)
