"""Microbatches are a function of their position in the data, so any node can read any of them."""

from __future__ import annotations

import numpy as np
import pytest
from small_runs import text_tokens

torch = pytest.importorskip("torch")

from pathloom.data.token_files import TokenData  # noqa: E402
from pathloom.worlds.train.runtime.batches import Batches  # noqa: E402


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TokenData:
    return TokenData.open(text_tokens(tmp_path_factory.mktemp("batches") / "tokens", characters=3000))


def batches(data: TokenData, **changes: object) -> Batches:
    given = {"split": "train", "context": 8, "samples": 3, "seed": 5, **changes}
    return Batches(data, given.pop("split"), **given)  # type: ignore[arg-type]


def test_targets_are_the_tokens_that_follow(data: TokenData) -> None:
    tokens, targets = batches(data).microbatch(6)
    assert tokens.shape == targets.shape == (3, 8)
    assert tokens.dtype == torch.int64
    assert torch.equal(tokens[:, 1:], targets[:, :-1])


def test_two_readers_see_the_same_microbatch(data: TokenData) -> None:
    for first in (0, 3, 300, 10_000):
        assert torch.equal(batches(data).microbatch(first)[0], batches(data).microbatch(first)[0])
    assert not torch.equal(batches(data).microbatch(0)[0], batches(data, seed=6).microbatch(0)[0])


def test_a_pass_over_the_data_uses_every_window_once(data: TokenData) -> None:
    one = batches(data)
    count = len(one)
    assert count == (len(data.split("train")) - 1) // 8 // 3
    starts = [one.windows.place(b * 3 + j) for b in range(count) for j in range(3)]
    assert len(set(starts)) == len(starts)


def test_what_is_read_stands_in_the_file(data: TokenData) -> None:
    one = batches(data, split="validation", samples=1)
    tokens, targets = one.microbatch(2)
    at = one.windows.place(2) * 8
    stored = np.asarray(data.split("validation")[at : at + 9])
    assert np.array_equal(tokens[0].numpy(), stored[:-1])
    assert np.array_equal(targets[0].numpy(), stored[1:])
