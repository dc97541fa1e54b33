"""The time of an iteration from tables that were measured on the card: LLMServingSim's profiles.

A profile is a folder with times of every kind of layer: dense ones by the number of tokens, attention by what a chunk
of prompts and a number of decodes attend to, experts by tokens and by how many of them are hit, and what is done once
a sequence (LLMServingSim 2.0, github.com/casys-kaist/LLMServingSim, "Output bundle"). One block was measured; a model
runs it as often as it has layers. Between the measured points times are linear, and beyond them they go on along the
last two.

Departures from that project's own simulator: several chunks count as the one chunk that attends to as many keys (its
own takes the sum of their histories); incomplete grids are cut to the largest complete ones, so that no time is made
up inside of them; how many experts a number of tokens hits is the mean for tokens that choose by chance.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from pathloom.data.reading import read_text
from pathloom.plan import InputError
from pathloom.worlds.serve.model_shape import ModelShape, model_shape

Floats = NDArray[np.float64]

_BLOCK = {
    "layernorm": 2,
    "qkv_proj": 1,
    "qk_norm": 1,
    "rotary_emb": 1,
    "o_proj": 1,
    "gate_up_proj": 1,
    "act_fn": 1,
    "down_proj": 1,
}
"""Dense layers of a block and how often each is run in it; a model has some of them."""
_ONCE = ("embedding", "final_layernorm")
_MICRO = 1e-6
_ATTENTION = ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode")
_SKEW = ("pc", "n_label", "skew_rate_label", "kv_big_label", "kp_label")
_BINS = (
    ("n_bins", "n_labels"),
    ("skew_rate_bins", "skew_rate_labels"),
    ("kv_big_bins", "kv_big_labels"),
    ("kp_bins", "kp_labels"),
)


@dataclass(frozen=True, eq=False)
class TableCost:
    """Times of a model on a card, as `read_tables` gives them.

    Attributes
    ----------
    model, hardware
        What was measured.
    tensor_parallel
        Number of cards that share every layer.
    tables
        `_table_kernels.Tables`: what the compiled code reads.
    """

    model: ModelShape
    hardware: str
    tensor_parallel: int
    tables: Any

    def seconds(
        self,
        *,
        chunk: float = 0,
        work: float = 0,
        count: float = 0,
        contexts: float = 0,
        least: float = 0,
        most: float = 0,
        sequences: float = 0,
    ) -> float:
        """Time of one iteration; see `_table_kernels.iteration_seconds` for what the numbers are."""
        from pathloom.worlds.serve._table_kernels import iteration_seconds

        given = (chunk, work, count, contexts, least, most, sequences)
        return float(iteration_seconds(self.tables, *map(float, given)))


def read_tables(folder: Path, *, overhead: float = 0.0) -> TableCost:
    """Read a profile.

    Parameters
    ----------
    folder
        With ``meta.yaml`` and the tables, packed (``.csv.gz``) or not; the tables themselves may lie in ``tp<k>``.
    overhead
        Seconds of every iteration that the tables do not hold.

    Raises
    ------
    InputError
        If a table is missing or no table, or the model is none whose sizes are known.
    """
    from pathloom.worlds.serve._table_kernels import Tables

    meta = _meta(folder)
    shape = model_shape(str(meta["model"]))
    inner = next(iter(sorted(folder.glob("tp*/"))), folder)
    parallel = _degree(inner if inner != folder else folder)
    dense = _named(_rows(inner, "dense", ("layer", "tokens", "time_us")))
    each = _named(_rows(inner, "per_sequence", ("layer", "sequences", "time_us")))
    at = np.unique(np.concatenate([points for points, _ in dense.values()]))
    unknown = sorted(dense.keys() - _BLOCK.keys() - set(_ONCE))
    if unknown:
        raise InputError(f"holds unknown layers: {', '.join(unknown)}", file=str(inner / "dense.csv"))

    def dense_time(names: Mapping[str, int]) -> Floats:
        parts = [times * np.interp(at, *dense[name]) for name, times in names.items() if name in dense]
        return np.sum(parts, axis=0) if parts else np.zeros(len(at))

    sequences = np.unique(np.concatenate([points for points, _ in each.values()]))
    by_sequence = np.sum([np.interp(sequences, *table) for table in each.values()], axis=0)
    rows = np.array([list(map(float, row)) for row in _rows(inner, "attention", (*_ATTENTION, "time_us"))])
    decodes = rows[(rows[:, 0] == 0) & (rows[:, 2] > 0)][:, 2:]
    chunks = rows[(rows[:, 2] == 0) & (rows[:, 0] > 0)][:, (0, 1, 4)]
    mixed = rows[(rows[:, 0] > 0) & (rows[:, 2] > 0)]
    (count, context), decode_time = _complete(decodes)
    (size, history), chunk_time = _complete(chunks)
    mixed_axes, mixed_time = _complete(mixed)
    skew = _skew(inner, meta, parallel)
    experts = _experts(inner) if shape.experts else (np.zeros(1), np.zeros(1), np.zeros((0, 0)))
    micro = (decode_time, chunk_time, mixed_time)
    decode_time, chunk_time, mixed_time = (time * _MICRO for time in micro)
    tables = Tables(
        layers=float(shape.layers),
        overhead=float(overhead),
        dense_at=at,
        dense_block=dense_time(_BLOCK) * _MICRO,
        dense_once=dense_time(dict.fromkeys(_ONCE, 1)) * _MICRO,
        sequence_at=sequences,
        sequence_time=by_sequence * _MICRO,
        decode_count=count,
        decode_context=context,
        decode_time=decode_time,
        chunk_size=size,
        chunk_history=history,
        chunk_time=chunk_time,
        mixed_chunk=mixed_axes[0],
        mixed_history=mixed_axes[1],
        mixed_count=mixed_axes[2],
        mixed_context=mixed_axes[3],
        mixed_time=mixed_time,
        **skew,
        expert_tokens=experts[0],
        expert_count=experts[1],
        expert_time=experts[2] * _MICRO,
    )
    return TableCost(shape, str(meta.get("hardware", folder.name)), parallel, tables)


def _meta(folder: Path) -> dict[str, Any]:
    path = folder / "meta.yaml"
    try:
        meta = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", file=str(path)) from None
    except yaml.YAMLError as error:
        raise InputError(f"is no YAML: {str(error).splitlines()[0]}", file=str(path)) from None
    if not isinstance(meta, dict) or "model" not in meta:
        raise InputError("expected the description of a profile", file=str(path), key="model")
    return meta


def _degree(folder: Path) -> int:
    """Of tensor parallelism, from the end of the folder's name."""
    digits = folder.name.rsplit("tp", 1)[-1]
    if not digits.isdigit():
        raise InputError("expected a name that ends in tp and the number of cards", file=str(folder))
    return int(digits)


