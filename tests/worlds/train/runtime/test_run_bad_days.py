"""What can be wrong before and during a run: one clear error, nothing half-written, the last good checkpoint intact."""

from __future__ import annotations

import json
import resource
import shutil
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_runs import SHAPE, Outcome, Watched, full, run, text_tokens, training, written

torch = pytest.importorskip("torch")

from pathloom.learn.language_model.config import LanguageModelConfig  # noqa: E402
from pathloom.learn.language_model.decoder import DecoderPart  # noqa: E402
from pathloom.learn.language_model.pretrained import save_pretrained  # noqa: E402
from pathloom.plan import InputError  # noqa: E402
from pathloom.worlds.train.llama import LlamaShape  # noqa: E402
from pathloom.worlds.train.runtime.checkpoint import latest, steps  # noqa: E402

pytestmark = pytest.mark.usefixtures("no_process_left")

Refused = Callable[..., InputError]


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """Two nodes in a chain."""
    return written(full("1f1b", sizes=(1, 1), microbatches=2), tmp_path / "plan.json")


@pytest.fixture
def refused(tokens: Path, tmp_path: Path, plan: Path) -> Refused:
    """The error of a run that is refused before anything is written or started."""

    def attempt(file: Path | None = None, **changes: Any) -> InputError:
        def launcher(name: str, address: tuple[str, int]) -> None:
            raise AssertionError("a node was started")

        options: dict[str, Any] = {"data": str(tokens), "steps": 1, "launcher": launcher, **changes}
        with pytest.raises(InputError) as caught:
            run(file or plan, tmp_path / "run", **options)
        assert not (tmp_path / "run").exists()
        return caught.value

    return attempt


def test_a_plan_that_says_nothing_about_the_model(refused: Refused, tmp_path: Path) -> None:
    bare = replace(training((1, 1), microbatches=2), workload=None)
    error = refused(written(full("1f1b", bare), tmp_path / "bare.json"))
    assert (error.file, error.key) == (str(tmp_path / "bare.json"), "problem.workload")
    assert "says nothing about the model" in error.reason


def edited(plan: Path, edit: Callable[[dict[str, Any]], Any]) -> Path:
    content = json.loads(plan.read_text())
    edit(content)
    other = plan.with_name("edited.json")
    other.write_text(json.dumps(content))
    return other


def test_a_plan_that_was_edited_into_one_that_breaks_a_rule(refused: Refused, plan: Path) -> None:
    def forget_the_last_return(content: dict[str, Any]) -> None:
        timeline = content["timeline"]
        for name, column in timeline.items():
            if isinstance(column, list) and name not in ("resources", "items", "kinds"):
                column.pop()
        for column in timeline.get("columns", {}).values():
            column.pop()

    error = refused(edited(plan, forget_the_last_return))
    assert error.file == str(plan.with_name("edited.json"))
    assert error.reason.startswith("holds a plan that its checker rejects: ")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "no plan"], ids=["empty", "cut", "list", "bare", "text"])
def test_a_file_that_is_no_plan(refused: Refused, tmp_path: Path, content: str) -> None:
    (tmp_path / "other.json").write_text(content)
    assert refused(tmp_path / "other.json").file == str(tmp_path / "other.json")


def test_data_that_is_not_there(refused: Refused, tmp_path: Path) -> None:
    error = refused(data=str(tmp_path / "nowhere"))
    assert error.file == str(tmp_path / "nowhere")
    assert "no such folder; expected a folder made by 'pathloom data tokenize'" in error.reason


