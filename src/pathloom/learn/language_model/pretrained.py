"""Models as Hugging Face folders: `config.json` and safetensors, in one file or in shards with an index.

What is written opens in `transformers` as `LlamaForCausalLM`; what `transformers` wrote of that architecture opens
here. A folder appears whole or not at all: weights are written under temporary names, put in place when all of them are
on the disk, and `config.json`, without which nobody opens the folder, comes last.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pathloom.data.reading import read_text
from pathloom.learn.language_model.config import LanguageModelConfig
from pathloom.learn.language_model.decoder import Decoder, DecoderPart
from pathloom.plan import InputError

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

_HEAD, _EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


def save_pretrained(
    folder: str | Path,
    config: LanguageModelConfig,
    tensors: Mapping[str, Tensor],
    *,
    shard_bytes: int = 4 * 2**30,
) -> None:
    """Write a model as a Hugging Face folder, replacing the model that may be there.

    Parameters
    ----------
    folder
        Made where it does not exist. Other files in it stay.
    config
        The model.
    tensors
        Every parameter by name (`LanguageModelConfig.parameter_shapes`), on any device. A tied model writes no
        "lm_head.weight", whether or not `tensors` has one.
    shard_bytes
        Largest file of weights, in bytes; a single larger tensor gets a file of its own.

    Raises
    ------
    ValueError
        For missing, unknown or wrongly shaped tensors.
    InputError
        Where the folder cannot be written (disk full, no permission); a model that was there before stays.
    """
    folder = Path(folder)
    expected = config.parameter_shapes()
    for name, tensor in tensors.items():
        if name not in expected and not (config.tied and name == _HEAD):
            raise ValueError(f"{name}: no parameter of this model")
        if name in expected and tuple(tensor.shape) != expected[name]:
            raise ValueError(f"{name}: expected shape {list(expected[name])}, found {list(tensor.shape)}")
    for name in expected:
        if name not in tensors:
            raise ValueError(f"{name}: is missing")

    shards = _shards({name: tensors[name] for name in expected}, shard_bytes)
    files = [WEIGHTS_FILE]
    if len(shards) > 1:
        files = [f"model-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)]
    staged: dict[str, Path] = {}  # final name -> temporary file, in the order to put them in place
    current = folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, names in zip(files, shards):
            current = folder / file
            staged[file] = _temporary(folder, file)
            save_file(_written({name: tensors[name] for name in names}), staged[file], metadata={"format": "pt"})
            _flush(staged[file])
        if len(shards) > 1:
            current = folder / INDEX_FILE
            staged[INDEX_FILE] = _temporary(folder, INDEX_FILE)
            _write_json(staged[INDEX_FILE], _index(files, shards, tensors))
        current = folder / CONFIG_FILE
        staged[CONFIG_FILE] = _temporary(folder, CONFIG_FILE)
        kind = str(tensors[_EMBEDDING].dtype).removeprefix("torch.")
        _write_json(staged[CONFIG_FILE], config.to_hugging_face() | {"torch_dtype": kind})

        stale = [path for path in _weight_files(folder) if path.name not in staged]
        if len(shards) > 1 or stale:
            # Several files change places: a stop in between must leave a folder that does not open, not a mixture
            (folder / CONFIG_FILE).unlink(missing_ok=True)
        for path in stale:
            path.unlink()
        for file, temporary in staged.items():
            current = folder / file
            os.replace(temporary, current)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror or error}", file=str(current)) from None
    except SafetensorError as error:
        raise InputError(f"cannot be written: {error}", file=str(current)) from None
    finally:
        for temporary in staged.values():
            temporary.unlink(missing_ok=True)


def load_config(folder: str | Path) -> LanguageModelConfig:
    """The sizes of the model in a Hugging Face folder; InputError where there is none or `Decoder` cannot be it."""
    path = Path(folder) / CONFIG_FILE
    if not Path(folder).is_dir():
        raise InputError("no such folder", file=str(folder))
    if not path.exists():
        raise InputError(f"has no {CONFIG_FILE}, expected the folder of a Hugging Face model", file=str(folder))
    return LanguageModelConfig.from_hugging_face(_read_json(path), file=str(path))


def read_tensors(folder: str | Path, names: Iterable[str]) -> dict[str, Tensor]:
    """The named tensors of a Hugging Face folder, memory-mapped: no other tensor is read.

    Parameters
    ----------
    folder
        With `config.json` and `model.safetensors`, or shards and their index.
    names
        Of parameters, as in `LanguageModelConfig.parameter_shapes`.

    Raises
    ------
    InputError
        For a missing folder, config or file of weights, a truncated or corrupt one, a missing tensor, or a shape that
        the config does not have.
    """
    folder = Path(folder)
    config = load_config(folder)
    expected = config.parameter_shapes()
    by_file: dict[Path, list[str]] = {}
    places = _places(folder)
    for name in names:
        by_file.setdefault(places.get(name, folder / WEIGHTS_FILE), []).append(name)
        if places and name not in places:
            raise InputError("tensor is missing", file=str(folder / INDEX_FILE), key=name)
    tensors: dict[str, Tensor] = {}
    for path, wanted in by_file.items():
        with _open(path) as file:
            present = set(file.keys())
            for name in wanted:
                if name not in present:
                    hint = "; expected it, for tie_word_embeddings is false" if name == _HEAD else ""
                    raise InputError(f"tensor is missing{hint}", file=str(path), key=name)
                shape = tuple(file.get_slice(name).get_shape())
                if name in expected and shape != expected[name]:
                    message = f"found shape {list(shape)}, expected {list(expected[name])} by {CONFIG_FILE}"
                    raise InputError(message, file=str(path), key=name)
                tensors[name] = file.get_tensor(name)
    return tensors


def load_part(part: DecoderPart, folder: str | Path) -> None:
    """Fill a part with its weights from a Hugging Face folder; errors as `read_tensors`, and for other sizes.

    Values are cast to the type of the part's parameters.
    """
    if part.config.parameter_shapes() != (found := load_config(folder)).parameter_shapes():
        raise InputError(f"holds another model: found {found}, expected {part.config}", file=str(folder))
    part.load_state_dict(read_tensors(folder, part.state_dict().keys()))


def load_pretrained(folder: str | Path, stage_layers: Sequence[int] | None = None) -> Decoder:
    """The model in a Hugging Face folder, in float32, cut into stages as `Decoder` does.

    Raises
    ------
    InputError
        As `read_tensors`, and where the folder of a tied model holds a head that is not the embedding.
    ValueError
        Where `stage_layers` does not fit the model.
    """
    config = load_config(folder)
    decoder = Decoder(config, stage_layers, seed=None)
    for part in decoder.stages:
        assert isinstance(part, DecoderPart)
        load_part(part, folder)
    if config.tied and _HEAD in _stored_names(Path(folder)):
        both = read_tensors(folder, [_HEAD, _EMBEDDING])
        if not torch.equal(both[_HEAD], both[_EMBEDDING]):
            message = f"differs from {_EMBEDDING}, expected the same, for tie_word_embeddings is true"
            raise InputError(message, file=str(folder), key=_HEAD)
    return decoder


def _shards(tensors: Mapping[str, Tensor], limit: int) -> list[list[str]]:
    """Names in order, cut where the next tensor would exceed `limit` bytes."""
    shards: list[list[str]] = [[]]
    size = 0
    for name, tensor in tensors.items():
        bytes_of_tensor = tensor.numel() * tensor.element_size()
        if shards[-1] and size + bytes_of_tensor > limit:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += bytes_of_tensor
    return shards


def _written(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as safetensors takes them: contiguous, on the CPU, none under two names."""
    plain = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
    places: set[int] = set()
    for name, tensor in plain.items():
        if tensor.data_ptr() in places:
            plain[name] = tensor.clone()
        places.add(tensor.data_ptr())
    return plain


