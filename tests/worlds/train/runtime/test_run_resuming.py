"""A run that has ended, by itself or not, goes on from its checkpoint: bit for bit on the same plan, or on another."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from small_runs import MARK, Outcome, full, run, running, skipping, wait_for, written

torch = pytest.importorskip("torch")

from pathloom.plan import InputError  # noqa: E402
from pathloom.worlds.train.runtime.checkpoint import latest, step_folder, steps  # noqa: E402

pytestmark = pytest.mark.usefixtures("no_process_left")

OPTIONS: dict[str, Any] = {
    "steps": 6,
    "checkpoint_every": 2,
    "keep": 9,
    "learning_rate": 0.01,
    "warmup": 2,
    "validate_every": 3,
    "validation_windows": 8,
}


@pytest.fixture(scope="module")
def whole(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    """A run of six steps that nothing has disturbed, beside its plan."""
    folder = tmp_path_factory.mktemp("whole")
    file = written(skipping(3), folder / "plan.json")
    yield run(file, folder / "run", data=str(tokens), **OPTIONS)


def cut_after(whole: Outcome, step: int, folder: Path) -> Path:
    """The run's folder as it was after the checkpoint of a step, and a little further."""
    shutil.copytree(whole.out, folder)
    for later in steps(folder):
        if later > step:
            shutil.rmtree(step_folder(folder, later))
    return folder


def assert_same_bits(one: Any, other: Any) -> None:
    """Weights, state of the optimizer, and what else a checkpoint holds."""
    first, second = one.parameters(), other.parameters()
    assert set(first) == set(second)
    assert all(torch.equal(first[name], second[name]) for name in first)
    first, second = one.optimizer(), other.optimizer()
    assert set(first) == set(second)
    for name, state in first.items():
        assert all(torch.equal(state[key], second[name][key]) for key in state), name
    assert one.required("windows") == other.required("windows")
    assert one.required("rate_plan") == other.required("rate_plan")


@pytest.mark.parametrize("step", [2, 4])
def test_a_resumed_run_has_the_bits_of_one_that_went_through(whole: Outcome, tmp_path: Path, step: int) -> None:
    out = cut_after(whole, step, tmp_path / "run")
    done = run(whole.out / "plan.json", out, resume=True)
    assert [record["step"] for record in done.steps] == list(range(step + 1, 7))
    assert done.losses == whole.losses[step:]
    for key in ("gradient_norm", "learning_rate", "gradient_norm_l1"):
        assert [record[key] for record in done.steps] == [record[key] for record in whole.steps[step:]]
    assert done.steps[-1]["validation_loss"] == whole.steps[-1]["validation_loss"]
    assert_same_bits(done.checkpoint(), whole.checkpoint())
    assert [record["step"] for record in done.metrics()] == [1, 2, 3, 4, 5, 6]
    norms = [json.loads((folder / "norms.json").read_text())["l2"] for folder in (out, whole.out)]
    assert norms[0] | {"repeated": 0} == norms[1]  # steps that were done twice count once


def test_two_runs_of_one_plan_have_the_same_bits(tokens: Path, whole: Outcome, tmp_path: Path) -> None:
    again = run(whole.out / "plan.json", tmp_path / "run", data=str(tokens), **OPTIONS)
    assert again.losses == whole.losses
    assert_same_bits(again.checkpoint(), whole.checkpoint())


def test_another_seed_is_another_run(tokens: Path, whole: Outcome, tmp_path: Path) -> None:
    other = run(
        whole.out / "plan.json", tmp_path / "run", data=str(tokens), **{**OPTIONS, "steps": 1, "warmup": 0, "seed": 1}
    )
    assert other.losses[0] != whole.losses[0]


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "pathloom", "run", *(str(argument) for argument in arguments)]


def test_a_run_whose_launcher_is_killed_in_mid_training_goes_on_bit_for_bit(
    tokens: Path, whole: Outcome, tmp_path: Path
) -> None:
    """kill -9 of the process that leads; its nodes notice by themselves that nobody is left."""
    out = tmp_path / "run"
    options = [part for name, value in OPTIONS.items() for part in ("--set", f"{name}={value}")]
    before = set(running())
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            command(whole.out / "plan.json", "--data", tokens, "--out", out, *options),
            stdout=log,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        committed = wait_for(lambda: steps(out) or process.poll() is not None, 120)
        process.send_signal(signal.SIGKILL)
        assert process.wait(20) == -signal.SIGKILL, (tmp_path / "log").read_text()
    assert committed
    assert wait_for(lambda: not set(running()) - before, 20), running()
    assert json.loads((out / "run.json").read_text())["status"] == "running"
    at = latest(out)
    assert at is not None
    done = run(whole.out / "plan.json", out, resume=True)
    assert [record["step"] for record in done.steps] == list(range(at.step + 1, 7))
    assert_same_bits(done.checkpoint(), whole.checkpoint())
    assert [record["step"] for record in done.metrics()] == [1, 2, 3, 4, 5, 6]
    assert json.loads((out / "run.json").read_text())["status"] == "done"


