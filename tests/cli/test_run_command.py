"""``pathloom run``: what it prints, how it ends after Ctrl-C, and how torchrun starts it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from answers import Call
from small_runs import Watched, full, nothing_left, run, skipping, text_tokens, wait_for, written

pytest.importorskip("torch")

from pathloom.worlds.train.runtime.checkpoint import latest

QUICK = ("--set", "patience=60", "--learning-rate", "0.01")


@pytest.fixture(autouse=True)
def no_process_left() -> Iterator[None]:
    """Processes that a test has started must be gone after it; a fork server first loads all that it was to load."""
    with nothing_left(60):
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two plans and tokens, for reading only."""
    made = tmp_path_factory.mktemp("command")
    text_tokens(made / "tokens")
    written(skipping(3), made / "skip" / "plan.json")
    written(full("1f1b", sizes=(1, 1, 1), microbatches=3), made / "three.json")
    return made


def test_a_run_ends_in_a_table_and_in_files(call: Call, folder: Path, tmp_path: Path) -> None:
    answer = call("run", folder / "skip" / "plan.json", "--data", folder / "tokens", "--steps", "3", *QUICK)
    assert answer.status == 0, answer.err
    assert "training loss" in answer.out and "iteration, measured" in answer.out
    out = tmp_path / "skip-run"  # named after the plan's folder
    assert (out / "model" / "model.safetensors").exists()
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 3
    assert str(Path("skip-run") / "model") in answer.out


def test_with_json_one_object_says_everything(call: Call, folder: Path, tmp_path: Path) -> None:
    answer = call(
        "run",
        folder / "three.json",
        "--data",
        folder / "tokens",
        "--steps",
        "3",
        "--seed",
        "7",
        "--validate-every",
        "2",
        "--checkpoint-every",
        "2",
        "--emulate-links",
        "--pad-compute",
        "--time-scale",
        "0.5",
        "--json",
    )
    assert answer.status == 0, answer.err
    (found,) = [json.loads(line) for line in answer.out.splitlines()]
    assert found["problem"] == {"name": "small run", "kind": "train run", "file": str(folder / "three.json")}
    assert (found["method"], found["checked"], found["seed"]) == ("run", True, 7)
    assert (found["bound"], found["gap"]) == (None, None)
    assert found["objective"]["unit"] == "s" and found["objective"]["value"] > 0
    assert found["seconds"] > 3 * found["objective"]["value"] * 0.5
    metrics = found["metrics"]
    assert (metrics["steps"], metrics["status"], metrics["nodes_lost"]) == (3, "done", 0)
    assert metrics["loss"] > 0 and metrics["validation_loss"] > 0
    assert metrics["iteration_seconds"] >= metrics["planned_seconds"] * 0.99
    assert set(found["files"]) >= {"run", "metrics", "timeline", "checkpoint", "model"}
    assert all((tmp_path / path).exists() for path in found["files"].values())
    assert json.loads((tmp_path / "three-run" / "run.json").read_text())["settings"]["time_scale"] == 0.5


def test_a_resumed_run_knows_its_settings(call: Call, folder: Path) -> None:
    first = call(
        "run", folder / "three.json", "--data", folder / "tokens", "--steps", "2", "--seed", "5", "--out", "r", *QUICK
    )
    assert first.status == 0, first.err
    again = call("run", folder / "three.json", "--resume", "--steps", "4", "--out", "r", "--json")
    assert again.status == 0, again.err
    found = json.loads(again.out)
    assert found["seed"] == 5 and found["metrics"]["steps"] == 4
    assert json.loads(Path("r/run.json").read_text())["settings"]["learning_rate"] == 0.01


