"""The metrics of a run lose at most the line that was being written, and after a resume hold every step once."""

from __future__ import annotations

import builtins
import json
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathloom.plan import InputError
from pathloom.worlds.train.runtime.metrics import MetricsWriter, read_metrics

RECORDS = st.lists(
    st.one_of(
        st.builds(lambda step, loss: {"step": step, "loss": loss}, st.integers(1, 30), st.floats(0, 9)),
        st.builds(lambda step: {"event": "node lost", "step": step, "node": "é"}, st.integers(1, 30)),
        st.just({"event": "begun"}),
    ),
    max_size=20,
)


def write(folder: Path, records: list[dict[str, Any]], **options: Any) -> None:
    with MetricsWriter(folder, tensorboard=False, **options) as writer:
        for record in records:
            if "event" in record:
                fields = {key: value for key, value in record.items() if key != "event"}
                writer.event(record["event"], **fields)
            else:
                writer.write(record)


def up_to(records: list[dict[str, Any]], step: int) -> list[dict[str, Any]]:
    return [record for record in records if "event" in record or record["step"] <= step]


@settings(max_examples=50, deadline=None)
@given(first=RECORDS, second=RECORDS, step=st.integers(0, 31))
def test_a_resume_keeps_exactly_the_steps_up_to_the_resumed_one(
    tmp_path_factory: Any, first: list[dict[str, Any]], second: list[dict[str, Any]], step: int
) -> None:
    folder = tmp_path_factory.mktemp("run")
    write(folder, first)
    assert read_metrics(folder) == first
    write(folder, second, resume_step=step)
    assert read_metrics(folder / "metrics.jsonl") == up_to(first, step) + second
    with MetricsWriter(folder, tensorboard=False) as writer:
        writer.rewind(step)
    assert read_metrics(folder) == up_to(first + second, step)
    assert [path.name for path in folder.iterdir()] == ["metrics.jsonl"]


@settings(max_examples=60, deadline=None)
@given(records=RECORDS, share=st.floats(0, 1))
def test_a_file_cut_off_anywhere_keeps_its_whole_lines(
    tmp_path_factory: Any, records: list[dict[str, Any]], share: float
) -> None:
    folder = tmp_path_factory.mktemp("run")
    write(folder, records)
    path = folder / "metrics.jsonl"
    data = path.read_bytes()
    cut = data[: int(share * len(data))]
    path.write_bytes(cut)
    # A line that lacks nothing but its end is whole too.
    whole = [line for line in cut.split(b"\n") if line.endswith(b"}") and not line.endswith(b'": {')]
    expected = [json.loads(line) for line in whole]
    assert read_metrics(path) == expected == records[: len(expected)]
    write(folder, [{"step": 99, "loss": 0.5}])
    assert read_metrics(path) == [*expected, {"step": 99, "loss": 0.5}]
    assert path.read_bytes().count(b"\n") == len(expected) + 1


def test_each_line_is_there_before_the_next_one_is_written(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path, tensorboard=False)
    for step in range(1, 4):
        writer.write({"step": step, "loss": 1.0})
        assert len(read_metrics(tmp_path)) == step
    writer.close()
    with pytest.raises(ValueError, match="closed"):
        writer.write({"step": 4})


def test_numbers_of_numpy_are_numbers_and_what_is_not_finite_is_null(tmp_path: Path) -> None:
    record = {"step": 1, "loss": float("nan"), "rate": np.float32(0.5), "norms": np.array([1.0, np.inf]), "all": (1, 2)}
    write(tmp_path, [record])
    assert read_metrics(tmp_path) == [{"step": 1, "loss": None, "rate": 0.5, "norms": [1.0, None], "all": [1, 2]}]


@pytest.mark.parametrize("line", ["[1]", "step 2", '{"step": 2'])
def test_a_broken_line_amid_others_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "metrics.jsonl"
    text = f'{{"step": 1}}\n{line}\n{{"step": 3}}\n'
    path.write_text(text)
    with pytest.raises(InputError, match=r"metrics\.jsonl: line 2: expected a JSON object"):
        read_metrics(tmp_path)
    with pytest.raises(InputError, match="line 2"):
        MetricsWriter(tmp_path, tensorboard=False, resume_step=1)
    assert path.read_text() == text


def test_missing_and_unwritable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"metrics\.jsonl: no such file, expected"):
        read_metrics(tmp_path)
    with pytest.raises(InputError, match=r"metrics\.jsonl: cannot be written: No such file"):
        MetricsWriter(tmp_path / "nowhere", tensorboard=False)


def test_a_disk_that_is_full_is_named(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path, tensorboard=False) as writer:
        writer.write({"step": 1})
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "metrics.jsonl").stat().st_size + 5, hard))
        try:
            with pytest.raises(InputError, match=r"metrics\.jsonl: cannot be written: File too large"):
                writer.write({"step": 2})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert read_metrics(tmp_path) == [{"step": 1}]


def test_a_failed_truncation_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, [{"step": step} for step in range(1, 9)])
    before = (tmp_path / "metrics.jsonl").read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match="No space left on device"):
        MetricsWriter(tmp_path, tensorboard=False, resume_step=3)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_tensorboard_shows_each_step_once_after_a_rewind(tmp_path: Path) -> None:
    pytest.importorskip("torch.utils.tensorboard")
    with MetricsWriter(tmp_path) as writer:
        assert writer.note == ""
        for step in range(1, 6):
            writer.write({"step": step, "loss": 2.0, "note": "no number", "validation_loss": 3.0})
        writer.event("node lost", step=5, node="a")
        writer.rewind(3)
        writer.write({"step": 4, "loss": 1.0})
    found = scalars(tmp_path)
    assert found["train/loss"] == [(1, 2.0), (2, 2.0), (3, 2.0), (4, 1.0)]
    assert found["validation/loss"] == [(1, 3.0), (2, 3.0), (3, 3.0)]
    assert set(found) == {"train/loss", "validation/loss"}


def test_without_tensorboard_the_file_is_written_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("torch.utils.tensorboard"):
            raise ImportError("No module named 'tensorboard'")
        return honest(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with MetricsWriter(tmp_path) as writer:
        assert writer.note.startswith("no TensorBoard scalars: No module named 'tensorboard'")
        writer.write({"step": 1, "loss": 1.0})
        writer.rewind(1)
        writer.write({"step": 2, "loss": 1.0})
    assert len(read_metrics(tmp_path)) == 2
    assert not (tmp_path / "tensorboard").exists()
