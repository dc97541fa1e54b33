"""How the shipped floor policy is made: imitation of rollouts, then proximal policy optimisation.

1. The teacher (`rollout.Rollout`) plays on random shops and says of every choice how late the shop would end. A part of
   the moves is drawn at random, so that states off its own path are seen too.
2. The network learns to prefer what the teacher finds good, in proportion to how much is lost by the other choices.
3. `train_ppo` goes on from there with minus the time that passes as the reward.

Departures from the paper (arXiv 2302.02506), which trains by PPO alone: the first two steps, which spare most of the
time that PPO spends on finding out that finishing jobs frees machines; and the choice to hold a machine empty.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pathloom.learn.policy_gradient import PPOSettings, Update, masked_log_probabilities, train_ppo
from pathloom.learn.typed_edge_network import TypedEdgeNetwork, TypedEdgeShape
from pathloom.plan import InputError, OnProgress, Progress, stop_requested
from pathloom.worlds.shop.online import _floor_state as state
from pathloom.worlds.shop.online._view_kernels import GRAPH_FEATURES, NODE_FEATURES
from pathloom.worlds.shop.online.floor import Floor
from pathloom.worlds.shop.online.judging import FloorJudge
from pathloom.worlds.shop.online.policy import DrawnShops, FloorEnvironment, Looker, lower_bound, save_policy
from pathloom.worlds.shop.online.rollout import Rollout
from pathloom.worlds.shop.training_folder import close_training, open_training

JUDGEMENTS = 20
"""How often the policy optimisation is judged, where it is."""
Say = Callable[[str], None]
Samples = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class FloorTraining:
    """Settings of `train_floor_policy`.

    Attributes
    ----------
    shops
        Random shops to train on.
    teacher
        Whose choices are imitated.
    off_path
        Share of the teacher's moves that are drawn at random.
    teach_share, imitate_share
        Shares of the time for the teacher to play, and for imitation; PPO has the rest.
    most_samples
        Decisions of the teacher to keep at most.
    temperature
        Loss, as a share of the shop's bound, at which a choice is wanted e times less.
    batch, learning_rate
        Of imitation, by Adam with a learning rate that falls linearly to a tenth.
    width, hidden, rounds
        Of the network.
    ppo
        Of the last step.
    """

    shops: DrawnShops = field(default_factory=DrawnShops)
    teacher: Rollout = field(default_factory=lambda: Rollout(samples=4, rules=("LOR", "LIFO", "SPT")))
    off_path: float = 0.1
    teach_share: float = 0.2
    imitate_share: float = 0.35
    most_samples: int = 40_000
    temperature: float = 0.01
    batch: int = 128
    learning_rate: float = 2e-3
    width: int = 16
    hidden: int = 32
    rounds: int = 2
    ppo: PPOSettings = field(
        default_factory=lambda: PPOSettings(
            environments=32,
            steps=64,
            passes=3,
            minibatches=4,
            learning_rate=4e-4,
            final_learning_rate=5e-5,
            trace=0.98,
            entropy_weight=0.003,
            kl_stop=0.02,
            value_only=4,
        )
    )


def new_network(training: FloorTraining, seed: int) -> TypedEdgeNetwork:
    """An untrained network."""
    torch.manual_seed(seed)
    return TypedEdgeNetwork(
        TypedEdgeShape(NODE_FEATURES, GRAPH_FEATURES, training.width, training.hidden, training.rounds)
    )


def taught(
    training: FloorTraining,
    *,
    seed: int,
    seconds: float,
    say: Say | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Samples:
    """Decisions of the teacher on random shops; no arrays at all if the time was too short for any.

    Returns
    -------
    Samples
        Arrays with one row a decision: the observation, "loss" (jobs + 1), by how much of the shop's bound each choice
        is worse than the best one, and "value", minus the time left after the best one as a share of the bound.
    """
    rng = np.random.default_rng([seed, 7])
    kept: dict[str, list[NDArray[Any]]] = {}
    began = clock()
    while clock() - began < seconds and len(kept.get("value", [])) < training.most_samples and not stop_requested():
        shop, trouble = training.shops.draw(rng)
        floor = Floor([shop], trouble, [int(rng.integers(1 << 40))], ask_single=True, shape=training.shops.shape)
        looker, view, bound = Looker(floor), floor.view(), lower_bound(shop)
        jobs = floor.batch.job.shape[1]
        floor.advance()
        while floor.status[0] == state.ASKING:
            choices, values = training.teacher.values(view)
            if len(choices) > 1:
                loss = np.zeros(jobs + 1, np.float32)
                loss[choices] = (values - values.min()) / bound  # HOLD is -1, the last one
                row: Samples = {
                    name: array[0].astype(np.float16) if name == "nodes" else array[0].copy()
                    for name, array in looker.look().items()
                }
                row["loss"], row["value"] = loss, np.array(-(values.min() - view.now) / bound, np.float32)
                for name, array in row.items():
                    kept.setdefault(name, []).append(array)
            best = int(rng.integers(len(choices))) if rng.random() < training.off_path else int(np.argmin(values))
            floor.answer(choices[best : best + 1])
        if say is not None:
            say(f"teacher: {len(kept.get('value', []))} decisions")
    return {name: np.stack(rows) for name, rows in kept.items()}


def imitate(
    network: TypedEdgeNetwork,
    samples: Samples,
    training: FloorTraining,
    *,
    seed: int,
    seconds: float,
    say: Say | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Teach the network the teacher's preferences (cross-entropy with ``exp(-loss / temperature)``) and values."""
    rng = np.random.default_rng([seed, 8])
    optimizer = torch.optim.Adam(network.parameters(), lr=training.learning_rate)
    count, began, step = len(samples["value"]), clock(), 0
    recent: list[tuple[float, float, float]] = []
    network.train()
    while (share := (clock() - began) / seconds) < 1.0 and not stop_requested():
        for group in optimizer.param_groups:
            group["lr"] = training.learning_rate * (1.0 - 0.9 * share)
        rows = rng.integers(count, size=training.batch)
        seen = {name: torch.from_numpy(array[rows]) for name, array in samples.items()}
        seen["nodes"] = seen["nodes"].float()
        logits, value = network(seen)
        log_probabilities = masked_log_probabilities(logits, seen["mask"])
        wanted = torch.softmax((-seen["loss"] / training.temperature).masked_fill(~seen["mask"], -1e9), -1)
        preference = -(wanted * log_probabilities).masked_fill(~seen["mask"], 0.0).sum(-1).mean()
        of_value = (value - seen["value"]).square().mean()
        optimizer.zero_grad()
        (preference + 0.5 * of_value).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        chosen = log_probabilities.detach().argmax(-1, keepdim=True)
        recent.append((preference.item(), of_value.item(), seen["loss"].gather(1, chosen).mean().item()))
        step += 1
        if say is not None and step % 200 == 0:
            entropy, value_error, lost = np.mean(recent[-200:], axis=0)
            say(f"imitation step {step}: cross-entropy {entropy:.4f}, value {value_error:.4f}, lost {lost:.5f}")
    network.eval()


