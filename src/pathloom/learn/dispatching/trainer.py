"""Training a dispatcher on generated shops, with CP-SAT as the teacher.

Two stages share the processor time: at first the policy imitates the teacher's schedules of whole shops, then it
schedules itself and learns from what the teacher makes of its schedules (`expert_suffix`; and goes on imitating, with
the lessons of both stages). The learning rate falls linearly to zero. The weights kept are those that did best on
shops set aside.

Time is that of the processor, so that a busy machine does not cut the training short. The state is saved every
`SAVE_EVERY` seconds beside the checkpoint; a training that was ended in any way goes on from there when it is started
again with the same settings.

What is judged, and kept, is a running average of the weights (see `training_state`), which changes less
from one round to the next than they do.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pathloom.learn.dispatching.card import checked_target, save_policy, write_whole
from pathloom.learn.dispatching.expert_suffix import ClippedObjective, attempt, improve
from pathloom.learn.dispatching.judging import Judge
from pathloom.learn.dispatching.lessons import (
    PROBLEM_KINDS,
    Decisions,
    ProblemKind,
    ShopSeed,
    StudiedLesson,
    wanted_mask,
)
from pathloom.learn.dispatching.policy import (
    PolicyShape,
    log_probabilities,
    rows_of,
    set_log_probability,
)
from pathloom.learn.dispatching.teacher import searched, teach
from pathloom.learn.dispatching.training_state import TrainingState, fresh_state, restore, saved_state
from pathloom.plan import InputError, Progress, stop_requested
from pathloom.schedule.interval_environment import RULES, IntervalEnvironment
from pathloom.schedule.shops import Ints

SAVE_EVERY = 30.0
JUDGEMENTS = 40
"""How often a training judges its weights."""
Sizes = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class TrainingSettings:
    """How to train; what changes the result.

    Attributes
    ----------
    sizes
        (jobs, machines) of the generated shops, drawn evenly.
    judged
        Sizes of the shops set aside, `judged_each` of each.
    choices
        Most alternatives of an operation in any flexible shop.
    effort
        Of the teacher, a call, in CP-SAT's deterministic time.
    moves
        Of the tabu search from which the teacher takes its hint on a whole shop; 0: the hint is the best rule's
        schedule.
    imitation
        Share of the time of the first stage.
    lessons
        Whole shops taught between two rounds of imitation.
    steps, batch
        Steps of imitation a round, and decisions of each.
    rate, suffix_rate
        Learning rates of the stages at the beginning (Adam).
    shops, episodes
        Of an update in the second stage.
    """

    sizes: Sizes = ((6, 6), (10, 10), (10, 10), (8, 8), (12, 8), (15, 10), (10, 5), (15, 5), (20, 5), (25, 5))
    judged: Sizes = ((10, 10), (15, 10), (20, 10), (40, 10))
    judged_each: int = 6
    choices: int = 3
    effort: float = 0.12
    moves: int = 0
    imitation: float = 0.35
    lessons: int = 8
    steps: int = 48
    batch: int = 256
    rate: float = 4e-3
    suffix_rate: float = 1e-3
    shops: int = 4
    episodes: int = 4
    shape: PolicyShape = field(default_factory=PolicyShape)
    objective: ClippedObjective = field(default_factory=ClippedObjective)


SETTINGS: dict[ProblemKind, TrainingSettings] = {
    "job-shop": TrainingSettings(),
    # In so short a time the solver alone finds no good schedules of these, and what it makes of bad beginnings teaches
    # little: the lessons come from tabu search, and more of them from whole shops.
    "flexible-shop": TrainingSettings(
        sizes=((8, 4), (10, 5), (10, 6), (12, 8), (15, 8), (10, 10), (20, 5)),
        judged=((10, 6), (15, 8), (20, 10)),
        choices=6,
        effort=0.005,
        moves=30_000,
        imitation=0.8,
        rate=2e-3,
        shape=PolicyShape(width=32, heads=4),
    ),
}


def train(
    out: Path,
    *,
    seconds: float = 1800.0,
    seed: int = 0,
    on_progress: Callable[[Progress], None] | None = None,
    problem: ProblemKind = "job-shop",
    settings: TrainingSettings | None = None,
) -> Path:
    """Train a dispatcher and write it with its card.

    Parameters
    ----------
    out
        Checkpoint to write, named ``*.safetensors``; the card is ``*.json`` beside it, and the state of an unfinished
        training ``*.training`` (removed when its time is over).
    seconds
        Processor time, all starts together. Ctrl-C (`pathloom.plan.request_stop`) ends early with what there
        is, and keeps the state.
    seed
        Of everything.
    on_progress
        Called after every round; `best` is the mean makespan of the kept weights' greedy pass on the shops set aside,
        over that of the best rule.
    problem
        "job-shop" or "flexible-shop".
    settings
        Those of `SETTINGS` if left out.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    InputError
        If `out` cannot be written, or a state beside it is that of other settings.
    """
    if problem not in PROBLEM_KINDS:
        raise InputError(f"expected one of {', '.join(PROBLEM_KINDS)}, found {problem!r}", key="problem")
    if not seconds > 0:
        raise InputError(f"expected more than 0 seconds, found {seconds:g}", key="seconds")
    target = checked_target(out)
    chosen = settings or SETTINGS[problem]
    identity = json.loads(json.dumps({"problem": problem, "seed": seed, "settings": asdict(chosen)}))
    kept = target.with_suffix(".training")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _train(target, kept, identity, chosen, problem, seconds, seed, on_progress)
    finally:
        torch.set_num_threads(threads)


def _train(
    target: Path,
    kept: Path,
    identity: dict[str, Any],
    settings: TrainingSettings,
    problem: ProblemKind,
    seconds: float,
    seed: int,
    on_progress: Callable[[Progress], None] | None,
) -> Path:
    state = fresh_state(settings.shape, settings.rate, seed)
    if kept.exists():
        restore(kept, state, identity)
    judge = Judge(settings.judged, settings.judged_each, _choices(settings, problem))
    began = time.process_time() - state.used
    saved = time.monotonic()

    def clock() -> float:
        return time.process_time() - began

    def over() -> bool:
        return clock() >= seconds or stop_requested()

    if not kept.exists():
        write_whole(kept, saved_state(state, identity))
    while not over():
        imitating = clock() < settings.imitation * seconds
        left = max(0.0, 1 - clock() / seconds)
        if imitating:
            _teach_round(state, settings, problem, seed)
        else:
            _suffix_round(state, settings, problem, seed, settings.suffix_rate * left, over)
        _imitate(state, settings, seed, settings.rate * left, over)
        state.used = clock()
        if state.used - state.judged > seconds / JUDGEMENTS or over():
            _judge(state, judge)
            state.used = state.judged = clock()
        if on_progress is not None:
            phase = "imitating" if imitating else "expert suffixes"
            last = f"{state.history[-1]['score']:.3f} of the best rule" if state.history else "not judged yet"
            on_progress(Progress(state.used, state.best_score, None, f"{phase}, {len(state.lessons)} lessons, {last}"))
        if time.monotonic() - saved > SAVE_EVERY:
            write_whole(kept, saved_state(state, identity))
            saved = time.monotonic()

    unfinished = saved_state(state, identity)
    state.policy.load_state_dict(state.best)
    state.policy.eval()
    scores = judge.scores(state.policy)
    card = {
        "problem": problem,
        "method": "imitation of CP-SAT, then expert suffixes (Tassel et al., ICAPS 2023)",
        "data": "generated shops, durations uniform on 1..99, machines in random order",
        "training": {
            "seed": seed,
            "processor_seconds": round(clock(), 1),
            "asked_seconds": seconds,
            "lessons": len(state.lessons),
            "steps": state.steps,
            "updates": state.updates,
            "settings": identity["settings"],
        },
        "scores": scores,
        "history": state.history,
    }
    save_policy(target, state.policy, card)
    if clock() < seconds:
        write_whole(kept, unfinished)
    else:
        kept.unlink(missing_ok=True)
    return target


def _judge(state: TrainingState, judge: Judge) -> None:
    """Judge the averaged weights, and keep them if they are the best so far."""
    score = judge(state.average)
    if score < state.best_score:
        state.best_score = score
        state.best = {name: value.clone() for name, value in state.average.state_dict().items()}
    now = {"seconds": round(state.used, 1), "score": round(score, 5), "lessons": len(state.lessons)}
    state.history.append({**now, "steps": state.steps, "updates": state.updates})


def _choices(settings: TrainingSettings, problem: ProblemKind) -> int:
    return settings.choices if problem == "flexible-shop" else 0


def _shop(settings: TrainingSettings, problem: ProblemKind, generator: np.random.Generator) -> ShopSeed:
    jobs, machines = settings.sizes[generator.integers(len(settings.sizes))]
    return ShopSeed(jobs, machines, _choices(settings, problem), int(generator.integers(2**62)))


def _teach_round(state: TrainingState, settings: TrainingSettings, problem: ProblemKind, seed: int) -> None:
    """Let the teacher schedule a few new shops."""
    generator = np.random.default_rng([seed, 1, state.rounds])
    for _ in range(settings.lessons):
        if stop_requested():
            return
        shop = _shop(settings, problem, generator)
        environment = IntervalEnvironment([shop.make()])
        hint = searched(environment, settings.moves) if settings.moves else _best_by_rule(environment)
        lesson = teach(environment, 0, effort=settings.effort, hint=hint)
        if lesson is not None:
            state.remember(StudiedLesson(shop, np.zeros(0, np.int64), lesson))
    state.rounds += 1


def _best_by_rule(environment: IntervalEnvironment) -> tuple[Ints, NDArray[np.int32]]:
    """Schedule of the best rule for the only episode of an environment, which is put back to its beginning."""
    found: dict[int, tuple[Ints, NDArray[np.int32]]] = {}
    for rule, patient in itertools.product(RULES, (False, True)):
        environment.reset()
        environment.finish_by_rule(rule, patient=patient)
        found.setdefault(int(environment.makespan[0]), environment.schedule(0))
    environment.reset()
    return found[min(found)]


def _suffix_round(
    state: TrainingState,
    settings: TrainingSettings,
    problem: ProblemKind,
    seed: int,
    rate: float,
    over: Callable[[], bool],
) -> None:
    """One update of the expert-suffix method."""
    generator = np.random.default_rng([seed, 2, state.updates])
    shops = [_shop(settings, problem, generator) for _ in range(settings.shops)]
    tried = attempt(
        state.policy,
        shops,
        episodes=settings.episodes,
        effort=settings.effort,
        generator=generator,
        settings=settings.objective,
        stop=over,
    )
    state.updates += 1
    if tried is None:
        return
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    improve(state.policy, state.optimizer, tried, generator=generator, settings=settings.objective, stop=over)
    state.follow()
    for lesson in tried.lessons:
        state.remember(lesson)


def _imitate(
    state: TrainingState, settings: TrainingSettings, seed: int, rate: float, over: Callable[[], bool]
) -> None:
    """Steps of imitation on decisions drawn from all lessons."""
    if not state.known:
        return
    generator = np.random.default_rng([seed, 3, state.steps])
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    # A few lessons at a time, joined once, serve several steps: copying all of them for each step would cost more.
    until = state.steps + settings.steps
    while state.steps < until:
        picked = generator.choice(len(state.known), min(32, len(state.known)), replace=False)
        pool = Decisions.joined([state.known[i] for i in picked])
        for part in _batches(pool.count, settings.batch, generator):
            if over() or state.steps == until:
                return
            chosen = pool.select(part)
            rows = rows_of(chosen.seen)
            loss = -set_log_probability(log_probabilities(*state.policy(rows)), wanted_mask(chosen, rows)).mean()
            state.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(state.policy.parameters(), 1.0)
            state.optimizer.step()
            state.steps += 1
            state.follow()


def _batches(count: int, size: int, generator: np.random.Generator) -> list[NDArray[np.int64]]:
    return np.array_split(generator.permutation(count), max(1, count // size))
