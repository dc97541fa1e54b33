"""Perplexity is what a plain loop over the text says, for every subset and order of a model's stages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from pathloom.data.token_windows import Windows  # noqa: E402
from pathloom.learn.language_model.config import LanguageModelConfig  # noqa: E402
from pathloom.learn.language_model.decoder import Decoder  # noqa: E402
from pathloom.learn.language_model.evaluation import evaluate, perplexity, perplexity_of, removal_curve  # noqa: E402
from pathloom.learn.language_model.stage_orders import early_exit, removals, swapped, without  # noqa: E402
from pathloom.plan import Progress  # noqa: E402

CONFIG = LanguageModelConfig(
    dim=16, layers=5, heads=2, kv_heads=1, ffn_dim=24, context=8, vocab=300, initializer_range=0.3
)
STAGES = (1, 2, 1, 1)
TOKENS = np.random.default_rng(7).integers(0, 300, 61).astype(np.uint16)


@pytest.fixture(scope="module")
def model() -> Decoder:
    torch.set_num_threads(1)
    return Decoder(CONFIG, STAGES, seed=3)


def plain_loss(model: Decoder, tokens: Sequence[int], order: Sequence[int] | None, context: int) -> float:
    """Mean surprise of every token but the first, one at a time, each with the beginning of its window before it."""
    total = 0.0
    with torch.no_grad():
        for position in range(1, len(tokens)):
            start = (position - 1) // context * context
            seen = torch.tensor([list(map(int, tokens[start:position]))])
            logits = model.logits(seen, order)[0, -1].double()
            total -= float(torch.log_softmax(logits, -1)[int(tokens[position])])
    return total / (len(tokens) - 1)


@pytest.mark.parametrize("order", [None, (0,), (0, 2, 3), (0, 2, 1, 3), (0, 3, 2, 1)])
@pytest.mark.parametrize(("count", "context"), [(61, None), (57, None), (5, None), (2, None), (31, 3), (20, 1)])
def test_perplexity_is_that_of_a_plain_loop(
    model: Decoder, order: tuple[int, ...] | None, count: int, context: int | None
) -> None:
    found = perplexity(model, TOKENS[:count], order=order, batch=3, context=context)
    assert found.tokens == count - 1
    assert found.loss == pytest.approx(plain_loss(model, TOKENS[:count], order, context or 8), rel=1e-5)
    assert found.perplexity == pytest.approx(math.exp(found.loss))
    assert found.order == (order or (0, 1, 2, 3))
    assert found.bits_per_byte is None


def test_a_full_window_has_the_loss_that_training_would_see(model: Decoder) -> None:
    ids = torch.from_numpy(TOKENS[:9].astype(np.int64))[None]
    trained = model.loss(ids[:, :-1], ids[:, 1:], (0, 2, 1)).item()
    assert perplexity(model, TOKENS[:9], order=(0, 2, 1)).loss == pytest.approx(trained, rel=1e-6)


@settings(max_examples=12, deadline=None)
@given(
    orders=st.lists(st.permutations([1, 2, 3]).flatmap(lambda p: st.integers(0, 3).map(lambda n: (0, *p[:n])))),
    batch=st.integers(1, 9),
    limit=st.one_of(st.none(), st.integers(1, 80)),
)
def test_many_orders_at_once_are_the_same_as_one_after_another(
    model: Decoder, orders: list[tuple[int, ...]], batch: int, limit: int | None
) -> None:
    together = evaluate(model, TOKENS, orders, batch=batch, limit=limit)
    assert [found.order for found in together] == orders
    for found in together:
        alone = perplexity(model, TOKENS[: 1 + min(limit or 60, 60)], order=found.order, batch=2)
        assert found.loss == pytest.approx(alone.loss, rel=1e-6)
        assert found.tokens == alone.tokens


def test_windows_stand_for_their_text_in_order(model: Decoder) -> None:
    windows = Windows(TOKENS, 4, seed=9)
    assert perplexity(model, windows).loss == perplexity(model, TOKENS, context=4).loss
    assert perplexity(model, windows, context=8).loss == perplexity(model, TOKENS).loss


def test_evaluation_repeats_exactly_and_changes_nothing(model: Decoder) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    first = perplexity(model, TOKENS)
    assert model.training
    model.eval()
    assert perplexity(model, TOKENS) == first
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_bits_per_byte_count_only_bytes() -> None:
    """An untrained head that gives every id the same chance costs log2 of the vocabulary per token."""
    model = Decoder(CONFIG, STAGES, seed=0)
    with torch.no_grad():
        model.first.lm_head.weight.zero_()
    tokens = np.array([1, 2, 256, 3, 4, 256, 5])  # six predictions, four of them bytes
    found = perplexity(model, tokens, byte_level=True)
    assert found.loss == pytest.approx(math.log(300), rel=1e-6)
    assert found.perplexity == pytest.approx(300, rel=1e-5)
    assert found.bits_per_byte == pytest.approx(6 * math.log2(300) / 4, rel=1e-6)
    assert perplexity(model, np.array([1, 256, 256]), byte_level=True).bits_per_byte is None


def test_the_curve_holds_every_set_of_removed_stages(model: Decoder) -> None:
    curve = removal_curve(model, TOKENS, byte_level=True)
    assert [row.removed for row in curve] == [0, 1, 2, 3]
    for row in curve:
        assert row.complete
        assert list(row.sets) == list(combinations((1, 2, 3), row.removed))
        losses = []
        for gone, found in zip(row.sets, row.evaluations, strict=True):
            assert found.order == tuple(stage for stage in range(4) if stage not in gone)
            losses.append(plain_loss(model, TOKENS, found.order, 8))
            assert found.loss == pytest.approx(losses[-1], rel=1e-5)
        assert row.mean_loss == pytest.approx(np.mean(losses), rel=1e-5)
        assert row.mean_perplexity == pytest.approx(np.mean(np.exp(losses)), rel=1e-4)
        assert row.evaluations[row.best].loss == pytest.approx(min(losses), rel=1e-5)
        assert row.evaluations[row.worst].loss == pytest.approx(max(losses), rel=1e-5)
        said = row.to_dict()
        assert said["best_perplexity"] <= said["mean_perplexity"] <= said["worst_perplexity"]
        assert [entry["without"] for entry in said["sets"]] == [list(gone) for gone in row.sets]
    assert [len(row.sets) for row in removal_curve(model, TOKENS, most=1)] == [1, 3]


def test_a_sampled_curve_is_a_part_of_the_whole_one(model: Decoder) -> None:
    whole = {gone: e.loss for row in removal_curve(model, TOKENS) for gone, e in zip(row.sets, row.evaluations)}
    part = removal_curve(model, TOKENS, sets=2, seed=5)
    assert [len(row.sets) for row in part] == [1, 2, 2, 1]
    assert [row.complete for row in part] == [True, False, False, True]
    for row in part:
        for gone, found in zip(row.sets, row.evaluations):
            assert found.loss == pytest.approx(whole[gone], rel=1e-6)


@given(stages=st.integers(1, 12), data=st.data(), seed=st.integers(0, 9))
def test_drawn_sets_are_different_and_repeat_with_their_seed(stages: int, data: st.DataObject, seed: int) -> None:
    removed = data.draw(st.integers(0, stages - 1))
    sets = data.draw(st.integers(1, 40))
    found = removals(stages, removed, sets=sets, seed=seed)
    assert len(set(found)) == len(found) == min(sets, math.comb(stages - 1, removed))
    assert set(found) <= set(combinations(range(1, stages), removed))
    assert found == sorted(found) == removals(stages, removed, sets=sets, seed=seed)


def test_every_set_is_drawn_equally_often() -> None:
    drawn = [gone for seed in range(600) for gone in removals(6, 2, sets=4, seed=seed)]
    counts = [drawn.count(gone) for gone in combinations(range(1, 6), 2)]
    assert sum(counts) == 2400
    assert max(abs(count - 240) for count in counts) < 5 * math.sqrt(240 * 0.6)


def test_orders_are_made_by_name() -> None:
    assert without(5, [3, 1]) == (0, 2, 4)
    assert swapped(5, 2) == (0, 1, 3, 2, 4)
    assert early_exit(5, 2) == (0, 1, 2)
    assert early_exit(5, 0) == (0,)


def test_an_early_exit_is_the_model_without_its_last_stages(model: Decoder) -> None:
    short = Decoder(LanguageModelConfig(**{**vars(CONFIG), "layers": 3}), (1, 2), seed=None)
    short.load_state_dict({name: model.state_dict()[name] for name in short.state_dict()})
    expected = perplexity(short, TOKENS).loss
    assert perplexity(model, TOKENS, order=early_exit(4, 1)).loss == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ((), "expected stage 0 first.*found nothing"),
        ((1, 0), "expected stage 0 first, as it holds the embedding and the head, found 1, 0"),
        ((0, 1, 1), "stage 1 appears 2 times"),
        ((0, 4), "there is no stage 4; the model has stages 0 to 3"),
        ((0, -1), "there is no stage -1"),
    ],
)
def test_an_order_that_is_none_is_refused(model: Decoder, order: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        perplexity(model, TOKENS, order=order)


def test_bad_arguments_are_named(model: Decoder) -> None:
    with pytest.raises(ValueError, match="tokens: expected at least 2, found 1"):
        perplexity(model, TOKENS[:1])
    with pytest.raises(ValueError, match="tokens: id 300 is outside the model's vocabulary of 300"):
        perplexity(model, np.array([5, 300, 6]))
    with pytest.raises(ValueError, match="context: expected 1 to 8, found 9"):
        perplexity(model, TOKENS, context=9)
    with pytest.raises(ValueError, match="batch: expected at least 1"):
        perplexity(model, TOKENS, batch=0)
    with pytest.raises(ValueError, match="limit: expected at least 1"):
        perplexity(model, TOKENS, limit=0)
    with pytest.raises(ValueError, match="most: expected 0 to 3 removed stages, found 4"):
        removal_curve(model, TOKENS, most=4)
    with pytest.raises(ValueError, match="stage 0 holds the embedding"):
        without(4, [0, 2])
    with pytest.raises(ValueError, match="no neighbours 3 and 4"):
        swapped(4, 3)
    with pytest.raises(ValueError, match="no neighbours 0 and 1"):
        swapped(4, 0)
    with pytest.raises(ValueError, match="no stage 4"):
        early_exit(4, 4)
    with pytest.raises(ValueError, match="are too many; draw at most"):
        removals(40, 20)
    assert len(removals(40, 20, sets=10)) == 10


def test_progress_counts_predicted_tokens(model: Decoder) -> None:
    reports: list[Progress] = []
    perplexity(model, TOKENS, batch=2, on_progress=reports.append)
    assert [report.phase.split()[0] for report in reports] == ["16", "32", "48", "56", "60"]


def test_a_huge_loss_is_an_infinite_perplexity() -> None:
    assert perplexity_of(1e4) == math.inf
