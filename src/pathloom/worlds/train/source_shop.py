"""Lower bound from one source: its forwards, losses and backwards as a small re-entrant shop.

All microbatches of one source pass over the same machine three times (forward, loss, backward) and hold one of its M
memory slots from the first pass to the last. In between they are away at least as long as along the cheapest routes.
Everything else is left out, so the optimum of this shop, proven by CP-SAT, bounds the iteration from below.

The jobs are alike, so some optimal schedule starts the i-th forward, the i-th loss and the i-th backward in the same
order (sorting the starts of each pass keeps every constraint), and the slots say that the (i+M)-th forward starts after
the i-th backward. Times are rounded down to whole ticks, which can only lower the optimum.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor

TICKS = 2000  # ticks a second of the integer model


@dataclass(frozen=True)
class SourceShop:
    """Times of one source in seconds.

    Attributes
    ----------
    microbatches, slots
        Number of jobs, and how many of them may be between their forward's start and their backward's end.
    forward, loss, backward
        Durations of the three passes.
    out, back
        Least time between the end of the forward and the start of the loss, and between loss and backward.
    injection_gap, gap
        Rests of the machine after a forward, and after the other passes.
    """

    microbatches: int
    slots: int
    forward: float
    loss: float
    backward: float
    out: float
    back: float
    injection_gap: float
    gap: float


def shop_bound(shop: SourceShop, *, time_limit: float) -> float:
    """Proven lower bound in seconds on the time until the last backward has ended.

    Parameters
    ----------
    time_limit
        Seconds for CP-SAT; the bound that it has by then is returned.
    """
    from ortools.sat.python import cp_model

    def ticks(seconds: float) -> int:
        return floor(seconds * TICKS + 1e-9)

    n = shop.microbatches
    one = shop.forward + shop.out + shop.loss + shop.back + shop.backward
    horizon = ticks(n * (one + 3 * (shop.gap + shop.injection_gap)) + 1.0)
    model = cp_model.CpModel()
    lengths = [
        ticks(shop.forward + shop.injection_gap),
        ticks(shop.loss + shop.gap),
        ticks(shop.backward + shop.gap),
    ]
    starts = [[model.new_int_var(0, horizon, f"{p}_{i}") for i in range(n)] for p in range(3)]
    model.add_no_overlap(
        model.new_fixed_size_interval_var(starts[p][i], lengths[p], f"i{p}_{i}") for p in range(3) for i in range(n)
    )
    for i in range(n):
        model.add(starts[1][i] >= starts[0][i] + ticks(shop.forward + shop.out))
        model.add(starts[2][i] >= starts[1][i] + ticks(shop.loss + shop.back))
        for p in range(3):
            if i:
                model.add(starts[p][i] >= starts[p][i - 1] + lengths[p])
        if i + shop.slots < n:
            model.add(starts[0][i + shop.slots] >= starts[2][i] + lengths[2])
    model.minimize(starts[2][n - 1])
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = time_limit
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 0
    solver.parameters.catch_sigint_signal = False  # Ctrl-C belongs to the command line
    status = solver.solve(model)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE, cp_model.UNKNOWN):
        return 0.0
    return max(0.0, solver.best_objective_bound) / TICKS + floor(shop.backward * TICKS) / TICKS
