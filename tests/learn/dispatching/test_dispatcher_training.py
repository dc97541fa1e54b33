"""Training a dispatcher: it gets better, can be interrupted, and says in its card what it is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from pathloom.learn.dispatching.card import load_policy, save_policy, shipped_policy  # noqa: E402
from pathloom.learn.dispatching.expert_suffix import ClippedObjective  # noqa: E402
from pathloom.learn.dispatching.generated_shops import flexible_shop, taillard_shop  # noqa: E402
from pathloom.learn.dispatching.inference import best_of, greedy  # noqa: E402
from pathloom.learn.dispatching.policy import DispatchingPolicy, PolicyShape  # noqa: E402
from pathloom.learn.dispatching.trainer import TrainingSettings, train  # noqa: E402
from pathloom.plan import InputError, Progress, clear_stop, request_stop  # noqa: E402
from pathloom.schedule.interval_environment import RULES, IntervalEnvironment  # noqa: E402

TINY = TrainingSettings(
    sizes=((4, 4), (5, 3)),
    judged=((5, 5),),
    judged_each=20,
    effort=0.01,
    lessons=6,
    steps=16,
    batch=64,
    rate=1e-2,
    shops=2,
    episodes=2,
    shape=PolicyShape(width=8, heads=1, hidden=16, decision=8),
    objective=ClippedObjective(epochs=2, batches=2),
)


@pytest.mark.parametrize("problem", ["job-shop", "flexible-shop"])
def test_a_short_training_improves_the_policy(tmp_path: Path, problem: str) -> None:
    seen: list[Progress] = []
    out = train(
        tmp_path / "a.safetensors", seconds=1.5, seed=1, on_progress=seen.append, problem=problem, settings=TINY
    )
    policy, card = load_policy(out)
    assert card["problem"] == problem
    assert card["training"]["seed"] == 1
    assert card["training"]["lessons"] > 0
    assert card["history"][-1]["seconds"] >= 1.5
    generator = np.random.default_rng(77)
    shops = [
        flexible_shop(6, 4, 3, generator) if problem == "flexible-shop" else taillard_shop(6, 5, generator)
        for _ in range(20)
    ]
    torch.manual_seed(0)
    untrained = np.mean([found.makespan for found in greedy(DispatchingPolicy(TINY.shape), shops)])
    assert np.mean([found.makespan for found in greedy(policy, shops)]) < untrained
    assert seen[-1].seconds >= 1.5
    assert seen[-1].best == pytest.approx(min(entry["score"] for entry in card["history"]), abs=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.safetensors"]


def test_a_training_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    """SIGKILL in the middle; the second start has the first one's lessons, and needs only the rest of the time."""
    out = tmp_path / "a.safetensors"
    program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path  # noqa: E402
import pathloom.learn.dispatching.trainer as trainer
from test_dispatcher_training import TINY
trainer.SAVE_EVERY = 0.0
say = lambda p: print(p.seconds, flush=True)
trainer.train(Path({str(out)!r}), seconds=1000, seed=2, settings=TINY, on_progress=say)
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment)
    assert running.stdout is not None
    for _ in range(3):
        reached = float(running.stdout.readline())
    running.send_signal(signal.SIGKILL)
    running.wait()
    running.stdout.close()
    kept = out.with_suffix(".training")
    assert kept.exists() and not out.exists()

    with pytest.raises(InputError, match="other settings") as error:
        train(out, seconds=1000, seed=3, settings=TINY)
    assert error.value.key == "seed"

    seen: list[Progress] = []

    def stop_at_once(progress: Progress) -> None:
        seen.append(progress)
        request_stop()

    began = time.process_time()
    try:
        train(out, seconds=1000, seed=2, settings=TINY, on_progress=stop_at_once)
    finally:
        clear_stop()
    _, card = load_policy(out)
    assert len(seen) == 1
    assert seen[0].seconds > 0.5 * reached
    assert card["training"]["processor_seconds"] > time.process_time() - began
    assert card["training"]["lessons"] >= 3 * TINY.lessons
    assert kept.exists(), "its time is not over, so that it can go on a third time"


def test_a_damaged_state_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "a.training").write_bytes(b"not a state")
    with pytest.raises(InputError, match="is no state of a training"):
        train(tmp_path / "a.safetensors", seconds=1, settings=TINY)


def test_checkpoints_come_back_as_they_were(tmp_path: Path) -> None:
    torch.manual_seed(5)
    policy = DispatchingPolicy(TINY.shape)
    file = save_policy(tmp_path / "new" / "p.safetensors", policy, {"problem": "job-shop", "remark": "untrained"})
    again, card = load_policy(file)
    assert card["remark"] == "untrained"
    assert card["network"]["parameters"] == policy.parameters_count
    for name, value in policy.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])


def test_bad_checkpoints_are_refused_in_words(tmp_path: Path) -> None:
    file = save_policy(tmp_path / "p.safetensors", DispatchingPolicy(TINY.shape), {"problem": "job-shop"})
    card = json.loads(file.with_suffix(".json").read_text())

    def refused(change: dict[str, object], match: str) -> None:
        file.with_suffix(".json").write_text(json.dumps({**card, **change}))
        with pytest.raises(InputError, match=match):
            load_policy(file)

    refused({"format": "other"}, "format: expected the card of a dispatcher")
    refused({"problem": "tea"}, "problem: expected one of job-shop, flexible-shop")
    refused({"sha256": "0"}, "does not belong to its card")
    refused({"network": {"width": 8}}, "network: no sizes of a network")
    refused({"network": {**card["network"], "width": 16}}, "no weights of such a network")
    file.with_suffix(".json").write_text("{")
    with pytest.raises(InputError, match="is no JSON"):
        load_policy(file)
    file.with_suffix(".json").unlink()
    with pytest.raises(InputError, match="cannot be read"):
        load_policy(file)
    with pytest.raises(InputError, match=r"ends in \.safetensors"):
        train(tmp_path / "p.pt", settings=TINY)
    with pytest.raises(InputError, match="expected one of job-shop, flexible-shop, found 'tea'"):
        train(file, problem="tea", settings=TINY)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="expected more than 0 seconds"):
        train(file, seconds=0, settings=replace(TINY))


def test_one_pass_of_the_shipped_policy_beats_every_rule_on_generated_job_shops() -> None:
    generator = np.random.default_rng(2024)
    shops = [taillard_shop(12, 10, generator) for _ in range(16)]
    learned = np.mean([found.makespan for found in greedy(shipped_policy(), shops)])
    for rule in RULES:
        environment = IntervalEnvironment(shops)
        environment.finish_by_rule(rule)
        assert learned < environment.makespan.mean()


def test_the_best_of_sixteen_beats_every_rule_on_generated_flexible_shops() -> None:
    """One pass alone is about as good as the best rule there."""
    generator = np.random.default_rng(2024)
    shops = [flexible_shop(12, 6, 3, generator) for _ in range(8)]
    policy = shipped_policy("flexible-shop")
    found = [best_of(policy, shop, 16) for shop in shops]
    learned = np.mean([best.makespan for best in found if best is not None])
    for rule in RULES:
        for patient in (False, True):
            environment = IntervalEnvironment(shops)
            environment.finish_by_rule(rule, patient=patient)
            assert learned < environment.makespan.mean()
