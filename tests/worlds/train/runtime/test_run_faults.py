"""Nodes that are killed, hang or slow down while a run goes on: it goes on without them, and computes what it would."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults_at import Moments
from small_runs import Outcome, Watched, full, run, skipping, written

torch = pytest.importorskip("torch")

from pathloom.data.token_files import TokenData  # noqa: E402
from pathloom.learn.language_model.config import LanguageModelConfig  # noqa: E402
from pathloom.plan import InputError, Plan  # noqa: E402
from pathloom.worlds.train.llama import LlamaShape  # noqa: E402
from pathloom.worlds.train.problem import Reordering  # noqa: E402
from pathloom.worlds.train.runtime.alone import Alone  # noqa: E402
from pathloom.worlds.train.runtime.checkpoint import latest  # noqa: E402
from pathloom.worlds.train.runtime.settings import RunSettings  # noqa: E402

pytestmark = pytest.mark.usefixtures("no_process_left")

SHAPE = LlamaShape(dim=32, layers=6, heads=4, kv_heads=2, ffn_dim=48, context=16, vocab=256)
OPTIONS: dict[str, Any] = {
    "steps": 3,
    "compute": "planned",
    "links": "planned",
    "replan_seconds": 0.3,
    "patience": 60.0,
    "beta1": 0.0,
    "clip": 0.0,
    "checkpoint_every": 1,
    "keep": 9,
    "schedule": "constant",
}
"""Tasks take as long as the plan says, so that an iteration lasts long enough to be disturbed in its middle."""


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def moments(monkeypatch: pytest.MonkeyPatch) -> Moments:
    return Moments().install(monkeypatch)


@pytest.fixture
def nodes() -> Watched:
    return Watched()


Start = Callable[..., Outcome]


@pytest.fixture
def start(tokens: Path, tmp_path: Path, nodes: Watched) -> Start:
    """Run a plan whose nodes are watched."""

    def begin(plan: Plan, **changes: Any) -> Outcome:
        file = written(plan, tmp_path / "plan.json")
        return run(file, tmp_path / "run", launcher=nodes, data=str(tokens), **{**OPTIONS, **changes})

    return begin


def pipeline(method: str = "1f1b", **changes: Any) -> Plan:
    """All stages in order, also for a microbatch that must take another route."""
    in_order = Reordering(distance=0, swaps=0, total=0, jump=1)
    return full(method, **{"shape": SHAPE, "seconds": 0.03, "reordering": in_order, **changes})


def lost_nodes(done: Outcome) -> list[dict[str, Any]]:
    return [event for event in done.events if event["event"] == "node lost"]


def exact_gradients(plan: Plan, tokens: Path) -> dict[str, torch.Tensor]:
    """Gradients of the first step of an undisturbed run."""
    workload = plan.problem.workload
    settings = RunSettings(data=str(tokens), beta1=0.0, clip=0.0)
    alone = Alone(
        LanguageModelConfig(**vars(workload.model)),
        workload.stage_layers,
        workload.samples,
        TokenData.open(tokens),
        settings,
        chunks=plan.decisions.chunks,
    )
    orders = plan.decisions.stages.tolist()
    alone.accumulate(0, orders, 1.0 / len(orders))
    return {name: p.grad.clone() for name, p in alone.parameters.items()}


def gradients_of_first_step(done: Outcome) -> dict[str, torch.Tensor]:
    return {name: state["exp_avg"] for name, state in done.checkpoint(1).optimizer().items()}


def assert_equal(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert set(found) == set(wanted)
    for name, tensor in wanted.items():
        difference = found[name].double() - tensor.double()
        assert float(difference.abs().max()) <= 1e-5, name
        assert float(difference.norm()) <= 1e-5 * float(tensor.double().norm()) + 1e-9, name


METHODS = ("gpipe", "1f1b", "zb-h1", "interleaved-1f1b")
VICTIMS = (("n0", 20), ("n2", 10), ("n5", 15))
"""A source, a node in the middle and one at the end, and after how many finished tasks it is killed."""


def combinations() -> list[Any]:
    """Every method with every victim; those beyond one a method are left to the slow tests."""
    return [
        pytest.param(method, *victim, id=f"{method}-{victim[0]}", marks=[pytest.mark.slow] if (i + j) % 3 else [])
        for i, method in enumerate(METHODS)
        for j, victim in enumerate(VICTIMS)
    ]


@pytest.mark.parametrize(("method", "victim", "after"), combinations())
def test_a_killed_node_costs_no_gradient_where_they_are_done_again(
    tokens: Path, start: Start, nodes: Watched, moments: Moments, method: str, victim: str, after: int
) -> None:
    plan = pipeline(method)
    moments.when("iterate", 1, lambda: nodes.signal(victim, signal.SIGKILL), after=after)
    done = start(plan, redo_gradients=True, steps=2)
    assert [record["step"] for record in done.steps] == [1, 2]
    assert [(event["node"], event["step"], event["steps_lost"]) for event in lost_nodes(done)] == [(victim, 1, 0)]
    assert lost_nodes(done)[0]["why"] == "its process was killed by signal 9"
    assert moments.said["recover"] == 1
    assert_equal(gradients_of_first_step(done), exact_gradients(plan, tokens))
    assert done.steps[0]["tokens"] == 6 * 2 * SHAPE.context
    assert [record["nodes"] for record in done.steps] == [6 - 1] * 2


def test_what_died_with_a_node_is_made_up_for_by_its_replica(
    tokens: Path, start: Start, nodes: Watched, moments: Moments
) -> None:
    """Gradients of the stages that lost nobody are those of an undisturbed step."""
    plan = pipeline("gpipe")
    moments.when("iterate", 1, lambda: nodes.signal("n3", signal.SIGKILL), after=28)
    done = start(plan, steps=2)
    assert [record["step"] for record in done.steps] == [1, 2]
    found, exact = gradients_of_first_step(done), exact_gradients(plan, tokens)
    hit = {name for name in exact if any(f"layers.{layer}." in name for layer in (2, 3))}
    assert_equal({n: t for n, t in found.items() if n not in hit}, {n: t for n, t in exact.items() if n not in hit})
    for name in hit:
        likeness = torch.nn.functional.cosine_similarity(found[name].flatten(), exact[name].flatten(), dim=0)
        assert float(likeness) > 0.5, name
        assert 0.5 < float(found[name].norm() / exact[name].norm()) < 2.0, name


def test_two_nodes_that_die_together_cost_no_gradient_either(
    tokens: Path, start: Start, nodes: Watched, moments: Moments
) -> None:
    plan = pipeline()
    moments.when("iterate", 1, lambda: nodes.signal("n1", signal.SIGKILL), after=20)
    moments.when("pause", 1, lambda: nodes.signal("n4", signal.SIGKILL))
    done = start(plan, redo_gradients=True, steps=2)
    assert [record["step"] for record in done.steps] == [1, 2]
    assert {event["node"] for event in lost_nodes(done)} == {"n1", "n4"}
    assert_equal(gradients_of_first_step(done), exact_gradients(plan, tokens))


def test_one_node_after_another_may_die_in_one_iteration(
    tokens: Path, start: Start, nodes: Watched, moments: Moments
) -> None:
    plan = pipeline("gpipe")
    moments.when("iterate", 1, lambda: nodes.signal("n2", signal.SIGKILL), after=8)
    moments.when("iterate", 1, lambda: nodes.signal("n5", signal.SIGKILL), after=25)
    done = start(plan, redo_gradients=True, steps=2)
    assert {event["node"] for event in lost_nodes(done)} == {"n2", "n5"}
    assert_equal(gradients_of_first_step(done), exact_gradients(plan, tokens))


MOMENTS = ["iterate", "finish", "reduce", "apply", "save", "join", "recover"]


@pytest.mark.parametrize("do", MOMENTS)
@pytest.mark.parametrize("victim", [pytest.param("n0", marks=pytest.mark.slow), "n3"])
def test_there_is_no_bad_moment_for_a_node_to_die(
    start: Start, nodes: Watched, moments: Moments, do: str, victim: str
) -> None:
    """Just before the coordinator says something, so that the message finds nobody."""
    if do in ("recover", "reduce"):  # said only when somebody has died already
        moments.when("iterate", 1, lambda: nodes.signal("n5", signal.SIGKILL), after=20)
    moments.when(do, 1 if do in ("recover", "reduce") else 2, lambda: nodes.signal(victim, signal.SIGKILL))
    if do == "join":
        moments.when("iterate", 1, lambda: nodes.signal("n5", signal.SIGKILL), after=20)
    done = start(pipeline())
    assert [record["step"] for record in done.steps] == [1, 2, 3]
    assert victim in {event["node"] for event in lost_nodes(done)}
    assert all(event["steps_lost"] == 0 for event in lost_nodes(done))
    assert np.isfinite(done.losses).all()
    assert [record["step"] for record in done.metrics() if "step" in record and "event" not in record] == [1, 2, 3]


def test_a_measurement_during_which_a_node_dies_is_made_again(
    tokens: Path, tmp_path: Path, start: Start, nodes: Watched, moments: Moments
) -> None:
    moments.when("iterate", 2, lambda: nodes.signal("n1", signal.SIGKILL))
    done = start(pipeline(), validate_every=1, validation_windows=12, steps=1)
    assert len(lost_nodes(done)) == 1
    options = {**OPTIONS, "data": str(tokens), "validate_every": 1, "validation_windows": 12, "steps": 1}
    quiet = run(tmp_path / "plan.json", tmp_path / "quiet", **options)
    assert done.steps[0]["validation_loss"] == pytest.approx(quiet.steps[0]["validation_loss"], abs=1e-4)


def test_the_last_node_of_a_stage_takes_the_run_back_to_its_last_checkpoint(
    start: Start, nodes: Watched, moments: Moments
) -> None:
    plan = pipeline(sizes=(2, 1, 2))
    moments.when("iterate", 4, lambda: nodes.signal("n2", signal.SIGKILL), after=10)
    done = start(plan, steps=5, checkpoint_every=2)
    assert [record["step"] for record in done.steps] == [1, 2, 3, 3, 4, 5]
    (event,) = lost_nodes(done)
    assert (event["steps_lost"], event["weights_from"]) == (1, "checkpoint of step 2")
    assert done.losses[2] == pytest.approx(done.losses[3], abs=1e-5)  # the same data, the same weights
    records = [record for record in done.metrics() if "event" not in record]
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5]
    assert records[2]["nodes"] == 4
    assert done.checkpoint().step == 5


def test_without_a_checkpoint_the_run_begins_anew(start: Start, nodes: Watched, moments: Moments) -> None:
    plan = pipeline(sizes=(2, 1, 2))
    moments.when("iterate", 2, lambda: nodes.signal("n2", signal.SIGKILL), after=10)
    done = start(plan, checkpoint_every=0)
    assert [record["step"] for record in done.steps] == [1, 1, 2, 3]
    assert lost_nodes(done)[0]["weights_from"] == "first weights"
    assert done.losses[0] == pytest.approx(done.losses[1], abs=1e-5)


def test_the_last_node_of_a_stage_may_die_while_it_saves(start: Start, nodes: Watched, moments: Moments) -> None:
    plan = pipeline(sizes=(2, 1, 2))
    moments.when("save", 2, lambda: nodes.signal("n2", signal.SIGKILL))
    done = start(plan)
    assert [record["step"] for record in done.steps] == [1, 2, 2, 3]
    assert lost_nodes(done)[0]["weights_from"] == "checkpoint of step 1"
    assert done.checkpoint().step == 3


def test_a_run_without_nodes_ends_with_a_word_and_can_be_resumed(
    tokens: Path, tmp_path: Path, start: Start, nodes: Watched, moments: Moments
) -> None:
    def all_of_them() -> None:
        for name in nodes.pids:
            nodes.signal(name, signal.SIGKILL)

    moments.when("iterate", 3, all_of_them, after=10)
    with pytest.raises(InputError, match="nodes: every node is lost; the run can be resumed from its last checkpoint"):
        start(pipeline())
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"
    done = run(tmp_path / "plan.json", tmp_path / "run", resume=True)
    assert [record["step"] for record in done.steps] == [3]


@pytest.mark.slow
def test_a_node_that_hangs_is_noticed_after_the_patience_and_killed(
    tokens: Path, start: Start, nodes: Watched, moments: Moments
) -> None:
    plan = pipeline()
    moments.when("iterate", 1, lambda: nodes.signal("n3", signal.SIGSTOP), after=15)
    done = start(plan, redo_gradients=True, patience=4.0, steps=2)
    (event,) = lost_nodes(done)
    assert event["node"] == "n3" and event["why"].startswith("silent for ")
    assert_equal(gradients_of_first_step(done), exact_gradients(plan, tokens))


def test_the_restart_policy_begins_the_iteration_anew(
    tokens: Path, start: Start, nodes: Watched, moments: Moments
) -> None:
    plan = pipeline("zb-h1")
    moments.when("iterate", 1, lambda: nodes.signal("n4", signal.SIGKILL), after=10)
    done = start(plan, recovery="restart", steps=2)
    assert moments.said["restart"] == 1 and "recover" not in moments.said
    assert lost_nodes(done)[0]["rerouted"] == 6
    assert_equal(gradients_of_first_step(done), exact_gradients(plan, tokens))


def test_accumulated_iterations_survive_a_loss_too(
    tokens: Path, start: Start, nodes: Watched, moments: Moments
) -> None:
    moments.when("iterate", 2, lambda: nodes.signal("n2", signal.SIGKILL), after=15)
    done = start(pipeline(), accumulation=3, steps=2)
    assert [record["step"] for record in done.steps] == [1, 2]
    assert done.steps[0]["tokens"] == 3 * 6 * 2 * SHAPE.context
    found, exact = gradients_of_first_step(done), done.checkpoint(1)
    assert all(bool(torch.isfinite(gradient).all()) for gradient in found.values()) and exact.step == 1


def test_a_lost_node_is_started_again_where_that_is_asked_for(
    tokens: Path, start: Start, nodes: Watched, moments: Moments
) -> None:
    """The first node of a stage, which writes the checkpoints: what it writes it has from its replica."""
    plan = pipeline()
    moments.when("iterate", 1, lambda: nodes.signal("n2", signal.SIGKILL), after=15)
    done = start(plan, respawn=True, redo_gradients=True)
    first = nodes.pids["n2"]
    assert [record["nodes"] for record in done.steps] == [6, 6, 6]
    assert len(lost_nodes(done)) == 1 and first == nodes.pids["n2"]
    assert_equal(gradients_of_first_step(done), exact_gradients(plan, tokens))


@pytest.mark.slow
def test_a_node_that_becomes_slow_is_planned_around(start: Start, nodes: Watched, moments: Moments) -> None:
    over = threading.Event()

    def drag() -> None:
        """Stop and continue the node again and again, so that its tasks take several times as long."""
        while not over.is_set():
            nodes.signal("n2", signal.SIGSTOP)
            time.sleep(0.25)
            nodes.signal("n2", signal.SIGCONT)
            time.sleep(0.01)

    thread = threading.Thread(target=drag, daemon=True)
    moments.when("iterate", 1, thread.start)
    moments.when("save", 3, over.set)
    try:
        done = start(pipeline(), slow_factor=2.0, patience=30.0)
    finally:
        over.set()
    assert [record["step"] for record in done.steps] == [1, 2, 3]
    slow = [event for event in done.events if event["event"] == "slow nodes"]
    assert slow and slow[0]["nodes"]["n2"] > 2.0
    assert lost_nodes(done) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_a_random_node_may_be_killed_at_a_random_moment(
    tokens: Path, start: Start, nodes: Watched, moments: Moments, seed: int
) -> None:
    """No step is lost where a replica lives, and none beyond the last checkpoint otherwise."""
    rng = np.random.default_rng(seed)
    plan = skipping(seed, seconds=0.02) if seed % 2 else pipeline(str(rng.choice(["gpipe", "1f1b", "zb-h1"])))
    victim = str(rng.choice(plan.problem.nodes))
    delay = float(rng.uniform(0.0, 1.5))
    moments.when("iterate", 2, lambda: threading.Timer(delay, nodes.signal, (victim, signal.SIGKILL)).start())
    done = start(plan, steps=5)
    stage = int(plan.decisions.placement[plan.problem.nodes.index(victim)])
    alone = int((np.asarray(plan.decisions.placement) == stage).sum()) == 1
    assert sorted({record["step"] for record in done.steps}) == [1, 2, 3, 4, 5]
    assert len(done.steps) == 5 or alone
    (event,) = lost_nodes(done)
    assert event["node"] == victim and event["steps_lost"] <= (1 if alone else 0)
    assert latest(done.out).step == 5


def test_nobody_is_left_behind_by_a_coordinator_that_fails(
    tokens: Path, start: Start, nodes: Watched, moments: Moments
) -> None:
    def break_down() -> None:
        raise ArithmeticError("for a test")

    moments.when("iterate", 2, break_down, after=5)
    with pytest.raises(ArithmeticError):
        start(pipeline())
    for pid in nodes.pids.values():
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
