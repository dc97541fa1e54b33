"""The folder beside a checkpoint that holds the state of its unfinished training, and whose training that is.

A training that was ended in any way, SIGKILL among them, goes on from there when the same call is made again. One of
another seed, file or setting is refused instead of being mixed into it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pathloom.plan import InputError

__all__ = ["close_training", "open_training"]


def open_training(out: Path, identity: Mapping[str, Any]) -> Path:
    """The folder for the checkpoint `out` (``*.safetensors``): ``*.training`` beside it, made if it is not there.

    Parameters
    ----------
    identity
        What the training depends on, plain JSON values.

    Raises
    ------
    InputError
        If `out` cannot be the name of a checkpoint, nothing can be written there, or the folder is that of another
        training.
    """
    if out.suffix != ".safetensors":
        raise InputError("expected a name that ends in .safetensors", file=str(out))
    if out.is_dir():
        raise InputError("is a folder, expected a file", file=str(out))
    folder, wanted = out.with_suffix(".training"), json.loads(json.dumps(identity))
    owner = folder / "training.json"
    try:
        if owner.exists():
            found = json.loads(owner.read_text(encoding="utf-8"))
            for name, value in wanted.items():
                if found[name] != value:
                    raise InputError(
                        f"belongs to another training, with {found[name]!r} instead of {value!r}; remove it, or write "
                        "elsewhere with --out",
                        file=str(folder),
                        key=name,
                    )
            return folder
        folder.mkdir(parents=True, exist_ok=True)
        beside = owner.with_name(owner.name + ".part")
        beside.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")
        os.replace(beside, owner)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror or error}", file=str(folder)) from None
    except (KeyError, TypeError, ValueError):
        raise InputError("says of no training whose it is; remove it", file=str(owner)) from None
    return folder


def close_training(folder: Path) -> None:
    """Remove the state of a training that is finished."""
    shutil.rmtree(folder, ignore_errors=True)
