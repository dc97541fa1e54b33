"""What goes wrong in a simulation, as it is written on the command line.

``NODE:FACTOR[@FROM-TO]`` is a straggler, ``NODE:NODE:FACTOR[@FROM-TO]`` a slow link, ``NODE@TIME`` a failure; times in
seconds. Names are taken from the left as far as they go, so they may hold dashes and dots.
"""

from __future__ import annotations

from pathloom.plan import InputError

Row = tuple[str | float, ...]


def straggler(text: str) -> Row:
    """(node, factor) or (node, factor, from, to) of ``NODE:FACTOR[@FROM-TO]``."""
    return _slow(text, 1, "--straggler", "NODE:FACTOR or NODE:FACTOR@FROM-TO")


def slow_link(text: str) -> Row:
    """(node, node, factor) or (node, node, factor, from, to) of ``NODE:NODE:FACTOR[@FROM-TO]``."""
    return _slow(text, 2, "--slow-link", "NODE:NODE:FACTOR or NODE:NODE:FACTOR@FROM-TO")


def failure(text: str) -> Row:
    """(node, second) of ``NODE@TIME``."""
    node, at, second = text.rpartition("@")
    if not at or not node:
        raise InputError(f"expected NODE@TIME, found '{text}'", key="--fail")
    return node, _number(second, text, "--fail", "NODE@TIME")


def _slow(text: str, names: int, key: str, shape: str) -> Row:
    body, at, window = text.partition("@")
    parts = body.split(":")
    if len(parts) != names + 1 or not all(parts):
        raise InputError(f"expected {shape}, found '{text}'", key=key)
    row: Row = (*parts[:-1], _number(parts[-1], text, key, shape))
    if not at:
        return row
    begin, dash, end = window.partition("-")
    if not dash:
        raise InputError(f"expected {shape}, found '{text}'", key=key)
    return (*row, _number(begin, text, key, shape), _number(end, text, key, shape))


def _number(word: str, text: str, key: str, shape: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise InputError(f"expected {shape}, found '{text}'", key=key) from None
