"""``pathloom run plan.json``: train the plan's model along the plan's routes.

The run's folder holds ``run.json`` (settings, state, figures), a copy of the plan, ``metrics.jsonl``, TensorBoard
scalars, the timeline of the last undisturbed iteration, gradient norms, checkpoints and, at the end, the model in
Hugging Face's format.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pathloom.data.input_model import validated
from pathloom.plan import InputError, Plan, stop_requested
from pathloom.worlds.train.check import check
from pathloom.worlds.train.plan_files import read_plan, write_plan
from pathloom.worlds.train.problem import TrainDecisions, TrainProblem
from pathloom.worlds.train.runtime.settings import RunSettings

if TYPE_CHECKING:
    from rich.console import Console

    from pathloom.worlds.train.runtime.cluster import Launcher
    from pathloom.worlds.train.runtime.progress_line import ProgressLine
    from pathloom.worlds.train.runtime.torchrun import Rank

FORMAT = "pathloom-run-1"
COLUMNS = ("figure", "value")
EVERY = 10.0
"""Seconds between two savings of the gradient norms."""
OnRecord = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class RunResult:
    """What a run came to.

    Attributes
    ----------
    figures
        As in ``run.json``.
    files
        What was written, by name.
    """

    name: str
    figures: Mapping[str, Any]
    files: Mapping[str, Path]
    columns: tuple[str, ...] = COLUMNS

    @property
    def rows(self) -> list[tuple[str, str]]:
        """Cells of a table with the titles `columns`."""
        shown = (
            ("steps", "steps", "{}"),
            ("training loss", "loss", "{:.4f}"),
            ("validation loss", "validation_loss", "{:.4f}"),
            ("tokens a second", "tokens_per_second", "{:,.0f}"),
            ("iteration, measured", "iteration_seconds", "{:.3f} s"),
            ("iteration, simulated", "planned_seconds", "{:.3f} s"),
            ("bubble share", "bubble", "{:.1%}"),
            ("nodes lost", "nodes_lost", "{}"),
        )
        figures = self.figures
        return [(what, form.format(figures[key])) for what, key, form in shown if figures.get(key) is not None]

    def to_dict(self) -> dict[str, Any]:
        """Plain figures for ``--json``."""
        return dict(self.figures)


def run_plan(
    file: Path,
    *,
    out: Path,
    options: Mapping[str, Any] | None = None,
    config: Path | None = None,
    resume: bool = False,
    initial: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    launcher: Launcher | None = None,
    launch: bool = True,
    console: Console | None = None,
    on_step: OnRecord | None = None,
    on_event: OnRecord | None = None,
) -> RunResult | None:
    """Run a plan.

    Parameters
    ----------
    file
        The plan.
    out
        The run's folder.
    options
        Settings by name; they override those of `config`, and, with `resume`, those of the run that goes on.
    config
        YAML file of settings.
    resume
        Go on from the newest checkpoint in `out`; the plan may be another one, with other nodes.
    initial
        Hugging Face folder with weights to begin with.
    host, port
        Where the nodes join; port 0 takes a free one.
    launcher
        Starts the nodes; by default forked processes on this machine.
    launch
        False: the nodes are started by somebody else, on whatever machines, and join at `host` and `port`.
    console
        Shows progress and events; None for silence.
    on_step, on_event
        Called with each step's record, and with events.

    Returns
    -------
    RunResult or None
        None in a process that torchrun started and that does not lead.

    Raises
    ------
    InputError
        For anything wrong with files, settings or nodes.
    """
    from pathloom.worlds.train.runtime.torchrun import started_by_torchrun, this_rank

    plan = read_plan(file)
    violations = check(plan.problem, plan)
    if violations:
        raise InputError(f"holds a plan that its checker rejects: {violations[0]}", file=str(file))
    problem: TrainProblem = plan.problem
    if problem.workload is None:
        raise InputError(
            "says nothing about the model, so nothing can be trained; plan a file with a LLaMA shape",
            file=str(file),
            key="problem.workload",
        )
    rank = None
    if launcher is None and started_by_torchrun():
        rank = this_rank(problem.n_nodes)
        if rank.rank:
            from pathloom.worlds.train.runtime.worker import work

            work(problem.nodes[rank.rank], rank.coordinator(), rank.host)
            return None
        resume = resume or (rank.restarted and (out / "run.json").exists())
    run = _Run(plan, out, resume, initial, config, dict(options or {}))
    if not launch:
        launcher = _nobody
    return run.lead(rank, host, port, launcher, _Audience(console, run.settings.steps, on_step, on_event))


class _Run:
    """Everything around the coordinator: settings, folder, files."""

    def __init__(
        self, plan: Plan, out: Path, resume: bool, initial: Path | None, config: Path | None, options: dict[str, Any]
    ) -> None:
        from pathloom.learn.language_model.config import LanguageModelConfig
        from pathloom.worlds.train.runtime import checkpoint as checkpoints
        from pathloom.worlds.train.runtime.coordinator import Place
        from pathloom.worlds.train.runtime.cut import layers_of

        self.plan, self.out = plan, out
        self.problem: TrainProblem = plan.problem
        self.decisions: TrainDecisions = plan.decisions
        assert self.problem.workload is not None
        layers_of(self.problem.workload.stage_layers, self.decisions.chunks)
        self.place, self.initial = Place(), None
        self.warnings: tuple[str, ...] = ()
        given: dict[str, Any] = {}
        last: checkpoints.Checkpoint | None = None
        if resume:
            given = _previous(out)["settings"]
            last = checkpoints.latest(out, verify=True)
            if last is None:
                raise InputError("holds no sound checkpoint to resume from", file=str(out), key="--resume")
            self.place = Place(last.step, int(last.required("windows")))
            self.initial = {"kind": "checkpoint", "path": str(last.path)}
            self.warnings = last.warnings
        elif (out / "run.json").exists() and not _came_to_nothing(out):
            raise InputError("holds a run already; expected another folder, or --resume", file=str(out), key="--out")
        self.settings = _settings(config, given, options)
        shape = vars(self.problem.workload.model)
        try:
            self.config = LanguageModelConfig(**shape)
        except ValueError as error:
            raise InputError(str(error), key="problem.workload.model") from None
        if last is not None:
            _same_model(last.required("model"), vars(self.config), out)
        elif initial is not None:
            from pathloom.learn.language_model.pretrained import load_config

            self.config = _fits(load_config(initial), self.config, initial)
            self.initial = {"kind": "pretrained", "path": str(initial)}
        self._check_data()
        self.rates = _rates(self.settings)
        if self.place.step >= self.settings.steps:
            done = self.place.step
            raise InputError(
                f"expected more than the {done} steps done already, found {self.settings.steps}", key="steps"
            )
        self.resumed = resume

    def _check_data(self) -> None:
        from pathloom.data.token_files import TokenData
        from pathloom.worlds.train.runtime.batches import Batches

        data = TokenData.open(Path(self.settings.data), verify=True)
        self.tokenizer = data.card.tokenizer.model_dump()
        workload = self.problem.workload
        assert workload is not None
        if data.vocab > workload.model.vocab:
            raise InputError(
                f"has a vocabulary of {data.vocab}, the plan's model one of {workload.model.vocab}",
                file=self.settings.data,
                key="vocab",
            )
        splits = ["train"] + (["validation"] if self.settings.validate_every else [])
        for split in splits:
            context = workload.model.context
            enough = False
            with suppress(ValueError):  # not one window
                enough = len(Batches(data, split, context=context, samples=workload.samples, seed=0)) > 0
            if not enough:
                raise InputError(
                    f"has too few {split} tokens for one microbatch of {workload.samples} x {context}",
                    file=self.settings.data,
                    key=split,
                )

    def lead(
        self,
        rank: Rank | None,
        host: str,
        port: int,
        launcher: Launcher | None,
        audience: _Audience,
    ) -> RunResult:
        """Start the nodes, coordinate them, and write everything down."""
        import torch.distributed as dist

        from pathloom.worlds.train.runtime.cluster import Cluster
        from pathloom.worlds.train.runtime.coordinator import Coordinator
        from pathloom.worlds.train.runtime.local_processes import local_launcher
        from pathloom.worlds.train.runtime.membership import Membership

        self.audience = audience
        if rank is not None:
            host = rank.host
            lead = local_launcher(host)
            first = self.problem.nodes[0]
            launcher = _OnlyFirst(lead, first)
        elif launcher is None:
            launcher = local_launcher(host)
        settings = self.settings
        cluster = Cluster(host, port, launcher, patience=settings.patience, task_limit=settings.task_limit)
        began = time.monotonic()
        status = "failed"
        self.coordinator: Coordinator | None = None
        try:
            self._open_folder()
        except InputError:
            cluster.close()
            raise
        try:
            if rank is not None:
                rank.publish(cluster.address)
            store = dist.TCPStore(host, 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
            cluster.join(self.problem.nodes, settings.join_timeout)
            membership = Membership(
                cluster,
                self.problem,
                self.decisions,
                settings,
                model=vars(self.config),
                store=(host, store.port),
                same_clock=launcher is not _nobody and (rank is None or rank.one_machine),
            )
            self.coordinator = Coordinator(
                membership,
                rates=self.rates,
                folder=self.out,
                place=self.place,
                initial=self.initial,
                on_step=self._step,
                on_event=self._event,
            )
            self.coordinator.run()
            status = "stopped" if stop_requested() else "done"
        except KeyboardInterrupt:
            status = "aborted"
            raise
        finally:
            cluster.close()
            self.audience.close()
            self.metrics.close()
            self.norms.write()
            self.seconds = time.monotonic() - began
            self._write_run(status)
        return self._result(status)

    def _open_folder(self) -> None:
        from pathloom.worlds.train.runtime.metrics import MetricsWriter

        try:
            self.out.mkdir(parents=True, exist_ok=True)
            write_plan(self.plan, self.out / "plan.json.part")
            os.replace(self.out / "plan.json.part", self.out / "plan.json")
        except OSError as error:
            raise InputError(f"cannot be written: {error.strerror or error}", file=str(self.out), key="--out") from None
        self.metrics = MetricsWriter(self.out, resume_step=self.place.step if self.resumed else None)
        for note in (*self.warnings, self.metrics.note):
            self.audience.say(note)
        self.norms = _Norms(self.out, resumed=self.resumed)
        self.last: dict[str, Any] = {}
        self.validation: float | None = None
        self._rates_seen: list[float] = []
        self._bubbles: list[float] = []
        self.seconds = 0.0
        self._write_run("running")

    def _step(self, record: dict[str, Any]) -> None:
        self.metrics.write(record)
        self.norms.add(record)
        self.last = dict(record)
        self._rates_seen.append(record["tokens_per_second"])
        self._bubbles.append(record["bubble"])
        self.validation = record.get("validation_loss", self.validation)
        self.audience.step(record)

    def _event(self, record: dict[str, Any]) -> None:
        fields = dict(record)
        self.metrics.event(fields.pop("event"), **fields)
        if record.get("steps_lost"):
            self.metrics.rewind(self.coordinator.place.step if self.coordinator else 0)
        self.audience.event(record)

    def _figures(self) -> dict[str, Any]:
        lead = self.coordinator
        calm = lead.calm_seconds if lead is not None else []
        return {
            "steps": lead.place.step if lead is not None else self.place.step,
            "loss": self.last.get("loss"),
            "validation_loss": self.validation,
            "tokens_per_second": float(np.median(self._rates_seen)) if self._rates_seen else None,
            "iteration_seconds": float(np.median(calm)) if calm else None,
            "iterations": len(calm),
            "iteration_spread": [float(q) for q in np.percentile(calm, [5, 95])] if calm else None,
            "planned_seconds": self.last.get("planned_seconds"),
            "bubble": float(np.median(self._bubbles)) if self._bubbles else None,
            "nodes_lost": len(lead.incidents) if lead is not None else 0,
            "peak_activations": dict(lead.peaks) if lead is not None else {},
        }

    def _write_run(self, status: str) -> None:
        from pathloom import __version__

        assert self.problem.workload is not None
        lead = getattr(self, "coordinator", None)
        self.coordinator = lead
        content = {
            "format": FORMAT,
            "version": __version__,
            "name": self.problem.name,
            "method": self.plan.method,
            "status": status,
            "seconds": self.seconds,
            "settings": self.settings.model_dump(mode="json"),
            "stage_layers": list(self.problem.workload.stage_layers),
            "time_scale": self.settings.time_scale if self.settings.compute == "planned" else 1.0,
            "tokenizer": self.tokenizer,
            "figures": self._figures(),
            "incidents": [vars(incident) for incident in lead.incidents] if lead is not None else [],
        }
        _write_json(self.out / "run.json", content)
        if lead is not None and lead.timeline is not None:
            _write_json(self.out / "timeline.json", lead.timeline.to_dict())

    def _result(self, status: str) -> RunResult:
        from pathloom.worlds.train.runtime import checkpoint as checkpoints

        files = {"run": self.out / "run.json", "metrics": self.out / "metrics.jsonl"}
        if (self.out / "timeline.json").exists():
            files["timeline"] = self.out / "timeline.json"
        if self.last:
            from pathloom.worlds.train.runtime.run_pictures import loss_curves

            files.update({f"loss {what}": path for what, path in loss_curves({"loss": self.out}, self.out).items()})
        last = checkpoints.latest(self.out)
        if last is not None:
            files["checkpoint"] = last.path
            if status == "done":
                from pathloom.learn.language_model.pretrained import save_pretrained

                part = self.out / ".model.part"
                shutil.rmtree(part, ignore_errors=True)
                save_pretrained(part, self.config, last.parameters())
                shutil.rmtree(self.out / "model", ignore_errors=True)
                part.rename(self.out / "model")
                files["model"] = self.out / "model"
        figures = {**self._figures(), "status": status, "seconds": self.seconds, "seed": self.settings.seed}
        return RunResult(self.problem.name, figures, files)


class _Audience:
    """Whoever is told how the run goes on."""

    def __init__(
        self, console: Console | None, steps: int, on_step: OnRecord | None, on_event: OnRecord | None
    ) -> None:
        self._console, self._steps = console, steps
        self._on_step, self._on_event = on_step, on_event
        self._line: ProgressLine | None = None

    def step(self, record: Mapping[str, Any]) -> None:
        if self._console is not None:
            if self._line is None:
                from pathloom.worlds.train.runtime.progress_line import ProgressLine

                planned = record["planned_seconds"]
                self._line = ProgressLine(self._steps, planned_seconds=planned, console=self._console)
                self._line.__enter__()
            self._line.update(record)
        if self._on_step is not None:
            self._on_step(record)

    def say(self, text: str) -> None:
        if self._console is not None and text:
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def event(self, record: Mapping[str, Any]) -> None:
        shown = {name: value for name, value in record.items() if name != "event"}
        figures = [
            f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in shown.items()
        ]
        self.say(f"{record['event']}: {', '.join(figures)}")
        if self._on_event is not None:
            self._on_event(record)

    def close(self) -> None:
        if self._line is not None:
            self._line.__exit__(None, None, None)


def _nobody(name: str, address: tuple[str, int]) -> None:
    """Launcher of nodes that come by themselves."""


class _OnlyFirst:
    """Under torchrun the leading process starts the first node itself; the others come by themselves."""

    def __init__(self, launch: Any, first: str) -> None:
        self._launch, self._first = launch, first

    def __call__(self, name: str, address: tuple[str, int]) -> Any:
        return self._launch(name, address) if name == self._first else None


class _Norms:
    """Gradient norms of the run, for `pathloom learn refine-schedule`."""

    def __init__(self, out: Path, *, resumed: bool) -> None:
        from pathloom.learn.rates import GradientNormRecord

        self._file = out / "norms.json"
        self._l1, self._l2 = GradientNormRecord(), GradientNormRecord()
        if resumed and self._file.exists():
            content = json.loads(self._file.read_text(encoding="utf-8"))
            self._l1 = GradientNormRecord.from_dict(content["l1"])
            self._l2 = GradientNormRecord.from_dict(content["l2"])
        self._written = 0.0

    def add(self, record: Mapping[str, Any]) -> None:
        self._l1.add(int(record["step"]) - 1, float(record["gradient_norm_l1"]))
        self._l2.add(int(record["step"]) - 1, float(record["gradient_norm"]))
        if time.monotonic() - self._written > EVERY:
            self.write()

    def write(self) -> None:
        self._written = time.monotonic()
        _write_json(
            self._file,
            {
                "format": "pathloom-norms-1",
                "optimizer": "adamw",
                "l1": self._l1.to_dict(),
                "l2": self._l2.to_dict(),
            },
        )


def _write_json(path: Path, content: Any) -> None:
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(json.dumps(content) + "\n", encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise InputError(f"cannot be written: {error.strerror or error}", file=str(path)) from None


def _previous(out: Path) -> dict[str, Any]:
    path = out / "run.json"
    if not path.exists():
        raise InputError("holds no run to resume", file=str(out), key="--resume")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT or not isinstance(content["settings"], dict):
            raise KeyError
    except (ValueError, KeyError, TypeError):
        raise InputError(f"expected a '{FORMAT}'", file=str(path), key="format") from None
    return dict(content)


def _came_to_nothing(out: Path) -> bool:
    """Whether the run in a folder has ended before its first step, so that nothing is lost with it."""
    content = _previous(out)
    figures = content.get("figures")
    return content.get("status") in ("failed", "aborted") and isinstance(figures, dict) and figures.get("steps") == 0


def _settings(config: Path | None, given: Mapping[str, Any], options: Mapping[str, Any]) -> RunSettings:
    content: dict[str, Any] = dict(given)
    if config is not None:
        from pathloom.data.reading import read_text
        from pathloom.data.strict_yaml import parse_yaml

        own = parse_yaml(read_text(config), str(config))
        validated(RunSettings, {"data": ".", **own} if isinstance(own, dict) else own, file=str(config))
        content.update(own)
    content.update(options)
    if "data" not in content:
        raise InputError("expected a folder of tokens, see 'pathloom data tokenize'", key="--data")
    return validated(RunSettings, content)


def _rates(settings: RunSettings) -> Any:
    from pathloom.learn.rates import load_rate_plan, plan_named

    if Path(settings.schedule).is_file():
        plan = load_rate_plan(Path(settings.schedule))
        return plan if plan.steps == settings.steps else plan.with_steps(settings.steps, at=0)
    try:
        return plan_named(settings.schedule, settings.steps, warmup=settings.warmup, floor=settings.floor)
    except ValueError as error:
        raise InputError(str(error), key="schedule") from None


def _same_model(saved: Mapping[str, Any], wanted: Mapping[str, Any], out: Path) -> None:
    for key, value in wanted.items():
        if saved.get(key) != value:
            raise InputError(
                f"its checkpoint holds a model with {key} {saved.get(key)}, the plan has {value}",
                file=str(out),
                key="model",
            )


def _fits(found: Any, wanted: Any, folder: Path) -> Any:
    """The configuration of given weights, where its shape is the plan's."""
    for key in ("dim", "layers", "heads", "kv_heads", "ffn_dim", "vocab", "tied"):
        if getattr(found, key) != getattr(wanted, key):
            raise InputError(
                f"holds a model with {key} {getattr(found, key)}, the plan has {getattr(wanted, key)}",
                file=str(folder),
                key=key,
            )
    return replace(found, context=wanted.context)
