"""Measured values go into an input file without touching anything else in it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pathloom.plan import InputError
from pathloom.worlds.train.files import example, load, loads
from pathloom.worlds.train.problem import TrainProblem
from pathloom.worlds.train.runtime.input_edits import Measured, MeasuredLink
from pathloom.worlds.train.runtime.input_update import (
    difference,
    read_input,
    replace_input,
    updated,
)
from pathloom.worlds.train.runtime.link_profile import LinkFigures

pytest.importorskip("ruamel.yaml")

NODES = ("Iowa-1", "Iowa-2", "Oregon-1", "Oregon-2", "LA-1", "LA-2", "Canada-1", "slow-london")
RATIOS = {"backward": 2.125, "weight": 0.4375, "loss": 0.125}

PAIRS = """\
name: pairs   # three nodes
nodes:
- {name: a, region: x, speed: 55 ms, memory: 3}
# b is the slow one

- name: b
  region: y
  speed: 0.11   # slow
  memory: 3
- {name: c, count: 3, region: z, speed: 0.055, memory: 3}
links:
  overhead: 10 ms
  pairs:
  - {between: [x, y], delay: 10 ms, bandwidth: 1 MB/s}   # home line
  - {between: [a, z], delay: 20 ms, bandwidth: 1 MB/s, both_ways: false}
  - {between: [x, z], delay: 30 ms, bandwidth: 2 MB/s}
  # the last one
  - {between: [y, z], delay: 40 ms, bandwidth: 2 MB/s}

