"""Checkpoints of dispatching policies: weights in a safetensors file, and a card beside it that says what they are.

The card (JSON) holds the kind of problem, the network's sizes, how it was trained (data, seed, time), its scores, and
the checksum of the weights, so that a card is never taken for that of other weights.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pathloom.learn.dispatching.lessons import PROBLEM_KINDS, ProblemKind
from pathloom.learn.dispatching.policy import DispatchingPolicy, PolicyShape
from pathloom.plan import InputError

FORMAT = "pathloom-dispatcher"
VERSION = 1
SHIPPED = Path(__file__).parent / "checkpoints"


def shipped_policy(problem: ProblemKind = "job-shop") -> DispatchingPolicy:
    """The trained policy that comes with the package."""
    return load_policy(SHIPPED / f"{problem}.safetensors")[0]


def save_policy(file: Path, policy: DispatchingPolicy, card: dict[str, Any]) -> Path:
    """Write weights to ``file`` (named ``*.safetensors``) and the card beside it (``*.json``), whole or not at all.

    `card` says what only the trainer knows; format, sizes and checksum are added to it.
    """
    from safetensors.torch import save

    target = checked_target(file)
    weights = save({name: value.contiguous() for name, value in policy.state_dict().items()})
    written = {
        "format": FORMAT,
        "version": VERSION,
        **card,
        "network": {**asdict(policy.shape), "parameters": policy.parameters_count},
        "sha256": hashlib.sha256(weights).hexdigest(),
    }
    write_whole(target, weights)
    write_whole(target.with_suffix(".json"), (json.dumps(written, indent=2) + "\n").encode())
    return target


def load_policy(file: Path) -> tuple[DispatchingPolicy, dict[str, Any]]:
    """Policy and card of a checkpoint.

    Raises
    ------
    InputError
        If one of the two files cannot be read, or is not what it should be.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    beside = file.with_suffix(".json")
    try:
        card = json.loads(beside.read_text(encoding="utf-8"))
        weights = file.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", file=str(error.filename or file)) from None
    except ValueError as error:
        raise InputError(f"is no JSON: {error}", file=str(beside)) from None
    if not isinstance(card, dict) or card.get("format") != FORMAT or card.get("version") != VERSION:
        raise InputError(
            f"expected the card of a dispatcher ({FORMAT}, version {VERSION})", file=str(beside), key="format"
        )
    if card.get("problem") not in PROBLEM_KINDS:
        raise InputError(f"expected one of {', '.join(PROBLEM_KINDS)}", file=str(beside), key="problem")
    if card.get("sha256") != hashlib.sha256(weights).hexdigest():
        raise InputError("does not belong to its card: another checksum", file=str(file), key="sha256")
    sizes = card.get("network")
    try:
        if not isinstance(sizes, dict):
            raise ValueError("expected the sizes of the network")
        policy = DispatchingPolicy(PolicyShape(**{name: sizes[name] for name in asdict(PolicyShape())}))
        policy.load_state_dict(load(weights))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"no sizes of a network: {error}", file=str(beside), key="network") from None
    except (SafetensorError, RuntimeError) as error:
        raise InputError(f"no weights of such a network: {error}", file=str(file)) from None
    return policy.eval(), card


def checked_target(file: Path) -> Path:
    """`file`, if a checkpoint can have that name."""
    if file.suffix != ".safetensors":
        raise InputError("expected a name that ends in .safetensors", file=str(file))
    if file.is_dir():
        raise InputError("is a folder, expected a file", file=str(file))
    return file


def write_whole(target: Path, content: bytes) -> None:
    """Write a file beside its place, sync it and move it there."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(prefix=f".{target.name}-", suffix=".part", dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            Path(part).chmod(0o644)
            os.replace(part, target)
        except BaseException:
            Path(part).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror or error}", file=str(target)) from None
