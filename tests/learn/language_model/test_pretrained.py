"""A model's folder is a Hugging Face folder: transformers opens ours with equal logits, and we open theirs."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from pathloom.learn.language_model import pretrained  # noqa: E402
from pathloom.learn.language_model.config import LanguageModelConfig  # noqa: E402
from pathloom.learn.language_model.decoder import Decoder, DecoderPart  # noqa: E402
from pathloom.learn.language_model.pretrained import (  # noqa: E402
    load_config,
    load_part,
    load_pretrained,
    read_tensors,
    save_pretrained,
)
from pathloom.plan import InputError  # noqa: E402

# Initial values far wider than usual, so that equal logits mean something
CONFIG = LanguageModelConfig(
    dim=32, layers=3, heads=4, kv_heads=4, ffn_dim=80, context=64, vocab=61, initializer_range=0.1
)
KINDS = {
    "plain": CONFIG,
    "tied": replace(CONFIG, tied=True),
    "grouped": replace(CONFIG, kv_heads=2, rope_theta=500000.0),
    "one key head, tied": replace(CONFIG, kv_heads=1, tied=True, norm_eps=1e-6, rope_theta=500000.0),
}
TOKENS = torch.randint(0, 61, (2, 50), generator=torch.Generator().manual_seed(1))


def trained(config: LanguageModelConfig) -> Decoder:
    """A model none of whose tensors has its initial value any more (norms start as ones)."""
    model = Decoder(config, seed=3)
    source = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=source), alpha=0.05)
    return model


def folder_with(tmp_path: Path, config: LanguageModelConfig = CONFIG, **options: Any) -> Path:
    save_pretrained(tmp_path / "model", config, trained(config).state_dict(), **options)
    return tmp_path / "model"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shard_bytes", [2**30, 20_000])
def test_transformers_opens_our_folder_with_equal_logits(tmp_path: Path, kind: str, shard_bytes: int) -> None:
    transformers = pytest.importorskip("transformers")
    config = KINDS[kind]
    folder = folder_with(tmp_path, config, shard_bytes=shard_bytes)
    theirs, info = transformers.LlamaForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    assert sum(p.numel() for p in theirs.parameters()) == config.parameters
    with torch.no_grad():
        expected = theirs.eval()(TOKENS).logits
        assert expected.abs().max() > 1
        torch.testing.assert_close(trained(config).logits(TOKENS), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shard_size", ["1GB", "20KB"])
def test_we_open_a_folder_of_transformers_with_equal_logits(tmp_path: Path, kind: str, shard_size: str) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(**KINDS[kind].to_hugging_face())).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    theirs.save_pretrained(tmp_path, max_shard_size=shard_size)
    assert (tmp_path / "model.safetensors").exists() == (shard_size == "1GB")
    ours = load_pretrained(tmp_path, [1, 0, 2])
    assert ours.config == KINDS[kind]
    with torch.no_grad():
        expected = theirs(TOKENS).logits
        assert expected.abs().max() > 1
        torch.testing.assert_close(ours.logits(TOKENS), expected, atol=1e-5, rtol=1e-5)


def test_gradients_too_are_those_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    folder = folder_with(tmp_path, KINDS["grouped"])
    theirs = transformers.LlamaForCausalLM.from_pretrained(folder)
    ours = load_pretrained(folder)
    # transformers shifts the labels itself
    theirs(TOKENS, labels=TOKENS).loss.backward()
    ours.loss(TOKENS[:, :-1], TOKENS[:, 1:]).backward()
    expected = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("tied", [False, True])
def test_the_round_trip_is_exact_also_in_bfloat16(tmp_path: Path, tied: bool) -> None:
    config = replace(CONFIG, tied=tied)
    state = trained(config).to(torch.bfloat16).state_dict()
    save_pretrained(tmp_path, config, state)
    assert load_config(tmp_path) == config
    found = read_tensors(tmp_path, config.parameter_shapes())
    assert all(torch.equal(found[name], state[name]) and found[name].dtype == torch.bfloat16 for name in state)
    assert json.loads((tmp_path / "config.json").read_text())["torch_dtype"] == "bfloat16"
    assert all(p.dtype == torch.float32 for p in load_pretrained(tmp_path).parameters())


def test_views_into_one_buffer_are_written_each_for_itself(tmp_path: Path) -> None:
    model = trained(CONFIG)
    buffer = torch.cat([p.detach().flatten() for p in model.parameters()])
    views = torch.split(buffer, [p.numel() for p in model.parameters()])
    state = {name: view.view_as(p) for (name, p), view in zip(model.named_parameters(), views)}
    state["model.layers.0.mlp.up_proj.weight"] = state["model.layers.0.mlp.up_proj.weight"].T.contiguous().T
    save_pretrained(tmp_path, CONFIG, state)
    assert (tmp_path / "model.safetensors").stat().st_size < 4 * CONFIG.parameters + 5000
    assert torch.equal(load_pretrained(tmp_path).logits(TOKENS), model.logits(TOKENS))


def test_shards_stay_below_the_limit_and_only_the_needed_ones_are_opened(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, shard_bytes=20_000)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 4 * CONFIG.parameters
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 3 and set(index["weight_map"].values()) == {shard.name for shard in shards}
    assert max(shard.stat().st_size for shard in shards) < 20_000 + 2_000
    for shard in shards:
        if shard.name != index["weight_map"]["model.norm.weight"]:
            shard.unlink()
    (found,) = read_tensors(folder, ["model.norm.weight"]).values()
    assert torch.equal(found, trained(CONFIG).state_dict()["model.norm.weight"])
    with pytest.raises(InputError, match=r"model-00001-of-\d+.safetensors: no such file"):
        load_pretrained(folder)


def test_a_part_takes_its_own_tensors(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    part = DecoderPart(CONFIG, [2], head=True, seed=None)
    load_part(part, folder)
    state = trained(CONFIG).state_dict()
    assert all(torch.equal(value, state[name]) for name, value in part.state_dict().items())
    with pytest.raises(InputError, match="holds another model"):
        load_part(DecoderPart(replace(CONFIG, vocab=62), [2]), folder)


def test_a_tied_folder_may_hold_the_matrix_twice_if_it_is_the_same(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    settings = json.loads((folder / "config.json").read_text()) | {"tie_word_embeddings": True}
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match=r"lm_head.weight: differs from model.embed_tokens.weight"):
        load_pretrained(folder)
    state = trained(CONFIG).state_dict()
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    save_pretrained(folder, CONFIG, state)
    (folder / "config.json").write_text(json.dumps(settings))
    tied = load_pretrained(folder)
    assert "lm_head.weight" not in tied.state_dict()
    save_pretrained(folder, tied.config, state)
    assert "lm_head.weight" not in pretrained._stored_names(folder)


def test_folders_that_are_no_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: no such folder"):
        load_config(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"has no config\.json"):
        load_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": ')
    with pytest.raises(InputError, match=r"config.json: line 1: is no JSON"):
        load_config(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(InputError, match=r"config.json: expected a JSON object"):
        load_config(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG.to_hugging_face()))
    with pytest.raises(InputError, match=r"has no model.safetensors and no model.safetensors.index.json"):
        load_pretrained(tmp_path)


@pytest.mark.parametrize("left", [0, 5, 300, -1])
def test_a_truncated_file_is_named(tmp_path: Path, left: int) -> None:
    path = folder_with(tmp_path) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(InputError, match=r"model.safetensors: is truncated or no safetensors file"):
        load_pretrained(tmp_path / "model")


def test_missing_and_wrongly_shaped_tensors_are_named(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    with pytest.raises(InputError, match=r"model.safetensors: model.layers.9.mlp.up_proj.weight: tensor is missing"):
        read_tensors(folder, ["model.layers.9.mlp.up_proj.weight"])
    save_pretrained(folder, replace(CONFIG, tied=True), trained(CONFIG).state_dict())
    (folder / "config.json").write_text(json.dumps(CONFIG.to_hugging_face()))
    with pytest.raises(InputError, match=r"lm_head.weight: tensor is missing; .*tie_word_embeddings is false"):
        load_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(replace(CONFIG, tied=True, ffn_dim=81).to_hugging_face()))
    with pytest.raises(InputError, match=r"gate_proj.weight: found shape \[80, 32\], expected \[81, 32\]"):
        load_pretrained(folder)


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        (None, "weight_map: expected the file of each tensor"),
        ({"model.norm.weight": "../other/model.safetensors"}, "expected the name of a file in this folder"),
        ({"lm_head.weight": "model-00001-of-00009.safetensors"}, "model.norm.weight: tensor is missing"),
    ],
)
def test_a_broken_index(tmp_path: Path, weight_map: Any, message: str) -> None:
    folder = folder_with(tmp_path, shard_bytes=20_000)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(InputError, match=f"index.json: .*{message}|index.json: {message}"):
        read_tensors(folder, ["model.norm.weight"])


def test_only_the_whole_model_can_be_saved(tmp_path: Path) -> None:
    state = trained(CONFIG).state_dict()
    for change, message in [
        ({"model.norm.weight": None}, "model.norm.weight: is missing"),
        ({"model.norm.weight": torch.ones(31)}, r"model.norm.weight: expected shape \[32\], found \[31\]"),
        ({"model.rotary.sin": torch.ones(3)}, "model.rotary.sin: no parameter of this model"),
    ]:
        tensors = {name: tensor for name, tensor in (state | change).items() if tensor is not None}
        with pytest.raises(ValueError, match=message):
            save_pretrained(tmp_path / "model", CONFIG, tensors)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(("before", "after"), [(2**30, 20_000), (20_000, 2**30), (20_000, 40_000)])
def test_a_new_model_replaces_the_files_of_the_old_one(tmp_path: Path, before: int, after: int) -> None:
    folder = folder_with(tmp_path, shard_bytes=before)
    (folder / "tokenizer.json").write_text("{}")
    other = Decoder(CONFIG, seed=9)
    save_pretrained(folder, CONFIG, other.state_dict(), shard_bytes=after)
    assert torch.equal(load_pretrained(folder).logits(TOKENS), other.logits(TOKENS))
    assert (folder / "model.safetensors").exists() != (folder / "model.safetensors.index.json").exists()
    named = set(pretrained._places(folder).values()) or {folder / "model.safetensors"}
    assert set(folder.glob("model*.safetensors")) == named
    assert (folder / "tokenizer.json").exists() and not list(folder.glob(".*"))


def test_a_full_disk_leaves_the_old_model_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_with(tmp_path)
    names = {path.name for path in folder.iterdir()}
    write, calls = pretrained.save_file, []

    def fill_the_disk(tensors: Any, path: Path, metadata: Any) -> None:
        write(tensors, path, metadata)
        calls.append(path)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pretrained, "save_file", fill_the_disk)
    with pytest.raises(InputError, match=r"model-00003-of-\d+.safetensors: cannot be written: No space left on device"):
        save_pretrained(folder, CONFIG, Decoder(CONFIG, seed=9).state_dict(), shard_bytes=20_000)
    assert {path.name for path in folder.iterdir()} == names
    assert torch.equal(load_pretrained(folder).logits(TOKENS), trained(CONFIG).logits(TOKENS))
