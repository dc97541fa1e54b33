"""Times from measured tables: exact on the points, straight between them, and on beyond the ends."""

from __future__ import annotations

from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
from scipy.interpolate import RegularGridInterpolator
from small_profiles import attention, write_profile

from pathloom.data import find
from pathloom.plan import InputError
from pathloom.worlds.serve import _table_kernels as kernels
from pathloom.worlds.serve.table_cost import TableCost, read_tables

LAYERS = 32


@pytest.fixture(scope="module")
def cost(tmp_path_factory: pytest.TempPathFactory) -> TableCost:
    return read_tables(write_profile(tmp_path_factory.mktemp("profiles")))


def other(tokens: float, sequences: float) -> float:
    """Microseconds of all but the attention: a projection and two norms a block; the head is 100 + n, a draw 7."""
    return LAYERS * (10 + 2 * 1 + 3 * 0.01 * tokens) + 3 + 0.01 * tokens + 107 + sequences


def micro(cost: TableCost, **given: float) -> float:
    return 1e6 * cost.seconds(**given)


def test_decodes_of_one_context(cost: TableCost) -> None:
    """4 decodes of 64 keys each are a point of the table."""
    found = micro(cost, count=4, contexts=256, least=64, most=64, sequences=4)
    assert found == pytest.approx(LAYERS * attention(0, 0, 4, 64) + other(4, 4))


def test_a_chunk_behind_a_history(cost: TableCost) -> None:
    """64 tokens that see 16 keys before them and on average half of their own: 64 x 16 + 64 x 32 in all."""
    found = micro(cost, chunk=64, work=64 * 16 + 64 * 32, sequences=1)
    assert found == pytest.approx(LAYERS * attention(64, 16, 0, 0) + other(64, 1))


def test_both_together(cost: TableCost) -> None:
    found = micro(cost, chunk=16, work=16 * 64 + 128, count=4, contexts=64, least=16, most=16, sequences=5)
    assert found == pytest.approx(LAYERS * attention(16, 64, 4, 16) + other(20, 5))


@pytest.mark.parametrize(
    ("chunk", "history", "count", "context"),
    [(40, 30, 0, 0), (0, 0, 9, 130), (20, 100, 2, 50), (500, 900, 0, 0), (0, 0, 40, 999)],
)
def test_times_are_straight_between_points_and_beyond_them(
    cost: TableCost, chunk: float, history: float, count: float, context: float
) -> None:
    """The made-up attention is linear in each number by itself, so that the grid's lines are exact."""
    found = kernels.attention(cost.tables, float(chunk), float(history), float(count), float(context))
    assert 1e6 * found == pytest.approx(attention(chunk, history, count, context))


def test_the_compiled_lookup_is_that_of_a_library(cost: TableCost) -> None:
    t = cost.tables
    axes = (t.mixed_chunk, t.mixed_history, t.mixed_count, t.mixed_context)
    shaken = t._replace(mixed_time=np.random.default_rng(0).random(t.mixed_time.shape))
    oracle = RegularGridInterpolator(axes, shaken.mixed_time)
    draws = np.random.default_rng(1).random((200, 4))
    low, high = (np.array([axis[end] for axis in axes]) for end in (0, -1))
    for point in low + draws * (high - low):
        assert kernels.attention(shaken, *point) == pytest.approx(oracle(point)[0], abs=1e-12)


def test_grids_with_gaps_are_cut_to_whole_ones(cost: TableCost) -> None:
    """Chunks of 256 were not measured with 16 decodes: one of the two goes, and no cell is made up."""
    t = cost.tables
    assert not np.isnan(t.mixed_time).any()
    assert (len(t.mixed_chunk), len(t.mixed_count)) in ((2, 3), (3, 2))
    assert t.chunk_size.tolist() == [16, 64, 256]


