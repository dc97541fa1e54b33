"""Ctrl-C during a long plan: the first ends it with a checked and saved plan, the second aborts."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pathloom.worlds.train.check import check
from pathloom.worlds.train.plan_files import read_plan

COUNTING = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import counting_world, pathloom.world
found = {{"counting": counting_world.world()}}
pathloom.world.worlds = lambda: found
from pathloom.cli import main
sys.exit(main(sys.argv[1:]))
"""


class Running:
    """A command in a process of its own; standard output and error go to files that can be read at any time."""

    def __init__(self, folder: Path, *command: str) -> None:
        self.folder = folder
        self.out_file, self.err_file = folder.parent / "out.txt", folder.parent / "err.txt"
        with self.out_file.open("w") as out, self.err_file.open("w") as err:
            self.process = subprocess.Popen([sys.executable, *command], cwd=folder, stdout=out, stderr=err)

    @property
    def err(self) -> str:
        return self.err_file.read_text()

    def interrupt_when(self, word: str) -> None:
        """Send Ctrl-C as soon as standard error holds `word`."""
        while word not in self.err:
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.err}"
            time.sleep(0.02)
        self.process.send_signal(signal.SIGINT)

    def end(self) -> tuple[int, str]:
        """Exit status and standard output."""
        try:
            return self.process.wait(timeout=120), self.out_file.read_text()
        finally:
            self.process.kill()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "work"
    made.mkdir()
    (made / "three.txt").write_text("count to 3\n")
    return made


def test_the_first_interruption_keeps_the_best_plan(folder: Path) -> None:
    running = Running(folder, "-c", COUNTING, "plan", "three.txt", "--method", "patient", "--time", "600", "--json")
    running.interrupt_when("best 3")
    status, out = running.end()
    assert status == 0, running.err
    (found,) = [json.loads(line) for line in out.splitlines()]
    assert found["method"] == "patient"
    assert found["checked"] is True
    assert "stopping with the best plan so far" in running.err
    assert "interrupted: this is the best plan so far" in running.err
    assert json.loads((folder / "three-plan" / "plan.json").read_text())["count"] == 3


def test_the_second_interruption_aborts_and_leaves_nothing(folder: Path) -> None:
    running = Running(folder, "-c", COUNTING, "plan", "three.txt", "--method", "deaf", "--time", "600")
    running.interrupt_when("best 3")
    running.interrupt_when("stopping with the best plan so far")
    status, out = running.end()
    assert status == 130, running.err
    assert out == ""
    assert running.err.splitlines()[-1] == "pathloom: aborted"
    assert [path.name for path in folder.iterdir()] == ["three.txt"]


def test_interrupting_a_long_training_plan_saves_one_that_its_checker_accepts(folder: Path) -> None:
    (folder / "small.yaml").write_text(
        "name: small\n"
        "nodes: {count: 6, regions: [Iowa, Oregon, LA], speed: 0.055, memory: 3}\n"
        "links: {network: gcp12}\n"
        "model: {dim: 1024, layers: 12, heads: 16, context: 1024}\n"
        "microbatches: 6\nsamples: 8\nstages: 3\n"
    )
    running = Running(folder, "-m", "pathloom.cli", "plan", "small.yaml", "--time", "3600")
    running.interrupt_when("best")
    status, _ = running.end()
    assert status == 0, running.err
    assert "interrupted" in running.err
    plan = read_plan(folder / "small-plan" / "plan.json")
    assert check(plan.problem, plan) == []
    assert plan.method == "pathloom"
