"""The learned flow control as a planning method: the policy that was trained for this cell, run on its lot."""

from __future__ import annotations

import time

from pathloom.plan import InputError, NoPlanFound, OnProgress, Plan, Progress
from pathloom.worlds.shop.cells.bounds import lot_bound
from pathloom.worlds.shop.cells.cell import Cell
from pathloom.worlds.shop.cells.rules import run_plan
from pathloom.worlds.shop.cells.simulator import lot_draws, simulate

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
