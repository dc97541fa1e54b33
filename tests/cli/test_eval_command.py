"""``pathloom eval`` measures a model with its stages left out, reordered, and after an early exit."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answers import Call

torch = pytest.importorskip("torch")

from pathloom.data.token_files import write_tokens  # noqa: E402
from pathloom.data.tokenizers import ByteTokenizer, load_tokenizer  # noqa: E402
from pathloom.learn.language_model.config import LanguageModelConfig  # noqa: E402
from pathloom.learn.language_model.decoder import Decoder  # noqa: E402
from pathloom.learn.language_model.evaluation import perplexity  # noqa: E402
from pathloom.learn.language_model.pretrained import save_pretrained  # noqa: E402

CONFIG = LanguageModelConfig(
    dim=16, layers=4, heads=2, kv_heads=2, ffn_dim=24, context=16, vocab=256, initializer_range=0.3
)
TEXT = "Whether 'tis nobler in the mind to suffer\n" * 20


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model of four layers as a Hugging Face folder."""
    torch.set_num_threads(1)
    save_pretrained(tmp_path / "tiny", CONFIG, Decoder(CONFIG, seed=2).state_dict())
    return tmp_path / "tiny"


@pytest.fixture
def run(tmp_path: Path, model: Path) -> Path:
    """The folder of a finished run of the same model in stages of 1, 2 and 1 layers."""
    folder = tmp_path / "run"
    folder.mkdir()
    model.rename(folder / "model")
    (folder / "run.json").write_text(json.dumps({"format": "pathloom-run-1", "stage_layers": [1, 2, 1]}))
    return folder


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text(TEXT)
    return write_tokens(tmp_path / "tokens", [tmp_path / "text.txt"], ByteTokenizer()).folder


def evaluated(call: Call, *arguments: str | Path) -> dict[str, Any]:
    answer = call("eval", *arguments, "--json")
    assert answer.status == 0, answer.err
    (said,) = [json.loads(line) for line in answer.out.splitlines()]
    return dict(said)


def expected(order: tuple[int, ...] | None, cut: tuple[int, ...] = (1, 1, 1, 1)) -> float:
    text = np.frombuffer(TEXT.encode(), np.uint8)[-84:]
    return perplexity(Decoder(CONFIG, cut, seed=2), text, order=order).perplexity


def test_a_model_has_the_perplexity_of_its_validation_text(call: Call, model: Path, tokens: Path) -> None:
    said = evaluated(call, model, "--data", tokens)
    assert said["objective"]["value"] == pytest.approx(expected(None))
    found = said["metrics"]["evaluations"]["all stages"]
    assert found["tokens"] == 83
    assert found["order"] == [0, 1, 2, 3]
    assert found["bits_per_byte"] == pytest.approx(found["loss"] / math.log(2))
    assert said["problem"] == {"name": "tiny", "kind": "language model", "file": str(model)}
    assert said["files"] == {}


def test_stages_left_out_reordered_and_left_early(call: Call, model: Path, tokens: Path) -> None:
    said = evaluated(
        call, model, "--data", tokens, "--without", "2,3", "--order", "0,2,1,3", "--exit", "1", "--batch", "2"
    )
    found = {name: entry["perplexity"] for name, entry in said["metrics"]["evaluations"].items()}
    assert found == {
        "all stages": pytest.approx(expected(None)),
        "without 2, 3": pytest.approx(expected((0, 1))),
        "order 0, 2, 1, 3": pytest.approx(expected((0, 2, 1, 3))),
        "exit after 1": pytest.approx(expected((0, 1))),
    }
    assert said["objective"]["value"] == found["without 2, 3"]


def test_a_run_brings_its_own_stages(call: Call, run: Path, tokens: Path) -> None:
    said = evaluated(call, run, "--data", tokens, "--without", "1")
    assert said["metrics"]["stage_layers"] == [1, 2, 1]
    assert said["objective"]["value"] == pytest.approx(expected((0, 2), (1, 2, 1)))
    said = evaluated(call, run, "--data", tokens, "--without", "1", "--stages", "3")
    assert said["metrics"]["stage_layers"] == [2, 1, 1]
    assert said["objective"]["value"] == pytest.approx(expected((0, 2), (2, 1, 1)))
    assert evaluated(call, run / "model", "--data", tokens)["metrics"]["stage_layers"] == [1, 1, 1, 1]


