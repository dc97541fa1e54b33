"""Compiled rollouts: what every choice of one decision leads to when rules take all later ones."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pathloom.worlds.shop.online import _floor_state as state
from pathloom.worlds.shop.online._floor_kernels import advance, move, next_failure, repair_time
from pathloom.worlds.shop.online._floor_state import Run, run_of


@njit(cache=True, nogil=True)
def rollout_values(
    batch: Run,
    choices: NDArray[np.int64],
    rules: NDArray[np.int64],
    samples: int,
    seed: int,
    values: NDArray[np.float64],
) -> None:
    """Mean makespans after each choice of a decision, under each rule, over samples of future breakdowns.

    Parameters
    ----------
    batch
        A batch of one run that asks, with nothing in it that a decision must not know (see `Floor.outlook`).
    choices
        Jobs, or `HOLD`.
    rules
        Numbers of the rules that go on.
    samples
        Number of futures; all choices and rules meet the same ones.
    seed
        Of the futures.
    values
        Filled, shape (choices, rules).
    """
    now = run_of(batch, 0)
    machine = now.whole[state.ASKED]
    values[:] = 0.0
    for sample in range(samples):
        for a in range(len(choices)):
            for r in range(len(rules)):
                run = Run(
                    now.first,
                    now.on,
                    now.nominal,
                    now.actual,
                    now.work,
                    now.rank,
                    now.arrival,
                    now.by_arrival,
                    now.trouble,
                    now.job.copy(),
                    now.machine.copy(),
                    now.operation.copy(),
                    now.served.copy(),
                    now.way.copy(),
                    now.whole.copy(),
                    now.log,
                )
                run.whole[state.SEED] = seed + sample
                for m in range(run.whole[state.MACHINES]):
                    if run.machine[m, state.DOWN]:
                        if int(run.trouble[state.REPAIR_KIND]) != state.FIXED:
                            run.machine[m, state.REPAIR_AT] = run.whole[state.NOW] + repair_time(run, m)
                    elif run.trouble[state.BETWEEN] > 0.0:
                        run.machine[m, state.FAIL_AT] = next_failure(run, m)
                move(run, choices[a], machine)
                advance(run, rules[r], state.NEVER)
                values[a, r] += run.whole[state.NOW] / samples
