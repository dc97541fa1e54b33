"""Commands that need packages of an extra say so in one line where they are missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def with_extra(extra: str) -> Iterator[None]:
    """Turn a missing package of an extra into one line that names the extra.

    Raises
    ------
    InputError
        In place of `ModuleNotFoundError`; what pathloom itself lacks stays an internal error.
    """
    from pathloom.plan import InputError

    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("pathloom"):
            raise
        raise InputError(f"needs the extra '{extra}': pip install 'pathloom[{extra}]'", key=error.name) from None
