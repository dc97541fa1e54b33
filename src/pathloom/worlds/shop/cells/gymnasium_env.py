"""A robot cell as a Gymnasium environment, so that any library of reinforcement learning can train on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from pathloom.worlds.shop.cells import _cell_kernels as core
from pathloom.worlds.shop.cells._rule_kernels import settle, step_cells
from pathloom.worlds.shop.cells.cell import Cell
from pathloom.worlds.shop.cells.environment import PENALTY
from pathloom.worlds.shop.cells.files import load_cell
from pathloom.worlds.shop.cells.simulator import cell_arrays, new_state, new_trace

ID = "pathloom/RobotCell-v0"


class RobotCellEnv(gymnasium.Env[Any, np.int64]):
    """One cell; an episode is a lot.

    Observations, rewards and actions are those of `pathloom.worlds.shop.cells.environment.CellEnvironment`. An action
    that is not legal is replaced by the first legal one and costs 1; `action_masks` and ``info["mask"]`` say which are
    legal, as the masked algorithms of common libraries expect.

    Parameters
    ----------
    cell
        A cell, or the path of its file.
    lot
        Number of items, the cell's own if None.
    penalty
        Cost of a broken dwell limit.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  (Gymnasium declares it for instances)

    def __init__(self, cell: Cell | str | Path, *, lot: int | None = None, penalty: float = PENALTY) -> None:
        self.cell = cell if isinstance(cell, Cell) else load_cell(Path(cell))
        self.lot = self.cell.lot if lot is None else lot
        self.penalty = penalty
        self.arrays = cell_arrays(self.cell)
        places = len(self.cell.places)
        actions = 3 * places + 1
        self._places = np.zeros((1, places, core.TOKEN_FEATURES), dtype=np.float32)
        self._overall = np.zeros((1, core.GLOBAL_FEATURES), dtype=np.float32)
        self._mask = np.zeros((1, actions), dtype=np.bool_)
        self._asked, self._reward = np.zeros(1, dtype=np.int64), np.zeros(1)
        self._quiet = new_trace(0)
        self.state = new_state(self.cell, np.zeros((1, self.lot, len(self.cell.recipe))))
        self.action_space = spaces.Discrete(actions)
        self.observation_space = spaces.Dict(
            {
                "places": spaces.Box(-10.0, 10.0, self._places.shape[1:], np.float32),
                "overall": spaces.Box(-10.0, 10.0, self._overall.shape[1:], np.float32),
                "mask": spaces.MultiBinary(actions),
            }
        )

    def action_masks(self) -> NDArray[np.bool_]:
        """Legal actions, shape (3P + 1,)."""
        return self._mask[0].copy()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Begin a lot with fresh processing times."""
        super().reset(seed=seed)
        self.state.draws[0] = self.np_random.random(self.state.draws.shape[1:])
        core.start(self.arrays, self.state, 0, self.lot)
        settle(self.arrays, self.state, 0, self._asked, self._places, self._overall, self._mask, self._quiet)
        return self._seen(), self._info()

    def step(self, action: np.int64) -> tuple[dict[str, NDArray[Any]], float, bool, bool, dict[str, Any]]:
        """Take an action and go on to the next decision that leaves a choice."""
        chosen, cost = int(action), 0.0
        if not self._mask[0, chosen]:
            chosen, cost = int(np.argmax(self._mask[0])), 1.0
        step_cells(
            self.arrays,
            self.state,
            np.array([chosen]),
            self._asked,
            self._places,
            self._overall,
            self._mask,
            self._reward,
            self.penalty,
            self._quiet,
        )
        done = bool(self._asked[0] < 0)
        return self._seen(), float(self._reward[0]) - cost, done, False, self._info()

    def _seen(self) -> dict[str, NDArray[Any]]:
        return {
            "places": self._places[0].copy(),
            "overall": self._overall[0].copy(),
            "mask": self._mask[0].astype(np.int8),
        }

    def _info(self) -> dict[str, Any]:
        state = self.state
        return {
            "mask": self.action_masks(),
            "robot": int(self._asked[0]),
            "time": float(state.now[0]),
            "finished": int(state.done[0]),
            "dwell limits broken": int(state.late[0]),
        }


def register() -> None:
    """Make ``gymnasium.make(ID, cell=...)`` known; doing it twice does no harm."""
    if ID not in gymnasium.registry:
        gymnasium.register(id=ID, entry_point=f"{__name__}:RobotCellEnv")
