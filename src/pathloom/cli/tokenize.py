"""``pathloom data tokenize FILES...``: a token data set of text files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pathloom.data.token_files import TokenData

TEXT_NAMES = ("*.txt", "*.txt.gz")
"""Files of a data set that are taken for its text."""


def tokenize(
    files: Annotated[
        list[str],
        typer.Argument(help="Text files (UTF-8, plain or gzip), or names of data sets of text.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the tokens.", show_default=False)],
    tokenizer: Annotated[
        str,
        typer.Option(
            metavar="NAME|PATH",
            help="bytes, bytes+end (with a token between files), or a Hugging Face tokenizer.json or its folder.",
        ),
    ] = "bytes",
    validation: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of each file's tokens, from its end, kept for validation.")
    ] = 0.1,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Turn text files into memory-mapped training and validation tokens."""
    from pathloom.cli.progress import shown
    from pathloom.cli.results import consoles, print_files, print_json
    from pathloom.data.token_files import SPLITS, write_tokens
    from pathloom.data.tokenizers import load_tokenizer
    from pathloom.plan import InputError
    from pathloom.show.table import rich_table

    results, notes = consoles(as_json)
    if not 0 <= validation <= 1:
        raise InputError(f"expected a share from 0 to 1, found {validation:g}", key="--validation")
    paths = [path for file in files for path in _text_files(file)]
    engine = load_tokenizer(tokenizer)
    began = time.perf_counter()
    with shown(notes, "tokenize") as on_progress:
        data = write_tokens(out, paths, engine, validation, on_progress=on_progress)
    seconds = time.perf_counter() - began
    written = {name: data.file(name) for name in SPLITS} | {"card": data.folder / "tokens.json"}
    if as_json:
        print_json({**described(data), "seconds": seconds, "files": written})
        return
    sizes = [(name, f"{count:,}", f"{count * data.dtype.itemsize / 1e6:.2f} MB") for name, count in data.counts.items()]
    results.print(rich_table(("split", "tokens", "size"), sizes))
    made_by = f"tokenizer {data.card.tokenizer.name}, vocabulary {data.vocab:,}, {data.card.dtype}"
    results.print(made_by, highlight=False, markup=False)
    print_files(results, written)


def described(data: TokenData) -> dict[str, Any]:
    """What ``--json`` says about a token data set."""
    return {
        "name": data.folder.name,
        "folder": data.folder,
        "tokenizer": data.card.tokenizer.model_dump(),
        "vocab": data.vocab,
        "dtype": data.card.dtype,
        "tokens": data.counts,
        "sources": [source.model_dump() for source in data.card.sources],
    }


def verified_tokens(folder: Path) -> str:
    """What is wrong with the token data set in `folder`, "" if nothing is."""
    from pathloom.data.token_files import TokenData
    from pathloom.plan import InputError

    try:
        TokenData.open(folder, verify=True).tokenizer()
    except InputError as error:
        return str(error)
    return ""


def _text_files(name: str) -> list[Path]:
    """The file itself, or the text files of the data set of that name."""
    from pathloom.data import find
    from pathloom.data.registry import datasets
    from pathloom.plan import InputError

    path = Path(name)
    if path.exists() or name not in {entry.name for entry in datasets()}:
        return [path]
    folder = find(name)
    found = sorted(path for pattern in TEXT_NAMES for path in folder.glob(pattern))
    if not found:
        raise InputError(f"is a data set without text files ({' or '.join(TEXT_NAMES)})", file=str(folder), key=name)
    return found