def train_floor_policy(
    training: FloorTraining,
    folder: Path,
    *,
    seconds: float = 600.0,
    seed: int = 0,
    say: Say | None = None,
    clock: Callable[[], float] = time.monotonic,
    judge: FloorJudge | None = None,
    on_progress: OnProgress | None = None,
) -> TypedEdgeNetwork:
    """Train a policy and write ``folder/policy.safetensors`` and its card ``folder/policy.json``.

    Training that was killed goes on after the imitation, once that was finished, from PPO's last update.

    Parameters
    ----------
    judge
        Asked `JUDGEMENTS` times; the weights that it finds best are those of the policy. The last ones are if it is
        left out.
    on_progress
        Called after every shop of the teacher, every few steps of imitation and every update; `best` is the judge's
        best score.
    """
    began, imitated = clock(), folder / "imitated.pt"
    network = new_network(training, seed)
    folder.mkdir(parents=True, exist_ok=True)

    def report(elapsed: float, phase: str) -> None:
        if on_progress is not None:
            best = judge.score if judge is not None and np.isfinite(judge.score) else None
            on_progress(Progress(elapsed, best, None, phase))

    def said(text: str) -> None:
        report(clock() - began, text)
        if say is not None:
            say(text)

    if imitated.exists():
        kept = _imitated(imitated)
        network.load_state_dict(kept["network"])
        decisions, spent = int(kept["decisions"]), float(kept["seconds"])
    else:
        in_time = training.teach_share * seconds
        samples = taught(
            training, seed=seed, seconds=in_time, say=lambda text: report(clock() - began, text), clock=clock
        )
        decisions = len(samples.get("value", ()))
        if say is not None:
            say(f"{decisions} decisions of the teacher after {clock() - began:.0f} s")
        if decisions:
            in_time = training.imitate_share * seconds
            imitate(network, samples, training, seed=seed, seconds=in_time, say=said, clock=clock)
        if judge is not None:
            judge(network)
        spent = clock() - began
        if not stop_requested():  # else the next start is to teach and imitate anew, in the time that is meant for it
            beside = imitated.with_name(imitated.name + ".part")
            torch.save({"network": network.state_dict(), "decisions": decisions, "seconds": spent}, beside)
            os.replace(beside, imitated)
    environment = FloorEnvironment(training.shops.draw, training.ppo.environments, training.shops.shape)
    recent: list[float] = []
    judged = 0.0

    def on_update(update: Update) -> None:
        nonlocal judged
        recent.append(update.episode_return)
        if judge is not None and (update.seconds - judged > seconds / JUDGEMENTS or stop_requested()):
            judge(network)
            judged = update.seconds
        report(spent + update.seconds, f"policy optimisation, {update.number + 1} updates")
        if say is not None and update.number % 10 == 9:
            say(
                f"update {update.number}: {update.seconds:.0f} s, return {np.nanmean(recent[-10:]):.4f}, "
                f"entropy {update.entropy:.3f}, divergence {update.divergence:.4f}, explained {update.explained:.2f}"
            )

    history = train_ppo(
        environment,
        network,
        training.ppo,
        seed=seed,
        seconds=max(seconds - spent, 0.0),
        on_update=on_update,
        checkpoint=folder / "training.pt",
        clock=clock,
    )
    card = {
        "method": "imitation of rollouts of rules, then proximal policy optimisation (after arXiv 2302.02506)",
        "seed": seed,
        "seconds": round(spent + history.seconds, 1),
        "clock": getattr(clock, "__name__", "given"),
        "teacher decisions": decisions,
        "environment steps": int(history.curve("samples").sum()) if history.updates else 0,
        "training": asdict(training),
    }
    if judge is not None:
        judge(network)
        judge.restore(network)
        network.eval()
        card["score"] = {
            "mean makespan over the best rule's": round(judge.score, 5),
            "shops": f"{len(judge.shops)} random shops that were not trained on",
        }
    save_policy(network, card, folder / "policy.safetensors")
    return network


