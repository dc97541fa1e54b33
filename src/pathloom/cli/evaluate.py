"""``pathloom eval MODEL``: perplexity of a language model, whole and with stages left out or reordered."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pathloom.learn.language_model.evaluation import Evaluation, Removal
    from pathloom.learn.language_model.stage_orders import Order

MOST_SETS = 512
"""Most sets of removed stages, over all numbers together, that --curve tries without --sets."""
DRAWN_SETS = 32
"""Sets that it draws for each number of removed stages where there would be more."""


def evaluate(
    model: Annotated[Path, typer.Argument(help="Folder of a Hugging Face model or of a finished run.")],
    data: Annotated[
        Path,
        typer.Option(metavar="TOKENS", help="Folder that 'pathloom data tokenize' made.", show_default=False),
    ],
    split: Annotated[str, typer.Option(help="train or validation.")] = "validation",
    stages: Annotated[
        int | None,
        typer.Option(metavar="N", help="Cut into N stages; as in the run, or a stage a layer, if left out."),
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option(metavar="2,3", help="Leave these stages out; may be repeated.")
    ] = None,
    order: Annotated[
        list[str] | None, typer.Option(metavar="0,2,1,3", help="Run stages in this order; may be repeated.")
    ] = None,
    exit_: Annotated[
        list[int] | None, typer.Option("--exit", metavar="K", help="Stop after stage K; may be repeated.")
    ] = None,
    curve: Annotated[bool, typer.Option("--curve", help="Remove 0, 1, 2, ... stages, with a picture.")] = False,
    most: Annotated[
        int | None, typer.Option(metavar="N", help="Most stages that --curve removes; all but stage 0 if left out.")
    ] = None,
    sets: Annotated[
        int | None,
        typer.Option(metavar="N", help="Sets of stages that --curve draws a number of removed ones; all if few."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of drawing sets.")] = 0,
    batch: Annotated[int, typer.Option(help="Windows at a time.")] = 8,
    context: Annotated[
        int | None, typer.Option(metavar="TOKENS", help="Length of a window; the model's context if left out.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(metavar="TOKENS", help="Predict the first so many tokens; all if left out.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, or cuda where there is one.")] = "cpu",
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for the results; with --curve <model>-evaluation if left out."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Measure the perplexity of a model, also with stages left out, reordered, or after an early exit."""
    from pathloom.cli.extras import with_extra
    from pathloom.cli.language_model import check_fit, model_name, open_model
    from pathloom.cli.output import check_folder, write_folder
    from pathloom.cli.progress import shown
    from pathloom.cli.results import consoles, print_files, print_json
    from pathloom.data.token_files import TokenData
    from pathloom.show.table import rich_table

    results, notes = consoles(as_json)
    for key, value, least in (
        ("--stages", stages, 1), ("--batch", batch, 1), ("--limit", limit, 1), ("--sets", sets, 1), ("--seed", seed, 0)
    ):  # fmt: skip
        _within(key, value, least)
    folder = out if out is not None or not curve else Path(f"{model_name(model)}-evaluation")
    if folder is not None:
        check_folder(folder)
    tokens = TokenData.open(data)
    text = tokens.split(split)
    with with_extra("train"):
        from pathloom.learn.language_model.evaluation import evaluate as measure
        from pathloom.learn.language_model.evaluation import removal_curve

        decoder = open_model(model, stages, device)
    check_fit(model, decoder, tokens, split)
    count, window = len(decoder.stages), decoder.config.context if context is None else context
    _within("--context", window, 1, decoder.config.context)
    _within("--most", most, 0, count - 1)
    orders = _orders(count, without or [], order or [], exit_ or [])
    if curve and sets is None and 2 ** (count - 1) > MOST_SETS:
        sets = DRAWN_SETS
    began = time.perf_counter()
    options: dict[str, Any] = {
        "batch": batch, "limit": limit, "context": window, "byte_level": tokens.bytes_tokenizer
    }  # fmt: skip
    with _blamed(split, tokens.file(split)), shown(notes, "evaluate") as on_progress:
        found = measure(decoder, text, [*orders.values()], **options, on_progress=on_progress)
    rows: list[Removal] = []
    if curve:
        with _blamed("--sets"), shown(notes, "curve") as on_progress:
            rows = removal_curve(decoder, text, most=most, sets=sets, seed=seed, **options, on_progress=on_progress)
    seconds = time.perf_counter() - began
    measured = dict(zip(orders, found, strict=True))
    asked = list(measured.values())[1 if len(measured) > 1 else 0]
    result: dict[str, Any] = {
        "problem": {"name": model_name(model), "kind": "language model", "file": str(model)},
        "method": "evaluate",
        "objective": {"name": "perplexity", "value": asked.perplexity, "unit": "1", "sense": "min"},
        "bound": None,
        "gap": None,
        "seconds": seconds,
        "seed": seed,
        "data": {"folder": str(data), "split": split, "tokenizer": tokens.card.tokenizer.name},
        "settings": {"batch": batch, "limit": limit, "context": window, "sets": sets, "device": device},
        "metrics": {
            "stage_layers": list(decoder.stage_layers),
            "parameters": decoder.config.parameters,
            "evaluations": {name: evaluation.to_dict() for name, evaluation in measured.items()},
            "curve": [row.to_dict() for row in rows],
        },
    }
    title = f"{model_name(model)}: {len(decoder.stages)} stages, {decoder.config.layers} layers"
    under = f"{tokens.folder.name}, {split} split, {asked.tokens:,} tokens"
    files: dict[str, Path] = {}
    if folder is not None:
        with shown(notes, "pictures"):
            files = write_folder(folder, lambda part: _write(part, result, rows, model_name(model), title, under))
    if as_json:
        print_json({**result, "files": {what: str(path) for what, path in files.items()}})
    results.print(f"{title}; {under}", soft_wrap=True, highlight=False, markup=False)
    results.print(rich_table(*_table(measured)))
    if rows:
        from pathloom.learn.language_model.removal_picture import COLUMNS, removal_rows

        results.print(rich_table(COLUMNS, removal_rows(rows)))
    print_files(results, files)


