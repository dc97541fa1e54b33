"""Tables of measured figures, the targets that they answer, and the page that is made from them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import results_page
from _table import Table, cells_as_text, machine, machine_line
from _targets import TARGETS, Target, Verdict

CELL = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")))
)


def table(**changes: Any) -> Table:
    arguments: dict[str, Any] = {
        "title": "Two methods",
        "columns": ["method", "time (s)", "checked"],
        "rows": [["ours", 1.5, True], ["theirs", 2.25, None]],
        "settings": {"seconds": 5.0},
        "seeds": [0, 1, 2],
        "notes": ["A note."],
    }
    return Table(**(arguments | changes))


def test_a_row_has_a_cell_for_every_column() -> None:
    with pytest.raises(ValueError, match="row 1 has 2 cells for 3 columns"):
        table(rows=[["ours", 1.0, True], ["theirs", 2.0]])


def test_no_two_columns_have_the_same_title() -> None:
    with pytest.raises(ValueError, match="same title"):
        table(columns=["method", "method", "checked"])


def test_numbers_of_a_column_have_the_same_decimals() -> None:
    text = cells_as_text(["s", "n"], [[1.5, 3000], [2.25, None], [None, 7]])
    assert text == [["1.50", "3,000"], ["2.25", "-"], ["-", "7"]]


def test_the_markdown_table_holds_every_cell() -> None:
    lines = table().markdown().splitlines()
    assert [cell.strip() for cell in lines[2].strip("|").split("|")] == ["ours", "1.50", "yes"]
    assert [cell.strip() for cell in lines[3].strip("|").split("|")] == ["theirs", "2.25", "-"]


def test_a_saved_table_has_the_agreed_keys_and_comes_back(tmp_path: Path) -> None:
    verdict = TARGETS["help"].judge(0.4, "0.4 s")
    made = table(verdicts=[verdict])
    path = made.save("two_methods", tmp_path / "results")
    saved = json.loads(path.read_text(encoding="utf-8"))
    assert path.name == "two_methods.json"
    assert {"title", "machine", "date", "seeds", "settings", "columns", "rows", "notes"} <= saved.keys()
    back = Table.from_dict(saved)
    assert back.page() == made.page()
    assert back.verdicts == [verdict]


@given(rows=st.lists(st.tuples(CELL, CELL), max_size=4))
def test_whatever_is_measured_can_be_saved_and_shown(rows: list[tuple[Any, Any]]) -> None:
    made = table(columns=["a", "b"], rows=rows, machine="a test's")
    again = Table.from_dict(json.loads(json.dumps(made.to_dict(), allow_nan=False)))
    assert len(again.markdown().splitlines()) == 2 + len(rows)
    for before, after in zip(rows, again.rows, strict=True):
        for was, now in zip(before, after, strict=True):
            assert now == (None if isinstance(was, float) and not math.isfinite(was) else was)


def test_the_machine_is_described_with_processor_cores_versions_and_threads() -> None:
    described = machine()
    assert described["cpu"] and described["cores"] >= 1
    assert described["numba"] and described["ortools"]
    assert set(described["threads"]) >= {"OMP_NUM_THREADS", "NUMBA_NUM_THREADS"}
    assert f"numba {described['numba']}" in machine_line(described)


def target(sense: Any, limit: float | None = 10.0) -> Target:
    return Target("key", "what", "reference", "reach", "benchmark", limit, sense)


@pytest.mark.parametrize(
    ("sense", "below", "equal", "above"),
    [("at most", True, True, False), ("below", True, False, False), ("at least", False, True, True)],
)
def test_a_limit_is_reached_on_its_own_side(sense: str, below: bool, equal: bool, above: bool) -> None:
    judge = target(sense).judge
    assert [judge(value, "").reached for value in (9.0, 10.0, 11.0)] == [below, equal, above]


def test_nothing_measured_is_a_miss_but_a_short_run_proves_nothing() -> None:
    assert target("at most").judge(None, "no plan").word == "MISSED"
    short = target("at most").judge(1.0, "1 s", short_of="20 draws")
    assert short.reached is None
    assert "20 draws" in short.word


def test_a_figure_without_limit_is_only_reported() -> None:
    assert target("at most", None).judge(3.0, "3 s").word == "reported"


def test_every_target_names_a_benchmark_that_exists() -> None:
    folder = Path(results_page.__file__).parent
    for each in TARGETS.values():
        assert (folder / f"{each.benchmark}.py").is_file(), each.key


def test_the_page_counts_targets_and_lists_those_that_nobody_measured() -> None:
    good, bad = TARGETS["help"].judge(0.3, "0.3 s"), TARGETS["main-job"].judge(90.0, "90 s")
    tables = {"start_up": table(verdicts=[good, bad])}
    page = results_page.page(tables)
    judged = sum(each.limit is not None for each in TARGETS.values())
    assert f"Of {judged} targets with a limit 1 are reached, 1 missed, {judged - 2} open." in page
    summary = page.split("## Targets")[1].split("## Two methods")[0]
    assert len([line for line in summary.splitlines() if line.startswith("| ")]) == len(TARGETS) + 2
    assert summary.count("not measured") == len(TARGETS) - 2
    assert "Two methods" in page and "A note." in page and "MISSED" in page


def test_a_benchmark_cannot_answer_the_target_of_another() -> None:
    foreign = Verdict("checker", "0 of 1,000", 0.0, True)
    assert results_page.verdicts_of({"start_up": table(verdicts=[foreign])}) == {}


def test_the_page_is_written_from_the_saved_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table(verdicts=[TARGETS["help"].judge(0.3, "0.3 s")]).save("start_up", tmp_path)
    table(title="Another").save("zzz", tmp_path)
    arguments = ["--results", str(tmp_path), "--page", str(tmp_path / "page.md")]
    assert results_page.main(arguments) == 0
    written = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert written.index("## Two methods") < written.index("## Another")
    assert "0.3 s" in capsys.readouterr().out


def test_a_file_that_is_no_table_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.json").write_text('{"title": 1}')
    assert results_page.main(["--results", str(tmp_path), "--page", str(tmp_path / "page.md")]) == 2
    assert "broken.json" in capsys.readouterr().err
