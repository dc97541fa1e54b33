"""A run over processes computes what one process computes: losses, every gradient, and the weights after steps.

AdamW's first moment with beta1 = 0 is the gradient of the last step, so checkpoints hold the gradients to compare.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import SHAPE, Outcome, full, run, skipping, written

torch = pytest.importorskip("torch")

from pathloom.data.token_files import TokenData  # noqa: E402
from pathloom.learn.language_model.config import LanguageModelConfig  # noqa: E402
from pathloom.learn.language_model.decoder import Decoder  # noqa: E402
from pathloom.learn.language_model.pretrained import load_pretrained  # noqa: E402
from pathloom.learn.rates import plan_named  # noqa: E402
from pathloom.plan import Plan  # noqa: E402
from pathloom.timeline import Timeline  # noqa: E402
from pathloom.worlds.train.llama import LlamaShape  # noqa: E402
from pathloom.worlds.train.runtime.alone import Alone  # noqa: E402
from pathloom.worlds.train.runtime.gradients import optimizer_state  # noqa: E402
from pathloom.worlds.train.runtime.settings import RunSettings  # noqa: E402

pytestmark = pytest.mark.usefixtures("no_process_left")

Tensors = Mapping[str, torch.Tensor]

SIX_LAYERS = LlamaShape(dim=32, layers=6, heads=4, kv_heads=2, ffn_dim=48, context=16, vocab=256)
TIED_FOUR = LlamaShape(dim=32, layers=4, heads=2, kv_heads=1, ffn_dim=40, context=16, vocab=256, tied=True)
TIED = LlamaShape(dim=32, layers=3, heads=2, kv_heads=1, ffn_dim=40, context=16, vocab=256, tied=True)
STEPS = 2
OPTIONS: dict[str, Any] = {
    "steps": STEPS,
    "checkpoint_every": 1,
    "keep": STEPS,
    "beta1": 0.0,
    "clip": 0.0,
    "learning_rate": 0.01,
    "schedule": "constant",
}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def gradients_of(checkpoint: Any) -> dict[str, torch.Tensor]:
    """Gradients of the step before a checkpoint, where beta1 was 0 and nothing was clipped."""
    return {name: state["exp_avg"] for name, state in checkpoint.optimizer().items()}


def assert_equal(found: Tensors, wanted: Tensors, tolerance: float = 1e-5) -> None:
    """Every element within the tolerance, and every tensor within as much of its own norm."""
    assert set(found) == set(wanted)
    for name, tensor in wanted.items():
        difference = found[name].double() - tensor.double()
        assert float(difference.abs().max()) <= tolerance, name
        assert float(difference.norm()) <= tolerance * float(tensor.double().norm()) + 1e-9, name


@dataclass
class Twin:
    """The same training in one process."""

    losses: list[float]
    norms: list[float]
    gradients: list[dict[str, torch.Tensor]]
    parameters: list[dict[str, torch.Tensor]]


def along_routes(plan: Plan, tokens: Path, **changes: Any) -> Twin:
    """`Alone` on the routes of the plan."""
    settings = RunSettings(data=str(tokens), **{**OPTIONS, **changes})
    workload = plan.problem.workload
    alone = Alone(
        LanguageModelConfig(**vars(workload.model)),
        workload.stage_layers,
        workload.samples,
        TokenData.open(tokens),
        settings,
        chunks=plan.decisions.chunks,
    )
    twin = Twin([], [], [], [])
    orders, windows = plan.decisions.stages.tolist(), 0
    for _ in range(settings.steps):
        losses: list[float] = []
        for _ in range(settings.accumulation):
            losses += alone.accumulate(windows, orders, 1.0 / (len(orders) * settings.accumulation))
            windows += len(orders) * workload.samples
        twin.losses.append(float(np.mean(losses)))
        twin.norms.append(alone.apply(settings.learning_rate))
        state = optimizer_state(alone.optimizer, alone.parameters)
        twin.gradients.append({name: entry["exp_avg"].clone() for name, entry in state.items()})
        twin.parameters.append({name: p.detach().clone() for name, p in alone.parameters.items()})
    return twin


def plain_training(plan: Plan, tokens: Path) -> Twin:
    """Nothing of the runtime: one model, one batch a step, PyTorch's own optimizer."""
    settings = RunSettings(data=str(tokens), **OPTIONS)
    workload = plan.problem.workload
    context, batch = workload.model.context, len(plan.decisions.routes) * workload.samples
    windows = TokenData.open(tokens).windows("train", context, settings.seed)
    model = Decoder(LanguageModelConfig(**vars(workload.model)), seed=settings.seed)
    named = dict(model.named_parameters())
    groups = [
        {"params": [p for p in named.values() if p.dim() > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in named.values() if p.dim() == 1], "weight_decay": 0.0},
    ]
    betas = (settings.beta1, settings.beta2)
    optimizer = torch.optim.AdamW(groups, settings.learning_rate, betas, settings.epsilon, fused=False)
    twin = Twin([], [], [], [])
    for step in range(settings.steps):
        rows = torch.from_numpy(windows.batch(step * batch, batch))
        optimizer.zero_grad()
        loss = model.loss(rows[:, :-1], rows[:, 1:])
        loss.backward()
        twin.losses.append(float(loss.detach()))
        twin.norms.append(float(torch.nn.utils.get_total_norm([p.grad for p in named.values()])))
        twin.gradients.append({name: p.grad.clone() for name, p in named.items()})
        optimizer.step()
        twin.parameters.append({name: p.detach().clone() for name, p in named.items()})
    return twin