# the model
model: {dim: 64, layers: 4, heads: 4, context: 32, vocab: 100}
microbatches: 4
samples: 2
stages: 2
"""


def alike(a: str, b: str, delay: float, bandwidth: float) -> MeasuredLink:
    return MeasuredLink(a, b, LinkFigures(delay, bandwidth), LinkFigures(delay, bandwidth))


def update(text: str, measured: Measured) -> str:
    return updated(text, measured, file="file.yaml", folder=Path())


def seconds_per_layer(problem: TrainProblem, node: str) -> float:
    """From the forward passes of all stages together."""
    assert problem.workload is not None
    n = problem.nodes.index(node)
    return float(problem.forward[n].sum()) / (problem.workload.model.layers * problem.workload.samples)


def message_seconds(problem: TrainProblem, a: str, b: str) -> float:
    return float(problem.link[problem.nodes.index(a), problem.nodes.index(b)])


def comments(text: str) -> list[str]:
    return re.findall(r"#.*", text)


def changed_lines(old: str, new: str) -> list[str]:
    lines = difference(old, new, "f").splitlines()[2:]
    return [line for line in lines if line.startswith(("+", "-"))]


def test_only_the_lines_of_measured_values_change() -> None:
    text = example()
    new = update(text, Measured({"slow-london": 0.0123456}, RATIOS))
    assert changed_lines(text, new) == [
        "-  - {region: London, speed: 0.11, memory: 3, name: slow-london}",
        "+  - {region: London, speed: 0.01235, memory: 3, name: slow-london}",
        "-  backward: 1.5           # times the forward pass",
        "-  weight: 0.5             # share of the backward pass that computes weight gradients",
        "-  loss: 0.25              # times the forward pass",
        "+  backward: 2.125         # times the forward pass",
        "+  weight: 0.4375          # share of the backward pass that computes weight gradients",
        "+  loss: 0.125             # times the forward pass",
    ]


@given(
    speed=st.dictionaries(st.sampled_from(NODES), st.floats(1e-6, 10.0), min_size=1),
    backward=st.floats(0.01, 50.0),
    weight=st.floats(0.0, 1.0),
)
@settings(max_examples=20, deadline=None)
def test_whatever_nodes_are_measured_each_has_its_own_speed_and_the_others_keep_theirs(
    speed: dict[str, float], backward: float, weight: float
) -> None:
    text = example()
    before = loads(text)
    new = update(text, Measured(speed, {"backward": backward, "weight": weight}))
    after = loads(new)
    assert after.nodes == before.nodes
    assert after.locations == before.locations
    for node in NODES:
        wanted = speed.get(node, seconds_per_layer(before, node))
        assert seconds_per_layer(after, node) == pytest.approx(wanted, rel=1e-3)
    np.testing.assert_allclose(after.backward, backward * after.forward, rtol=1e-3)
    np.testing.assert_allclose(after.weight / after.backward, weight, rtol=1e-3, atol=1e-4)
    assert comments(new) == comments(text)


def test_part_of_a_named_group_keeps_its_names() -> None:
    new = update(PAIRS, Measured({"c-2": 0.02}, {}))
    after = loads(new)
    assert after.nodes == loads(PAIRS).nodes
    assert seconds_per_layer(after, "c-2") == pytest.approx(0.02)
    assert seconds_per_layer(after, "c-1") == seconds_per_layer(after, "c-3") == pytest.approx(0.055)


def test_seconds_stay_in_the_form_that_the_file_has() -> None:
    new = yaml.safe_load(update(PAIRS, Measured({"a": 0.0123, "b": 0.0123}, {})))
    assert new["nodes"][0]["speed"] == "12.3 ms"
    assert new["nodes"][1]["speed"] == 0.0123


@pytest.mark.parametrize("chosen", [("x-1", "y-1", "x-2"), ("x-2",)])
def test_nodes_dealt_over_regions_stay_one_entry_only_if_all_are_measured(chosen: tuple[str, ...]) -> None:
    text = re.sub(
        r"nodes:\n.*?(?=links:)", "nodes: {count: 3, regions: [x, y], speed: 55 ms, memory: 3}\n", PAIRS, flags=re.S
    )
    text = re.sub(r"  - .between: .a, z.*\n", "", text).replace("[x, z]", "[x, y]").replace("[y, z]", "[x, y]")
    new = update(text, Measured(dict.fromkeys(chosen, 0.02), {}))
    after = loads(new)
    assert isinstance(yaml.safe_load(new)["nodes"], dict) == (len(chosen) == 3)
    for node in after.nodes:
        assert seconds_per_layer(after, node) == pytest.approx(0.02 if node in chosen else 0.055)
    assert (after.memory == loads(text).memory).all()


def test_ratios_go_into_a_file_that_had_none() -> None:
    new = update(PAIRS, Measured({}, RATIOS))
    after = loads(new)
    np.testing.assert_allclose(after.backward, 2.125 * after.forward)
    np.testing.assert_allclose(after.loss, 0.125 * after.forward[:, 0])
    assert new.startswith(PAIRS)


def test_a_link_that_the_file_has_gets_its_figures_in_place() -> None:
    new = update(PAIRS, Measured({}, {}, [alike("x", "y", 0.0125, 3.5e6)]))
    assert changed_lines(PAIRS, new) == [
        "-  - {between: [x, y], delay: 10 ms, bandwidth: 1 MB/s}   # home line",
        "+  - {between: [x, y], delay: 12.5 ms, bandwidth: 3.5 MB/s} # home line",
    ]


def test_a_new_link_ends_the_list_and_does_not_slip_behind_the_next_chapter() -> None:
    new = update(PAIRS, Measured({}, {}, [alike("b", "c-2", 0.0125, 3.5e6)]))
    added = "  - {between: [b, c-2], delay: 12.5 ms, bandwidth: 3.5 MB/s}\n"
    assert f"{added}\n# the model\n" in new
    assert new.replace(added, "") == PAIRS


def test_an_entry_that_a_later_one_hides_gets_a_successor() -> None:
    # a to z is given again, more generally, by x to z.
    new = update(PAIRS, Measured({}, {}, [alike("a", "z", 0.001, 8e6)]))
    after = loads(new)
    bytes_moved = 4 * 64 * 32 * 2
    for one, other in (("a", "c-1"), ("c-3", "a")):
        assert message_seconds(after, one, other) == pytest.approx(0.01 + 0.001 + bytes_moved / 8e6)


def test_directions_that_differ_become_two_entries() -> None:
    link = MeasuredLink("x", "y", LinkFigures(0.01, 1e6), LinkFigures(0.01, 5e6))
    new = update(PAIRS, Measured({}, {}, [link]))
    after = loads(new)
    bytes_moved = 4 * 64 * 32 * 2
    assert message_seconds(after, "a", "b") == pytest.approx(0.02 + bytes_moved / 1e6)
    assert message_seconds(after, "b", "a") == pytest.approx(0.02 + bytes_moved / 5e6)
    pairs = yaml.safe_load(new)["links"]["pairs"]
    assert [pair["between"] for pair in pairs if pair.get("both_ways") is False] == [["x", "y"], ["a", "z"], ["y", "x"]]


def link_cases() -> Any:
    end = st.sampled_from(["x", "y", "z", "a", "b", "c-1", "c-3"])
    inside = {("c-1", "c-3"), ("a", "x"), ("b", "y"), ("c-1", "z"), ("c-3", "z")}
    ends = st.tuples(end, end).filter(lambda e: e[0] != e[1] and e not in inside and e[::-1] not in inside)
    figures = st.builds(LinkFigures, st.floats(1e-5, 0.5), st.floats(1e3, 1e10))
    return st.lists(
        st.tuples(ends, figures, figures), min_size=1, max_size=4, unique_by=lambda case: frozenset(case[0])
    )


@given(link_cases())
@settings(max_examples=20, deadline=None)
def test_the_link_measured_last_holds_in_the_problem_both_ways(cases: Any) -> None:
    links = [MeasuredLink(*ends, there, LinkFigures(there.delay, back.bandwidth)) for ends, there, back in cases]
    new = update(PAIRS, Measured({}, {}, links))
    after = loads(new)
    members = {"x": ["a"], "y": ["b"], "z": ["c-1", "c-2", "c-3"]}
    last = links[-1]
    bytes_moved = 4 * 64 * 32 * 2
    for a, b, figures in ((last.a, last.b, last.there), (last.b, last.a, last.back)):
        for one in members.get(a, [a]):
            for other in members.get(b, [b]):
                # Directions within 10 % are written as one figure.
                seconds = message_seconds(after, one, other) - 0.01 - figures.delay
                assert seconds == pytest.approx(bytes_moved / figures.bandwidth, rel=0.12, abs=1e-3 * figures.delay)
    assert comments(new) == comments(PAIRS)


def test_a_network_named_in_one_word_keeps_its_name_beside_the_pairs() -> None:
    text = re.sub(r"links:\n(  .*\n)+", "links: gcp12\n", example())
    new = update(text, Measured({}, {}, [alike("Iowa", "London", 0.05, 1e6)]))
    assert yaml.safe_load(new)["links"] == {
        "network": "gcp12",
        "pairs": [{"between": ["Iowa", "London"], "delay": "50 ms", "bandwidth": "1 MB/s"}],
    }
    assert loads(new).link.shape == (8, 8)


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_byte_order_marks_stay(ends: str, mark: str) -> None:
    text = mark + example().replace("\n", ends)
    new = update(text, Measured({"LA-1": 0.02, "LA-2": 0.02}, RATIOS))
    assert new.startswith(mark)
    assert new.count("\n") == new.count(ends) == text.count("\n")


def test_a_layout_that_cannot_be_kept_still_keeps_values_and_comments() -> None:
    text = PAIRS.replace(
        "{name: a, region: x, speed: 55 ms, memory: 3}", "{name: a,\n   region: x, speed: 55 ms,\n   memory: 3}"
    )
    new = update(text, Measured({"a": 0.02}, {}))
    assert seconds_per_layer(loads(new), "a") == pytest.approx(0.02)
    assert comments(new) == comments(text)


def test_nodes_that_share_an_anchor_are_not_changed_together() -> None:
    text = PAIRS.replace(
        "- {name: a, region: x, speed: 55 ms, memory: 3}", "- &n {region: x, speed: 55 ms, memory: 3}\n- *n"
    )
    text = text.replace("[a, z]", "[x-1, z]")
    with pytest.raises(InputError, match=r"file\.yaml: is written in a way"):
        update(text, Measured({"x-1": 0.02}, {}))


def test_an_unknown_node_or_end_is_named_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"file\.yaml: nodes: .*'Iowa-3'.*Iowa-"):
        update(example(), Measured({"Iowa-3": 0.02}, {}))
    with pytest.raises(InputError, match=r"file\.yaml: links\.pairs: .*'Londn'.*London"):
        update(example(), Measured({}, {}, [alike("Iowa", "Londn", 0.1, 1e6)]))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "problem.yaml"
    path.write_text(example(), encoding="utf-8")
    path.chmod(0o640)
    return path


def test_the_new_file_takes_the_place_of_the_old_one(file: Path) -> None:
    old = read_input(file)
    new = update(old, Measured({"LA-1": 0.02}, {}))
    replace_input(file, old, new)
    assert read_input(file) == new
    assert seconds_per_layer(load(file), "LA-1") == pytest.approx(0.02)
    assert file.stat().st_mode & 0o777 == 0o640
    assert list(file.parent.iterdir()) == [file]


def test_a_link_in_the_file_system_stays_one(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.yaml"
    link.symlink_to(file)
    old = read_input(link)
    replace_input(link, old, old.replace("name: example", "name: other"))
    assert link.is_symlink()
    assert load(file).name == "other"


def test_a_text_that_would_not_load_leaves_the_file_alone(file: Path) -> None:
    old = read_input(file)
    with pytest.raises(InputError, match=r"problem\.yaml: would not load .*times\.weight"):
        replace_input(file, old, old.replace("weight: 0.5 ", "weight: 1.5 "))
    with pytest.raises(InputError, match="would not load"):
        replace_input(file, old, old.replace("memory: 3", "memory: 1 B"))
    assert read_input(file) == old
    assert list(file.parent.iterdir()) == [file]


def test_a_file_that_somebody_changed_meanwhile_is_not_overwritten(file: Path) -> None:
    old = read_input(file)
    file.write_text(old + "# mine\n", encoding="utf-8")
    with pytest.raises(InputError, match="has been changed during the measurement"):
        replace_input(file, old, old.replace("name: example", "name: other"))
    assert read_input(file) == old + "# mine\n"


def test_a_full_disk_leaves_the_file_alone(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = read_input(file)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"problem\.yaml: cannot be written: No space left"):
        replace_input(file, old, old.replace("name: example", "name: other"))
    assert read_input(file) == old
    assert list(file.parent.iterdir()) == [file]


def test_a_packed_file_is_refused(tmp_path: Path) -> None:
    import gzip

    path = tmp_path / "problem.yaml.gz"
    path.write_bytes(gzip.compress(example().encode()))
    with pytest.raises(InputError, match="packed with gzip"):
        read_input(path)
