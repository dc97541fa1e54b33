"""Measuring this machine for an input file: seconds per layer, the ratios beside them, and links to other machines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pathloom.data.naming import unknown_name
from pathloom.plan import InputError
from pathloom.worlds.train.files import load
from pathloom.worlds.train.problem import TrainProblem, Workload
from pathloom.worlds.train.runtime.compute_profile import ComputeProfile, Timing
from pathloom.worlds.train.runtime.input_edits import Measured, MeasuredLink
from pathloom.worlds.train.runtime.input_update import (
    difference,
    read_input,
    replace_input,
    updated,
)
from pathloom.worlds.train.runtime.link_profile import (
    address,
    measure_link,
    measure_loopback,
    serve_probe,
)

if TYPE_CHECKING:
    import torch

    from pathloom.learn.language_model.config import LanguageModelConfig

WARM_UP = 2
"""Rounds ahead of those that count: they load code, fill caches and make the gradients exist."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class ProfileResult:
    """A profile as a table, and what it did to the file.

    Attributes
    ----------
    columns, rows
        Titles of a table and its cells.
    diff
        Changes of the file, as a unified diff.
    written
        Whether the file holds them now.
    figures
        What was measured, plainly.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    diff: str
    written: bool
    figures: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain figures for ``--json``."""
        return {**self.figures, "diff": self.diff, "written": self.written}


def profile_file(
    file: Path | None,
    *,
    nodes: Sequence[str] | None = None,
    links: Sequence[str] = (),
    serve: str | None = None,
    compute: bool = True,
    threads: int = 1,
    device: str = "auto",
    precision: str = "float32",
    repeats: int = 15,
    dry_run: bool = False,
    say: Say | None = None,
) -> ProfileResult:
    """Measure this machine and its links, and write the figures into an input file.

    Written are the ``speed`` of the nodes that are this machine, ``times.backward``, ``times.weight`` and
    ``times.loss``, and an entry of ``links.pairs`` for each measured link. The file's rests and message overhead
    (``times.gap``, ``times.injection_gap``, ``links.overhead``) stay as they are.

    Parameters
    ----------
    file
        The input file; None is allowed when serving.
    nodes
        Names of the nodes that are this machine; None: all.
    links
        Texts "NODE:NODE=HOST:PORT": the first node is this machine, the probe of the second listens there; with
        "=loopback" both are.
    serve
        "HOST:PORT": run the probe there until interrupted, and do nothing else.
    compute
        False: measure links alone.
    threads, device, precision, repeats
        As `profile_compute`.
    dry_run
        True: leave the file as it is, and only tell what would change.
    say
        Told what is going on.

    Raises
    ------
    InputError
        Names the file, the key or the peer: a model that is a table of layers, an unknown node, a peer that does not
        answer. The file is then as it was.
    """
    say = say or (lambda text: None)
    if serve is not None:
        host, port = address(serve, key="--serve")
        serve_probe(host, port, ready=lambda bound: say(f"probe listens on {host}:{bound}; Ctrl-C ends it"))
        return ProfileResult((), (), "", False)
    if file is None:
        raise InputError("expected an input file to write the figures into", key="FILE")
    text = read_input(file)
    problem = load(file)
    chosen = _chosen(problem, nodes)
    asked = [_link(problem, link) for link in links]
    rows: list[list[str]] = []
    figures: dict[str, Any] = {"name": problem.name, "nodes": chosen if compute else [], "compute": None}
    speed: dict[str, float] = {}
    ratios: dict[str, float] = {}
    if compute:
        workload, config = _workload(problem)
        say(f"layers of {workload.samples} samples of {config.context} tokens, {repeats} times")
        profile = profile_compute(
            config,
            samples=workload.samples,
            context=config.context,
            threads=threads,
            device=device,
            precision=precision,
            repeats=repeats,
        )
        layers = workload.stage_layers[0]
        speed = dict.fromkeys(chosen, profile.speed)
        ratios = {
            "backward": profile.backward_ratio,
            "weight": profile.weight_share,
            "loss": profile.loss_ratio(layers),
        }
        rows += _compute_rows(profile, ratios, layers)
        figures["compute"] = {**profile.to_dict(), "loss_ratio": ratios["loss"], "first_stage_layers": layers}
    measured = [_measure(a, b, at, say) for a, b, at in asked]
    rows += [row for link in measured for row in _link_rows(link)]
    figures["links"] = [_link_figures(link) for link in measured]
    if not measured:
        say("loopback")
        here = measure_loopback()
        rows.append(["loopback, not written", _seconds(here.delay), _rate(here.bandwidth), "-"])
        figures["loopback"] = here._asdict()
    new = updated(text, Measured(speed, ratios, measured), file=str(file), folder=file.parent)
    if not dry_run and new != text:
        replace_input(file, text, new)
    columns = ("what", "median", "quartiles, or bandwidth", "in the file")
    return ProfileResult(columns, rows, difference(text, new, str(file)), not dry_run and new != text, figures)


