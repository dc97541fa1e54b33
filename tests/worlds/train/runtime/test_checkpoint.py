"""A checkpoint comes back bit for bit, for any cut of the model, or a save leaves the last good one as it was."""

from __future__ import annotations

import errno
import json
import os
import random
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from pathloom.plan import InputError  # noqa: E402
from pathloom.worlds.train.runtime import shards as shard_files  # noqa: E402
from pathloom.worlds.train.runtime.checkpoint import (  # noqa: E402
    Checkpoint,
    CheckpointFailed,
    ShardRecord,
    abandon,
    commit,
    drop_after,
    latest,
    prune,
    step_folder,
    steps,
    write_shard,
)

STATE = {"windows": 640, "seed": 3, "plan": "3f0c", "model": {"dim": 8}, "optimizer": {"beta1": 0.9}, "rate_plan": None}
LAYERS = 4


def model(seed: int = 0) -> dict[str, Any]:
    """Parameters of a small model under their global names."""
    draw = torch.Generator().manual_seed(seed)
    tensors = {f"model.layers.{i}.mlp.up_proj.weight": torch.randn(6, 4, generator=draw) for i in range(LAYERS)}
    return {"model.embed_tokens.weight": torch.randn(9, 4, generator=draw), **tensors}


def moments(parameters: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        name: {"exp_avg": tensor * 0.5, "exp_avg_sq": tensor**2, "step": torch.tensor(7.0)}
        for name, tensor in parameters.items()
    }


def save(folder: Path, step: int, seed: int = 0, parts: int = 2, state: dict[str, Any] = STATE) -> dict[str, Any]:
    """Save the model of `seed` in `parts` shards; returns its parameters."""
    whole = model(seed)
    records = []
    for part in range(parts):
        own = {name: tensor for i, (name, tensor) in enumerate(whole.items()) if i % parts == part}
        records.append(write_shard(folder, step, part, own, moments(own), {"generator": bytes([part, 255, 0])}))
    commit(folder, step, records, state)
    return whole


def alike(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    return found.keys() == expected.keys() and all(
        found[name].dtype == expected[name].dtype and torch.equal(found[name], expected[name]) for name in expected
    )


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.lists(st.integers(0, 4), max_size=3),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.int64, torch.uint8, torch.float64]),
)
def test_every_bit_comes_back(tmp_path_factory: Any, seed: int, shape: list[int], dtype: Any) -> None:
    folder = tmp_path_factory.mktemp("run")
    count = int(torch.tensor([1, *shape]).prod())
    bits = torch.tensor(list(random.Random(seed).randbytes(count * dtype.itemsize)), dtype=torch.uint8)
    tensor = bits.view(dtype).reshape(shape) if count else torch.zeros(shape, dtype=dtype)
    record = write_shard(folder, 1, 0, {"w": tensor}, {"w": {"exp_avg": tensor.flatten()}}, {})
    commit(folder, 1, [record], {})
    found = latest(folder)
    assert found is not None
    back = found.parameters(["w"])["w"]
    assert (back.dtype, back.shape) == (tensor.dtype, tensor.shape)
    # Random bits hold NaNs of every kind, which equal nothing; their bits do.
    assert torch.equal(back.flatten().view(torch.uint8), tensor.flatten().view(torch.uint8))
    assert torch.equal(found.optimizer()["w"]["exp_avg"].view(torch.uint8), tensor.flatten().view(torch.uint8))


def test_any_other_cut_of_the_model_can_load_it(tmp_path: Path) -> None:
    whole = save(tmp_path, 100, parts=3)
    found = Checkpoint.open(step_folder(tmp_path, 100))
    assert alike(found.parameters(), whole)
    assert set(found.names) == set(whole)
    chosen = [f"model.layers.{i}.mlp.up_proj.weight" for i in (3, 0)]
    assert alike(found.parameters(chosen), {name: whole[name] for name in chosen})
    states = found.optimizer(chosen)
    assert states.keys() == set(chosen)
    assert all(alike(states[name], moments(whole)[name]) for name in chosen)


def test_what_is_read_may_be_changed_and_outlives_the_file(tmp_path: Path) -> None:
    whole = save(tmp_path, 1)
    found = Checkpoint.open(step_folder(tmp_path, 1)).parameters()
    save(tmp_path, 2)
    prune(tmp_path, keep=1)
    assert alike(found, whole)
    for tensor in found.values():
        tensor.zero_()
    assert alike(Checkpoint.open(step_folder(tmp_path, 2)).parameters(), whole)


