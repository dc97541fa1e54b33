"""Compiled look-ups in measured tables: linear between points, and on along the last two beyond the ends."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
from numba import njit

Tables = namedtuple(
    "Tables",
    (
        "layers",  # float: how often a block is run
        "overhead",  # s an iteration that no table holds
        "dense_at",  # tokens (points,)
        "dense_block",  # s of the dense layers of one block (points,)
        "dense_once",  # s of the dense layers outside the blocks (points,)
        "sequence_at",  # sequences (points,)
        "sequence_time",  # s of what is done for each sequence's last token (points,)
        "decode_count",  # axes and times (s a block) of batches of decodes only (counts, contexts)
        "decode_context",
        "decode_time",
        "chunk_size",  # of prefill chunks only (chunks, histories)
        "chunk_history",
        "chunk_time",
        "mixed_chunk",  # of both together (chunks, histories, counts, contexts)
        "mixed_history",
        "mixed_count",
        "mixed_context",
        "mixed_time",
        "skew_chunk",  # where a batch of uneven contexts lies between its mean's time and its longest's
        "skew_count",
        "skew_rate",
        "skew_longest",
        "skew_history",
        "skew_share",  # (chunks, counts, rates, longest, histories), NaN where nothing was measured
        "skew_default",
        "expert_tokens",  # axes and times (s a block) of the experts (tokens, experts)
        "expert_count",
        "expert_time",
    ),
)
"""What `iteration_seconds` reads."""


@njit(cache=True, nogil=True)
def bracket(axis, value):
    """Lower one of the two points of an axis between which a value lies (the last two beyond it), and how far on."""
    if len(axis) == 1:
        return 0, 0.0
    low, high = 0, len(axis) - 1
    while high - low > 1:
        middle = (low + high) // 2
        if axis[middle] <= value:
            low = middle
        else:
            high = middle
    return low, (value - axis[low]) / (axis[low + 1] - axis[low])


@njit(cache=True, nogil=True)
def line(axis, time, value):
    """Time at a value."""
    if len(axis) == 1:
        return time[0]
    low, share = bracket(axis, value)
    return time[low] + share * (time[low + 1] - time[low])


@njit(cache=True, nogil=True)
def plane(first, second, time, a, b):
    """Time at two values."""
    i, share = bracket(first, a)
    low = line(second, time[i], b)
    if share == 0.0:
        return low
    return low + share * (line(second, time[i + 1], b) - low)


@njit(cache=True, nogil=True)
def attention(tables, chunk, history, count, context):
    """Seconds of the attention of one block: a chunk of prompts behind a history, and decodes of one context each."""
    if chunk <= 0.0:
        if count <= 0.0:
            return 0.0
        return max(0.0, plane(tables.decode_count, tables.decode_context, tables.decode_time, count, context))
    if count <= 0.0:
        return max(0.0, plane(tables.chunk_size, tables.chunk_history, tables.chunk_time, chunk, history))
    i, by_chunk = bracket(tables.mixed_chunk, chunk)
    j, by_history = bracket(tables.mixed_history, history)
    total = 0.0
    for a in range(2):
        weight = by_chunk if a else 1.0 - by_chunk
        if weight == 0.0:
            continue
        for b in range(2):
            part = weight * (by_history if b else 1.0 - by_history)
            if part != 0.0:
                face = tables.mixed_time[i + a, j + b]
                total += part * plane(tables.mixed_count, tables.mixed_context, face, count, context)
    return max(0.0, total)


@njit(cache=True, nogil=True)
def _bin(edges, value):
    """Number of the bin (edges[k], edges[k + 1]] that holds a value; the last one beyond the end."""
    low, high = 0, len(edges) - 1
    while high - low > 1:
        middle = (low + high) // 2
        if value > edges[middle]:
            low = middle
        else:
            high = middle
    return low


@njit(cache=True, nogil=True)
def skew_share(tables, chunk, history, count, mean, least, most):
    """How far from the time of equal contexts towards that of the longest one the decodes of a batch are."""
    if tables.skew_share.size == 0:
        return 0.0
    rate = (mean - least) / (most - least)
    nearest, _ = bracket(tables.skew_chunk, chunk)
    if (
        nearest + 1 < len(tables.skew_chunk)
        and tables.skew_chunk[nearest + 1] - chunk < chunk - tables.skew_chunk[nearest]
    ):
        nearest += 1
    share = tables.skew_share[
        nearest,
        _bin(tables.skew_count, count),
        _bin(tables.skew_rate, rate),
        _bin(tables.skew_longest, most),
        _bin(tables.skew_history, history),
    ]
    return tables.skew_default if np.isnan(share) else share


@njit(cache=True, nogil=True)
def iteration_seconds(tables, chunk, work, count, contexts, least, most, sequences):
    """Seconds of one iteration.

    `chunk` tokens of prompts, whose queries attend to `work` keys in all; `count` decodes with `contexts` keys in all,
    at least `least` and at most `most` each; `sequences` of all that get a next token.
    """
    tokens = chunk + count
    if tokens <= 0.0:
        return 0.0
    # The one chunk that attends to as much: its own queries see half of it on average.
    history = work / chunk - 0.5 * chunk if chunk > 0.0 else 0.0
    mean = contexts / count if count > 0.0 else 0.0
    block = attention(tables, chunk, history, count, mean)
    if count > 1.0 and most > least:
        share = skew_share(tables, chunk, history, count, mean, least, most)
        if share != 0.0:
            block += share * (attention(tables, chunk, history, count, most) - block)
    block += line(tables.dense_at, tables.dense_block, tokens)
    if tables.expert_time.size:
        # As many different experts as fall on so many tokens by chance, the tables' largest number in all.
        everyone = tables.expert_count[-1]
        each = tables.expert_count[0]
        hit = everyone * (1.0 - (1.0 - each / everyone) ** tokens)
        block += plane(tables.expert_tokens, tables.expert_count, tables.expert_time, tokens, hit)
    once = line(tables.dense_at, tables.dense_once, tokens)
    return tables.overhead + tables.layers * block + once + line(tables.sequence_at, tables.sequence_time, sequences)


@njit(cache=True, nogil=True)
def many_iterations(tables, chunk, work, count, contexts, least, most, sequences):
    """`iteration_seconds` of each entry of arrays, shape (iterations,)."""
    found = np.empty(len(chunk))
    for k in range(len(chunk)):
        found[k] = iteration_seconds(tables, chunk[k], work[k], count[k], contexts[k], least[k], most[k], sequences[k])
    return found
