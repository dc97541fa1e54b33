"""Tables keep their cells whole and set numbers flush right."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathloom.show.table import html_table, markdown_table, numeric_columns, rich_table

COLUMNS = ("method", "time", "gap", "node")
ROWS = [("pathloom", "30.73 s", "8.6 %", "n5"), ("gpipe", "1,079.94 s", "-", "n11 [x]")]


def test_numbers_with_units_are_numbers_and_names_with_digits_are_not():
    assert numeric_columns(COLUMNS, ROWS) == [False, True, True, False]
    assert numeric_columns(["a", "b", "c"], [["1e-3", "≥ 4.2", ""], ["-2", "0.0 GiB/s", "-"]]) == [True, True, False]


def test_markdown_is_a_table_of_the_same_cells():
    lines = markdown_table(COLUMNS, ROWS).splitlines()
    assert lines[1].split("|")[1:5] == [" -------- ", " ---------: ", " ----: ", " ------- "]
    assert [cell.strip() for cell in lines[3].split("|")[1:5]] == ["gpipe", "1,079.94 s", "-", "n11 [x]"]
    assert len({len(line) for line in lines}) == 1


@settings(deadline=None)
@given(st.lists(st.lists(st.text(alphabet="ab|\\\n 1", max_size=5), min_size=2, max_size=2), min_size=1, max_size=4))
def test_no_cell_breaks_a_markdown_table(rows):
    lines = markdown_table(["p", "q"], rows).split("\n")
    assert len(lines) == len(rows) + 2
    for line, row in zip(lines[2:], rows):
        # split at the bars that are not escaped
        parts, part, i = [], "", 0
        while i < len(line):
            if line[i] == "\\":
                part += line[i + 1]
                i += 2
                continue
            if line[i] == "|":
                parts.append(part)
                part = ""
            else:
                part += line[i]
            i += 1
        assert [p.strip() for p in parts[1:]] == [cell.replace("\n", "<br>").strip() for cell in row]


def test_html_escapes_cells_and_marks_numbers_and_the_best_row():
    html = html_table(COLUMNS, [*ROWS, ("<script>", "1 s", "0 %", "a&b")], best=0)
    assert "&lt;script&gt;" in html and "<script>" not in html and "a&amp;b" in html
    assert html.count('<td class="n">') == 6 and html.count("class=best") == 1
    assert html.index("class=best") < html.index("pathloom") < html.index("gpipe")


def test_rich_prints_brackets_as_text():
    from rich.console import Console

    out = io.StringIO()
    Console(file=out, width=100).print(rich_table(COLUMNS, ROWS, title="Methods", best=0))
    text = out.getvalue()
    assert "Methods" in text and "n11 [x]" in text and "1,079.94 s" in text


@pytest.mark.parametrize("make", [markdown_table, html_table, rich_table])
def test_a_row_with_a_missing_cell_is_an_error(make):
    with pytest.raises(ValueError, match="row 1 has 3 cells for 4 columns"):
        make(COLUMNS, [ROWS[0], ("a", "b", "c")])