def test_uneven_contexts_cost_a_share_of_the_longest(cost: TableCost) -> None:
    """Three of 16 keys and one of 160: mean 52, and the bucket of few, low, short has the share 0.5."""
    even = kernels.attention(cost.tables, 0.0, 0.0, 4.0, 52.0)
    longest = kernels.attention(cost.tables, 0.0, 0.0, 4.0, 160.0)
    found = micro(cost, count=4, contexts=208, least=16, most=160, sequences=4)
    assert found == pytest.approx(1e6 * LAYERS * (even + 0.5 * (longest - even)) + other(4, 4))
    unknown = kernels.skew_share(cost.tables, 0.0, 0.0, 9.0, 52.0, 16.0, 160.0)
    assert unknown == 0.25, "a bucket without measurements takes the mean of all"
    assert kernels.skew_share(cost.tables, 20.0, 5.0, 9.0, 900.0, 16.0, 1600.0) == -0.1, "the nearest chunk"


def test_an_iteration_without_tokens_takes_no_time(cost: TableCost) -> None:
    assert cost.seconds() == 0.0


def test_many_iterations_are_those_one_by_one(cost: TableCost) -> None:
    rows = np.array(list(product((0.0, 30.0), (400.0,), (0.0, 3.0), (150.0,), (20.0,), (80.0,), (3.0,)))).T
    found = kernels.many_iterations(cost.tables, *rows)
    names = ("chunk", "work", "count", "contexts", "least", "most", "sequences")
    for k, time in enumerate(found):
        assert time == cost.seconds(**dict(zip(names, rows[:, k], strict=True)))


def test_overhead_is_added_to_every_iteration(tmp_path: Path) -> None:
    folder = write_profile(tmp_path)
    plain, more = read_tables(folder), read_tables(folder, overhead=3e-4)
    assert more.seconds(chunk=5, work=12, sequences=1) - plain.seconds(chunk=5, work=12, sequences=1) == pytest.approx(
        3e-4
    )


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("meta.yaml", "hardware: x\n", "expected the description of a profile"),
        ("meta.yaml", "model: [\n", "is no YAML"),
        ("meta.yaml", "model: nobody/knows-70B\n", "is unknown to the known models"),
        ("meta.yaml", "model: meta-llama/Llama-3.1-8B\nskew_fit: {enabled: true}\n", "table of uneven contexts"),
        ("dense.csv", "layer,tokens\nqkv_proj,1\n", "has no column time_us"),
        ("dense.csv", "layer,tokens,time_us\nqkv_proj,1,fast\n", "expected 3 cells with a number"),
        ("dense.csv", "layer,tokens,time_us\nwarp_drive,1,1\n", "unknown layers: warp_drive"),
        ("dense.csv", "layer,tokens,time_us\n", "is empty"),
        ("per_sequence.csv", None, "no such table"),
    ],
)
def test_profiles_that_cannot_be_read_are_refused(tmp_path: Path, name: str, content: str | None, reason: str) -> None:
    folder = write_profile(tmp_path)
    (folder / f"{name}.gz").unlink(missing_ok=True)
    if content is not None:
        (folder / name).write_text(content)
    with pytest.raises(InputError, match=reason):
        read_tables(folder)


@pytest.mark.parametrize(
    "name",
    [
        "RTX4090-Llama-3.1-8B-tp1",
        "RTXPRO6000-Llama-3.1-8B-tp1",
        "RTXPRO6000-Qwen3-30B-A3B-Instruct-2507-tp1",
        "RTXPRO6000-Qwen3-32B-tp2",
    ],
)
def test_measured_cards_behave_like_cards(name: str) -> None:
    """More work never takes much less time, and a decode of a large batch is far cheaper than one alone."""
    try:
        folder = find("serve-profiles") / "llmservingsim" / name
    except InputError as error:
        pytest.skip(f"public profiles are not at hand: {error}")
    cost = read_tables(folder)
    assert cost.tensor_parallel == int(name[-1])

    def decode(count: int, context: int) -> float:
        return cost.seconds(count=count, contexts=count * context, least=context, most=context, sequences=count)

    def prefill(chunk: int) -> float:
        return cost.seconds(chunk=chunk, work=chunk * chunk / 2, sequences=1)

    assert 0.002 < decode(1, 100) < 0.05
    assert decode(64, 500) < 0.3 * 64 * decode(1, 500)
    assert decode(64, 4000) > 1.2 * decode(64, 500)
    assert prefill(2048) > 1.2 * prefill(512) > prefill(128)
    times = [decode(n, 1000) for n in (1, 2, 4, 8, 16, 32, 64, 128)]
    assert all(later > 0.97 * earlier for earlier, later in pairwise(times))
