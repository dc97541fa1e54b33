"""The learned flow control: a small network over the places of a cell, and how it is trained, saved and read.

One network for every place (the same weights), a summary of all places, and a head that scores picking, placing and
swapping at each place and waiting. It has no size of a cell built in: the same code, and even the same weights, run on
any cell. Training imitates the best rule first and then improves on it by proximal policy optimisation.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from pathloom.learn.dispatching.card import write_whole
from pathloom.learn.policy_gradient import (
    PPOSettings,
    Update,
    masked_entropy,
    masked_log_probabilities,
    train_ppo,
)
from pathloom.plan import InputError, stop_requested
from pathloom.worlds.shop.cells._cell_kernels import GLOBAL_FEATURES, TOKEN_FEATURES
from pathloom.worlds.shop.cells._rule_kernels import observe, rule_action
from pathloom.worlds.shop.cells.bounds import long_run_bound
from pathloom.worlds.shop.cells.cell import Cell
from pathloom.worlds.shop.cells.environment import CellEnvironment
from pathloom.worlds.shop.cells.files import cell_to_dict
from pathloom.worlds.shop.cells.rules import RULES, Rule, follow, rule_forms
from pathloom.worlds.shop.cells.simulator import CellView, Run

CHECKPOINTS = Path(__file__).parent / "checkpoints"
FORMAT = "pathloom-cell-policy-1"
SETTINGS = PPOSettings(
    environments=64,
    steps=64,
    passes=2,
    minibatches=4,
    learning_rate=1e-3,
    final_learning_rate=5e-5,
    discount=0.99,
    trace=0.95,
    entropy_weight=0.02,
    final_entropy_weight=0.001,
    kl_stop=0.03,
    value_only=5,
)


class CellPolicy(nn.Module):
    """Scores of actions and the value of a state from an observation of `CellEnvironment`.

    Parameters
    ----------
    width
        Width of all hidden layers.
    """

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.width = width
        self.place = nn.Sequential(
            nn.Linear(TOKEN_FEATURES + GLOBAL_FEATURES, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )
        self.summary = nn.Sequential(nn.Linear(2 * width + GLOBAL_FEATURES, width), nn.ReLU())
        self.moves = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, 3))
        self.wait = nn.Linear(width, 1)
        # The value has a network of its own: its first lessons must not disturb an imitated policy.
        self.value_place = nn.Sequential(nn.Linear(TOKEN_FEATURES, width), nn.ReLU())
        self.value = nn.Sequential(nn.Linear(width + GLOBAL_FEATURES, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, seen: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Logits (B, 3P + 1), numbered as actions are, and values (B,)."""
        places, overall = seen["places"], seen["overall"]
        count = places.shape[1]
        around = overall[:, None, :].expand(-1, count, -1)
        each = self.place(torch.cat([places, around], dim=-1))
        whole = self.summary(torch.cat([each.mean(1), each.amax(1), overall], dim=-1))
        moves = self.moves(torch.cat([each, whole[:, None, :].expand(-1, count, -1)], dim=-1))
        logits = torch.cat([moves.transpose(1, 2).flatten(1), self.wait(whole)], dim=-1)
        valued = torch.cat([self.value_place(places).mean(1), overall], dim=-1)
        return logits, self.value(valued)[:, 0]


@dataclass(frozen=True)
class TrainedPolicy:
    """A network with its card; it drives `pathloom.worlds.shop.cells.simulator.simulate` with its likeliest action."""

    network: CellPolicy
    card: dict[str, Any]

    def __call__(self, view: CellView) -> int:
        """The likeliest legal action."""
        if int(view.mask.sum()) == 1:
            return int(np.argmax(view.mask))
        places = np.zeros((len(view.cell.places), TOKEN_FEATURES), dtype=np.float32)
        overall = np.zeros(GLOBAL_FEATURES, dtype=np.float32)
        observe(view.arrays, view.state, view.copy, view.robot, places, overall, view.mask)
        with torch.no_grad():
            logits, _ = self.network(
                {"places": torch.from_numpy(places)[None], "overall": torch.from_numpy(overall)[None]}
            )
        scores = np.where(view.mask, logits[0].numpy(), -np.inf)
        return int(np.argmax(scores))