def _imitated(file: Path) -> dict[str, Any]:
    """What was learned by imitation."""
    try:
        kept: dict[str, Any] = torch.load(file, weights_only=True)
        kept["network"], kept["decisions"], kept["seconds"]
    except Exception as error:  # torch.load raises errors of many unrelated types
        raise InputError(f"is no state of a training ({str(error).splitlines()[0]})", file=str(file)) from None
    return kept


def train(
    out: Path,
    *,
    seconds: float = 1800.0,
    seed: int = 0,
    on_progress: OnProgress | None = None,
    settings: FloorTraining | None = None,
) -> Path:
    """Dispatcher of a shop floor without buffers whose machines break down: imitated rollouts, then policy gradients.

    Parameters
    ----------
    out
        Checkpoint to write, named ``*.safetensors``; the card is ``*.json`` beside it, and the folder ``*.training``
        holds the state of an unfinished training.
    seconds
        Processor time, all starts together. Ctrl-C (`pathloom.plan.request_stop`) ends early with the best so far, and
        keeps the state.
    seed
        Of everything.
    on_progress
        `best` is the mean makespan over the best rule's, on shops set aside.
    settings
        Those of the shipped policy if left out.

    Raises
    ------
    InputError
        If `out` cannot be written, or the state beside it is that of another training.
    """
    if not seconds > 0:
        raise InputError(f"expected more than 0 seconds, found {seconds:g}", key="seconds")
    chosen = settings or FloorTraining()
    folder = open_training(out, {"policy": "shop-floor", "seed": seed, "settings": asdict(chosen)})
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train_floor_policy(
            chosen,
            folder,
            seconds=seconds,
            seed=seed,
            clock=time.process_time,
            judge=FloorJudge(chosen.shops, folder / "best.pt"),
            on_progress=on_progress,
        )
    finally:
        torch.set_num_threads(threads)
    os.replace(folder / "policy.json", out.with_suffix(".json"))
    os.replace(folder / "policy.safetensors", out)
    if not stop_requested():
        close_training(folder)
    return out
