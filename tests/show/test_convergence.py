"""Convergence pictures: values as full lines, bounds as dotted ones, held until the last search ends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.image import imread

from pathloom.show.convergence import convergence_figure, convergence_png

RUNS = {
    "tabu": [(0.0, None, 40, "path"), (0.2, 70, 40, "rule"), (0.5, 60, 40, "tabu"), (4.0, 55, 40, "tabu")],
    "exact": [(0.1, 90, None, "first"), (0.3, 90, 50, "proof"), (1.0, 58, 52, "search")],
}


def test_each_run_has_a_line_of_values_and_one_of_bounds() -> None:
    lines = {line.name: line for line in convergence_figure(RUNS, unit="min").data}
    assert list(lines) == ["tabu: best", "tabu: bound", "exact: best", "exact: bound"]
    assert list(lines["tabu: best"].x) == [0.2, 0.5, 4.0] and list(lines["tabu: best"].y) == [70, 60, 55]
    assert list(lines["exact: best"].x) == [0.1, 1.0, 4.0] and list(lines["exact: best"].y) == [90, 58, 58]
    assert list(lines["exact: bound"].y) == [50, 52, 52]
    assert lines["tabu: bound"].line.dash == "dot" and lines["tabu: best"].line.dash == "solid"
    assert lines["tabu: bound"].line.color == lines["tabu: best"].line.color != lines["exact: best"].line.color


def test_steps_and_the_logarithm_of_time() -> None:
    figure = convergence_figure(RUNS, unit="min", title="ft06")
    assert figure.layout.xaxis.type == "log" and figure.layout.yaxis.title.text == "min"
    assert figure.layout.title.text == "ft06"
    assert {line.line.shape for line in figure.data} == {"hv"}
    assert min(min(line.x) for line in figure.data) == 1e-3, "what was known at once is drawn at a millisecond"


def test_runs_without_a_value_have_no_line() -> None:
    assert len(convergence_figure({"rules": [], "bound only": [(0.1, None, 3, "")]}).data) == 1
    assert len(convergence_figure({}).data) == 0


def test_the_printed_picture_shows_the_runs(tmp_path: Path) -> None:
    picture = imread(convergence_png(tmp_path / "runs.png", RUNS, unit="min", title="ft06"))
    empty = imread(convergence_png(tmp_path / "none.png", {}))
    assert picture.shape[:2] == empty.shape[:2] and picture.shape[1] > 600
    coloured = np.ptp(picture[..., :3], axis=-1) > 0.3
    assert coloured.sum() > 1000 > (np.ptp(empty[..., :3], axis=-1) > 0.3).sum()
