"""Dispatching a job shop as a `gymnasium.Env`: one operation a step, over interval variables with propagation.

The states, decisions and observations are those of `pathloom.schedule.interval_environment` for one episode, with one
row a job; "mask" says what is allowed, and is in ``info["action_mask"]`` too, where libraries with masked actions look.
"""

from __future__ import annotations

from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from pathloom.plan import InputError
from pathloom.schedule.interval_environment import KINDS, VALUES, WAIT, WINDOW, IntervalEnvironment
from pathloom.schedule.job_shop_bounds import job_shop_bound
from pathloom.schedule.shops import JobShop

ID = "pathloom/Dispatching-v0"
ENTRY_POINT = "pathloom.worlds.shop.dispatching_env:DispatchingEnv"
MOST_POSITIONS = 2**15 - 1
LONGEST = 99
Observation = dict[str, NDArray[Any]]


class DispatchingEnv(gymnasium.Env[Observation, np.int64]):
    """A job shop without disturbances; an action is a job whose next operation starts now, or ``jobs`` to wait.

    The reward is minus the growth of the makespan, as a share of a lower bound on it: an episode's rewards add up to
    minus makespan over bound. An action that the mask forbids counts as the first allowed one and is reported in
    ``info["forbidden"]``.

    Parameters
    ----------
    shop
        The shop of every episode; None draws one of `jobs` x `machines` with durations uniform on 1..99.
    jobs, machines
        Size of drawn shops.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - as gymnasium declares it

    def __init__(
        self, shop: JobShop | None = None, jobs: int = 10, machines: int = 10, render_mode: str | None = None
    ) -> None:
        if render_mode is not None:
            raise InputError(f"is '{render_mode}', expected none", key="render_mode")
        if shop is None and (jobs < 1 or machines < 1):
            raise InputError(f"expected at least 1 job and 1 machine, found {jobs} and {machines}", key="jobs")
        if shop is not None and (shop.operations == 0 or not shop.duration.any()):
            raise InputError("has nothing to decide", key="shop")
        self.render_mode = None
        self.shop = shop
        self._size = (jobs, machines) if shop is None else (shop.jobs, shop.machines)
        count = self._size[0]
        shape = (count, WINDOW)
        self._spaces: dict[str, spaces.Box] = {
            "kind": spaces.Box(0, KINDS - 1, shape, np.int8),
            "position": spaces.Box(-1, MOST_POSITIONS, shape, np.int16),
            "values": spaces.Box(-np.inf, np.inf, (*shape, VALUES), np.float32),
            "machine": spaces.Box(-1, self._size[1], (count,), np.int32),
            "mask": spaces.Box(0, 1, (count + 1,), np.int8),
        }
        self.observation_space = cast("spaces.Space[Observation]", spaces.Dict(dict(self._spaces)))
        self.action_space = spaces.Discrete(count + 1)
        self._environment: IntervalEnvironment | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode; `options` are not used."""
        super().reset(seed=seed)
        self._present = self.shop or self._drawn()
        self._bound = max(1, job_shop_bound(self._present)[0])
        self._environment = IntervalEnvironment([self._present])
        seen = self._seen(self._environment)
        return seen, {"action_mask": seen["mask"], "forbidden": False}

    def step(self, action: np.int64) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Start the next operation of a job, or wait until something else can start."""
        environment = self._environment
        if environment is None:
            raise RuntimeError("reset the environment before its first step")
        forbidden = not self._mask[action]
        if forbidden:
            action = np.int64(np.argmax(self._mask))
        chosen = WAIT if action == self._size[0] else int(self._action[action])
        before = int(environment.makespan[0])
        environment.step(np.array([chosen], dtype=np.int64))
        reward = -(int(environment.makespan[0]) - before) / self._bound
        done = not len(environment.active)
        seen = self._seen(environment)
        info: dict[str, Any] = {"action_mask": seen["mask"], "forbidden": forbidden}
        if done:
            info["makespan"] = int(environment.makespan[0])
            info["start"] = environment.schedule(0)[0]
        return seen, reward, done, False, info

    def _drawn(self) -> JobShop:
        jobs, machines = self._size
        rows = [
            [
                (int(machine), int(self.np_random.integers(1, LONGEST + 1)))
                for machine in self.np_random.permutation(machines)
            ]
            for _ in range(jobs)
        ]
        return JobShop.from_rows(rows, machines)

    def _seen(self, environment: IntervalEnvironment) -> Observation:
        jobs = self._size[0]
        found = {name: np.zeros(space.shape, space.dtype) for name, space in self._spaces.items()}
        found["machine"][:] = -1
        self._action = np.full(jobs, WAIT, np.int64)
        if len(environment.active):
            seen = environment.observe()
            job = self._present.job[seen.action]
            for name in ("kind", "position", "values"):
                found[name][job] = getattr(seen, name)
            found["machine"][job] = self._present.machine[seen.action]
            found["mask"][job] = seen.legal
            found["mask"][jobs] = seen.may_wait[0]
            self._action[job] = seen.action
        self._mask = found["mask"].copy()
        return found


def register() -> None:
    """Make ``gymnasium.make(ID)`` known; doing it twice does no harm."""
    if ID not in gymnasium.registry:
        gymnasium.register(id=ID, entry_point=ENTRY_POINT)
