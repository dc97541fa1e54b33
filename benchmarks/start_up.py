"""How long does the command line take to start, and where does the time of the main job go?

``pathloom --help`` is started anew 20 times. The main job, ``pathloom plan examples/gcp12-llama-500m.yaml``, runs once
as a user would run it, and once in a process that takes the time of each of its phases.
"""

from __future__ import annotations

import _one_thread  # noqa: F401  # isort: skip

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from _table import Cell, Table, finish, options, say
from _targets import TARGETS

NAME = "start_up"
EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "gcp12-llama-500m.yaml"
COLUMNS = ("what", "runs", "median (s)", "least (s)", "most (s)", "share (%)")


def command() -> list[str]:
    """The installed command of this Python, or the package's module where there is none."""
    beside = Path(sys.executable).with_name("pathloom")
    return [str(beside)] if shutil.which(str(beside)) else [sys.executable, "-m", "pathloom.cli"]


def wall(arguments: Sequence[str], runs: int) -> list[float]:
    """Seconds that each of the runs took, which must all end well."""
    taken = []
    for _ in range(runs):
        began = time.perf_counter()
        subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        taken.append(time.perf_counter() - began)
    return taken


def phases(file: Path, seconds: float, out: Path) -> dict[str, float]:
    """The main job's phases in this process: what it does, in the order in which ``pathloom plan`` does it."""
    taken: dict[str, float] = {}
    began = time.perf_counter()

    def phase(name: str, since: float) -> float:
        now = time.perf_counter()
        taken[name] = taken.get(name, 0.0) + now - since
        return now

    from pathloom.cli.opening import open_problem
    from pathloom.cli.planning import plan_and_compare
    from pathloom.world import resolve

    at = phase("imports", began)
    opened = open_problem(file, [])
    at = phase("reading the file", at)

    @contextmanager
    def watch(what: str, limit: float) -> Iterator[None]:
        since = time.perf_counter()
        yield None
        phase(what, since)

    outcome = plan_and_compare(
        opened.world,
        opened.problem,
        opened.world.default_method,
        time_limit=seconds,
        seed=0,
        alone=False,
        watch=watch,
    )
    at = time.perf_counter()
    resolve(opened.world.write)(outcome.plans[0], outcome.plans[1:], out)
    at = phase("plan, page, picture and trace", at)
    taken["checks and what lies between"] = at - began - sum(taken.values())
    return taken


def phases_apart(file: Path, seconds: float) -> dict[str, float]:
    """`phases` in a process of its own, with the interpreter's start as its first phase."""
    with tempfile.TemporaryDirectory() as folder:
        task = json.dumps({"file": str(file), "seconds": seconds, "out": folder})
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, str(Path(__file__).resolve()), "--child", task],
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        whole = time.perf_counter() - began
    inside: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return {"start and end of the process": whole - sum(inside.values()), **inside}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, save."""
    parser = options(NAME, __doc__)
    parser.add_argument("--runs", type=int, default=20, help="starts of pathloom --help")
    parser.add_argument("--seconds", type=float, default=30.0, help="planning time of the main job, as --time")
    parser.add_argument("--no-job", action="store_true", help="leave the main job out")
    parser.add_argument("--file", type=Path, default=EXAMPLE, help="input file of the main job")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    chosen = parser.parse_args(argv)
    if chosen.child:
        task: dict[str, Any] = json.loads(chosen.child)
        print(json.dumps(phases(Path(task["file"]), task["seconds"], Path(task["out"]))))
        return 0

    say(f"{chosen.runs} times --help")
    wall([*command(), "--help"], 1)  # files come into the system's cache
    helps = wall([*command(), "--help"], chosen.runs)
    python = wall([sys.executable, "-c", "pass"], chosen.runs)
    rows: list[list[Cell]] = [
        [name, len(taken), *(round(float(of(taken)), 3) for of in (median, min, max)), None]
        for name, taken in (("pathloom --help", helps), ("python -c pass", python))
    ]
    value = float(median(helps))
    verdicts = [
        TARGETS["help"].judge(
            value, f"median {value:.3f} s of {len(helps)} starts", short_of="20 starts" if len(helps) < 20 else ""
        )
    ]
    if not chosen.no_job:
        say(f"the main job, {chosen.seconds:g} s of planning")
        with tempfile.TemporaryDirectory() as folder:
            job = [*command(), "plan", str(chosen.file), "--time", f"{chosen.seconds:g}", "--out", f"{folder}/plan"]
            (whole,) = wall(job, 1)
        rows.append(["main job", 1, round(whole, 3), None, None, None])
        say("its phases")
        parts = phases_apart(chosen.file, chosen.seconds)
        total = sum(parts.values())
        rows += [[f"phase: {name}", 1, round(s, 3), None, None, round(100 * s / total, 1)] for name, s in parts.items()]
        unlike = "the example of the main job" if chosen.file.resolve() != EXAMPLE.resolve() else ""
        unlike = unlike or ("30 s of planning, its default" if chosen.seconds < 30.0 else "")
        words = f"{whole:.1f} s, of which {chosen.seconds:g} s of planning with the default method"
        verdicts.append(TARGETS["main-job"].judge(whole, words, short_of=unlike))

    table = Table(
        title="Start of the command line, and the time of the main job",
        columns=COLUMNS,
        rows=rows,
        settings={"runs": chosen.runs, "seconds": chosen.seconds},
        seeds=[0],
        notes=[
            "Each start is a new process; one start before the measured ones brings the files into memory.",
            "The main job runs after an installation whose compiled kernels lie on disk or, on the very first run, "
            "compiles them: run the benchmark twice to see both.",
            "Phases come from a second run, which makes the same calls as the command; shares are of its total.",
        ],
        verdicts=verdicts,
    )
    finish(table, NAME, chosen)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