def test_a_run_goes_on_along_another_plan_with_other_nodes(whole: Outcome, tmp_path: Path) -> None:
    """Three nodes in one chain instead of six in four stages, twice as many steps, another cut of the model."""
    out = cut_after(whole, 4, tmp_path / "run")
    file = written(full("1f1b", sizes=(1, 1, 1), microbatches=4), tmp_path / "other.json")
    done = run(file, out, resume=True, steps=8)
    assert [record["step"] for record in done.steps] == [5, 6, 7, 8]
    assert {record["nodes"] for record in done.steps} == {3}
    assert done.checkpoint().required("windows") == 4 * 12 + 4 * 8
    assert max(done.losses) < whole.losses[0]
    assert len(done.checkpoint().parts) == 3 and len(whole.checkpoint().parts) == 4
    assert set(done.checkpoint().names) == set(whole.checkpoint().names)


def test_the_first_step_on_another_plan_begins_with_the_weights_that_were_left(
    tokens: Path, whole: Outcome, tmp_path: Path
) -> None:
    """Two cuts of one model along the same routes of all stages give the same loss."""
    first = written(full("gpipe", sizes=(2, 1, 1)), tmp_path / "first.json")
    options = {**OPTIONS, "steps": 4, "schedule": "constant", "warmup": 0}
    went = run(first, tmp_path / "went", data=str(tokens), **options)
    shutil.copytree(went.out, tmp_path / "run")
    shutil.rmtree(step_folder(tmp_path / "run", 4))
    second = written(full("interleaved-1f1b", sizes=(1, 1)), tmp_path / "second.json")
    done = run(second, tmp_path / "run", resume=True)
    assert done.losses == pytest.approx(went.losses[2:], abs=1e-4)


def test_a_truncated_checkpoint_is_passed_over_with_a_warning(whole: Outcome, tmp_path: Path) -> None:
    out = cut_after(whole, 4, tmp_path / "run")
    shard = next(step_folder(out, 4).glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-100])
    console = Console(record=True, width=200, file=(tmp_path / "said").open("w"))
    done = run(whole.out / "plan.json", out, resume=True, console=console)
    assert "the checkpoint of step 4 is passed over" in console.export_text()
    assert [record["step"] for record in done.steps] == [3, 4, 5, 6]
    assert_same_bits(done.checkpoint(), whole.checkpoint())
    assert_same_bits(done.checkpoint(4), whole.checkpoint(4))


def test_a_checkpoint_with_a_flipped_bit_is_passed_over_too(whole: Outcome, tmp_path: Path) -> None:
    out = cut_after(whole, 4, tmp_path / "run")
    shard = next(step_folder(out, 4).glob("*.safetensors"))
    content = bytearray(shard.read_bytes())
    content[-50] ^= 1
    shard.write_bytes(content)
    done = run(whole.out / "plan.json", out, resume=True)
    assert done.steps[0]["step"] == 3
    assert_same_bits(done.checkpoint(), whole.checkpoint())


def test_without_a_sound_checkpoint_there_is_nothing_to_resume(whole: Outcome, tmp_path: Path) -> None:
    out = cut_after(whole, 4, tmp_path / "run")
    for step in steps(out):
        (step_folder(out, step) / "checkpoint.json").write_text("{")
    with pytest.raises(InputError, match="--resume: holds no sound checkpoint to resume from"):
        run(whole.out / "plan.json", out, resume=True)


def test_a_folder_without_a_run_cannot_be_resumed(whole: Outcome, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--resume: holds no run to resume"):
        run(whole.out / "plan.json", tmp_path / "nothing", resume=True)
    (tmp_path / "nothing").mkdir()
    for content in ("{", "[]", '{"format": "something else"}', '{"format": "pathloom-run-1"}'):
        (tmp_path / "nothing" / "run.json").write_text(content)
        with pytest.raises(InputError, match=r"run\.json: format: expected a 'pathloom-run-1'"):
            run(whole.out / "plan.json", tmp_path / "nothing", resume=True)


def test_a_run_that_is_done_has_no_steps_left(whole: Outcome, tmp_path: Path) -> None:
    out = cut_after(whole, 6, tmp_path / "run")
    with pytest.raises(InputError, match="steps: expected more than the 6 steps done already, found 6"):
        run(whole.out / "plan.json", out, resume=True)
    done = run(whole.out / "plan.json", out, resume=True, steps=7)
    assert [record["step"] for record in done.steps] == [7]


def test_a_plan_of_another_model_cannot_go_on(whole: Outcome, tmp_path: Path) -> None:
    from pathloom.worlds.train.llama import LlamaShape

    wider = LlamaShape(dim=48, layers=4, heads=4, kv_heads=2, ffn_dim=48, context=16, vocab=256)
    file = written(full("gpipe", shape=wider), tmp_path / "wider.json")
    with pytest.raises(InputError, match="model: its checkpoint holds a model with dim 32, the plan has 48"):
        run(file, cut_after(whole, 4, tmp_path / "run"), resume=True)


def test_the_mark_reaches_every_process(whole: Outcome) -> None:
    """Otherwise the search for processes that are left over would find none, whatever happened."""
    assert os.environ[MARK]
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    try:
        assert child.pid in running()
    finally:
        child.kill()
        child.wait()
    assert child.pid not in running()