def test_state_and_random_states_come_back(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(5)
    python = random.Random(5)
    extra = {
        "torch": generator.get_state().numpy().tobytes(),
        "python": python.getstate(),
        "numpy": {"state": 2**127 + 1},
    }
    expected = torch.rand(4, generator=generator), python.random()
    record = write_shard(tmp_path, 8, 3, model(), {}, extra)
    commit(tmp_path, 8, [record], {**STATE, "key": b"\x00\xff"})
    found = Checkpoint.open(step_folder(tmp_path, 8) / "checkpoint.json")
    assert found.state == {**STATE, "key": b"\x00\xff"}
    assert (found.step, found.parts, found.required("windows")) == (8, (3,), 640)
    assert found.optimizer() == {}
    back = found.extra(3)
    generator.set_state(torch.frombuffer(bytearray(back["torch"]), dtype=torch.uint8))
    version, numbers, gauss = back["python"]
    python.setstate((version, tuple(numbers), gauss))
    assert torch.equal(torch.rand(4, generator=generator), expected[0])
    assert python.random() == expected[1]
    assert back["numpy"]["state"] == 2**127 + 1
    with pytest.raises(InputError, match=r"checkpoint.json: state.budget: missing"):
        found.required("budget")
    with pytest.raises(InputError, match="no part 0"):
        found.extra(0)
    with pytest.raises(InputError, match=r"holds no parameter 'model\.layers\.9"):
        found.parameters(["model.layers.9.mlp.up_proj.weight"])


def test_views_of_one_buffer_and_tied_and_transposed_tensors_can_be_saved(tmp_path: Path) -> None:
    buffer = torch.arange(24.0)
    tensors = {
        "a": buffer[:12].view(3, 4),
        "b": buffer[12:].view(4, 3),
        "tied": buffer[:12].view(3, 4),
        "turned": buffer[12:].view(4, 3).T,
        "learned": torch.nn.Parameter(torch.ones(2)),
    }
    commit(tmp_path, 1, [write_shard(tmp_path, 1, 0, tensors, {}, {})], {})
    assert alike(
        Checkpoint.open(step_folder(tmp_path, 1)).parameters(), {name: t.detach() for name, t in tensors.items()}
    )


def test_a_record_survives_a_message(tmp_path: Path) -> None:
    record = write_shard(tmp_path, 1, 2, model(), {}, {})
    assert ShardRecord.from_dict(json.loads(json.dumps(record.to_dict()))) == record
    for wrong in ({}, None, {**record.to_dict(), "file": "../x"}, {**record.to_dict(), "bytes": "1"}):
        with pytest.raises(ValueError, match="expected part"):
            ShardRecord.from_dict(wrong)


def test_nothing_but_checkpoints_lies_in_the_folder_after_a_save(tmp_path: Path) -> None:
    save(tmp_path, 100)
    names = sorted(path.name for path in step_folder(tmp_path, 100).iterdir())
    assert [name.partition("-")[0] for name in names] == ["checkpoint.json", "part", "part"]
    assert {path.stat().st_mode & 0o777 for path in step_folder(tmp_path, 100).iterdir()} == {0o666 & ~umask()}


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_step_counts_once_it_is_committed(tmp_path: Path) -> None:
    assert latest(tmp_path) is None
    write_shard(tmp_path, 200, 0, model(), {}, {})
    assert latest(tmp_path) is None
    save(tmp_path, 100)
    found = latest(tmp_path)
    assert found is not None and (found.step, found.warnings) == (100, ())
    with pytest.raises(InputError, match=r"is no complete checkpoint, expected a file checkpoint\.json"):
        Checkpoint.open(step_folder(tmp_path, 200))


def test_saving_a_step_again_leaves_no_moment_without_a_whole_checkpoint(tmp_path: Path) -> None:
    """Between the new shards and the new commit the old checkpoint of the same step still stands, bit for bit."""
    first = save(tmp_path, 100, seed=1)
    second = model(2)
    names = list(second)
    cut = [{name: second[name] for name in names[:2]}, {name: second[name] for name in names[2:]}]
    records = []
    for part, own in enumerate(cut):
        records.append(write_shard(tmp_path, 100, part, own, {}, {}))
        found = latest(tmp_path, verify=True)
        assert found is not None and found.warnings == () and alike(found.parameters(), first)
    commit(tmp_path, 100, records, STATE)
    found = latest(tmp_path, verify=True)
    assert found is not None and alike(found.parameters(), second)
    assert len(list(step_folder(tmp_path, 100).iterdir())) == 3


@contextmanager
def largest_file(limit: int) -> Iterator[None]:
    """Let the operating system refuse to write files beyond `limit` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_shard_that_the_system_cuts_off_leaves_nothing(tmp_path: Path) -> None:
    save(tmp_path, 100)
    before = content(tmp_path)
    big = {"w": torch.zeros(100_000)}
    with pytest.raises(CheckpointFailed) as failure, largest_file(50_000):
        write_shard(tmp_path, 200, 0, big, {}, {})
    assert os.strerror(errno.EFBIG) in str(failure.value)
    assert failure.value.file is not None and "step-00000200/part-00000" in failure.value.file
    assert content(tmp_path) == before


def test_a_full_disk_in_the_middle_of_a_shard_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import safetensors.torch

    whole = save(tmp_path, 100)
    before = content(tmp_path)
    honest = safetensors.torch.save_file

    def full(tensors: dict[str, Any], path: Path, metadata: dict[str, str]) -> None:
        honest(tensors, path, metadata)
        with path.open("r+b") as stream:
            stream.truncate(path.stat().st_size // 2)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(CheckpointFailed, match="cannot be saved: No space left on device; earlier ones are intact"):
        write_shard(tmp_path, 100, 0, model(1), {}, {})
    assert content(tmp_path) == before
    found = latest(tmp_path, verify=True)
    assert found is not None and alike(found.parameters(), whole)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_at_the_commit_leaves_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    whole = save(tmp_path, 100)
    before = content(tmp_path)
    records = {step: write_shard(tmp_path, step, 0, model(1), {}, {}) for step in (100, 200)}

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shard_files.os, call, full)
    for step, record in records.items():
        with pytest.raises(CheckpointFailed, match=rf"step-{step:08d}/checkpoint.json: .*No space left on device"):
            commit(tmp_path, step, [record], STATE)
    assert content(tmp_path) == before
    found = latest(tmp_path, verify=True)
    assert found is not None and (found.step, found.warnings) == (100, ()) and alike(found.parameters(), whole)


def test_a_shard_that_went_missing_is_not_committed(tmp_path: Path) -> None:
    records = [write_shard(tmp_path, 5, part, {f"w{part}": torch.ones(3)}, {}, {}) for part in range(2)]
    (step_folder(tmp_path, 5) / records[1].file).unlink()
    with pytest.raises(CheckpointFailed, match=r"part-00001.*is missing"):
        commit(tmp_path, 5, records, STATE)
    assert steps(tmp_path) == []
    assert content(tmp_path) == {}


def test_parts_and_parameters_are_saved_once(tmp_path: Path) -> None:
    first = write_shard(tmp_path, 5, 0, {"w": torch.ones(3)}, {}, {})
    with pytest.raises(ValueError, match="part 0 is in two"):
        commit(tmp_path, 5, [first, first], {})
    second = write_shard(tmp_path, 5, 1, {"w": torch.zeros(3)}, {}, {})
    with pytest.raises(ValueError, match="parameter w is in two"):
        commit(tmp_path, 5, [first, second], {})
    with pytest.raises(ValueError, match="'v', which is no parameter of part 0"):
        write_shard(tmp_path, 5, 0, {"w": torch.ones(3)}, {"v": {}}, {})
    with pytest.raises(ValueError, match="holds a slash"):
        write_shard(tmp_path, 5, 0, {"a/b": torch.ones(3)}, {}, {})


def test_a_folder_without_the_right_to_write_is_named(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file where the folder should be")
    with pytest.raises(CheckpointFailed, match=r"part-00000: the checkpoint cannot be saved: (File exists|Not a dir)"):
        write_shard(tmp_path, 5, 0, {"w": torch.ones(3)}, {}, {})


def damaged(folder: Path, how: str) -> None:
    target = step_folder(folder, 200)
    shard = sorted(target.glob("part-00001*"))[0]
    if how == "missing shard":
        shard.unlink()
    elif how == "truncated shard":
        shard.write_bytes(shard.read_bytes()[:-1])
    elif how == "corrupt shard":
        data = bytearray(shard.read_bytes())
        data[-1] ^= 1
        shard.write_bytes(data)
    else:
        commit_file = target / "checkpoint.json"
        text = commit_file.read_text()
        changed = {
            "truncated list": text[: len(text) // 2],
            "another format": text.replace("pathloom-checkpoint-1", "pathloom-checkpoint-9"),
            "no shards": json.dumps({**json.loads(text), "shards": 3}),
            "odd shards": json.dumps({**json.loads(text), "shards": [{}]}),
            "no step": json.dumps({**json.loads(text), "step": "x"}),
        }
        commit_file.write_text(changed[how])


DAMAGE = {
    "missing shard": r"part-00001-\w+.safetensors: is missing, expected a shard of \d+ bytes",
    "truncated shard": r"part-00001-\w+.safetensors: is truncated: \d+ bytes, expected \d+",
    "corrupt shard": r"part-00001-\w+.safetensors: is corrupt: SHA-256 \w+..., expected",
    "truncated list": r"checkpoint.json: is truncated or no JSON",
    "another format": r"checkpoint.json: format: expected 'pathloom-checkpoint-1', found 'pathloom-checkpoint-9'",
    "no shards": r"checkpoint.json: shards: expected a list",
    "odd shards": r"checkpoint.json: shards: expected part, file",
    "no step": r"checkpoint.json: step: expected a whole number",
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_broken_checkpoint_is_named_and_the_one_before_is_taken(tmp_path: Path, how: str) -> None:
    whole = save(tmp_path, 100)
    save(tmp_path, 200, seed=1)
    damaged(tmp_path, how)
    with pytest.raises(InputError, match=DAMAGE[how]):
        Checkpoint.open(step_folder(tmp_path, 200), verify=True)
    said: list[str] = []
    found = latest(tmp_path, verify=True, warnings=said)
    assert found is not None and found.step == 100 and alike(found.parameters(), whole)
    assert list(found.warnings) == said
    assert len(said) == 1 and said[0].startswith("the checkpoint of step 200 is passed over: ")
    # What cannot be read must not push out what can. (Pruning looks at sizes only: it follows a save, which has just
    # read its own files, and reading all of them again would take as long as writing them.)
    save(tmp_path, 50)
    assert [path.name for path in prune(tmp_path, keep=1)] == (
        ["step-00000050"] if how != "corrupt shard" else ["step-00000050", "step-00000100"]
    )


def test_a_wrong_bit_is_found_when_the_shard_is_read_even_where_only_sizes_were_checked(tmp_path: Path) -> None:
    save(tmp_path, 200)
    damaged(tmp_path, "corrupt shard")
    found = latest(tmp_path)
    assert found is not None
    for read in (found.parameters, found.optimizer, lambda: found.extra(1)):
        with pytest.raises(InputError, match=DAMAGE["corrupt shard"]):
            read()
    assert found.extra(0) == {"generator": bytes([0, 255, 0])}


@settings(max_examples=25, deadline=None)
@given(
    committed=st.sets(st.integers(0, 40), max_size=5),
    begun=st.sets(st.integers(0, 40), max_size=3),
    keep=st.integers(1, 4),
)
def test_pruning_keeps_the_newest_and_what_is_being_written(
    tmp_path_factory: Any, committed: set[int], begun: set[int], keep: int
) -> None:
    folder = tmp_path_factory.mktemp("run")
    for step in committed | begun:
        record = write_shard(folder, step, 0, {"w": torch.ones(1)}, {}, {})
        if step in committed:
            commit(folder, step, [record], {})
    removed = prune(folder, keep)
    assert steps(folder) == sorted(committed)[-keep:]
    last = max(committed, default=-1)
    left = {int(path.name[5:]) for path in (folder / "checkpoints").glob("step-*")}
    assert left == set(steps(folder)) | {step for step in begun if step > last or not committed}
    assert len(removed) == len(committed | begun) - len(left)


def test_an_abandoned_save_leaves_what_was_committed(tmp_path: Path) -> None:
    save(tmp_path, 100)
    before = content(tmp_path)
    write_shard(tmp_path, 100, 0, model(4), {}, {})
    write_shard(tmp_path, 200, 0, model(4), {}, {})
    (step_folder(tmp_path, 200) / ".tmpKILLED").write_bytes(b"half")
    for step in (100, 200, 300):
        abandon(tmp_path, step)
    assert content(tmp_path) == before
    assert not step_folder(tmp_path, 200).exists()


def test_a_run_that_goes_on_from_an_older_checkpoint_drops_the_later_ones(tmp_path: Path) -> None:
    for step in (100, 200, 300):
        save(tmp_path, step)
    assert [path.name for path in drop_after(tmp_path, 100)] == ["step-00000200", "step-00000300"]
    assert steps(tmp_path) == [100]


def test_keeping_no_checkpoint_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="keep: expected at least 1, found 0"):
        prune(tmp_path, 0)
