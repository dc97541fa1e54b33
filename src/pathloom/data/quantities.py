"""Numbers with units, as people write them in input files: ``350 ms``, ``1.2 Gbit/s``, ``24 GiB``, ``60 TFLOP/s``."""

from __future__ import annotations

import math
import re

_BINARY = {"": 1.0, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}
_DECIMAL = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}

_BYTES = {f"{prefix}B": factor for prefix, factor in {**_DECIMAL, **_BINARY}.items()}
_BITS = {f"{prefix}bit": factor / 8 for prefix, factor in {**_DECIMAL, **_BINARY}.items()}
_FLOP = {f"{prefix}FLOP": factor for prefix, factor in _DECIMAL.items()}

UNITS: dict[str, dict[str, float]] = {
    "time": {"s": 1.0, "ms": 1e-3, "us": 1e-6, "min": 60.0, "h": 3600.0},
    "bytes": _BYTES,
    "bandwidth": {
        **{f"{unit}/s": factor for unit, factor in {**_BYTES, **_BITS}.items()},
        **{f"{prefix}bps": factor / 8 for prefix, factor in _DECIMAL.items()},
    },
    "work": _FLOP,
    "compute": {
        **{f"{unit}/s": factor for unit, factor in _FLOP.items()},
        **{f"{unit}S": factor for unit, factor in _FLOP.items()},
    },
}
"""Unit -> factor to the SI value (seconds, bytes, bytes per second, FLOP, FLOP per second), by dimension."""

_NUMBER = r"[+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?\.?inf|\.?nan"
_QUANTITY = re.compile(rf"\s*({_NUMBER})\s*(\S.*?)?\s*", re.IGNORECASE | re.ASCII)
_EXAMPLES = {
    "time": "'350 ms'",
    "bytes": "'24 GiB'",
    "bandwidth": "'1.2 Gbit/s'",
    "work": "'3 TFLOP'",
    "compute": "'60 TFLOP/s'",
}
_BARE = {
    "time": "seconds",
    "bytes": "bytes",
    "bandwidth": "bytes per second",
    "work": "FLOP",
    "compute": "FLOP per second",
}


def expected(dimension: str) -> str:
    """What a quantity of `dimension` looks like, for error messages."""
    return f"a number of {_BARE[dimension]} or one with a unit such as {_EXAMPLES[dimension]}"


def split_quantity(value: object) -> tuple[float, str] | None:
    """Number and unit (empty if bare) of a number or of text such as ``"350 ms"``; None if it is neither."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        try:
            return float(value), ""
        except OverflowError:
            return math.inf, ""
    if not isinstance(value, str) or len(value) > 100:
        return None
    match = _QUANTITY.fullmatch(value)
    if match is None:
        return None
    return float(match[1].replace("_", "").replace(".inf", "inf").replace(".nan", "nan")), match[2] or ""


def quantity(value: object, dimension: str) -> float:
    """Read `value` as a quantity.

    Parameters
    ----------
    value
        A number in the SI unit of the dimension, or text with a number and a unit of `UNITS`.
    dimension
        A key of `UNITS`.

    Returns
    -------
    The value in seconds, bytes, bytes per second, FLOP or FLOP per second.

    Raises
    ------
    ValueError
        If it is no quantity of that dimension, or not finite.
    """
    parts = split_quantity(value)
    if parts is None:
        raise ValueError(f"expected {expected(dimension)}")
    number, unit = parts
    factor = UNITS[dimension].get(unit) if unit else 1.0
    if factor is None:
        raise ValueError(f"expected {expected(dimension)}, unit '{unit[:20]}' is none of {', '.join(UNITS[dimension])}")
    if not math.isfinite(number * factor):
        raise ValueError(f"expected {expected(dimension)}, and finite")
    return number * factor
