"""The same decoder trained by `torch.distributed.pipelining`: one process a stage, over gloo, the optimizer included.

Everything that the two sides can share they share: modules, initial weights, tokens, groups and settings of AdamW. The
peer is used at its best: no scaling of gradients after the step (the loss is scaled instead), no outputs kept, no
waiting for figures that only a log needs.
"""

from __future__ import annotations

import _one_thread  # noqa: F401  # isort: skip

import multiprocessing
import time
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pathloom.worlds.train.runtime.local_processes import OPTIMIZER, WORKER

SCHEDULES = {"1f1b": "Schedule1F1B", "gpipe": "ScheduleGPipe", "zb-h1": "ScheduleInterleavedZeroBubble"}
"""With one stage a process, the interleaved zero bubble schedule is ZB-H1."""


@dataclass(frozen=True)
class Workload:
    """A model, a batch and how the step is made; plain values, so that any process can be given one.

    Attributes
    ----------
    model
        Arguments of `LanguageModelConfig`.
    samples, microbatches
        Sequences of a microbatch, and microbatches of a step.
    data
        Folder of a token data set.
    settings
        Of the run: learning rate, decay, clipping, seed.
    """

    model: dict[str, Any]
    samples: int
    microbatches: int
    data: str
    settings: dict[str, Any]

    @property
    def tokens(self) -> int:
        """Tokens of a step."""
        return self.samples * self.microbatches * int(self.model["context"])


@dataclass(frozen=True)
class Steps:
    """Some consecutive steps: how long each took, its loss and the norm of its gradient."""

    seconds: list[float]
    losses: list[float]
    norms: list[float]


class TorchPipeline:
    """Processes of a pipeline that do as many steps as they are asked for, and otherwise sleep.

    Parameters
    ----------
    layers
        Layers of each stage; the embedding is on the first, norm, head and loss are on the last.
    """

    def __init__(self, workload: Workload, layers: list[int], schedule: str) -> None:
        context = multiprocessing.get_context("forkserver")
        # runs fork their nodes from the same server, which loads these before its first process only
        context.set_forkserver_preload([WORKER, OPTIMIZER, "torch.distributed.pipelining", __name__])
        port = _free_port()
        self._ends: list[Connection] = []
        self.processes = []
        for rank in range(len(layers)):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(rank, layers, workload, schedule, port, theirs), daemon=True)
            process.start()
            theirs.close()
            self._ends.append(ours)
            self.processes.append(process)

    def run(self, steps: int) -> Steps:
        """Do some steps; RuntimeError if a process fails."""
        began = time.monotonic()
        for end in self._ends:
            end.send(steps)
        try:
            answers = [end.recv() for end in self._ends]
        except EOFError:
            raise RuntimeError("a process of the peer has failed; its message stands above") from None
        done = [max(ends) for ends in zip(*(answer["ended"] for answer in answers), strict=True)]
        seconds = [b - a for a, b in zip([began, *done], done, strict=False)]
        return Steps(seconds, answers[-1]["losses"], answers[-1]["norms"])

    def close(self) -> None:
        """End the processes."""
        for end in self._ends:
            end.close()
        for process in self.processes:
            process.join(timeout=10)
            if process.is_alive():
                process.kill()


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _serve(rank: int, layers: list[int], workload: Workload, schedule: str, port: int, pipe: Connection) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    store = dist.TCPStore("127.0.0.1", port, world_size=len(layers), is_master=rank == 0)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=len(layers))
    stage = _Stage(rank, layers, workload, schedule)
    position = 0
    try:
        while True:
            answer: dict[str, list[float]] = {"ended": [], "losses": [], "norms": []}
            for _ in range(pipe.recv()):
                loss, norm = stage.step(position)
                position += workload.microbatches * workload.samples
                answer["ended"].append(time.monotonic())
                answer["losses"].append(loss)
                answer["norms"].append(norm)
            pipe.send(answer)
    except EOFError:
        pass
    dist.destroy_process_group()


class _Stage:
    """One process's part of the model, its schedule and its optimizer."""

    def __init__(self, rank: int, layers: list[int], workload: Workload, schedule: str) -> None:
        import torch
        from torch.distributed import pipelining

        from pathloom.data.token_files import TokenData
        from pathloom.learn.language_model.config import LanguageModelConfig
        from pathloom.learn.language_model.decoder import DecoderPart
        from pathloom.learn.language_model.token_loss import token_cross_entropy
        from pathloom.worlds.train.runtime.batches import Batches
        from pathloom.worlds.train.runtime.gradients import adamw
        from pathloom.worlds.train.runtime.settings import RunSettings

        self.workload, self.settings = workload, RunSettings.model_validate(workload.settings)
        config = LanguageModelConfig(**workload.model)
        self.is_first, self.is_last = rank == 0, rank == len(layers) - 1
        start = sum(layers[:rank])
        numbers = range(start, start + layers[rank])
        part = DecoderPart(config, numbers, embedding=self.is_first, head=self.is_last, seed=self.settings.seed)

        class Whole(torch.nn.Module):
            """The part with its embedding or head, as one module that maps tensors to tensors."""

            def __init__(self) -> None:
                super().__init__()
                self.part = part

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                hidden = part(part.embed(x) if part.has_embedding else x)
                return part.logits(hidden) if part.has_head else hidden

        self.parameters = dict(part.named_parameters())
        self.optimizer = adamw(self.parameters, self.settings)
        count = workload.microbatches

        def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return token_cross_entropy(logits, targets) / count

        stage: Any = pipelining.PipelineStage(Whole(), rank, len(layers), torch.device("cpu"))
        kind: Any = getattr(pipelining, SCHEDULES[schedule])
        one = schedule != "zb-h1"
        self.schedule = kind(stage if one else [stage], count, loss_fn=loss, scale_grads=False)
        data = TokenData.open(Path(workload.data))
        self.batches = Batches(data, "train", context=config.context, samples=workload.samples, seed=self.settings.seed)

    def step(self, position: int) -> tuple[float, float]:
        """Forward and backward passes of all microbatches, clipping, AdamW; loss (last stage) and gradient norm."""
        import torch
        import torch.distributed as dist
        from torch.nn.utils import get_total_norm

        losses: list[torch.Tensor] = []
        run = partial(self.schedule.step, return_outputs=False)
        if self.is_first or self.is_last:
            samples = self.workload.samples
            firsts = [position + b * samples for b in range(self.workload.microbatches)]
            tokens, targets = map(torch.cat, zip(*(self.batches.microbatch(first) for first in firsts), strict=True))
        if self.is_first and self.is_last:
            run(tokens, target=targets, losses=losses)
        elif self.is_first:
            run(tokens)
        elif self.is_last:
            run(target=targets, losses=losses)
        else:
            run()
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        square = get_total_norm(gradients).square()
        dist.all_reduce(square)
        norm = float(square.sqrt())
        if self.settings.clip and norm > self.settings.clip:
            torch._foreach_mul_(gradients, self.settings.clip / (norm + 1e-6))
        self.optimizer.step()
        self.optimizer.zero_grad()
        return (float(torch.stack(losses).detach().sum()) if losses else float("nan")), norm