def test_settings_come_from_a_file_and_options_overrule_them(call: Call, folder: Path, tmp_path: Path) -> None:
    Path("run.yaml").write_text(f"data: {folder / 'tokens'}\nsteps: 9\nclip: 0.5\npatience: 1 min\n")
    answer = call("run", folder / "three.json", "--config", "run.yaml", "--steps", "1", "--set", "weight_decay=0.2")
    assert answer.status == 0, answer.err
    settings = json.loads((tmp_path / "three-run" / "run.json").read_text())["settings"]
    assert (settings["steps"], settings["clip"], settings["weight_decay"], settings["patience"]) == (1, 0.5, 0.2, 60.0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nothing.json",), "nothing.json"),
        (("three.json",), "--data: expected a folder of tokens, see 'pathloom data tokenize'"),
        (("three.json", "--data", "nowhere"), "nowhere: no such folder"),
        (("three.json", "--data", "tokens", "--set", "steps"), "--set: expected NAME=VALUE, found 'steps'"),
        (("three.json", "--data", "tokens", "--set", "step=3"), "step: unknown key; did you mean 'steps'?"),
        (("three.json", "--data", "tokens", "--set", "clip=[1"), "--set clip: '[1' is no value"),
        (("three.json", "--data", "tokens", "--steps", "0"), "steps: expected a whole number from 1"),
        (("three.json", "--data", "tokens", "--schedule", "fast"), "schedule: "),
        (("three.json", "--data", "tokens", "--resume", "--out", "none"), "--resume: holds no run to resume"),
        (("three.json", "--config", "wrong.yaml"), "wrong.yaml: clip: "),
        (("tokens/tokens.json", "--data", "tokens"), "tokens.json"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_mistake_is_one_line_and_status_2(
    call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(folder)
    (folder / "wrong.yaml").write_text("data: tokens\nclip: much\n")
    before = sorted(folder.rglob("*"))
    answer = call("run", *arguments)
    assert answer.status == 2
    assert len(answer.lines) == 1 and said in answer.lines[0]
    assert answer.out == ""
    assert sorted(folder.rglob("*")) == before


class Running:
    """``python -m pathloom run`` in a process of its own, in a session as a terminal gives it."""

    def __init__(self, folder: Path, *arguments: str | Path) -> None:
        command = [sys.executable, "-m", "pathloom", "run", *(str(argument) for argument in arguments)]
        self.log = folder / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )

    def wait_until(self, condition: Any) -> None:
        found = wait_for(lambda: condition() or self.process.poll() is not None, 120)
        assert found and self.process.poll() is None, self.log.read_text()

    def interrupt(self) -> None:
        """Ctrl-C, which reaches every process of the terminal."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self) -> int:
        try:
            return self.process.wait(timeout=60)
        finally:
            self.process.kill()


def records(out: Path) -> list[dict[str, Any]]:
    file = out / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_ctrl_c_ends_after_the_present_step_with_a_checkpoint(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = ("--data", folder / "tokens", "--out", out, "--pad-compute", "--time-scale", "5", *QUICK)
    running = Running(tmp_path, folder / "three.json", *arguments, "--steps", "1000")
    running.wait_until(lambda: len(records(out)) >= 2)
    running.interrupt()
    assert running.end() == 0, running.log.read_text()
    assert "stopping after the present step; Ctrl-C again to abort" in running.log.read_text()
    content = json.loads((out / "run.json").read_text())
    done = len(records(out))
    assert (content["status"], content["figures"]["steps"]) == ("stopped", done)
    assert 2 <= done < 1000
    last = latest(out, verify=True)
    assert last is not None and last.step == done
    assert not (out / "model").exists()
    again = run(folder / "three.json", out, resume=True, compute="real", steps=done + 1)
    assert [record["step"] for record in again.steps] == [done + 1]


def test_a_second_ctrl_c_aborts(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = ("--data", folder / "tokens", "--out", out, "--pad-compute", "--time-scale", "1000", *QUICK)
    running = Running(tmp_path, folder / "three.json", *arguments)
    running.wait_until(lambda: (out / "run.json").exists())
    time.sleep(0.5)
    running.interrupt()
    assert wait_for(lambda: "Ctrl-C again to abort" in running.log.read_text(), 60)
    with contextlib.suppress(ProcessLookupError):  # while nodes are still joining, the first one ends it already
        running.interrupt()
    assert running.end() == 130, running.log.read_text()
    assert "pathloom: aborted" in running.log.read_text().splitlines()
    assert json.loads((out / "run.json").read_text())["status"] == "aborted"


def torchrun(folder: Path, processes: int, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port", "0", "--standalone"]
    return subprocess.run(
        [sys.executable, *launch, "-m", "pathloom", "run", *(str(argument) for argument in arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.slow
def test_torchrun_starts_one_process_a_node(folder: Path, tmp_path: Path) -> None:
    arguments = (folder / "three.json", "--data", folder / "tokens", "--steps", "3", *QUICK)
    done = torchrun(tmp_path, 3, *arguments, "--out", tmp_path / "run", "--json")
    assert done.returncode == 0, done.stderr
    (found,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert found["metrics"]["status"] == "done"
    alone = run(
        folder / "three.json",
        tmp_path / "forked",
        data=str(folder / "tokens"),
        steps=3,
        learning_rate=0.01,
        patience=60,
    )
    assert [record["loss"] for record in records(tmp_path / "run")] == alone.losses


@pytest.mark.slow
def test_torchrun_with_another_number_of_processes_is_refused(folder: Path, tmp_path: Path) -> None:
    done = torchrun(tmp_path, 2, folder / "three.json", "--data", folder / "tokens", "--out", tmp_path / "run")
    assert done.returncode != 0
    assert "nodes: torchrun has started 2 processes, the plan has 3 nodes" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_nodes_that_something_else_starts_join_by_themselves(folder: Path, tmp_path: Path) -> None:
    """Two of the three: a scheduler of a cluster would start them so."""
    local = Watched()
    others: list[subprocess.Popen[bytes]] = []

    def launch(name: str, address: tuple[str, int]) -> Any:
        if name == "n0":
            return local(name, address)
        module = "pathloom.worlds.train.runtime.worker"
        command = [sys.executable, "-m", module, "--coordinator", f"{address[0]}:{address[1]}", "--node", name]
        others.append(subprocess.Popen(command))
        return None

    done = run(folder / "three.json", tmp_path / "run", data=str(folder / "tokens"), steps=2, launcher=launch)
    assert [record["nodes"] for record in done.steps] == [3, 3]
    assert [process.wait(30) for process in others] == [0, 0]