def test_part_of_a_split_may_be_enough(call: Call, model: Path, tokens: Path) -> None:
    said = evaluated(call, model, "--data", tokens, "--split", "train", "--limit", "20", "--context", "5")
    assert said["metrics"]["evaluations"]["all stages"]["tokens"] == 20
    text = np.frombuffer(TEXT.encode(), np.uint8)[:21]
    plain = perplexity(Decoder(CONFIG, (1,) * 4, seed=2), text, context=5)
    assert said["objective"]["value"] == pytest.approx(plain.perplexity)


def test_people_get_a_table(call: Call, model: Path, tokens: Path) -> None:
    answer = call("eval", model, "--data", tokens, "--exit", "0")
    assert answer.status == 0
    assert "tiny: 4 stages, 4 layers; tokens, validation split, 83 tokens" in answer.out
    assert f"{expected((0,)):.1f}" in next(line for line in answer.out.splitlines() if "exit after 0" in line)


def test_the_curve_comes_with_pictures(call: Call, run: Path, tokens: Path, tmp_path: Path) -> None:
    said = evaluated(call, run, "--data", tokens, "--curve")
    curve = said["metrics"]["curve"]
    assert [(row["removed"], len(row["sets"]), row["complete"]) for row in curve] == [
        (0, 1, True), (1, 2, True), (2, 1, True)
    ]  # fmt: skip
    assert curve[1]["sets"][0]["without"] == [1]
    assert curve[1]["sets"][0]["perplexity"] == pytest.approx(expected((0, 2), (1, 2, 1)))
    assert said["files"].keys() == {"figures", "page", "picture"}
    assert all(Path(path).parent == Path("run-evaluation") for path in said["files"].values())
    assert (tmp_path / said["files"]["picture"]).read_bytes().startswith(b"\x89PNG")
    assert "stages removed" in (tmp_path / said["files"]["page"]).read_text(encoding="utf-8")
    assert json.loads((tmp_path / said["files"]["figures"]).read_text())["metrics"]["curve"] == curve
    short = evaluated(call, run, "--data", tokens, "--curve", "--most", "1", "--sets", "1", "--out", "o")
    assert [len(row["sets"]) for row in short["metrics"]["curve"]] == [1, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--without", "4"], "--without: there is no stage 4; the model has stages 0 to 3"),
        (["--without", "0"], "--without: stage 0 holds the embedding and the head"),
        (["--without", "1,1"], "--without: stage 1 appears 2 times"),
        (["--without", "one"], "--without: expected stage numbers with commas between them, such as 2,3, found 'one'"),
        (["--order", "1,0"], "--order: expected stage 0 first, as it holds the embedding and the head, found 1, 0"),
        (["--order", "0,2,2"], "--order: stage 2 appears 2 times"),
        (["--order", "0,-1"], "--order: there is no stage -1"),
        (["--exit", "4"], "--exit: there is no stage 4"),
        (["--stages", "5"], "--stages: expected at most 4, the model's layers, found 5"),
        (["--stages", "0"], "--stages: expected a whole number of at least 1, found 0"),
        (["--batch", "0"], "--batch: expected"),
        (["--limit", "0"], "--limit: expected"),
        (["--context", "17"], "--context: expected a whole number from 1 to 16, found 17"),
        (["--curve", "--most", "4"], "--most: expected a whole number from 0 to 3, found 4"),
        (["--split", "test"], "split: expected train or validation, found 'test'"),
        (["--device", "abacus"], "--device: 'abacus' cannot be used"),
        (["--data", "nowhere"], "nowhere: no such folder"),
    ],
)
def test_bad_options_are_one_line(
    call: Call, model: Path, tokens: Path, arguments: list[str], message: str, tmp_path: Path
) -> None:
    answer = call("eval", model, "--data", tokens, *arguments)
    assert answer.status == 2
    assert len(answer.lines) == 1
    assert message in answer.lines[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.txt", "tiny", "tokens"]


def test_tokens_of_another_tokenizer_are_refused(call: Call, model: Path, tokens: Path, tmp_path: Path) -> None:
    wide = write_tokens(tmp_path / "wide", [tmp_path / "text.txt"], load_tokenizer("bytes+end")).folder
    answer = call("eval", model, "--data", wide)
    assert answer.status == 2
    assert "tokens.json: vocab: expected at most 256, the model's vocabulary, found 257" in answer.lines[0]

    tokenizers = pytest.importorskip("tokenizers")
    engine = tokenizers.Tokenizer(tokenizers.models.BPE())
    engine.train_from_iterator([TEXT], tokenizers.trainers.BpeTrainer(vocab_size=60, show_progress=False))
    engine.save(str(model / "tokenizer.json"))
    answer = call("eval", model, "--data", tokens)
    assert answer.status == 2
    assert "tokenizer.fingerprint: was made by tokenizer 'bytes', the model expects 'tiny'" in answer.lines[0]
    own = write_tokens(tmp_path / "own", [tmp_path / "text.txt"], load_tokenizer(model)).folder
    assert "bits/byte" not in call("eval", model, "--data", own).out


def test_a_run_says_which_tokenizer_it_was_trained_with(call: Call, run: Path, tokens: Path) -> None:
    card = json.loads((run / "run.json").read_text())
    card["tokenizer"] = {"name": "bytes+end", "fingerprint": ByteTokenizer(end=True).fingerprint}
    (run / "run.json").write_text(json.dumps(card))
    answer = call("eval", run, "--data", tokens)
    assert answer.status == 2
    assert "the model expects 'bytes+end'" in answer.lines[0]
    card["tokenizer"] = {"name": "bytes", "fingerprint": ByteTokenizer().fingerprint}
    (run / "run.json").write_text(json.dumps(card))
    assert call("eval", run, "--data", tokens).status == 0


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ("{", "run.json: is no readable JSON"),
        ("[]", "run.json: stage_layers: expected a list of numbers of layers"),
        ('{"stage_layers": [1, true, 2]}', "run.json: stage_layers: expected a list"),
        ('{"stage_layers": [2, 1]}', "run.json: stage_layers: expected counts with sum 4, the model's layers"),
    ],
)
def test_a_broken_run_is_named(call: Call, run: Path, tokens: Path, card: str, message: str) -> None:
    (run / "run.json").write_text(card)
    answer = call("eval", run, "--data", tokens)
    assert answer.status == 2
    assert message in answer.lines[0]


