"""Learned dispatching on a shop floor: the environment to train in, and the trained policy as a decision object."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pathloom.plan import InputError
from pathloom.schedule.shops import JobShop
from pathloom.worlds.shop.online import _floor_kernels as kernels
from pathloom.worlds.shop.online import _floor_state as state
from pathloom.worlds.shop.online import _view_kernels
from pathloom.worlds.shop.online.disturbances import Disturbances
from pathloom.worlds.shop.online.floor import HOLD, Floor, View

if TYPE_CHECKING:
    from pathloom.learn.typed_edge_network import TypedEdgeNetwork

FORMAT = "pathloom-floor-policy-1"
Arrays = dict[str, NDArray[Any]]


class Looker:
    """Observations of a floor's runs as arrays of fixed shape, written anew at every look.

    Parameters
    ----------
    floor
        Its runs are looked at; arrays of `Floor.restart` need `refresh` for what does not change within a run.
    """

    def __init__(self, floor: Floor) -> None:
        self.floor = floor
        runs, operations = floor.batch.on.shape
        jobs = floor.batch.job.shape[1]
        self.mean = np.ones(runs)
        self.arrays: Arrays = {
            "nodes": np.zeros((runs, operations, _view_kernels.NODE_FEATURES), np.float32),
            "graph": np.zeros((runs, _view_kernels.GRAPH_FEATURES), np.float32),
            "active": np.zeros((runs, operations), bool),
            "competing": np.zeros((runs, operations), bool),
            "asked": np.zeros((runs, operations), bool),
            "operation": np.zeros((runs, jobs), np.int32),
            "mask": np.zeros((runs, jobs + 1), bool),
            "before": np.full((runs, operations), -1, np.int32),
            "after": np.full((runs, operations), -1, np.int32),
            "group": np.zeros((runs, operations), np.int32),
        }
        for b in range(runs):
            self.refresh(b)

    def refresh(self, b: int) -> None:
        """Take over what does not change while run `b` goes on."""
        shop, seen = self.floor.shops[b], self.arrays
        count = np.arange(shop.operations, dtype=np.int32)
        for name in ("before", "after"):
            seen[name][b] = -1
        seen["before"][b, : shop.operations] = count - 1
        seen["before"][b, shop.job_start[:-1][np.diff(shop.job_start) > 0]] = -1
        seen["after"][b, : shop.operations] = count + 1
        seen["after"][b, shop.job_start[1:][np.diff(shop.job_start) > 0] - 1] = -1
        seen["group"][b] = 0
        seen["group"][b, : shop.operations] = shop.machine
        self.mean[b] = max(1.0, float(shop.duration.mean())) if shop.operations else 1.0

    def look(self) -> Arrays:
        """See `_view_kernels.observe`."""
        seen = self.arrays
        _view_kernels.observe(
            self.floor.batch,
            self.mean,
            *(seen[name] for name in ("nodes", "graph", "active", "competing", "asked", "operation", "mask")),
        )
        return seen


@dataclass(frozen=True)
class DrawnShops:
    """Random shops to train on: every job visits every machine once, in random order.

    Attributes
    ----------
    sizes
        Pairs (jobs, machines), each as likely.
    durations
        Smallest and largest, all as likely.
    chances
        Breakdown chances, each as likely.
    """

    sizes: tuple[tuple[int, int], ...] = ((6, 5), (10, 5), (15, 5), (8, 8), (10, 8))
    durations: tuple[int, int] = (5, 99)
    chances: tuple[float, ...] = (0.0, 0.05, 0.1, 0.2)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Room for jobs, machines, operations."""
        return (
            max(jobs for jobs, _ in self.sizes),
            max(machines for _, machines in self.sizes),
            max(jobs * machines for jobs, machines in self.sizes),
        )

    def draw(self, rng: np.random.Generator) -> tuple[JobShop, Disturbances]:
        """One blocking shop with swaps, and what disturbs it."""
        jobs, machines = self.sizes[rng.integers(len(self.sizes))]
        low, high = self.durations
        rows = [[(int(m), int(rng.integers(low, high + 1))) for m in rng.permutation(machines)] for _ in range(jobs)]
        shop = replace(JobShop.from_rows(rows, machines), blocking=True, swap=True)
        return shop, Disturbances(breakdown_chance=self.chances[rng.integers(len(self.chances))])


Draw = Callable[[np.random.Generator], tuple[JobShop, Disturbances]]


