"""Tokenizers give back what they were given, and a text in pieces has the tokens of the whole text."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathloom.data.tokenizers import ByteTokenizer, HuggingFaceTokenizer, load_tokenizer
from pathloom.plan import InputError

SENTENCES = [
    "The quick brown fox jumps over the lazy dog.\n",
    "Who goes where, through what, and when?\n\n",
    "Pack my box with five dozen liquor jugs;  then go home.\n",
    "Grüße aus Köln, très bien, 日本語 и русский.\n",
]
TEXT = st.text(st.sampled_from("  \n\tTheogquwbrnfxjmpsvlazydWc,.?üßé日本🙂"), max_size=400)


def cut(text: str, places: list[int]) -> list[str]:
    edges = [0, *sorted({place % (len(text) + 1) for place in places}), len(text)]
    return [text[a:b] for a, b in pairwise(edges)]


def trained(kind: str) -> str:
    """JSON of a tokenizer trained on a few sentences: "byte-level", or "metaspace", which marks starts of words."""
    tokenizers = pytest.importorskip("tokenizers")
    engine = tokenizers.Tokenizer(tokenizers.models.BPE(byte_fallback=kind == "metaspace", unk_token=None))
    alphabet: list[str] = []
    if kind == "byte-level":
        engine.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        engine.decoder = tokenizers.decoders.ByteLevel()
        alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    else:
        engine.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
        engine.decoder = tokenizers.decoders.Metaspace()
        alphabet = sorted(set("".join(SENTENCES)) | set("🙂\té"))
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, special_tokens=["<|endoftext|>"], show_progress=False
    )
    engine.train_from_iterator(SENTENCES * 3, trainer)
    return str(engine.to_str())


@pytest.fixture(scope="module", params=["byte-level", "metaspace"])
def hugging_face(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> HuggingFaceTokenizer:
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "tokenizer.json").write_text(trained(request.param))
    found = load_tokenizer(folder)
    assert isinstance(found, HuggingFaceTokenizer)
    return found


@given(text=st.text(max_size=200), end=st.booleans())
def test_bytes_are_the_utf8_of_the_text(text: str, end: bool) -> None:
    tokenizer = ByteTokenizer(end)
    ids = tokenizer.encode(text)
    assert ids.tolist() == list(text.encode("utf-8"))
    assert tokenizer.decode(ids) == text
    assert tokenizer.vocab == (257 if end else 256)
    assert tokenizer.end_of_text == (256 if end else None)


def test_the_end_of_text_is_no_text() -> None:
    tokenizer = load_tokenizer("bytes+end")
    assert tokenizer.decode([104, 105, 256]) == "hi"
    with pytest.raises(ValueError, match=r"expected 0 to 255"):
        load_tokenizer("bytes").decode([256])
    with pytest.raises(ValueError, match=r"found -1"):
        tokenizer.decode([-1])


def test_half_a_character_is_decoded_as_a_replacement() -> None:
    assert ByteTokenizer().decode([0x41, 0xC3]) == "A\N{REPLACEMENT CHARACTER}"


@given(text=st.text(max_size=100), places=st.lists(st.integers(0, 100), max_size=4))
def test_bytes_of_pieces_are_the_bytes_of_the_whole(text: str, places: list[int]) -> None:
    parts = list(ByteTokenizer().encode_pieces(cut(text, places)))
    assert np.concatenate(parts or [np.zeros(0)]).tolist() == list(text.encode("utf-8"))


def test_a_hugging_face_tokenizer_gives_back_its_text(hugging_face: HuggingFaceTokenizer) -> None:
    text = "".join(SENTENCES).strip()
    ids = hugging_face.encode(text)
    assert len(ids) < len(text)
    assert ids.max() < hugging_face.vocab
    assert hugging_face.decode(ids).strip() == text
    assert hugging_face.end_of_text == 0
    assert hugging_face.encode("fox<|endoftext|>").tolist()[-1] == 0
    with pytest.raises(ValueError, match=r"ids: expected"):
        hugging_face.decode([hugging_face.vocab])


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_text_in_pieces_has_the_tokens_of_the_whole(hugging_face: HuggingFaceTokenizer, data: st.DataObject) -> None:
    text = "".join(data.draw(st.lists(st.one_of(TEXT, st.sampled_from(SENTENCES)), max_size=8)))
    pieces = cut(text, data.draw(st.lists(st.integers(0, 1000), max_size=8)))
    found = list(hugging_face.encode_pieces(pieces, overlap=64))
    assert np.concatenate(found).tolist() == hugging_face.encode(text).tolist()


def test_a_long_text_really_is_encoded_in_pieces(hugging_face: HuggingFaceTokenizer) -> None:
    """Otherwise the memory would grow with the file."""
    text = "".join(SENTENCES) * 200
    parts = list(hugging_face.encode_pieces([text[i : i + 3000] for i in range(0, len(text), 3000)], overlap=128))
    assert len(parts) > 5
    assert max(map(len, parts)) < 4000
    assert np.concatenate(parts).tolist() == hugging_face.encode(text).tolist()


def test_a_text_without_any_break_is_encoded_all_the_same(hugging_face: HuggingFaceTokenizer) -> None:
    text = "qwertyuiop" * 300
    parts = list(hugging_face.encode_pieces([text[i : i + 100] for i in range(0, len(text), 100)], overlap=32))
    assert np.concatenate(parts).tolist() == hugging_face.encode(text).tolist()


def test_the_fingerprint_tells_tokenizers_apart_and_forgets_batch_settings(tmp_path: Path) -> None:
    content = json.loads(trained("byte-level"))
    prints = {}
    for name, change in {
        "plain": {},
        "padded": {"truncation": {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}},
        "other": {"normalizer": {"type": "Lowercase"}},
    }.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content | change))
        prints[name] = load_tokenizer(tmp_path / f"{name}.json")
    assert prints["plain"].fingerprint == prints["padded"].fingerprint != prints["other"].fingerprint
    assert len(prints["padded"].encode("".join(SENTENCES))) > 8
    assert prints["plain"].name == "plain"
    assert ByteTokenizer().fingerprint != ByteTokenizer(end=True).fingerprint


def test_the_configuration_beside_a_tokenizer_names_its_end_of_text(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(trained("byte-level"))
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({"eos_token": {"content": "!"}}))
    found = load_tokenizer(tmp_path)
    assert found.end_of_text is not None
    assert found.decode([found.end_of_text]) == "!"
    config.write_text("[1")
    with pytest.raises(InputError, match=r"tokenizer_config.json: is no JSON object"):
        load_tokenizer(tmp_path)


def test_what_is_no_tokenizer_is_refused_by_name(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    with pytest.raises(InputError, match=r"tokenizer: expected 'bytes', .* found characters"):
        load_tokenizer("characters")
    with pytest.raises(InputError, match=r"tokenizer.json: no such file"):
        load_tokenizer(tmp_path)
    for content in ("{}", "[]", "no json", '{"model": 3}'):
        (tmp_path / "tokenizer.json").write_text(content)
        with pytest.raises(InputError, match=r"tokenizer.json: is no Hugging Face tokenizer"):
            load_tokenizer(tmp_path)
