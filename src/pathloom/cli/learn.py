"""``pathloom learn``: policies, and learning-rate schedules, refined from the gradient norms of a run."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pathloom.cli.learn_policy import policy

if TYPE_CHECKING:
    from pathloom.learn.rates import RatePlan, RecordedNorms, Refinement

app = typer.Typer(
    help="Train policies; learning-rate schedules: draw them, and refine them from a run.", no_args_is_help=True
)
app.command("policy")(policy)

Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
_SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9)


@app.command("refine-schedule")
def refine_schedule(
    run: Annotated[Path, typer.Argument(help="Folder of a run, which holds norms.json; or such a file.")],
    norm: Annotated[
        str, typer.Option(help="Norm to use: l2 (SGD), l1 (Adam and its kin), or auto, by the run's optimizer.")
    ] = "auto",
    smoothing: Annotated[float, typer.Option(help="Width of the running median as a share of the run.")] = 0.1,
    guard: Annotated[
        bool, typer.Option("--guard/--no-guard", help="Fall back to linear where the norms collapse.")
    ] = True,
    steps: Annotated[
        int | None, typer.Option(help="Steps of the next run; as many as the recorded one if left out.", min=1)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Schedule file to write; <run>-schedule.json here if left out.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make the schedule for the next run from the gradient norms of this one."""
    from pathloom.cli.results import consoles, print_files, print_json
    from pathloom.learn.rates import RatePlan, load_norms, refine
    from pathloom.plan import InputError
    from pathloom.show.table import rich_table

    results, notes = consoles(as_json)
    if not 0 <= smoothing < 1:
        raise InputError(f"expected a share of the run in [0, 1), found {smoothing:g}", key="--smoothing")
    file = run / "norms.json" if run.is_dir() else run
    target = _target(out, f"{(run.resolve() if run.is_dir() else run.resolve().parent).name}-schedule.json", ".json")
    norms = load_norms(file)
    chosen = _norm(norm, norms, file)
    record = norms.l1 if chosen == "l1" else norms.l2
    began = time.perf_counter()
    try:
        found = refine(record, norm=chosen, smoothing=smoothing, guard=guard)
    except ValueError as error:
        raise InputError(str(error), file=str(file), key=chosen) from None
    plan = RatePlan(found.profile, steps or record.last_step + 1)
    seconds = time.perf_counter() - began
    ratio = _bound_ratio(found)
    p, q = found.power_fit
    said = f"{record.count:,} gradient norms ({chosen}) of a run with {norms.optimizer}"
    if record.dropped:
        said += f"; {record.dropped:,} infinite or undefined ones left out"
    columns = ("schedule", *(f"at {share:.0%}" for share in _SHARES), "warm-up", "power", "bound")
    rows = [
        ("linear", *(f"{1 - share:.3f}" for share in _SHARES), "0 %", "1.00", "1.000"),
        (
            "linear, by the guard" if found.guarded else f"refined, {chosen}",
            *(f"{float(found.profile(share)):.3f}" for share in _SHARES),
            f"{100 * p:.0f} %",
            f"{q:.2f}",
            f"{ratio:.3f}",
        ),
    ]
    title = f"{run.resolve().name}: schedule of {plan.steps:,} steps"
    subtitle = said + (f"\n{_lines(found.reason)}" if found.guarded else "")
    files = _write(target, plan, found, title, subtitle, columns, rows, source=file)
    if found.guarded:
        notes.print(f"falls back to linear decay: {found.reason}", soft_wrap=True, highlight=False, markup=False)
    if as_json:
        print_json(
            {
                "problem": {"name": run.resolve().name, "kind": "gradient norms of a run", "file": str(file)},
                "method": f"refinement-{chosen}",
                "objective": {"name": "bound over linear decay's", "value": ratio, "unit": "", "sense": "min"},
                "bound": None,
                "gap": None,
                "seconds": seconds,
                "checked": True,
                "seed": 0,
                "files": files,
                "metrics": {
                    "steps": plan.steps,
                    "optimizer": norms.optimizer,
                    "norm": chosen,
                    "norms": record.count,
                    "dropped": record.dropped,
                    "smoothing": smoothing,
                    "scatter": found.scatter,
                    "guarded": found.guarded,
                    "reason": found.reason,
                    "power_fit": {"warm_up": p, "power": q},
                    "factors": {f"{share:g}": float(found.profile(share)) for share in _SHARES},
                },
            }
        )
    results.print(said, highlight=False, markup=False)
    results.print(rich_table(columns, rows, title=title))
    print_files(results, files)


