"""A batch of robot cells as a learning environment: the semi-Markov decision process with masked actions.

Follows the interface of `pathloom.learn.policy_gradient.BatchedEnvironment`. An episode is a lot; the first one of each
copy is of random length, so that copies do not fill and empty in step.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pathloom.worlds.shop.cells import _cell_kernels as core
from pathloom.worlds.shop.cells._rule_kernels import settle, step_cells
from pathloom.worlds.shop.cells.cell import Cell
from pathloom.worlds.shop.cells.simulator import StuckCell, cell_arrays, new_state, new_trace

Observation = dict[str, NDArray[np.float32] | NDArray[np.bool_]]
PENALTY = 3.0
"""Reward that a broken dwell limit costs, in items."""


class CellEnvironment:
    """E copies of a cell that move from decision to decision.

    An observation holds "places" (E, P, features), "overall" (E, features) and "mask" (E, 3P + 1); see
    `_rule_kernels.observe` and `_cell_kernels` for the numbering of actions. The reward of a decision is the progress
    of items in it less the time that it took, in units of `pace` seconds per item (the bound's without it), so that a
    control of that pace earns about nothing; broken dwell limits cost `penalty` each. Where rewards are discounted by
    decisions, `pace` should be near what the control does: else it gains by cutting time into more decisions.
    """

    def __init__(
        self, cell: Cell, copies: int, *, lot: int | None = None, penalty: float = PENALTY, pace: float | None = None
    ) -> None:
        self.cell, self.copies, self.penalty = cell, copies, penalty
        self.lot = cell.lot if lot is None else lot
        self.arrays = cell_arrays(cell)
        self._correction = 0.0 if pace is None else 1.0 / self.arrays.scale - 1.0 / pace
        places = len(cell.places)
        self.actions = 3 * places + 1
        self._places = np.zeros((copies, places, core.TOKEN_FEATURES), dtype=np.float32)
        self._overall = np.zeros((copies, core.GLOBAL_FEATURES), dtype=np.float32)
        self._mask = np.zeros((copies, self.actions), dtype=np.bool_)
        self._asked = np.zeros(copies, dtype=np.int64)
        self._reward = np.zeros(copies)
        self._quiet = new_trace(0)
        self._generators: list[np.random.Generator] = []
        self.state = new_state(cell, np.zeros((copies, self.lot, len(cell.recipe))))

    def reset(self, seeds: NDArray[np.int64], *, staggered: bool = True) -> Observation:
        """Start an episode in every copy, one seed a copy; `staggered` gives the first lots random lengths."""
        self._generators = [np.random.default_rng(int(seed)) for seed in seeds]
        for e, generator in enumerate(self._generators):
            shortest = max(1, self.lot // 5)
            self._begin(e, int(generator.integers(shortest, self.lot + 1)) if staggered else self.lot)
        return self._seen()

    def _begin(self, e: int, lot: int) -> None:
        self.state.draws[e] = self._generators[e].random(self.state.draws.shape[1:])
        core.start(self.arrays, self.state, e, lot)
        settle(self.arrays, self.state, e, self._asked, self._places, self._overall, self._mask, self._quiet)

    def step(self, actions: NDArray[np.int64]) -> tuple[Observation, NDArray[np.float64], NDArray[np.bool_]]:
        """One legal action in every copy; copies whose lot is done begin the next one.

        Raises
        ------
        ValueError
            If an action is not legal.
        """
        chosen = np.asarray(actions, dtype=np.int64)
        if not self._mask[np.arange(self.copies), chosen].all():
            raise ValueError("an action is not legal; take one that the mask allows")
        before = self.state.now.copy()
        step_cells(
            self.arrays,
            self.state,
            chosen,
            self._asked,
            self._places,
            self._overall,
            self._mask,
            self._reward,
            self.penalty,
            self._quiet,
        )
        reward = self._reward + self._correction * (self.state.now - before)
        done = self._asked < 0
        if (self._asked == core.STUCK).any():
            raise StuckCell(f"{self.cell.name}: no legal action")
        for e in np.flatnonzero(done):
            self._begin(int(e), self.lot)
        return self._seen(), reward, done

    def _seen(self) -> Observation:
        return {"places": self._places.copy(), "overall": self._overall.copy(), "mask": self._mask.copy()}

    @property
    def asked(self) -> NDArray[np.int64]:
        """Robot that asks in each copy, shape (E,)."""
        return self._asked
