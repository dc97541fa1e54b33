"""``pathloom learn policy``: every policy can be trained, listed, and gone on with after SIGKILL and Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from answers import Call

torch = pytest.importorskip("torch")

from pathloom.plan import InputError, Progress, clear_stop, request_stop  # noqa: E402
from pathloom.world import worlds  # noqa: E402
from pathloom.worlds.shop.training_folder import close_training, open_training  # noqa: E402

CELL = """\
kind: robot-cell
lot: 10
ports: [{name: in, role: input, angle: 0}, {name: out, role: output, angle: 180}]
stations:
  - {name: wash, angle: 60, time: {low: 20, high: 30}}
  - {name: bake, angle: 120, time: 40 s}
robots:
  - name: robot
    stroke: 0.8
    rotation: {speed: 120, acceleration: 240}
    extension: {speed: 1.2, acceleration: 3.0}
    lift: {speed: 0.1, acceleration: 0.4}
recipe: [{stations: [wash]}, {stations: [bake]}]
"""
# What a child process runs: a training that would take long, which says when it saves.
CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
import test_learn_policy as tested
tested.{name}(Path({out!r}), 1000.0, lambda p: print(p.phase, flush=True))
"""
EACH = ("floor", "cell")


def floor(out: Path, seconds: float, on_progress, seed: int = 2) -> Path:
    from pathloom.learn.policy_gradient import PPOSettings
    from pathloom.worlds.shop.online.policy import DrawnShops
    from pathloom.worlds.shop.online.training import FloorTraining, train

    settings = FloorTraining(
        shops=DrawnShops(sizes=((4, 3),), durations=(1, 20)),
        most_samples=40,
        imitate_share=0.0005,
        ppo=PPOSettings(environments=4, steps=8),
    )
    return train(out, seconds=seconds, seed=seed, on_progress=on_progress, settings=settings)


def cell(out: Path, seconds: float, on_progress, seed: int = 2) -> Path:
    from pathloom.worlds.shop.cells.learned import train

    file = out.parent / "cell.yaml"
    file.write_text(CELL)
    return train(out, file=file, seconds=seconds, seed=seed, on_progress=on_progress, width=8, imitation=5)


def optimised(card: dict) -> int:
    """Decisions of the policy optimisation, those before an interruption too."""
    return card["decisions"] if "decisions" in card else card["environment steps"]


def test_all_policies_are_listed_with_a_line_each(call: Call) -> None:
    answer = call("learn", "policy", "--list", "--json")
    found = {each["policy"]: each["summary"] for each in map(json.loads, answer.out.splitlines())}
    assert set(found) == {name for world in worlds().values() for name in world.trainers}
    assert {"shop-dispatcher", "shop-floor", "robot-cell"} <= set(found)
    assert all(len(summary) > 40 for summary in found.values())


def test_a_floor_policy_is_trained_and_read_back(call: Call, tmp_path: Path) -> None:
    from pathloom.worlds.shop.online.policy import load_policy

    answer = call("learn", "policy", "shop-floor", "--time", "2", "--seed", "3", "--json")
    assert answer.status == 0, answer.err
    files = json.loads(answer.out)["files"]
    assert files == {"policy": "shop-floor.safetensors", "card": "shop-floor.json"}
    policy = load_policy(tmp_path / files["policy"])
    assert policy.card["seed"] == 3
    assert policy.card["score"]["mean makespan over the best rule's"] > 0.5
    assert {path.name for path in tmp_path.iterdir()} == set(files.values()), "nothing is left of the training"


def test_a_cell_policy_is_trained_for_the_cell_in_a_file(call: Call, tmp_path: Path) -> None:
    from pathloom.worlds.shop.cells.files import load_cell
    from pathloom.worlds.shop.cells.policy import fingerprint, load_policy

    (tmp_path / "small.yaml").write_text(CELL)
    options = ("--seconds", "1", "--set", "imitation=5", "--set", "width=8", "--out", "new/mine.safetensors")
    answer = call("learn", "policy", "robot-cell", "small.yaml", *options)
    assert answer.status == 0, answer.err
    policy = load_policy(tmp_path / "new" / "mine.safetensors")
    assert policy.card["fingerprint"] == fingerprint(load_cell(tmp_path / "small.yaml"))
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["mine.json", "mine.safetensors"]