def _rows(folder: Path, table: str, columns: Sequence[str]) -> list[list[str]]:
    path = next((p for p in (folder / f"{table}.csv.gz", folder / f"{table}.csv") if p.exists()), None)
    if path is None:
        raise InputError("no such table", file=str(folder / f"{table}.csv"))
    titles, *rows = csv.reader(read_text(path).splitlines())
    missing = [name for name in columns if name not in titles]
    if missing:
        raise InputError(f"has no column {', '.join(missing)}", file=str(path), key="line 1")
    wanted = [titles.index(name) for name in columns]
    found = []
    for line, row in enumerate(rows, 2):
        try:
            picked = [row[place] for place in wanted]
            float(picked[-1])
        except (IndexError, ValueError):
            raise InputError(
                f"expected {len(titles)} cells with a number", file=str(path), key=f"line {line}"
            ) from None
        found.append(picked)
    if not found:
        raise InputError("is empty", file=str(path))
    return found


def _named(rows: Sequence[Sequence[str]]) -> dict[str, tuple[Floats, Floats]]:
    """Points and times (us) of each named layer, points rising."""
    found: dict[str, list[tuple[float, float]]] = {}
    for name, at, time in rows:
        found.setdefault(name, []).append((float(at), float(time)))
    sorted_ = {name: np.array(sorted(points)) for name, points in found.items()}
    return {name: (points[:, 0], points[:, 1]) for name, points in sorted_.items()}


