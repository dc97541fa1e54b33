"""The shop floor as a `gymnasium.Env`: one run, one decision a step, for training with any library.

Observations are those of `policy.FloorEnvironment` for one run, as a dictionary of fixed shapes; "mask" says what is
allowed, and is in ``info["action_mask"]`` too, where libraries with masked actions look for it.
"""

from __future__ import annotations

from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from pathloom.plan import InputError
from pathloom.schedule.shops import JobShop
from pathloom.worlds.shop.online import _floor_state as state
from pathloom.worlds.shop.online._view_kernels import GRAPH_FEATURES, NODE_FEATURES
from pathloom.worlds.shop.online.disturbances import Disturbances
from pathloom.worlds.shop.online.floor import HOLD, Floor
from pathloom.worlds.shop.online.policy import DrawnShops, Looker, lower_bound

ID = "pathloom/ShopFloor-v0"
ENTRY_POINT = "pathloom.worlds.shop.online.gymnasium_env:FloorEnv"
Observation = dict[str, NDArray[Any]]


class FloorEnv(gymnasium.Env[Observation, np.int64]):
    """A shop floor with breakdowns; an action is a job for the machine that asks, or ``jobs`` to hold it empty.

    The reward is minus the time that passes, as a share of a lower bound on the shop's makespan. An action that the
    mask forbids counts as holding, or where that is forbidden too as the first job on offer, and is reported in
    ``info["forbidden"]``.

    Parameters
    ----------
    shop
        The shop of every episode; None draws one from `shops`.
    disturbances
        What disturbs it; None draws a breakdown chance from `shops`.
    shops
        Where shops are drawn from.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - as gymnasium declares it

    def __init__(
        self,
        shop: JobShop | None = None,
        disturbances: Disturbances | None = None,
        shops: DrawnShops | None = None,
        render_mode: str | None = None,
    ) -> None:
        if render_mode is not None:
            raise InputError(f"is '{render_mode}', expected none", key="render_mode")
        self.render_mode = None
        self.shop, self.disturbances, self.shops = shop, disturbances, shops or DrawnShops()
        shape = self.shops.shape if shop is None else (shop.jobs, shop.machines, shop.operations)
        self._shape = shape
        jobs, machines, operations = shape

        def integers(low: int, high: int, *size: int) -> spaces.Box:
            return spaces.Box(low, high, size, np.int32)

        def flags(*size: int) -> spaces.Box:
            return spaces.Box(0, 1, size, np.int8)

        def numbers(*size: int) -> spaces.Box:
            return spaces.Box(-np.inf, np.inf, size, np.float32)

        self._spaces: dict[str, spaces.Space[Any]] = {
            "nodes": numbers(operations, NODE_FEATURES),
            "graph": numbers(GRAPH_FEATURES),
            "active": flags(operations),
            "competing": flags(operations),
            "asked": flags(operations),
            "operation": integers(0, operations, jobs),
            "mask": flags(jobs + 1),
            "before": integers(-1, operations, operations),
            "after": integers(-1, operations, operations),
            "group": integers(0, machines, operations),
        }
        self.observation_space = cast("spaces.Space[Observation]", spaces.Dict(self._spaces))
        self.action_space = spaces.Discrete(jobs + 1)
        self._floor: Floor | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode; `options` are not used."""
        super().reset(seed=seed)
        while True:
            drawn_shop, drawn_trouble = self.shops.draw(self.np_random)
            shop, trouble = self.shop or drawn_shop, self.disturbances or drawn_trouble
            run_seed = int(self.np_random.integers(1 << 40))
            floor = Floor([shop], trouble, [run_seed], ask_single=True, shape=self._shape)
            floor.advance()
            if floor.status[0] == state.ASKING:
                break
            if self.shop is not None:
                raise InputError("has nothing to decide", key="shop")
        self._floor, self._looker, self._bound = floor, Looker(floor), lower_bound(shop)
        seen = self._seen()
        return seen, self._info(seen, False)

    def step(self, action: np.int64) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Take a decision and go on to the next one."""
        floor = self._floor
        if floor is None:
            raise RuntimeError("reset the environment before its first step")
        jobs, mask = floor.batch.job.shape[1], self._mask
        forbidden = not mask[action]
        if forbidden:
            action = np.int64(jobs if mask[jobs] else np.argmax(mask))
        before = int(floor.makespans[0])
        floor.answer(np.array([HOLD if action == jobs else action], dtype=np.int64))
        reward = -(int(floor.makespans[0]) - before) / self._bound
        done = bool(floor.status[0] == state.FINISHED)
        seen = self._seen()
        info = self._info(seen, forbidden)
        if done:
            info["makespan"] = int(floor.makespans[0])
        return seen, reward, done, False, info

    def _seen(self) -> Observation:
        """A copy of what is to be seen, in the types of the observation space."""
        arrays = self._looker.look()
        self._mask = arrays["mask"][0].copy()
        return {name: arrays[name][0].astype(space.dtype) for name, space in self._spaces.items()}

    def _info(self, seen: Observation, forbidden: bool) -> dict[str, Any]:
        return {"action_mask": seen["mask"], "forbidden": forbidden}


def register() -> None:
    """Make ``gymnasium.make(ID)`` known; doing it twice does no harm."""
    if ID not in gymnasium.registry:
        gymnasium.register(id=ID, entry_point=ENTRY_POINT)
