"""Messages about names that nobody knows, with the nearest known name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, None if none is close; upper and lower case count as alike."""
    folded = {k.casefold(): k for k in known}
    near = difflib.get_close_matches(name[:60].casefold(), folded, n=1)
    return folded[near[0]] if near else None


def unknown_name(what: str, name: str, known: Iterable[str], of: str) -> str:
    """Message for a name that is not among the `known` ones of something, with the nearest of them."""
    names = list(known)
    near = nearest(name, names)
    hint = f"; did you mean '{near}'?" if near else ""
    shown = ", ".join(names[:40]) + (", ..." if len(names) > 40 else "")
    return f"{what} '{name[:60]}' is unknown to {of}{hint} (known: {shown})"