def _within(key: str, value: int | None, least: int, most: int | None = None) -> None:
    from pathloom.plan import InputError

    if value is not None and (value < least or (most is not None and value > most)):
        limits = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise InputError(f"expected a whole number {limits}, found {value}", key=key)


def _orders(stages: int, without: Sequence[str], order: Sequence[str], exits: Sequence[int]) -> dict[str, Order]:
    """The orders to measure, by name: the whole model first."""
    from pathloom.learn.language_model import stage_orders

    found = {"all stages": stage_orders.whole(stages)}
    for text in without:
        gone = _numbers("--without", text)
        with _blamed("--without"):
            found[f"without {stage_orders.shown(gone)}"] = stage_orders.without(stages, gone)
    for text in order:
        given = _numbers("--order", text)
        with _blamed("--order"):
            found[f"order {stage_orders.shown(given)}"] = stage_orders.checked_order(given, stages)
    for last in exits:
        with _blamed("--exit"):
            found[f"exit after {last}"] = stage_orders.early_exit(stages, last)
    return found


@contextmanager
def _blamed(key: str, file: Path | None = None) -> Iterator[None]:
    """Whatever is refused inside is a mistake in the option `key`."""
    from pathloom.plan import InputError

    try:
        yield
    except ValueError as error:
        raise InputError(str(error), key=key, file=None if file is None else str(file)) from None


def _numbers(key: str, text: str) -> tuple[int, ...]:
    from pathloom.plan import InputError

    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            f"expected stage numbers with commas between them, such as 2,3, found '{text}'", key=key
        ) from None


def _table(measured: Mapping[str, Evaluation]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns and rows: the whole model first, and what the others lose against it."""
    from pathloom.learn.language_model.removal_picture import figure_text

    whole = next(iter(measured.values()))
    bits = whole.bits_per_byte is not None
    columns = ("stages", "loss", "perplexity", *(("bits/byte",) if bits else ()), "against all")
    rows = []
    for name, found in measured.items():
        cells = [name, f"{found.loss:.4f}", figure_text(found.perplexity)]
        if bits:
            cells.append(f"{found.bits_per_byte:.4f}")
        rise = "-" if found.order == whole.order else f"{found.loss - whole.loss:+.4f}"
        rows.append((*cells, rise))
    return columns, rows


def _write(
    part: Path, result: Mapping[str, Any], curve: Sequence[Removal], name: str, title: str, under: str
) -> dict[str, Path]:
    """Write the figures, and the pictures of the curve where there is one."""
    from pathloom.cli.results import plain

    files = {"figures": part / "evaluation.json"}
    files["figures"].write_text(json.dumps(plain(result), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    if curve:
        from pathloom.learn.language_model.removal_picture import removal_page, removal_png

        files["page"] = removal_page(part / "removal.html", {name: curve}, title=title, subtitle=under)
        files["picture"] = removal_png(part / "removal.png", {name: curve}, title=title, subtitle=under)
    return files