@app.command()
def schedules(
    steps: Annotated[int, typer.Option(help="Steps of the budget.", min=1)] = 1000,
    warmup: Annotated[int, typer.Option(help="Steps of linear warm-up in front.", min=0)] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Picture to write; schedules.png here if left out.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Draw and list all learning-rate schedules."""
    from pathloom.cli.results import consoles, print_files, print_json
    from pathloom.learn.rates import PROFILES, plan_named
    from pathloom.learn.rates.pictures import plans_png, sparkline
    from pathloom.plan import InputError
    from pathloom.show.table import rich_table

    results, _ = consoles(as_json)
    if warmup >= steps:
        raise InputError(f"expected fewer steps than the budget of {steps}, found {warmup}", key="--warmup")
    target = _target(out, "schedules.png", ".png")
    # A table without points is the linear one; the last two show a profile that is read at a few points only.
    names = [name for name in PROFILES if name != "tabulated"] + ["linear@50-75", "rex@10-20-30-40-50-60-70-80-90"]
    plans = {name: plan_named(name, steps, warmup=warmup) for name in names}
    factors = {name: plan.factors() for name, plan in plans.items()}
    places = [min(int(share * steps), steps - 1) for share in _SHARES]
    columns = ("schedule", "shape", *(f"at {share:.0%}" for share in _SHARES), "mean", "settings")
    rows = []
    for name, plan in plans.items():
        settings = {key: value for key, value in plan.profile.to_dict().items() if key != "name"}
        rows.append(
            (
                name,
                sparkline(factors[name]),
                *(f"{factors[name][place]:.3f}" for place in places),
                f"{factors[name].mean():.3f}",
                ", ".join(f"{key} = {value}" for key, value in settings.items()),
            )
        )
    title = f"Learning-rate schedules over {steps:,} steps"
    subtitle = "Factor on the base rate" + (f", after {warmup:,} steps of warm-up" if warmup else "")
    with _parts(target) as folder:
        plans_png(folder / target.name, plans, title=title, subtitle=subtitle)
    files = {"picture": target}
    if as_json:
        entries = {
            name: {"plan": plan.to_dict(), "mean": float(factors[name].mean()), "factors": factors[name][places]}
            for name, plan in plans.items()
        }
        print_json({"steps": steps, "warmup": warmup, "shares": _SHARES, "schedules": entries, "files": files})
    results.print(rich_table(columns, rows, title=title))
    print_files(results, files)


def _target(out: Path | None, otherwise: str, suffix: str) -> Path:
    """File to write, found out before the work whether it can be one."""
    from pathloom.cli.output import check_folder
    from pathloom.plan import InputError

    target = out or Path(otherwise)
    if target.is_dir():
        raise InputError("is a folder, expected a file", file=str(target), key="--out")
    if target.suffix != suffix:
        raise InputError(f"expected a name that ends in {suffix}", file=str(target), key="--out")
    check_folder(target.parent)
    return target


def _norm(asked: str, norms: RecordedNorms, file: Path) -> Literal["l1", "l2"]:
    """The norm that fits the run's optimizer, or the one asked for."""
    from pathloom.plan import InputError

    if asked in ("l1", "l2"):
        return "l1" if asked == "l1" else "l2"
    if asked != "auto":
        raise InputError(f"expected l1, l2 or auto, found {asked!r}", key="--norm")
    name = norms.optimizer.lower()
    if any(word in name for word in ("adam", "adagrad", "rmsprop", "lion", "adafactor", "sign")):
        return "l1"
    if "sgd" in name or "momentum" in name:
        return "l2"
    raise InputError(
        f"cannot tell the norm for '{norms.optimizer}'; say --norm l1 or l2", file=str(file), key="optimizer"
    )


def _bound_ratio(found: Refinement) -> float:
    """Bound on the last iterate's loss with the schedule over that with linear decay, each at its best base rate.

    In the coordinate-wise form the l1 norm stands where the square of the l2 norm does.
    """
    import numpy as np

    from pathloom.learn.rates.last_iterate_bound import bound_at_best_rate

    norms = np.maximum(found.smoothed, 1e-9 * found.smoothed.max())
    lengths = np.sqrt(norms) if found.norm == "l1" else norms
    used, linear = (np.asarray(factors) for factors in (found.profile.points, np.linspace(1.0, 0.0, len(norms))))
    return bound_at_best_rate(used, lengths, 1.0) / bound_at_best_rate(linear, lengths, 1.0)


def _write(
    target: Path,
    plan: RatePlan,
    found: Refinement,
    title: str,
    subtitle: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    source: Path,
) -> dict[str, Path]:
    """Write the schedule, a page and a picture; the file is read back before anything is put in its place."""
    from pathloom.learn.rates import load_rate_plan, save_rate_plan
    from pathloom.learn.rates.pictures import refinement_figures, refinement_png
    from pathloom.show.report import html_report

    files = {"schedule": target, "page": target.with_suffix(".html"), "picture": target.with_suffix(".png")}
    refinement = {
        "norm": found.norm,
        "guarded": found.guarded,
        "reason": found.reason,
        "power_fit": list(found.power_fit),
    }
    with _parts(target) as folder:
        saved = save_rate_plan(folder / target.name, plan, made_from=str(source), refinement=refinement)
        if load_rate_plan(saved) != plan:
            raise AssertionError(f"{target}: a schedule differs after reading it back")
        figures = refinement_figures(found)
        html_report(
            folder / files["page"].name, title=title, subtitle=subtitle, columns=columns, rows=rows, figures=figures
        )
        refinement_png(folder / files["picture"].name, found, title=title, subtitle=subtitle)
    return files


@contextmanager
def _parts(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target`, whose files are moved there when all of them are written."""
    from pathloom.plan import InputError

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", suffix=".part", dir=target.parent) as folder:
            yield Path(folder)
            for part in sorted(Path(folder).iterdir()):
                os.replace(part, target.parent / part.name)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror or error}", file=str(target), key="--out") from None


def _lines(text: str, width: int = 120) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, width))
