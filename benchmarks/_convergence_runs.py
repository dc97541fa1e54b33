"""The training runs of the convergence benchmark, made when first asked for and kept on disk as they finish."""

from __future__ import annotations

import hashlib
import json
import platform
import sysconfig
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from _emulated_network import INPUT, Planned, planned
from _route_training import Orders, Size, ascending, curve_over, evaluation_blocks, train, weight_stages
from _saved_parts import SavedParts
from _table import say
from pathloom.data import find
from pathloom.data.token_files import TokenData, write_tokens
from pathloom.data.tokenizers import load_tokenizer
from pathloom.learn.language_model.pretrained import load_pretrained, save_pretrained

FULL, PLANNED, RANDOM = "full", "planned skips", "random skips"
PLANNED_LONG, FULL_LONG = "planned skips, equal time", "full, as many steps"
KINDS = (FULL, PLANNED, RANDOM, PLANNED_LONG, FULL_LONG)
LONG = (PLANNED_LONG, FULL_LONG)
TEXTS = ("TinyShakespeare", "Python's library")
LIBRARY_BYTES = 1_200_000
"""Of the second text, at least."""


@dataclass(frozen=True)
class Planning:
    """How the iterations are planned: seconds for pathloom, trials of the placements of the others."""

    seconds: float = 20.0
    trials: int = 8000


def text_files(text: str) -> list[Path]:
    """Files of a text, in the order in which they are read.

    Raises
    ------
    InputError
        If the data set of TinyShakespeare is nowhere to be found.
    ValueError
        If no such text is known.
    """
    if text == "TinyShakespeare":
        return [find("text") / "tinyshakespeare.txt.gz"]
    if text == "Python's library":
        files, size = [], 0
        for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
            if size >= LIBRARY_BYTES:
                break
            files.append(path)
            size += path.stat().st_size
        return files
    raise ValueError(f"text: expected one of {', '.join(TEXTS)}, found '{text}'")


class Runs:
    """All runs of one size.

    Parameters
    ----------
    scratch
        Folder for token files, results and final weights; runs of other sizes may lie in it too.
    """

    def __init__(self, size: Size, planning: Planning, scratch: Path) -> None:
        self.size, self.planning = size, planning
        settings = {"size": asdict(size), "planning": asdict(planning), "network": INPUT, "python": python_version()}
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:10]
        self.folder = scratch / digest
        self.saved = SavedParts(self.folder / "runs.json", settings)
        self._data: dict[str, TokenData] = {}

    def data(self, text: str) -> TokenData:
        """Bytes of a text; the last tenth of each of its files is for validation."""
        if text not in self._data:
            folder = self.folder / "tokens" / slug(text)
            if not (folder / "tokens.json").exists():
                write_tokens(folder, text_files(text), load_tokenizer("bytes"))
            self._data[text] = TokenData.open(folder)
        return self._data[text]

    def plan(self, seed: int) -> Planned:
        """The iterations of a seed."""

        def make() -> dict[str, Any]:
            say(f"planning, seed {seed}")
            return planned(seed, time_limit=self.planning.seconds, trials=self.planning.trials).to_dict()

        return Planned(**self.saved.part(f"plan, seed {seed}", make))

    def steps(self, kind: str, seed: int) -> int:
        """Steps of a run: alike but for `LONG`, as many as planned iterations end before the full run does."""
        return int(self.size.steps * self.plan(seed).ratio) if kind in LONG else self.size.steps

    def run(self, text: str, kind: str, seed: int) -> dict[str, Any]:
        """`Trained.to_dict` of a run."""

        def make() -> dict[str, Any]:
            name = f"{text}, {kind}, seed {seed}"
            say(name)
            done, model = train(
                self.size, self.data(text), seed, self.steps(kind, seed), self._orders(kind, seed),
                lambda step, loss: say(f"{name}: step {step}, validation loss {loss:.4f}"),
            )  # fmt: skip
            folder = self.folder / "weights" / slug(name)
            save_pretrained(folder, self.size.config, model.state_dict())
            return done.to_dict()

        found: dict[str, Any] = self.saved.part(f"{text}, {kind}, seed {seed}", make)
        return found

    def weighted_loss(self, text: str, kind: str, seed: int) -> float:
        """Validation loss of a run's final model with its stages weighted by how often they were trained."""

        def make() -> float:
            orders = self._orders(kind, seed)
            visits = np.zeros(self.size.stages)
            microbatches = 0
            for step in range(self.steps(kind, seed)):
                routes = orders(step)
                visits += np.bincount(np.concatenate(routes), minlength=self.size.stages)
                microbatches += len(routes)
            folder = self.folder / "weights" / slug(f"{text}, {kind}, seed {seed}")
            model = load_pretrained(folder, [1] * self.size.stages)
            weight_stages(model, (visits / microbatches).tolist())
            return curve_over(model, evaluation_blocks(self.data(text), self.size), 0)[0].mean_loss

        self.run(text, kind, seed)
        return float(self.saved.part(f"{text}, {kind}, seed {seed}, weighted", make))

    def _orders(self, kind: str, seed: int) -> Callable[[int], Orders]:
        plan = self.plan(seed)
        if kind in (PLANNED, PLANNED_LONG):
            return lambda step: plan.orders
        whole = list(range(self.size.stages))
        if kind in (FULL, FULL_LONG):
            return lambda step: [whole] * len(plan.orders)
        draw = partial(ascending, self.size.stages, len(plan.orders[0]), np.random.default_rng([seed, 5]))
        return lambda step: [draw() for _ in plan.orders]


def python_version() -> str:
    """The second text depends on it."""
    return platform.python_version()


def slug(name: str) -> str:
    """A name as that of a folder."""
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())