def profile_compute(
    config: LanguageModelConfig,
    *,
    samples: int,
    context: int,
    threads: int = 1,
    device: str = "auto",
    repeats: int = 15,
    precision: str = "float32",
) -> ComputeProfile:
    """Time the pieces of one microbatch's work on this machine.

    Every round runs all pieces once, so that a machine that slows down slows all of them; medians are over rounds.

    Parameters
    ----------
    config
        The model; only a few of its layers are built.
    samples, context
        Samples of a microbatch and tokens of each.
    threads
        Threads of the CPU's kernels, pinned while this runs.
    device
        "cpu", "cuda", "cuda:1", or "auto": a GPU where there is one.
    repeats
        Rounds that count.
    precision
        "float32", or "bfloat16" for matrix products in bfloat16 (autocast), weights staying float32.

    Raises
    ------
    InputError
        For a device that is not there, a precision that is neither, numbers below 1, or a context beyond the model's.
    """
    import torch

    from pathloom.worlds.train.runtime.layer_timing import PIECES, MicrobatchTimer

    for key, value, most in (("samples", samples, 10**6), ("--threads", threads, 1024), ("--repeats", repeats, 10**6)):
        if not 1 <= value <= most:
            raise InputError(f"expected a whole number from 1 to {most}, found {value}", key=key)
    if not 1 <= context <= config.context:
        raise InputError(f"expected 1 to {config.context} tokens, found {context}", key="context")
    if precision not in ("float32", "bfloat16"):
        raise InputError(f"expected float32 or bfloat16, found '{precision}'", key="--precision")
    place = _device(device)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        timer = MicrobatchTimer(
            config, samples=samples, context=context, device=place, autocast=precision == "bfloat16"
        )
        rounds = [timer.round() for _ in range(WARM_UP + repeats)][WARM_UP:]
    finally:
        torch.set_num_threads(before)
    return ComputeProfile(
        samples,
        context,
        **{piece: Timing.of([taken[piece] for taken in rounds]) for piece in PIECES},
        device=_device_name(place),
        threads=threads,
        precision=precision,
        repeats=repeats,
    )


def _workload(problem: TrainProblem) -> tuple[Workload, LanguageModelConfig]:
    """What the file trains, and the model as one that can be run."""
    from pathloom.learn.language_model.config import LanguageModelConfig

    if problem.workload is None:
        message = "is a table of layers, which cannot be run; expected a LLaMA shape (dim, layers, heads, context)"
        raise InputError(message, file=problem.file or None, key="model")
    try:
        return problem.workload, LanguageModelConfig(**asdict(problem.workload.model))
    except ValueError as error:
        name, _, message = str(error).partition(": ")
        raise InputError(message, file=problem.file or None, key=f"model.{name}") from None


def _chosen(problem: TrainProblem, nodes: Sequence[str] | None) -> list[str]:
    for name in nodes or ():
        if name not in problem.nodes:
            raise InputError(unknown_name("node", name, problem.nodes, "this file"), file=problem.file, key="--node")
    return list(dict.fromkeys(nodes)) if nodes else list(problem.nodes)


def _link(problem: TrainProblem, text: str) -> tuple[str, str, str]:
    """Both ends and the address of "NODE:NODE=HOST:PORT"."""
    names, equals, at = text.rpartition("=")
    first, colon, second = names.partition(":")
    if not (equals and colon and first and second and at):
        raise InputError(f"expected NODE:NODE=HOST:PORT or NODE:NODE=loopback, found '{text}'", key="--link")
    known = dict.fromkeys([*problem.nodes, *problem.locations])
    for end in (first, second):
        if end not in known:
            message = unknown_name("node or region", end, list(known), "this file")
            raise InputError(message, file=problem.file, key="--link")
    if at != "loopback":
        address(at, key="--link")
    return first, second, at


def _measure(a: str, b: str, at: str, say: Say) -> MeasuredLink:
    say(f"link {a} to {b}, {at}")
    if at == "loopback":
        here = measure_loopback()
        return MeasuredLink(a, b, here, here)
    host, port = address(at, key="--link")
    return MeasuredLink(a, b, measure_link(host, port), measure_link(host, port, back=True))


def _device(name: str) -> torch.device:
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"cannot be used: {reason}; expected auto, cpu or cuda", key=f"--device {name}") from None
    if device.type not in ("cpu", "cuda"):
        raise InputError("is no device that is measured; expected auto, cpu or cuda", key=f"--device {name}")
    return device


def _device_name(device: torch.device) -> str:
    import torch

    return f"{device}: {torch.cuda.get_device_name(device)}" if device.type == "cuda" else str(device)


def _compute_rows(profile: ComputeProfile, ratios: dict[str, float], layers: int) -> list[list[str]]:
    written = {
        "layer, forward": f"speed: {_seconds(profile.speed)} per layer and sample",
        "layer, backward": f"times.backward: {ratios['backward']:.4g}",
        "layer, backward, weight part": f"times.weight: {ratios['weight']:.4g}",
        "norm, head and loss, both ways": f"times.loss: {ratios['loss']:.4g} ({layers} layers in stage 0)",
    }
    where = f"{profile.device}, {profile.threads} thread{'s' * (profile.threads > 1)}"
    rows = [["measured on", where, f"{profile.precision}, {profile.repeats} rounds", "-"]]
    for name, timing in profile.timings().items():
        quartiles = f"{_seconds(timing.low)} to {_seconds(timing.high)}"
        rows.append([name, _seconds(timing.median), quartiles, written.get(name, "-")])
    return rows


def _link_rows(link: MeasuredLink) -> list[list[str]]:
    return [
        [f"link {a} to {b}", _seconds(figures.delay), _rate(figures.bandwidth), "links.pairs"]
        for a, b, figures in ((link.a, link.b, link.there), (link.b, link.a, link.back))
    ]


def _link_figures(link: MeasuredLink) -> dict[str, Any]:
    return {"between": [link.a, link.b], "there": link.there._asdict(), "back": link.back._asdict()}


def _seconds(value: float) -> str:
    for unit, factor in (("s", 1.0), ("ms", 1e-3)):
        if value >= factor:
            return f"{value / factor:.4g} {unit}"
    return f"{value / 1e-6:.4g} us"


def _rate(value: float) -> str:
    return f"{value / 1e6:.4g} MB/s" if value >= 1e6 else f"{value / 1e3:.4g} kB/s"
