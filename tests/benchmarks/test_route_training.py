"""What the convergence benchmark trains is what the runtime trains, and its figures are those of the saved models."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")

import torch

from _convergence_runs import FULL, FULL_LONG, KINDS, PLANNED, PLANNED_LONG, RANDOM, Planning, Runs, slug, text_files
from _emulated_network import planned, problem
from _route_training import Size, Together, ascending, curve_over, evaluation_blocks, weight_stages
from pathloom.data.token_files import TokenData, write_tokens
from pathloom.data.tokenizers import load_tokenizer
from pathloom.learn.language_model.evaluation import evaluate
from pathloom.learn.language_model.pretrained import load_pretrained
from pathloom.worlds.train.runtime.alone import Alone
from pathloom.worlds.train.runtime.settings import RunSettings

TINY = Size(dim=16, heads=2, ffn_dim=32, context=16, samples=2, steps=4, points=2, blocks=3, block_windows=2)
ROUTES = [[0, 1, 3, 2], [0, 2, 4, 5], [0, 2, 1, 4], [0, 2, 4, 5], [0, 5, 4, 3]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TokenData:
    folder = tmp_path_factory.mktemp("text")
    text = folder / "text.txt"
    text.write_text("".join(f"{n} squared is {n * n}.\n" for n in range(600)), encoding="utf-8")
    return write_tokens(folder / "tokens", [text], load_tokenizer("bytes"))


def trainer(of: type[Alone], data: TokenData) -> Alone:
    settings = RunSettings(data=str(data.folder), steps=4, seed=3, learning_rate=1e-2)
    return of(TINY.config, [1] * TINY.stages, TINY.samples, data, settings)


@pytest.mark.parametrize("orders", [ROUTES, [list(range(6))] * 3], ids=["routes", "full"])
def test_microbatches_together_give_the_losses_and_gradients_of_one_after_another(
    data: TokenData, orders: list[list[int]]
) -> None:
    alone, together = trainer(Alone, data), trainer(Together, data)
    share = 1 / len(orders)
    assert together.accumulate(7, orders, share) == pytest.approx(alone.accumulate(7, orders, share), abs=1e-5)
    apart = (together.gradients.flat - alone.gradients.flat).abs().max()
    assert apart < 1e-6 * max(1.0, float(alone.gradients.flat.abs().max()))
    assert float(alone.gradients.flat.abs().max()) > 1e-3


def test_a_stage_that_no_route_visits_gets_no_gradient(data: TokenData) -> None:
    together = trainer(Together, data)
    together.accumulate(0, [[0, 1, 2, 3], [0, 2, 1, 4]], 0.5)
    largest = [
        max(float(p.grad.abs().max()) for p in stage.parameters() if p.grad is not None)
        for stage in together.model.stages
    ]
    assert largest[5] == 0.0
    assert min(largest[:5]) > 0.0


@given(st.integers(2, 8).flatmap(lambda s: st.tuples(st.just(s), st.integers(1, s))), st.integers(0, 1000))
def test_random_routes_begin_at_stage_0_and_ascend(sizes: tuple[int, int], seed: int) -> None:
    stages, length = sizes
    order = ascending(stages, length, np.random.default_rng(seed))
    assert order[0] == 0 and len(order) == length
    assert order == sorted(set(order)) and order[-1] < stages


def test_a_stage_of_weight_0_is_a_removed_one(data: TokenData) -> None:
    model = trainer(Alone, data).model
    block = evaluation_blocks(data, TINY)[0]
    without = evaluate(model, block, [[0, 1, 3, 5]])[0].loss
    whole = evaluate(model, block, [list(range(6))])[0].loss
    weight_stages(model, [1.0, 1.0, 0.0, 1.0, 0.0, 1.0])
    assert evaluate(model, block, [list(range(6))])[0].loss == pytest.approx(without, abs=1e-6)
    assert without != pytest.approx(whole, abs=1e-6)


def test_removal_over_blocks_is_the_mean_of_the_blocks(data: TokenData) -> None:
    model = trainer(Alone, data).model
    blocks = evaluation_blocks(data, TINY)
    assert [len(block) for block in blocks] == [TINY.block_windows * TINY.context + 1] * TINY.blocks
    rows = curve_over(model, blocks, 5)
    assert [len(row.sets) for row in rows] == [1, 5, 10, 10, 5, 1]
    gone = rows[3].sets[4]
    order = [stage for stage in range(6) if stage not in gone]
    expected = np.mean([evaluate(model, block, [order])[0].loss for block in blocks])
    assert rows[3].evaluations[4].loss == pytest.approx(expected, rel=1e-6)
    assert rows[3].evaluations[4].order == tuple(order)


def test_the_emulated_network_trains_every_stage_but_the_first_equally_often() -> None:
    given_problem = problem()
    assert given_problem.stage_cap.tolist() == [15, 9, 9, 9, 9, 9]
    made = planned(0, time_limit=0.3, trials=40)
    visits = Counter(stage for order in made.orders for stage in order)
    assert visits == {0: 15, 1: 9, 2: 9, 3: 9, 4: 9, 5: 9}
    assert made.seconds[made.full] == min(made.seconds[name] for name in ("dtfm", "gpipe", "1f1b", "zb-h1"))
    assert made.ratio == pytest.approx(made.seconds[made.full] / made.seconds["pathloom"])
    assert made.ratio > 1


def test_runs_are_kept_with_their_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Python's library"
    size = replace(TINY, context=16)
    runs = Runs(size, Planning(0.3, 40), tmp_path)
    made = {kind: runs.run(text, kind, 1) for kind in KINDS}
    longer = int(size.steps * runs.plan(1).ratio)
    assert {kind: run["steps"] for kind, run in made.items()} == {
        FULL: 4, PLANNED: 4, RANDOM: 4, PLANNED_LONG: longer, FULL_LONG: longer,
    }  # fmt: skip
    assert longer > 4
    assert all(run["tokens"] == run["steps"] * 15 * size.samples * size.context for run in made.values())
    assert all(run["points"][-1] == [run["steps"], run["curve"][0]["mean_loss"]] for run in made.values())

    def trained_again(*_: object) -> None:
        raise AssertionError("a finished run was made again")

    monkeypatch.setattr("_convergence_runs.train", trained_again)
    again = Runs(size, Planning(0.3, 40), tmp_path)
    assert {kind: again.run(text, kind, 1) for kind in KINDS} == made
    model = load_pretrained(again.folder / "weights" / slug(f"{text}, {RANDOM}, seed 1"), [1] * 6)
    with torch.no_grad():
        found = curve_over(model, evaluation_blocks(again.data(text), size), 0)[0].mean_loss
    assert found == pytest.approx(made[RANDOM]["points"][-1][1], abs=1e-6)
    assert again.weighted_loss(text, FULL, 1) == pytest.approx(made[FULL]["points"][-1][1], abs=1e-6)
    weight_stages(model, [1.0, 0.6, 0.6, 0.6, 0.6, 0.6])
    weighted = curve_over(model, evaluation_blocks(again.data(text), size), 0)[0].mean_loss
    assert again.weighted_loss(text, RANDOM, 1) == pytest.approx(weighted, abs=0.01)


def test_runs_of_another_size_do_not_mix(tmp_path: Path) -> None:
    one, other = Runs(TINY, Planning(), tmp_path), Runs(replace(TINY, steps=5), Planning(), tmp_path)
    assert one.folder != other.folder


def test_the_library_text_has_a_fixed_order_and_size() -> None:
    files = text_files("Python's library")
    assert [path.name for path in files] == sorted(path.name for path in files)
    sizes = [path.stat().st_size for path in files]
    assert sum(sizes) >= 1_200_000 > sum(sizes[:-1])
    with pytest.raises(ValueError, match="TinyShakespeare"):
        text_files("a diary")
