"""``pathloom bench NAME``: a table of the benchmark suite, measured now.

Benchmarks are modules of the folder ``benchmarks`` with a function ``main(argv)``; the folder is looked for in the
current folder and those above it, then in the source tree that the package is installed from.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer


def bench(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Benchmark to run; all are listed if left out.", show_default=False)] = "",
    as_json: Annotated[bool, typer.Option("--json", help="List as one JSON object a line.")] = False,
) -> None:
    """List the benchmarks, or run one; what follows its name goes to the benchmark (try NAME -- --help)."""
    from pathloom.data.naming import unknown_name
    from pathloom.plan import InputError

    found = benchmarks()
    if not name:
        _list(found, as_json)
        return
    wanted = name.replace("-", "_").removesuffix(".py")
    if wanted not in found:
        raise InputError(unknown_name("benchmark", name, found, "the folder of benchmarks"), key="NAME")
    arguments = [*context.args, *(["--json"] if as_json else [])]
    status = _main(found[wanted])(arguments)
    if status:
        raise typer.Exit(int(status))


def benchmarks() -> dict[str, Path]:
    """Name and file of every benchmark.

    Raises
    ------
    InputError
        If there is no folder of benchmarks.
    """
    from pathloom.plan import InputError

    here = Path.cwd()
    for root in (here, *here.parents, Path(__file__).resolve().parents[3]):
        folder = root / "benchmarks"
        if (root / "src" / "pathloom").is_dir() and folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("[a-z]*.py"))}
    raise InputError("there is no folder 'benchmarks' here; run this inside a clone of the repository", key="bench")


def _list(found: dict[str, Path], as_json: bool) -> None:
    from pathloom.cli.docstrings import module_summary
    from pathloom.cli.results import consoles, print_json
    from pathloom.show.table import rich_table

    if as_json:
        for name, path in found.items():
            print_json({"benchmark": name, "summary": module_summary(path), "file": path})
        return
    made = rich_table(("benchmark", "what it measures"), [(name, module_summary(path)) for name, path in found.items()])
    consoles(as_json)[0].print(made)


def _main(path: Path) -> Any:
    """``main`` of a benchmark, imported from its file; benchmarks may import each other."""
    from importlib.util import module_from_spec, spec_from_file_location

    from pathloom.plan import InputError

    spec = spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    # Under its name, as processes that a benchmark starts look its functions up there.
    sys.modules[path.stem] = module
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        raise InputError(f"needs a package that is not installed: {error.name}", file=str(path)) from None
    if not hasattr(module, "main"):
        raise InputError("has no function main", file=str(path))
    return module.main
