"""YAML that says what is wrong in one line, and that refuses a key given twice instead of keeping the last."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

from pathloom.data.input_model import one_line
from pathloom.plan import InputError


class _Loader(yaml.SafeLoader):
    """Safe loader without duplicate keys."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    seen: set[Hashable] = set()
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, Hashable):
            raise yaml.constructor.ConstructorError(None, None, "a key must be plain text", key_node.start_mark)
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"key '{key}' is given twice", key_node.start_mark)
        seen.add(key)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def parse_yaml(text: str, file: str | None = None) -> Any:
    """The value that YAML text holds.

    Raises
    ------
    InputError
        Names the file and the line where the text stops being YAML.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}" if mark else None
        problem = one_line(error.problem or error.context or "cannot be read")
        raise InputError(f"is no valid YAML: {problem}", file=file, key=line) from None
    except yaml.YAMLError as error:
        raise InputError(f"is no valid YAML: {one_line(str(error))[:200]}", file=file) from None
    except RecursionError:
        raise InputError("is no valid YAML: nested too deeply", file=file) from None
    except (ValueError, TypeError, OverflowError, AttributeError, KeyError, IndexError) as error:
        # PyYAML lets these escape for scalars that look like a date or number and are none, such as 2024-13-41.
        raise InputError(f"is no valid YAML: {one_line(str(error))[:200]}", file=file) from None
