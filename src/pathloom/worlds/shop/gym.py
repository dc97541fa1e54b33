"""The shop world's environments for Gymnasium: dispatching, the shop floor with breakdowns, robot cells.

>>> import gymnasium
>>> from pathloom.worlds.shop import gym
>>> gym.register()
>>> environment = gymnasium.make("pathloom/Dispatching-v0", jobs=6, machines=4)
"""

from __future__ import annotations

from pathloom.worlds.shop import dispatching_env
from pathloom.worlds.shop.cells import gymnasium_env as cell_env
from pathloom.worlds.shop.online import gymnasium_env as floor_env

IDS = (dispatching_env.ID, floor_env.ID, cell_env.ID)


def register() -> None:
    """Make all `IDS` known to ``gymnasium.make``; doing it twice does no harm."""
    for environment in (dispatching_env, floor_env, cell_env):
        environment.register()