def fingerprint(cell: Cell) -> str:
    """Digest of all that matters about a cell's control: everything but its name and its lot."""
    content = cell_to_dict(cell)
    del content["name"], content["lot"]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def best_rule(cell: Cell, *, lot: int = 400, seeds: Sequence[int] = (101, 102)) -> tuple[Rule, float]:
    """The form of a rule with the least steady time per item, and that time, of those that break the fewest limits."""
    results: dict[Rule, tuple[int, float]] = {}
    for rule in rule_forms(cell):
        runs = [follow(cell, rule, seed=seed, lot=lot, traced=False) for seed in seeds]
        seconds = float(np.mean([run.steady_seconds_per_item for run in runs]))
        results[rule] = (sum(run.late for run in runs), seconds)
    best = min(results, key=lambda rule: results[rule])
    return best, results[best][1]


def imitate(
    network: CellPolicy, cell: Cell, rule: Rule, *, steps: int, seed: int = 0, copies: int = 64, doubt: float = 0.3
) -> float:
    """Teach the network what a rule does, on states that the network's own half of the copies visits too.

    Parameters
    ----------
    doubt
        Weight of the entropy that is kept.

    Returns
    -------
    float
        Share of the rule's actions that the network gives the highest score, over the last tenth of the steps.
    """
    environment = CellEnvironment(cell, copies)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    seen = environment.reset(np.random.SeedSequence([seed, 1]).generate_state(copies).astype(np.int64))
    number = RULES.index(rule.name)
    agreed: list[float] = []
    network.train()
    for _ in range(steps):
        taught = np.array(
            [
                rule_action(
                    environment.arrays,
                    environment.state,
                    e,
                    environment.asked[e],
                    seen["mask"][e],
                    number,
                    rule.ahead,
                    rule.horizon,
                    rule.most,
                )
                for e in range(copies)
            ]
        )
        tensors = {name: torch.from_numpy(array) for name, array in seen.items()}
        logits, _ = network(tensors)
        log_probabilities = masked_log_probabilities(logits, tensors["mask"])
        loss = nn.functional.nll_loss(log_probabilities, torch.from_numpy(taught))
        # A policy that is sure of itself would explore nothing afterwards.
        loss = loss - doubt * masked_entropy(log_probabilities, tensors["mask"]).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        agreed.append(float((log_probabilities.argmax(1).numpy() == taught).mean()))
        own = torch.multinomial(log_probabilities.detach().exp(), 1, generator=generator)[:, 0].numpy()
        seen, _, _ = environment.step(np.where(np.arange(copies) % 2 == 0, taught, own))
    return float(np.mean(agreed[-max(1, steps // 10) :]))


@dataclass(frozen=True)
class Score:
    """What a control does in the long run: seconds per item in the middle of lots, dwell limits broken, items."""

    seconds_per_item: float
    late: int
    items: int


def evaluate(cell: Cell, network: CellPolicy, *, seeds: Sequence[int], lot: int = 400) -> Score:
    """Run the likeliest actions on one lot a seed (the lots of `simulator.lot_draws`), all lots at once."""
    from pathloom.worlds.shop.cells import _cell_kernels as core
    from pathloom.worlds.shop.cells._rule_kernels import settle, step_cells
    from pathloom.worlds.shop.cells.simulator import cell_arrays, lot_draws, new_state, new_trace

    C = cell_arrays(cell)
    state = new_state(cell, np.stack([lot_draws(cell, seed, lot) for seed in seeds]))
    copies, places = len(seeds), len(cell.places)
    tokens = np.zeros((copies, places, TOKEN_FEATURES), dtype=np.float32)
    overall = np.zeros((copies, GLOBAL_FEATURES), dtype=np.float32)
    mask = np.zeros((copies, 3 * places + 1), dtype=np.bool_)
    quiet = new_trace(0)
    asked, reward = np.zeros(copies, dtype=np.int64), np.zeros(copies)
    for e in range(copies):
        settle(C, state, e, asked, tokens, overall, mask, quiet)
    network.eval()
    with torch.no_grad():
        while (asked >= 0).any():
            logits, _ = network({"places": torch.from_numpy(tokens), "overall": torch.from_numpy(overall)})
            actions = np.where(mask, logits.numpy(), -np.inf).argmax(1)
            step_cells(C, state, actions, asked, tokens, overall, mask, reward, 0.0, quiet)
    if (asked == core.STUCK).any():
        raise RuntimeError(f"{cell.name}: no legal action")
    runs = [Run(cell, s, state.finish[e], 0, int(state.late[e]), *_EMPTY) for e, s in enumerate(seeds)]
    return Score(float(np.mean([run.steady_seconds_per_item for run in runs])), int(state.late.sum()), copies * lot)


_EMPTY = (np.zeros((0, 6), dtype=np.int64), np.zeros((0, 2)))


@dataclass
class _Kept:
    """The best network of a training so far, in memory and in a file.

    Attributes
    ----------
    path
        Where it is written whenever it gets better; None for nowhere.
    worth
        Time per item (s), broken dwell limits counted in; infinite as long as there is none.
    weights
        Of the network.
    agreement, spent
        Of the imitation: share of the rule's actions that it takes over, processor time (s).
    """

    path: Path | None
    worth: float = float("inf")
    weights: dict[str, Tensor] | None = None
    agreement: float = 0.0
    spent: float = 0.0

    def take(self, worth: float, network: CellPolicy) -> None:
        """Keep the network if it is better."""
        if self.weights is not None and worth >= self.worth:
            return
        self.worth = worth
        self.weights = {name: value.clone() for name, value in network.state_dict().items()}
        if self.path is not None:
            about = {name: str(getattr(self, name)) for name in ("worth", "agreement", "spent")}
            write_whole(self.path, save(self.weights, metadata=about))

    def read(self) -> bool:
        """Take up what is in the file, if there is one; InputError if it holds something else."""
        if self.path is None or not self.path.exists():
            return False
        try:
            with safe_open(self.path, framework="pt") as content:
                about = content.metadata() or {}
                self.weights = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
            self.worth, self.agreement, self.spent = (float(about[name]) for name in ("worth", "agreement", "spent"))
        except (SafetensorError, KeyError, ValueError, OSError) as error:
            raise InputError(f"is no state of a training: {error}; remove it", file=str(self.path)) from None
        return True


def train_policy(
    cell: Cell,
    *,
    seconds: float,
    seed: int = 0,
    settings: PPOSettings = SETTINGS,
    width: int = 48,
    imitation: int = 800,
    on_update: Callable[[Update], None] | None = None,
    on_score: Callable[[float, Score], None] | None = None,
    checkpoint: Path | None = None,
) -> TrainedPolicy:
    """Train a policy for a cell and keep the best of the networks on the way.

    Parameters
    ----------
    seconds
        Processor time of this process to train for.
    imitation
        Steps of imitating the best rule before.
    on_score
        Called with (seconds, score) whenever the network is judged, on lots that training does not use.
    checkpoint
        File of `train_ppo` to go on from; the best network so far is kept beside it (``*.best``).
    """
    torch.manual_seed(seed)
    began = time.process_time()
    network = CellPolicy(width)
    rule, rule_seconds = best_rule(cell)
    judged = list(range(9000, 9008))
    kept = _Kept(None if checkpoint is None else checkpoint.with_suffix(".best"))
    before = kept.read()

    def judge() -> None:
        score = evaluate(cell, network, seeds=judged, lot=250)
        kept.take(score.seconds_per_item * (1.0 + 50.0 * score.late / score.items), network)
        if on_score is not None:
            on_score(time.process_time() - began, score)

    def after(update: Update) -> None:
        if on_update is not None:
            on_update(update)
        if update.number % 20 == 19:
            judge()

    if before:  # the optimisation goes on from its own state, or from what was imitated
        assert kept.weights is not None
        network.load_state_dict(kept.weights)
    else:
        kept.agreement = imitate(network, cell, rule, steps=imitation, seed=seed) if imitation else 0.0
        kept.spent = time.process_time() - began
        judge()
    environment = CellEnvironment(cell, settings.environments, pace=rule_seconds)
    left = max(seconds - kept.spent, 0.0)
    history = train_ppo(
        environment,
        network,
        settings,
        seed=seed,
        seconds=left,
        on_update=after,
        checkpoint=checkpoint,
        clock=time.process_time,
    )
    if not stop_requested():
        judge()
    assert kept.weights is not None
    network.load_state_dict(kept.weights)
    score = evaluate(cell, network, seeds=range(9100, 9116), lot=250)
    bound = long_run_bound(cell)
    card = {
        "format": FORMAT,
        "cell": cell.name,
        "fingerprint": fingerprint(cell),
        "width": width,
        "features": [TOKEN_FEATURES, GLOBAL_FEATURES],
        "parameters": sum(p.numel() for p in network.parameters()),
        "seed": seed,
        "processor seconds": round(kept.spent + history.seconds, 1),
        "updates": len(history.updates),
        "decisions": int(sum(update.samples for update in history.updates)),
        "imitated rule": {"rule": str(rule), "seconds per item": rule_seconds, "agreement": round(kept.agreement, 4)},
        "bound": {"seconds per item": bound.seconds, "by": bound.by},
        "score": {
            "seconds per item": score.seconds_per_item,
            "share of bound": bound.seconds / score.seconds_per_item,
            "dwell limits broken": score.late,
            "items": score.items,
        },
        "data": "random lots of the cell's own processing times",
    }
    return TrainedPolicy(network, card)


def save_policy(policy: TrainedPolicy, name: str, folder: Path = CHECKPOINTS) -> tuple[Path, Path]:
    """Write ``name.safetensors`` and its card ``name.json``, each whole or not at all."""
    weights, card = folder / f"{name}.safetensors", folder / f"{name}.json"
    write_whole(weights, save({key: value.contiguous() for key, value in policy.network.state_dict().items()}))
    write_whole(card, (json.dumps(policy.card, indent=1) + "\n").encode())
    return weights, card


def load_policy(weights: Path) -> TrainedPolicy:
    """Read what `save_policy` wrote.

    Raises
    ------
    InputError
        If a file is missing or does not fit this version's features.
    """
    try:
        card = json.loads(weights.with_suffix(".json").read_text(encoding="utf-8"))
        if card.get("format") != FORMAT or card["features"] != [TOKEN_FEATURES, GLOBAL_FEATURES]:
            raise InputError(
                f"expected a '{FORMAT}' of {TOKEN_FEATURES} and {GLOBAL_FEATURES} features", file=str(weights)
            )
        network = CellPolicy(int(card["width"]))
        network.load_state_dict(load_file(str(weights)))
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise InputError(f"is no policy of a robot cell: {str(error).splitlines()[0]}", file=str(weights)) from None
    network.eval()
    return TrainedPolicy(network, card)


def policy_for(cell: Cell, folder: Path = CHECKPOINTS) -> TrainedPolicy | None:
    """The policy in `folder` that was trained on this cell, None if there is none."""
    wanted = fingerprint(cell)
    for path in sorted(folder.glob("*.safetensors")):
        try:
            card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(card, dict) and card.get("fingerprint") == wanted:
            return load_policy(path)
    return None
