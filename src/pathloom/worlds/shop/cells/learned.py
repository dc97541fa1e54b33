"""The learned flow control as a planning method: the policy that was trained for this cell, run on its lot."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from pathloom.plan import InputError, NoPlanFound, OnProgress, Plan, Progress, stop_requested
from pathloom.worlds.shop.cells.bounds import long_run_bound, lot_bound
from pathloom.worlds.shop.cells.cell import Cell
from pathloom.worlds.shop.cells.files import load_cell
from pathloom.worlds.shop.cells.rules import run_plan
from pathloom.worlds.shop.cells.simulator import lot_draws, simulate
from pathloom.worlds.shop.training_folder import close_training, open_training

if TYPE_CHECKING:
    from pathloom.learn.policy_gradient import Update
    from pathloom.worlds.shop.cells.policy import Score

METHOD = "learned"


def learned(problem: Cell, *, time_limit: float = 10.0, seed: int = 0, on_progress: OnProgress | None = None) -> Plan:
    """Run the shipped policy that was trained on this cell; the lot may have any size.

    Raises
    ------
    NoPlanFound
        If no policy was trained for the cell, or the run breaks a dwell limit.
    InputError
        If PyTorch is not installed.
    """
    try:
        from pathloom.worlds.shop.cells.policy import policy_for
    except ModuleNotFoundError:
        raise InputError("needs the extra 'train': pip install 'pathloom[train]'", key=METHOD) from None
    began = time.perf_counter()
    policy = policy_for(problem)
    if policy is None:
        raise NoPlanFound(f"no policy has been trained for the cell '{problem.name}'")
    bound = lot_bound(problem, lot_draws(problem, seed))
    run = simulate(problem, policy, seed=seed)
    if run.late:
        raise NoPlanFound(f"{problem.name}: the learned policy breaks {run.late} dwell limits with seed {seed}")
    if on_progress is not None:
        on_progress(Progress(time.perf_counter() - began, run.seconds_per_item, bound.seconds, METHOD))
    settings: dict[str, object] = {"policy": policy.card["fingerprint"], "trained with seed": policy.card["seed"]}
    return run_plan(run, method=METHOD, settings=settings, seconds=time.perf_counter() - began, bound=bound)


def train(
    out: Path,
    *,
    file: Path,
    seconds: float = 1800.0,
    seed: int = 0,
    on_progress: OnProgress | None = None,
    width: int = 48,
    imitation: int = 800,
) -> Path:
    """Flow control of the robot cell in FILE: imitation of its best rule, then proximal policy optimisation.

    Parameters
    ----------
    out
        Checkpoint to write, named ``*.safetensors``; the card is ``*.json`` beside it, and the folder ``*.training``
        holds the state of an unfinished training.
    file
        The cell.
    seconds
        Processor time, all starts together. Ctrl-C (`pathloom.plan.request_stop`) ends the optimisation early with the
        best so far, and keeps the state.
    seed
        Of everything.
    on_progress
        `best` is the time per item (s) in the long run on lots set aside, `bound` a proven bound on it.
    width
        Of the network's hidden layers.
    imitation
        Steps of it; 0 for none.

    Raises
    ------
    InputError
        If the file holds no cell, `out` cannot be written, the state beside it is that of another training, or a
        number makes no sense.
    """
    import torch

    from pathloom.worlds.shop.cells.policy import fingerprint, save_policy, train_policy

    for name, value, least in (("width", width, 1), ("imitation", imitation, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InputError(f"expected a whole number of at least {least}, found {value!r}", key=name)
    if not seconds > 0:
        raise InputError(f"expected more than 0 seconds, found {seconds:g}", key="seconds")
    cell = load_cell(file)
    identity = {"policy": "robot-cell", "cell": fingerprint(cell), "seed": seed, "width": width, "imitation": imitation}
    folder = open_training(out, identity)
    bound, best = long_run_bound(cell).seconds, float("inf")

    def report(elapsed: float, phase: str) -> None:
        if on_progress is not None:
            on_progress(Progress(elapsed, best if best < float("inf") else None, bound, phase))

    def on_score(elapsed: float, score: Score) -> None:
        nonlocal best
        best = min(best, score.seconds_per_item)
        report(elapsed, f"judged: {score.late} dwell limits broken in {score.items} items")

    def on_update(update: Update) -> None:
        report(update.seconds, f"policy optimisation, {update.number + 1} updates")

    report(0.0, f"imitating a rule in {imitation} steps")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        policy = train_policy(
            cell,
            seconds=seconds,
            seed=seed,
            width=width,
            imitation=imitation,
            on_update=on_update,
            on_score=on_score,
            checkpoint=folder / "optimisation.pt",
        )
    finally:
        torch.set_num_threads(threads)
    weights, _ = save_policy(policy, out.stem, out.parent)
    if not stop_requested():
        close_training(folder)
    return weights