@pytest.mark.slow
@pytest.mark.parametrize("name", EACH)
def test_a_training_that_was_killed_goes_on_where_it_was(tmp_path: Path, name: str) -> None:
    """SIGKILL after two updates; the second start is asked to stop after its first, and has the others as well."""
    out = tmp_path / "a.safetensors"
    program = CHILD.format(here=str(Path(__file__).parent), name=name, out=str(out))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment)
    assert running.stdout is not None
    while "optimisation, 2 updates" not in running.stdout.readline():
        assert running.poll() is None
    running.send_signal(signal.SIGKILL)
    running.wait()
    running.stdout.close()
    assert out.with_suffix(".training").is_dir() and not out.exists()
    train = globals()[name]
    with pytest.raises(InputError, match="belongs to another training") as error:
        train(out, 1000.0, None, seed=3)
    assert error.value.key == "seed"

    updates: list[int] = []

    def stop_soon(progress: Progress) -> None:
        if "optimisation" in progress.phase:
            updates.append(int(progress.phase.split()[-2]))
            request_stop()

    try:
        train(out, 1000.0, stop_soon)
    finally:
        clear_stop()
    card = json.loads(out.with_suffix(".json").read_text())
    assert len(updates) == 1 and updates[0] >= 3
    each = 4 * 8 if name == "floor" else 64 * 64
    assert optimised(card) == updates[0] * each
    assert out.with_suffix(".training").is_dir(), "its time is not over, so that it can go on a third time"


def test_ctrl_c_keeps_the_best_floor_policy_rather_than_the_last(tmp_path: Path, monkeypatch) -> None:
    """Judged at every update; what is written has the least score of all judgements."""
    from pathloom.worlds.shop.online import training
    from pathloom.worlds.shop.online.judging import FloorJudge

    scores: list[float] = []
    judge = FloorJudge.__call__

    def judged(self, network) -> float:
        scores.append(judge(self, network))
        return scores[-1]

    monkeypatch.setattr(FloorJudge, "__call__", judged)
    monkeypatch.setattr(training, "JUDGEMENTS", 10**9)

    def stop_after_four(progress: Progress) -> None:
        if "optimisation, 4 updates" in progress.phase:
            request_stop()

    try:
        out = floor(tmp_path / "a.safetensors", 1000.0, stop_after_four)
    finally:
        clear_stop()
    assert len(scores) >= 5
    kept = json.loads(out.with_suffix(".json").read_text())["score"]["mean makespan over the best rule's"]
    assert kept == pytest.approx(min(scores), abs=1e-5)
    again = FloorJudge(training.FloorTraining().shops, tmp_path / "other.pt")
    assert again.score == float("inf")


def test_a_stop_in_the_middle_of_teaching_is_no_finished_imitation(tmp_path: Path) -> None:
    def stop_at_once(_: Progress) -> None:
        request_stop()

    try:
        out = floor(tmp_path / "a.safetensors", 1000.0, stop_at_once)
    finally:
        clear_stop()
    assert out.exists()
    assert not (out.with_suffix(".training") / "imitated.pt").exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("robot-cell",), "FILE: the policy 'robot-cell' is trained for the problem in a file"),
        (("shop-floor", "cell.yaml"), "FILE: the policy 'shop-floor' is not trained for one file"),
        (("robot-cell", "none.yaml"), "none.yaml: no such file"),
        (("robot-cell", "cell.yaml", "--set", "width=wide"), "width: expected a whole number"),
        (("robot-cell", "cell.yaml", "--set", "depth=3"), "option 'depth' is unknown to the policy 'robot-cell'"),
        (("robot-cell", "cell.yaml", "--set", "width"), "--set: expected NAME=VALUE"),
        (("shop-floor", "--out", "a.pt"), "a.pt: expected a name that ends in .safetensors"),
        (("shop-flor",), "did you mean 'shop-floor'?"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(call: Call, tmp_path: Path, arguments, line: str) -> None:
    (tmp_path / "cell.yaml").write_text(CELL)
    answer = call("learn", "policy", *arguments, "--seconds", "1")
    assert answer.status == 2
    assert len(answer.lines) == 1 and line in answer.lines[0]
    assert {path.name for path in tmp_path.iterdir()} == {"cell.yaml"}


def test_the_state_of_a_training_belongs_to_it_alone(tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    folder = open_training(out, {"seed": 1, "sizes": (1, 2)})
    assert open_training(out, {"seed": 1, "sizes": (1, 2)}) == folder
    with pytest.raises(InputError, match="belongs to another training, with 1 instead of 2"):
        open_training(out, {"seed": 2, "sizes": (1, 2)})
    (folder / "training.json").write_text("{}")
    with pytest.raises(InputError, match="says of no training whose it is"):
        open_training(out, {"seed": 1})
    close_training(folder)
    folder.write_text("a file")
    with pytest.raises(InputError, match="cannot be written"):
        open_training(out, {"seed": 1})