def _index(files: Sequence[str], shards: Sequence[Sequence[str]], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    places = {name: file for file, names in zip(files, shards) for name in names}
    size = sum(tensors[name].numel() * tensors[name].element_size() for name in places)
    return {"metadata": {"total_size": size}, "weight_map": places}


def _temporary(folder: Path, file: str) -> Path:
    return folder / f".{file}.{os.getpid()}.part"


def _weight_files(folder: Path) -> list[Path]:
    """Weights and index that `save_pretrained` or `transformers` wrote into a folder."""
    return [*folder.glob("model.safetensors"), *folder.glob("model-*-of-*.safetensors"), *folder.glob(INDEX_FILE)]


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    with path.open("w", encoding="utf-8") as file:
        json.dump(data, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"is no JSON: {error.msg}", file=str(path), key=f"line {error.lineno}") from None
    if not isinstance(data, dict):
        raise InputError("expected a JSON object", file=str(path))
    return data


def _places(folder: Path) -> dict[str, Path]:
    """File of each tensor by the index; empty where one file holds the whole model."""
    # transformers too prefers the single file
    if (folder / WEIGHTS_FILE).exists():
        return {}
    index = folder / INDEX_FILE
    if not index.exists():
        raise InputError(f"has no {WEIGHTS_FILE} and no {INDEX_FILE}", file=str(folder))
    places = _read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise InputError("expected the file of each tensor", file=str(index), key="weight_map")
    for name, file in places.items():
        if not isinstance(file, str) or Path(file).name != file:
            raise InputError(f"expected the name of a file in this folder, found {file!r}", file=str(index), key=name)
    return {name: folder / file for name, file in places.items()}


def _stored_names(folder: Path) -> set[str]:
    places = _places(folder)
    if places:
        return set(places)
    with _open(folder / WEIGHTS_FILE) as file:
        return set(file.keys())


def _open(path: Path) -> Any:
    if not path.exists():
        raise InputError("no such file", file=str(path))
    try:
        return safe_open(path, framework="pt", device="cpu")
    except SafetensorError as error:
        raise InputError(f"is truncated or no safetensors file: {error}", file=str(path)) from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", file=str(path)) from None