def test_missing_and_damaged_models_are_named(call: Call, run: Path, tokens: Path, tmp_path: Path) -> None:
    weights = run / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    answer = call("eval", run, "--data", tokens)
    assert answer.status == 2
    assert "model.safetensors: is truncated" in answer.lines[0]
    (run / "model").rename(run / "elsewhere")
    assert "has not written its model" in call("eval", run, "--data", tokens).lines[0]
    assert call("eval", tmp_path / "nothing", "--data", tokens).status == 2


def test_a_text_too_short_to_predict_is_named(call: Call, model: Path, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("0123456789")
    folder = write_tokens(tmp_path / "short", [tmp_path / "short.txt"], ByteTokenizer()).folder
    answer = call("eval", model, "--data", folder)
    assert answer.status == 2
    assert "tokens.json: validation: holds 1 tokens, expected at least 2" in answer.lines[0]


def test_a_token_that_the_model_does_not_know_is_found(call: Call, model: Path, tokens: Path) -> None:
    """The file has the right length, and only its content is wrong."""
    content = bytearray((tokens / "validation.bin").read_bytes())
    content[31] = 7
    (tokens / "validation.bin").write_bytes(content)
    answer = call("eval", model, "--data", tokens)
    assert answer.status == 2
    assert "is outside the model's vocabulary of 256" in answer.lines[0]


def test_without_torch_one_line_says_what_to_install(
    call: Call, model: Path, tokens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "pathloom.learn.language_model.evaluation")
    answer = call("eval", model, "--data", tokens)
    assert answer.status == 2
    assert answer.lines == ["pathloom: torch: needs the extra 'train': pip install 'pathloom[train]'"]