class FloorEnvironment:
    """Shop floors as a `pathloom.learn.policy_gradient.BatchedEnvironment`.

    An action is a job, or the number of jobs that there is room for: to hold the machine empty. The reward of a step is
    minus the time that passes, as a share of a bound on the shop's makespan (the largest of the machines' loads and the
    jobs' lengths); together minus the makespan over the bound.

    Parameters
    ----------
    draw
        Draws the shop of an episode and its disturbances.
    environments
        Size of the batch.
    shape
        Room for jobs, machines and operations.
    """

    def __init__(self, draw: Draw, environments: int, shape: tuple[int, int, int]) -> None:
        self.draw, self.shape, self.environments = draw, shape, environments
        self.rngs = [np.random.default_rng(b) for b in range(environments)]
        first = [self.draw(rng) for rng in self.rngs]
        self.floor = Floor(
            [shop for shop, _ in first],
            [trouble for _, trouble in first],
            [0] * environments,
            ask_single=True,
            shape=shape,
        )
        self.looker = Looker(self.floor)
        self.bound = np.ones(environments)
        self.makespans: list[tuple[int, float]] = []

    def reset(self, seeds: NDArray[np.int64]) -> Arrays:
        """Start one episode a seed."""
        self.rngs = [np.random.default_rng(int(seed)) for seed in seeds]
        for b in range(self.environments):
            self._restart(b)
        return self.looker.look()

    def _restart(self, b: int) -> None:
        while True:
            shop, trouble = self.draw(self.rngs[b])
            self.floor.restart(b, shop, trouble, int(self.rngs[b].integers(1 << 40)))
            self.looker.refresh(b)
            kernels.advance_all(self.floor.part(b), np.array([state.ASK]), state.NEVER)
            if self.floor.status[b] == state.ASKING:
                break
        self.bound[b] = lower_bound(shop)
        self.before = self.floor.makespans.copy()

    def step(self, actions: NDArray[np.int64]) -> tuple[Arrays, NDArray[np.float64], NDArray[np.bool_]]:
        """See `BatchedEnvironment.step`."""
        before = self.floor.makespans.copy()
        jobs = self.floor.batch.job.shape[1]
        self.floor.answer(np.where(actions == jobs, HOLD, actions).astype(np.int64))
        reward = -(self.floor.makespans - before) / self.bound
        done = self.floor.status == state.FINISHED
        for b in np.flatnonzero(done):
            self._restart(int(b))
        return self.looker.look(), reward, done


def lower_bound(shop: JobShop) -> float:
    """Largest load of a machine and largest work of a job, at least 1."""
    loads = np.bincount(shop.machine, weights=shop.duration, minlength=1)
    works = np.bincount(shop.job, weights=shop.duration, minlength=1)
    return float(max(1.0, loads.max(), works.max()))


class FloorPolicy:
    """A trained network as a decision object.

    Parameters
    ----------
    network
        Scores jobs and holding.
    card
        What the network is and how it was made.
    """

    may_hold = True
    """A machine may stay empty for a while, so that decisions with one candidate are asked for as well."""

    def __init__(self, network: TypedEdgeNetwork, card: dict[str, Any]) -> None:
        self.network, self.card = network.eval(), card
        self._looker: Looker | None = None

    def decide(self, view: View) -> int:
        """The job with the highest score, or `HOLD`."""
        if self._looker is None or self._looker.floor is not view.floor:
            self._looker = Looker(view.floor)
        return int(self._choose(self._looker, np.array([view.number]))[0])

    def run_all(self, floor: Floor) -> None:
        """Run all of a floor, made with ``ask_single=True``, to its end: one pass of the network for many decisions."""
        looker = Looker(floor)
        floor.advance()
        jobs = np.full(len(floor), HOLD, dtype=np.int64)
        while len(asking := np.flatnonzero(floor.status == state.ASKING)):
            jobs[asking] = self._choose(looker, asking)
            floor.answer(jobs)

    def _choose(self, looker: Looker, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        import torch

        from pathloom.learn.policy_gradient import masked_log_probabilities

        seen = {name: torch.from_numpy(array[rows]) for name, array in looker.look().items()}
        with torch.no_grad():
            best = masked_log_probabilities(self.network(seen)[0], seen["mask"]).argmax(-1).numpy()
        return np.where(best == seen["mask"].shape[1] - 1, HOLD, best)


def save_policy(network: TypedEdgeNetwork, card: Mapping[str, Any], path: Path) -> None:
    """Write weights (safetensors) and, beside them, the card (JSON); each file is written whole or not at all."""
    from safetensors.torch import save

    whole = {
        "format": FORMAT,
        "shape": asdict(network.shape),
        "parameters": sum(each.numel() for each in network.parameters()),
        **card,
    }
    weights = save({name: each.contiguous() for name, each in network.state_dict().items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    for target, content in (
        (path, weights),
        (path.with_suffix(".json"), (json.dumps(whole, indent=1) + "\n").encode()),
    ):
        beside = target.with_name(target.name + ".part")
        beside.write_bytes(content)
        os.replace(beside, target)


def load_policy(path: Path | None = None) -> FloorPolicy:
    """Read a policy that `save_policy` wrote; the one that comes with the package if no path is given.

    Raises
    ------
    InputError
        If a file is missing or is no such policy.
    """
    from pathloom.learn.typed_edge_network import TypedEdgeNetwork, TypedEdgeShape

    if path is None:
        path = Path(str(files("pathloom.worlds.shop.online") / "checkpoints" / "swap_floor.safetensors"))
    from safetensors import SafetensorError
    from safetensors.torch import load

    card_path = path.with_suffix(".json")
    try:
        card = json.loads(card_path.read_text(encoding="utf-8"))
        weights = load(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", file=str(error.filename)) from None
    except ValueError as error:
        raise InputError(f"is no JSON card ({error})", file=str(card_path)) from None
    except SafetensorError as error:
        raise InputError(f"holds no weights ({error})", file=str(path)) from None
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise InputError(f"expected '{FORMAT}'", file=str(card_path), key="format")
    try:
        shape = TypedEdgeShape(**card["shape"])
        if (shape.node_features, shape.graph_features) != (_view_kernels.NODE_FEATURES, _view_kernels.GRAPH_FEATURES):
            raise InputError("was made for other features than this version has", file=str(card_path), key="shape")
        network = TypedEdgeNetwork(shape)
        network.load_state_dict(weights)
    except (KeyError, TypeError, RuntimeError) as error:
        raise InputError(f"does not fit the card ({str(error).splitlines()[0]})", file=str(path)) from None
    return FloorPolicy(network, card)