def compare(done: Outcome, twin: Twin) -> None:
    """Losses and gradients of all steps; weights, too, whose steps AdamW makes as large for the smallest gradients."""
    assert all(float(gradient.abs().max()) > 1e-6 for gradient in twin.gradients[0].values())
    assert done.losses == pytest.approx(twin.losses, abs=1e-5)
    assert [record["gradient_norm"] for record in done.steps] == pytest.approx(twin.norms, rel=1e-5)
    first = done.checkpoint(1)
    assert_equal(gradients_of(first), twin.gradients[0])
    sure = {name: twin.gradients[0][name].abs() > 1e-5 for name in twin.gradients[0]}
    parameters = first.parameters()
    for name, wanted in twin.parameters[0].items():
        assert float(((parameters[name] - wanted).abs() * sure[name]).max()) <= 1e-4, name


@pytest.mark.parametrize("seed", [3, 5])
def test_planned_routes_with_skips_and_swaps_give_the_gradients_of_one_process(
    tokens: Path, tmp_path: Path, seed: int
) -> None:
    plan = skipping(seed)
    orders = {tuple(row) for row in plan.decisions.stages.tolist()}
    assert len(orders) > 2 and any(list(order) != sorted(order) for order in orders)
    done = run(written(plan, tmp_path / "plan.json"), tmp_path / "run", data=str(tokens), **OPTIONS)
    compare(done, along_routes(plan, tokens))
    limits = dict(zip(plan.problem.nodes, plan.problem.memory.tolist()))
    peaks = done.result.figures["peak_activations"]
    assert set(peaks) == set(limits) and all(peaks[name] <= limits[name] for name in limits)


@pytest.mark.parametrize("method", ["gpipe", "1f1b", "zb-h1", "interleaved-1f1b", "dtfm"])
def test_full_pipelines_are_plain_training(tokens: Path, tmp_path: Path, method: str) -> None:
    plan = full(method, shape=SIX_LAYERS)
    done = run(written(plan, tmp_path / "plan.json"), tmp_path / "run", data=str(tokens), **OPTIONS)
    compare(done, plain_training(plan, tokens))


@pytest.mark.parametrize(
    ("method", "sizes"),
    [("1f1b", (1,)), ("1f1b", (3,)), ("zb-h1", (1, 1, 1)), ("interleaved-1f1b", (1,)), ("interleaved-1f1b", (1, 1))],
    ids=["one node", "replicas of all", "one chain", "a node that follows on itself", "two nodes in turns"],
)
def test_pipelines_without_length_or_width_are_plain_training_too(
    tokens: Path, tmp_path: Path, method: str, sizes: tuple[int, ...]
) -> None:
    plan = full(method, sizes=sizes, shape=TIED_FOUR)
    done = run(written(plan, tmp_path / "plan.json"), tmp_path / "run", data=str(tokens), **OPTIONS)
    compare(done, plain_training(plan, tokens))


def test_one_process_along_full_routes_is_plain_training(tokens: Path) -> None:
    """So that what runs are measured against is itself measured."""
    plan = full("interleaved-1f1b", shape=SIX_LAYERS)
    alone, plain = along_routes(plan, tokens), plain_training(plan, tokens)
    assert alone.losses == pytest.approx(plain.losses, abs=1e-5)
    assert_equal(alone.gradients[0], plain.gradients[0])


def test_several_iterations_add_up_to_one_step(tokens: Path, tmp_path: Path) -> None:
    plan = skipping(3)
    file = written(plan, tmp_path / "plan.json")
    done = run(file, tmp_path / "run", data=str(tokens), **OPTIONS, accumulation=3)
    compare(done, along_routes(plan, tokens, accumulation=3))
    tokens_a_step = 3 * len(plan.decisions.routes) * 2 * SHAPE.context
    assert [record["tokens"] for record in done.steps] == [tokens_a_step] * STEPS
    assert done.checkpoint().required("windows") == STEPS * tokens_a_step // SHAPE.context


def test_imitated_times_and_strict_orders_change_no_bit(tokens: Path, tmp_path: Path) -> None:
    plan = full("1f1b", shape=TIED, seconds=0.002)
    file = written(plan, tmp_path / "plan.json")
    free = run(file, tmp_path / "free", data=str(tokens), **OPTIONS)
    timed = run(
        file, tmp_path / "timed", data=str(tokens), **OPTIONS, links="planned", compute="planned", order="strict"
    )
    assert free.losses == timed.losses
    for one, other in zip(free.checkpoint().optimizer().items(), timed.checkpoint().optimizer().items()):
        assert one[0] == other[0]
        assert all(torch.equal(one[1][key], other[1][key]) for key in one[1])
    floor = plan.objective.value
    assert all(record["iteration_seconds"] >= floor * 0.99 for record in timed.steps)
    assert timed.result.figures["planned_seconds"] == pytest.approx(floor)


