"""The cut of a model: every layer lies in one virtual stage, in the model's order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pathloom.plan import InputError
from pathloom.worlds.train.runtime.cut import layers_of, parts_of


@given(counts=st.lists(st.integers(0, 4), min_size=1, max_size=5), chunks=st.integers(1, 3))
def test_virtual_stages_share_out_all_layers_in_order(counts: list[int], chunks: int) -> None:
    layers = [count * chunks for count in counts]
    cut = layers_of(layers, chunks)
    assert len(cut) == len(layers) * chunks
    assert [layer for part in cut for layer in part] == list(range(sum(layers)))
    for stage, count in enumerate(layers):
        assert sum(len(cut[part]) for part in parts_of(stage, len(layers), chunks)) == count


@given(stages=st.integers(1, 6), chunks=st.integers(1, 4))
def test_every_virtual_stage_has_one_host(stages: int, chunks: int) -> None:
    hosted = [part for stage in range(stages) for part in parts_of(stage, stages, chunks)]
    assert sorted(hosted) == list(range(stages * chunks))
    assert all(part % stages == stage for stage in range(stages) for part in parts_of(stage, stages, chunks))


def test_interleaving_deals_the_model_out_like_cards() -> None:
    assert layers_of([2, 2], 1) == [(0, 1), (2, 3)]
    assert layers_of([2, 2], 2) == [(0,), (1,), (2,), (3,)]
    assert parts_of(1, 2, 2) == [1, 3]


def test_layers_that_do_not_divide_into_chunks_are_refused() -> None:
    with pytest.raises(InputError, match=r"model: stage 1 has 3 layers, which do not divide into 2 chunks"):
        layers_of([2, 3], 2)