def test_data_that_was_never_named(plan: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--data: expected a folder of tokens"):
        run(plan, tmp_path / "run", steps=1)


def spoil(file: Path, *, cut: int = 0) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x10
    file.write_bytes(content[: len(content) - cut])


@pytest.mark.parametrize("cut", [0, 6], ids=["a flipped bit", "truncated"])
def test_data_that_is_corrupt(refused: Refused, tokens: Path, tmp_path: Path, cut: int) -> None:
    shutil.copytree(tokens, tmp_path / "bad")
    spoil(tmp_path / "bad" / "train.bin", cut=cut)
    error = refused(data=str(tmp_path / "bad"))
    assert error.file == str(tmp_path / "bad" / "train.bin")


def test_data_with_more_tokens_in_its_vocabulary_than_the_model(refused: Refused, tmp_path: Path) -> None:
    small = replace(SHAPE, vocab=128)
    file = written(full("1f1b", sizes=(1, 1), microbatches=2, shape=small), tmp_path / "small.json")
    error = refused(file)
    assert error.key == "vocab"
    assert error.reason == "has a vocabulary of 256, the plan's model one of 128"


def test_data_with_too_few_tokens_for_a_microbatch(refused: Refused, tmp_path: Path) -> None:
    few = text_tokens(tmp_path / "few", characters=40)  # two windows of sixteen, and no validation worth the name
    fewer = text_tokens(tmp_path / "fewer", characters=12)
    error = refused(data=str(fewer))
    assert (error.file, error.key) == (str(fewer), "train")
    assert error.reason == "has too few train tokens for one microbatch of 2 x 16"
    error = refused(data=str(few), validate_every=1)
    assert error.key == "validation"


def test_a_schedule_that_nobody_knows(refused: Refused) -> None:
    error = refused(schedule="cosinus")
    assert error.key == "schedule" and "cosine" in error.reason


def test_a_warm_up_longer_than_the_run(refused: Refused) -> None:
    assert refused(warmup=5).key == "schedule"


def test_a_setting_that_nobody_knows(refused: Refused) -> None:
    error = refused(learning_rat=1.0)
    assert error.key == "learning_rat" and "did you mean 'learning_rate'" in error.reason


def test_a_cut_that_does_not_divide_into_chunks(refused: Refused, tmp_path: Path) -> None:
    odd = LlamaShape(dim=32, layers=6, heads=4, kv_heads=2, ffn_dim=48, context=16, vocab=256)
    file = written(full("interleaved-1f1b", sizes=(1, 1), microbatches=2, shape=odd), tmp_path / "odd.json")
    assert "stage 0 has 3 layers, which do not divide into 2 chunks" in refused(file).reason


def test_first_weights_of_another_shape(refused: Refused, tmp_path: Path) -> None:
    other = LanguageModelConfig(**vars(replace(SHAPE, ffn_dim=64)))
    save_pretrained(tmp_path / "weights", other, DecoderPart(other, range(4), embedding=True, head=True).state_dict())
    error = refused(initial=tmp_path / "weights")
    assert (error.file, error.key) == (str(tmp_path / "weights"), "ffn_dim")
    assert error.reason == "holds a model with ffn_dim 64, the plan has 48"


def test_a_port_in_use(refused: Refused) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        error = refused(port=other.getsockname()[1])
    assert error.key == "--port" and "cannot be used: Address already in use" in error.reason


def test_a_folder_that_cannot_be_written(tokens: Path, tmp_path: Path, plan: Path) -> None:
    (tmp_path / "file").write_text("here already\n")
    with pytest.raises(InputError, match="--out: cannot be written"):
        run(plan, tmp_path / "file" / "run", data=str(tokens), steps=1)
    assert (tmp_path / "file").read_text() == "here already\n"


def test_a_folder_that_holds_a_run(tokens: Path, tmp_path: Path, plan: Path) -> None:
    first = run(plan, tmp_path / "run", data=str(tokens), steps=1)
    before = {path: path.stat().st_mtime_ns for path in first.out.rglob("*")}
    with pytest.raises(InputError, match="--out: holds a run already; expected another folder, or --resume"):
        run(plan, tmp_path / "run", data=str(tokens), steps=1)
    assert {path: path.stat().st_mtime_ns for path in first.out.rglob("*")} == before


def test_nodes_that_never_join_are_named_and_the_folder_can_be_used_again(
    tokens: Path, tmp_path: Path, plan: Path
) -> None:
    with pytest.raises(InputError, match=r"nodes: 'n0', 'n1' did not join within 0\.3 s"):
        run(plan, tmp_path / "run", data=str(tokens), steps=1, launcher=lambda name, address: None, join_timeout=0.3)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"
    assert run(plan, tmp_path / "run", data=str(tokens), steps=1).result.figures["status"] == "done"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_device_that_the_nodes_do_not_have(tokens: Path, tmp_path: Path, plan: Path) -> None:
    with pytest.raises(InputError, match=r"node 'n\d' failed: device: expected cpu or auto: there is no GPU here"):
        run(plan, tmp_path / "run", data=str(tokens), steps=1, device="cuda")


def test_a_gradient_that_is_not_finite_ends_the_run(tokens: Path, tmp_path: Path, plan: Path) -> None:
    options = {"steps": 60, "learning_rate": 1000.0, "weight_decay": 10.0, "schedule": "constant"}
    with pytest.raises(InputError, match=r"learning_rate: the gradient of step \d+ is not finite"):
        run(plan, tmp_path / "run", data=str(tokens), **options)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"


def test_a_disk_that_is_full_while_saving_leaves_the_last_checkpoint_intact(
    tokens: Path, tmp_path: Path, plan: Path
) -> None:
    """The system refuses to let the nodes' files grow, as it does where the disk is full."""
    nodes = Watched()

    def fill_the_disk(record: Any) -> None:
        if record["step"] == 3:
            for pid in nodes.pids.values():
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, 4096))

    options = {"data": str(tokens), "steps": 6, "checkpoint_every": 2, "learning_rate": 0.01}
    out = tmp_path / "run"
    with pytest.raises(InputError, match=r"node 'n\d' failed: .*cannot be saved") as caught:
        run(plan, out, launcher=nodes, on_step=fill_the_disk, **options)
    assert "earlier ones are intact" in caught.value.reason
    assert steps(out) == [2]
    last = latest(out, verify=True)
    assert last is not None and last.step == 2
    left = [
        path.name for path in (out / "checkpoints").rglob("*") if path.is_file() and "step-00000002" not in str(path)
    ]
    assert left == []
    assert json.loads((out / "run.json").read_text())["status"] == "failed"

    done = run(plan, out, resume=True)  # when there is room again
    whole: Outcome = run(plan, tmp_path / "whole", **options)
    assert done.losses == whole.losses[2:]


def test_a_checkpoint_that_cannot_be_committed_does_not_count(
    tokens: Path, tmp_path: Path, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pathloom.worlds.train.runtime import checkpoint

    def full_disk(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    def later(record: Any) -> None:
        if record["step"] == 3:
            monkeypatch.setattr(checkpoint, "write_text", full_disk)

    with pytest.raises(InputError, match="No space left on device"):
        run(plan, tmp_path / "run", data=str(tokens), steps=6, checkpoint_every=2, on_step=later)
    assert steps(tmp_path / "run") == [2]
    assert latest(tmp_path / "run", verify=True) is not None


def test_a_launcher_that_fails_leaves_no_node_behind(tokens: Path, tmp_path: Path, plan: Path) -> None:
    local = Watched()

    def broken(name: str, address: tuple[str, int]) -> Any:
        if name == "n1":
            raise RuntimeError("no machine is free")
        return local(name, address)

    with pytest.raises(RuntimeError, match="no machine is free"):
        run(plan, tmp_path / "run", data=str(tokens), steps=1, launcher=broken)