def test_clipping_sees_the_norm_of_the_whole_model(tokens: Path, tmp_path: Path) -> None:
    plan = full("1f1b", shape=TIED)
    options = {**OPTIONS, "steps": 1, "clip": 0.5}
    done = run(written(plan, tmp_path / "plan.json"), tmp_path / "run", data=str(tokens), **options)
    plain = plain_training(plan, tokens)
    assert done.steps[0]["gradient_norm"] == pytest.approx(plain.norms[0], rel=1e-5)
    assert plain.norms[0] > 0.5
    wanted = {name: gradient * (0.5 / plain.norms[0]) for name, gradient in plain.gradients[0].items()}
    assert_equal(gradients_of(done.checkpoint()), wanted)
    absolute = sum(float(gradient.double().abs().sum()) for gradient in plain.gradients[0].values())
    assert done.steps[0]["gradient_norm_l1"] == pytest.approx(absolute, rel=1e-4)


def test_the_rate_follows_its_schedule(tokens: Path, tmp_path: Path) -> None:
    plan = full("gpipe", sizes=(1, 1), shape=TIED, microbatches=2)
    options = {**OPTIONS, "steps": 6, "schedule": "cosine", "warmup": 2, "floor": 0.1, "checkpoint_every": 0}
    done = run(written(plan, tmp_path / "plan.json"), tmp_path / "run", data=str(tokens), **options)
    factors = plan_named("cosine", 6, warmup=2, floor=0.1).factors()
    assert [record["learning_rate"] for record in done.steps] == pytest.approx((0.01 * factors).tolist())


def test_bfloat16_keeps_its_weights_in_float32(tokens: Path, tmp_path: Path) -> None:
    plan = full("zb-h1", shape=TIED)
    options = {**OPTIONS, "steps": 4, "precision": "bfloat16"}
    done = run(written(plan, tmp_path / "plan.json"), tmp_path / "run", data=str(tokens), **options)
    exact = along_routes(plan, tokens, steps=4)
    assert done.losses != pytest.approx(exact.losses, abs=1e-6)
    assert done.losses == pytest.approx(exact.losses, abs=0.05)
    assert {tensor.dtype for tensor in done.checkpoint().parameters().values()} == {torch.float32}


def test_the_validation_loss_is_that_of_one_process(tokens: Path, tmp_path: Path) -> None:
    for name, plan in (("skip", skipping(3)), ("chunks", full("interleaved-1f1b", shape=SIX_LAYERS))):
        options = {**OPTIONS, "steps": 3, "validate_every": 2, "validation_windows": 14, "checkpoint_every": 0}
        done = run(written(plan, tmp_path / f"{name}.json"), tmp_path / name, data=str(tokens), **options)
        assert [record["step"] for record in done.steps if "validation_loss" in record] == [2, 3]
        workload = plan.problem.workload
        alone = Alone(
            LanguageModelConfig(**vars(workload.model)),
            workload.stage_layers,
            workload.samples,
            TokenData.open(tokens),
            RunSettings(data=str(tokens)),
        )
        alone.model.load_state_dict(done.checkpoint().parameters())
        assert done.steps[-1]["validation_loss"] == pytest.approx(alone.validate(14), abs=1e-5)
        assert done.result.figures["validation_loss"] == done.steps[-1]["validation_loss"]


def test_a_run_leaves_its_records_behind(tokens: Path, tmp_path: Path) -> None:
    plan = skipping(3)
    done = run(written(plan, tmp_path / "plan.json"), tmp_path / "run", data=str(tokens), **OPTIONS)
    content = json.loads((done.out / "run.json").read_text())
    assert (content["format"], content["status"]) == ("pathloom-run-1", "done")
    assert content["settings"]["steps"] == STEPS and content["figures"]["steps"] == STEPS
    assert [record["step"] for record in done.metrics() if "step" in record] == [1, 2]
    table = Timeline.from_dict(json.loads((done.out / "timeline.json").read_text()))
    assert table.resources == plan.timeline.resources
    assert len(table.start) == len(plan.timeline.start)
    planned = sorted(zip(plan.timeline.resource.tolist(), plan.timeline.item.tolist(), plan.timeline.kind.tolist()))
    assert planned == sorted(zip(table.resource.tolist(), table.item.tolist(), table.kind.tolist()))
    assert (table.start >= 0).all() and (table.end >= table.start).all()
    model = load_pretrained(done.out / "model")
    assert_equal(dict(model.state_dict()), done.checkpoint().parameters(), 0.0)
    norms = json.loads((done.out / "norms.json").read_text())
    assert norms["format"] == "pathloom-norms-1"
    assert set(done.result.files) >= {"run", "metrics", "timeline", "checkpoint", "model"}
    assert all(path.exists() for path in done.result.files.values())
