"""Input files as pydantic models: no unknown keys, no silent conversions, and one line an error.

`InputModel` is the base of every mapping in a file. `validated` turns the first thing that pydantic finds into an
`InputError` that names the file, the key path (``nodes[3].speed``) and what was expected.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from pathloom.data.naming import nearest
from pathloom.data.quantities import expected, quantity
from pathloom.plan import InputError


class InputModel(BaseModel):
    """A mapping of an input file: frozen, typed strictly, unknown keys refused with the nearest known one."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _keys(cls, data: Any) -> Any:
        if isinstance(data, cls):
            return data
        known = list(cls.model_fields)
        if not isinstance(data, Mapping):
            raise PydanticCustomError(
                "not_a_mapping",
                "expected keys and values ({known}), found {found}",
                {"known": ", ".join(known), "found": shown(data)},
            )
        for key in data:
            if key not in known:
                near = nearest(str(key), known)
                raise PydanticCustomError(
                    "unknown_key",
                    "unknown key{hint} (known here: {known})",
                    {
                        "key": str(key)[:60],
                        "hint": f"; did you mean '{near}'?" if near else "",
                        "known": ", ".join(known),
                    },
                )
        for name, field in cls.model_fields.items():
            if field.is_required() and name not in data:
                raise PydanticCustomError(
                    "missing_key",
                    "missing; expected {expected}",
                    {"key": name, "expected": field.description or "a value"},
                )
        return data


def shown(value: Any) -> str:
    """A found value in a few characters, for messages."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "keys and values"
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, BaseModel):
        return type(value).__name__
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # integers of thousands of digits have no text
        text = f"a {type(value).__name__}"
    return text if len(text) <= 40 else text[:37] + "..."


def measure(
    dimension: str, *, above: float | None = None, least: float | None = None, most: float = 1e30
) -> BeforeValidator:
    """Annotation of a field that holds a quantity (see `pathloom.data.quantities`), within limits.

    Parameters
    ----------
    above, least
        The value must exceed `above`, or be at least `least`.
    most
        Largest value that can be meant; larger ones would overflow later.
    """
    if above is not None:
        limit = f" above {above:g}"
    elif least is not None:
        limit = f" of at least {least:g}"
    else:
        limit = ""

    def read(value: Any) -> float:
        try:
            number = quantity(value, dimension)
        except ValueError as error:
            raise _wrong(f"{error}, found {shown(value)}") from None
        if (above is not None and number <= above) or (least is not None and number < least) or number > most:
            top = f" and at most {most:g}" if number > most else ""
            raise _wrong(f"expected {expected(dimension)},{limit}{top}, found {shown(value)}")
        return number

    return BeforeValidator(read)


def ratio(*, above: float | None = None, least: float | None = None, most: float = 1e6) -> BeforeValidator:
    """Annotation of a field that holds a plain number, within limits."""

    def read(value: Any) -> float:
        number: float | None = None
        if isinstance(value, (int, float, str)) and not isinstance(value, bool):
            try:
                number = float(value)
            except (ValueError, OverflowError):
                number = None
        if (
            number is None
            or not (math.isfinite(number) and number <= most)
            or (above is not None and number <= above)
            or (least is not None and number < least)
        ):
            low = f"above {above:g}" if above is not None else f"of at least {least:g}" if least is not None else ""
            raise _wrong(f"expected a number {low} and at most {most:g}, found {shown(value)}")
        return number

    return BeforeValidator(read)


def whole(least: int, most: int = 10**9) -> BeforeValidator:
    """Annotation of a field that holds a whole number within limits."""

    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise _wrong(f"expected a whole number from {least} to {most}, found {shown(value)}")
        return value

    return BeforeValidator(read)


def parsed(read: Callable[[Any], Any], kind: type | None = None) -> BeforeValidator:
    """Annotation of a field whose value `read` turns into a `kind` (which is taken as it is).

    `read` raises ValueError that says what it expected.
    """

    def convert(value: Any) -> Any:
        if kind is not None and isinstance(value, kind):
            return value
        try:
            return read(value)
        except ValueError as error:
            raise _wrong(f"{error}, found {shown(value)}") from None

    return BeforeValidator(convert)


def _wrong(message: str) -> PydanticCustomError:
    # The message goes in as context, because braces in a template would be taken for fields.
    return PydanticCustomError("wrong_value", "{message}", {"message": message})


Model = TypeVar("Model", bound=BaseModel)


def validated(model: type[Model], data: Any, *, file: str | None = None) -> Model:
    """`data` as a `model`.

    Raises
    ------
    InputError
        For the first thing that is wrong: its key path and what was expected.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise input_error(error, file=file) from None


def input_error(error: ValidationError, *, file: str | None = None) -> InputError:
    """The first finding of a pydantic error as an `InputError`."""
    first = error.errors(include_url=False)[0]
    location = list(first["loc"])
    context = first.get("ctx", {})
    if first["type"] in ("unknown_key", "missing_key"):
        location.append(context["key"])
    message = first["msg"]
    if message.startswith("Input should be "):
        message = f"expected {message.removeprefix('Input should be ')}, found {shown(first['input'])}"
    return InputError(one_line(message), file=file, key=key_path(location) or None)


def key_path(location: list[int | str]) -> str:
    """A location such as ``("nodes", "<list>", 3, "speed")`` as people write it: ``nodes[3].speed``.

    Parts in angle brackets are the tags of alternatives and do not show.
    """
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not (part.startswith("<") and part.endswith(">")):
            path += f".{part}" if path else part
    return one_line(path)


def one_line(text: str) -> str:
    """`text` with line breaks and other control characters as spaces."""
    return "".join(c if c.isprintable() else " " for c in text).strip()
