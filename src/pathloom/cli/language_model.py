"""Language models that commands are given: a Hugging Face folder, or the folder of a run with its model inside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathloom.data.token_files import TokenData
    from pathloom.learn.language_model.decoder import Decoder


def model_name(model: Path) -> str:
    """Name of a model: that of its folder, or of the run it belongs to."""
    folder = model.resolve()
    return folder.parent.name if folder.name == "model" else folder.name


def open_model(model: Path, stages: int | None = None, device: str = "cpu") -> Decoder:
    """The model in float32, cut into stages.

    Parameters
    ----------
    stages
        Cut the layers into so many stages of nearly equal size, the larger ones first; None for the stages of the run,
        or a stage a layer where there is none.

    Raises
    ------
    InputError
        If the model cannot be read or cut so, or the device is not there.
    """
    import torch

    from pathloom.learn.language_model.pretrained import load_config, load_pretrained
    from pathloom.plan import InputError

    folder, card = _run_card(model)
    config = load_config(folder)
    if stages is not None:
        if stages > config.layers:
            raise InputError(f"expected at most {config.layers}, the model's layers, found {stages}", key="--stages")
        cut = [config.layers // stages + (stage < config.layers % stages) for stage in range(stages)]
    else:
        cut = [1] * config.layers if card is None else card["stage_layers"]
    if sum(cut) != config.layers:
        raise InputError(
            f"expected counts with sum {config.layers}, the model's layers, found {cut}",
            file=str(model / "run.json"),
            key="stage_layers",
        )
    try:
        return load_pretrained(folder, cut).to(torch.device(device))
    except (RuntimeError, AssertionError) as error:  # what torch raises for a device that is not there
        raise InputError(f"{device!r} cannot be used: {str(error).splitlines()[0]:.120}", key="--device") from None


def _run_card(model: Path) -> tuple[Path, dict[str, Any] | None]:
    """Folder of the weights, and what ``run.json`` says if `model` is the folder of a run."""
    from pathloom.plan import InputError

    path = model / "run.json"
    if not path.is_file():
        return model, None
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"is no readable JSON ({error})", file=str(path)) from None
    cut = card.get("stage_layers") if isinstance(card, dict) else None
    whole = isinstance(cut, list) and all(type(count) is int and count >= 0 for count in cut)
    if not whole or not cut:
        raise InputError("expected a list of numbers of layers", file=str(path), key="stage_layers")
    if not (model / "model").is_dir():
        raise InputError(
            "no such folder; the run has not written its model (is it finished?)", file=str(model / "model")
        )
    return model / "model", card


def check_fit(model: Path, decoder: Decoder, tokens: TokenData, split: str) -> None:
    """Refuse tokens that the model was not made for: InputError for another tokenizer, a larger vocabulary, no text.

    Which tokenizer the model expects is known from ``tokenizer`` in the run's ``run.json`` (name and fingerprint), or
    from a ``tokenizer.json`` beside the weights; without both only the size of the vocabulary is compared.
    """
    from pathloom.data.tokenizers import TOKENIZER_FILE, HuggingFaceTokenizer
    from pathloom.plan import InputError

    card = tokens.folder / "tokens.json"
    if tokens.vocab > decoder.config.vocab:
        raise InputError(
            f"expected at most {decoder.config.vocab}, the model's vocabulary, found {tokens.vocab} "
            f"(tokenizer '{tokens.card.tokenizer.name}')",
            file=str(card),
            key="vocab",
        )
    if tokens.counts[split] < 2:
        raise InputError(f"holds {tokens.counts[split]} tokens, expected at least 2", file=str(card), key=split)
    folder, run = _run_card(model)
    said = run.get("tokenizer") if run else None
    if isinstance(said, dict) and "fingerprint" in said:
        name, fingerprint = str(said.get("name")), said["fingerprint"]
    elif (folder / TOKENIZER_FILE).is_file():
        own = HuggingFaceTokenizer(folder)
        name, fingerprint = own.name, own.fingerprint
    else:
        return
    if fingerprint != tokens.card.tokenizer.fingerprint:
        raise InputError(
            f"was made by tokenizer '{tokens.card.tokenizer.name}', the model expects '{name}'",
            file=str(card),
            key="tokenizer.fingerprint",
        )
