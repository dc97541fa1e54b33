"""First lines of docstrings, read from source files: listing methods and benchmarks imports none of them."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path


def module_summary(path: Path) -> str:
    """First line of a module's docstring, "" if it has none or cannot be read."""
    tree = _parsed(path)
    return "" if tree is None else _first_line(ast.get_docstring(tree))


def function_summary(target: str) -> str:
    """First line of the docstring of "module:function", "" if there is none."""
    module, _, name = target.partition(":")
    try:
        spec = find_spec(module)
    except ImportError:
        return ""
    if spec is None or spec.origin is None:
        return ""
    tree = _parsed(Path(spec.origin))
    for node in () if tree is None else tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == name:
            return _first_line(ast.get_docstring(node))
    return ""


def _parsed(path: Path) -> ast.Module | None:
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return None


def _first_line(text: str | None) -> str:
    """The first paragraph of a docstring as one line."""
    return " ".join((text or "").split("\n\n")[0].split())