def _complete(points: Floats) -> tuple[list[Floats], Floats]:
    """Axes and times of a large complete grid among points of shape (points, axes + 1).

    As long as a cell is empty, the value goes (of any axis) most of whose cells are empty.
    """
    axes = [np.unique(points[:, k]) for k in range(points.shape[1] - 1)]
    time = np.full([len(axis) for axis in axes], np.nan)
    time[tuple(np.searchsorted(axis, points[:, k]) for k, axis in enumerate(axes))] = points[:, -1]
    while (empty := np.isnan(time)).any():
        shares = [empty.mean(tuple(j for j in range(time.ndim) if j != k)) for k in range(time.ndim)]
        worst = int(np.argmax([share.max() for share in shares]))
        gone = int(shares[worst].argmax())
        axes[worst] = np.delete(axes[worst], gone)
        time = np.delete(time, gone, axis=worst)
    return axes, time


def _experts(folder: Path) -> tuple[Floats, Floats, Floats]:
    """Axes and times (us) of the experts; few tokens cannot hit many, those cells take the next row's increase."""
    rows = np.array([list(map(float, row)) for row in _rows(folder, "moe", ("tokens", "activated_experts", "time_us"))])
    tokens, count = np.unique(rows[:, 0]), np.unique(rows[:, 1])
    time = np.full((len(tokens), len(count)), np.nan)
    time[np.searchsorted(tokens, rows[:, 0]), np.searchsorted(count, rows[:, 1])] = rows[:, 2]
    for i in range(len(tokens) - 2, -1, -1):
        for j in range(1, len(count)):
            if np.isnan(time[i, j]):
                time[i, j] = time[i, j - 1] + time[i + 1, j] - time[i + 1, j - 1]
    if np.isnan(time).any():
        raise InputError("has gaps", file=str(folder / "moe.csv"))
    return tokens, count, time


def _skew(folder: Path, meta: Mapping[str, Any], parallel: int) -> dict[str, Any]:
    """What uneven contexts cost, as fitted by the profile; nothing where it was not measured."""
    none = {
        **{f"skew_{name}": np.zeros(1) for name in ("chunk", "count", "rate", "longest", "history")},
        "skew_share": np.zeros((0, 0, 0, 0, 0)),
        "skew_default": 0.0,
    }
    fit = meta.get("skew_fit")
    if not isinstance(fit, dict) or not fit.get("enabled"):
        return none
    try:
        axes = fit["bucket_axes"]
        default = float(fit["per_tp"][parallel]["alpha_default"])
        bins = [np.array(axes[edges], np.float64) for edges, _ in _BINS]
        labels = [{label: k for k, label in enumerate(axes[names])} for _, names in _BINS]
        rows = _rows(folder, "skew_fit", (*_SKEW, "alpha"))
        chunk = np.unique([float(row[0]) for row in rows])
        share = np.full((len(chunk), *map(len, labels)), np.nan)
        for row in rows:
            place = tuple(known[label] for known, label in zip(labels, row[1:5], strict=True))
            share[(int(np.searchsorted(chunk, float(row[0]))), *place)] = float(row[5])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"does not describe its table of uneven contexts: {error}", file=str(folder), key="skew_fit"
        ) from None
    return {
        "skew_chunk": chunk,
        "skew_count": bins[0],
        "skew_rate": bins[1],
        "skew_longest": bins[2],
        "skew_history": bins[3],
        "skew_share": share,
        "skew_default": default,
    }
