"""The process of one node: join the coordinator, then do what it says until it says stop.

Between iterations a node keeps weights, optimizer state and the gradient summed so far. The coordinator's messages come
in through a thread of their own, so that a node answers while it computes, and one that no longer does is noticed.
"""

from __future__ import annotations

import argparse
import os
import queue
import socket
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from pathloom.data.token_files import TokenData
from pathloom.learn.language_model.config import LanguageModelConfig
from pathloom.learn.language_model.decoder import DecoderPart
from pathloom.plan import InputError
from pathloom.worlds.train.plan_files import problem_from_dict
from pathloom.worlds.train.problem import TrainProblem
from pathloom.worlds.train.runtime.attempt import Attempt
from pathloom.worlds.train.runtime.batches import Batches
from pathloom.worlds.train.runtime.checkpoint import Checkpoint, write_shard
from pathloom.worlds.train.runtime.control import Channel, Closed
from pathloom.worlds.train.runtime.cut import layers_of, parts_of
from pathloom.worlds.train.runtime.gradients import (
    FlatGradients,
    adamw,
    apply_step,
    load_optimizer_state,
    optimizer_state,
    sums,
)
from pathloom.worlds.train.runtime.node import Iteration, Node
from pathloom.worlds.train.runtime.settings import RunSettings
from pathloom.worlds.train.runtime.stage_group import StageGroup
from pathloom.worlds.train.runtime.wire import Wire

BEAT = 0.5
"""Seconds between signs of life."""
PATIENCE = 60.0
"""Seconds for which a node tries to reach a coordinator that starts by itself."""
TOGETHER = 0.005
"""Seconds between looks whether the other nodes of a stage have been found."""


class Worker:
    """One node's process.

    Parameters
    ----------
    name
        Name of the node.
    coordinator
        Host and port.
    host
        Address by which the other nodes reach this one.
    patience
        Seconds for which it tries to reach the coordinator.
    """

    def __init__(self, name: str, coordinator: tuple[str, int], host: str, patience: float = PATIENCE) -> None:
        self.name, self.host = name, host
        self.wire = Wire(-1, host)
        self.channel = Channel(_reach(coordinator, patience))
        self.channel.socket.settimeout(None)
        self.commands: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._leaving = False
        self.stage = -1
        self.group: StageGroup | None = None
        self.node: Node | None = None
        self._store: tuple[tuple[str, int], Any] | None = None
        self.parts: dict[int, DecoderPart] = {}

    def run(self) -> int:
        """Serve until told to stop; the process's exit status."""
        self.channel.send({"say": "hello", "node": self.name, "pid": os.getpid(), "address": self.wire.address})
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()
        while True:
            command = self.commands.get()
            if command["do"] == "stop":
                self._leave()
                return 0
            try:
                getattr(self, f"_{command['do']}")(command)
            except Closed:
                return 1
            except InputError as error:
                self.channel.send({"say": "failed", "why": error.reason, "file": error.file, "key": error.key})
            except Exception as error:
                traceback.print_exc()
                self.channel.send({"say": "failed", "why": f"{type(error).__name__}: {error}", "internal": True})

    def _listen(self) -> None:
        try:
            while True:
                self.commands.put(self.channel.receive())
                self.wire.interrupt()
        except Closed:
            if self._leaving:
                return
            os._exit(1)  # nobody is left to work for, and the main thread may be in the middle of anything

    def _beat(self) -> None:
        while True:
            time.sleep(BEAT)
            since = self.node.busy_since if self.node is not None else 0.0
            busy = time.monotonic() - since if since else 0.0
            try:
                self.channel.send({"say": "beat", "busy": busy})
            except Closed:
                return

    def _leave(self) -> None:
        self._leaving = True
        if self.group is not None:
            self.group.close()
        self.wire.close()
        self.channel.close()

    # -- membership ------------------------------------------------------------------------------------------------

    def _join(self, command: dict[str, Any]) -> None:
        """Take a place in a new membership: stage, weights, links and group."""
        settings = RunSettings.model_validate(command["settings"])
        problem: TrainProblem = problem_from_dict(command["problem"])
        index = problem.nodes.index(self.name)
        stage, chunks = int(command["placement"][index]), int(command["chunks"])
        torch.set_num_threads(settings.threads)
        device = _device(settings.device)
        if self.group is not None:
            self.group.close()
            self.group = None
        self._build(command, settings, problem, stage, chunks, device)
        seconds = {}
        if settings.links == "planned":
            seconds = {i: float(problem.link[i, index]) * settings.time_scale for i in range(problem.n_nodes)}
            seconds[index] = 0.0
        self.wire.node = index
        addresses = {i: (str(host), int(port)) for i, (host, port) in enumerate(command["addresses"])}
        self.wire.join(addresses, seconds, same_clock=bool(command["same_clock"]))
        members = [i for i, p in enumerate(command["placement"]) if p == stage]
        fresh = set(command["fresh"])
        try:
            self.group = self._stage_group(command, settings, members, members.index(index), device)
            if self.group is None:
                return
            if fresh & set(members) and len(members) > 1:
                self._supply(members, fresh)
        except RuntimeError as error:  # one of them has been lost just now
            self.channel.send({"say": "joined", "number": command["number"], "apart": str(error)[:200]})
            return
        workload = problem.workload
        assert workload is not None
        batches = {}
        if stage == 0:
            data = TokenData.open(Path(settings.data))
            batches = {
                split: Batches(
                    data, split, context=workload.model.context, samples=workload.samples, seed=settings.seed
                )
                for split in ("train", "validation")
            }
        self.node = Node(
            index=index,
            problem=problem,
            settings=settings,
            chunks=chunks,
            split=bool(command["split_backward"]),
            parts=self.parts,
            wire=self.wire,
            batches=batches,
            gradients=self.gradients,
            device=device,
            slots=int(command["slots"][index]),
            strict=settings.order == "strict",
            report=self._report,
        )
        self.settings, self.same_clock = settings, bool(command["same_clock"])
        self.channel.send({"say": "joined", "number": command["number"], "device": str(device)})

    def _stage_group(
        self, command: dict[str, Any], settings: RunSettings, members: list[int], rank: int, device: torch.device
    ) -> StageGroup | None:
        """Find the other nodes of the stage; None if there is another command first, as one of them is lost.

        That takes a thread of its own: gloo waits for a member that dies meanwhile until its time is up, or for ever.

        Raises
        ------
        RuntimeError
            If the others are not found.
        """
        store = self._shared_store(command["store"]) if len(members) > 1 else None
        name, timeout = f"{command['number']}/{command['placement'][members[0]]}", max(settings.patience, 5.0)

        def form() -> None:
            try:
                formed.put(
                    StageGroup(
                        store,
                        name,
                        rank,
                        len(members),
                        host=self.host,
                        timeout=timeout,
                        device=device,
                        forming=settings.join_timeout,
                    )
                )
            except RuntimeError as error:
                formed.put(error)

        formed: queue.SimpleQueue[StageGroup | RuntimeError] = queue.SimpleQueue()
        if len(members) == 1:
            form()
        else:
            threading.Thread(target=form, daemon=True).start()
        while formed.empty():
            if not self.commands.empty():
                self._store = None  # the thread left behind may hold it for long
                return None
            time.sleep(TOGETHER)
        found = formed.get()
        if isinstance(found, RuntimeError):
            raise found
        return found

    def _build(
        self,
        command: dict[str, Any],
        settings: RunSettings,
        problem: TrainProblem,
        stage: int,
        chunks: int,
        device: torch.device,
    ) -> None:
        """Hold the layers of a stage, with the weights that the command names (None: those held already)."""
        config = LanguageModelConfig(**command["model"])
        assert problem.workload is not None
        cut = layers_of(problem.workload.stage_layers, chunks)
        wanted = {part: cut[part] for part in parts_of(stage, problem.n_stages, chunks)}
        load = command["load"]
        if load is not None and load["kind"] == "seed":
            load, self.stage, self.parts = None, -1, {}
        if {part: module.layers for part, module in self.parts.items()} != wanted:
            if load is None and self.stage >= 0:
                raise RuntimeError("layers have moved here, and nothing says where their weights are")
            seed = None if load is not None else settings.seed
            self.parts = {
                part: DecoderPart(config, layers, embedding=part == 0, head=part == 0, seed=seed).to(device)
                for part, layers in wanted.items()
            }
            self.parameters = {name: p for module in self.parts.values() for name, p in module.named_parameters()}
            self.gradients = FlatGradients(self.parameters)
            self.optimizer = adamw(self.parameters, settings)
        for module in self.parts.values():
            module.split_backward = bool(command["split_backward"])
        self.stage, self.device = stage, device
        if load is not None:
            self._load(load)
        if not command["keep_gradients"]:
            self.gradients.zero()

    def _load(self, load: dict[str, Any]) -> None:
        names = list(self.parameters)
        if load["kind"] == "checkpoint":
            checkpoint = Checkpoint.open(Path(load["path"]))
            tensors = checkpoint.parameters(names)
            load_optimizer_state(self.optimizer, self.parameters, checkpoint.optimizer(names))
        else:
            from pathloom.learn.language_model.pretrained import read_tensors

            tensors = read_tensors(Path(load["path"]), names)
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(tensors[name])

    def _supply(self, members: list[int], fresh: set[int]) -> None:
        """Weights and optimizer state of the new members of the stage come from an old one."""
        source = next(i for i, member in enumerate(members) if member not in fresh)
        state = optimizer_state(self.optimizer, self.parameters)
        assert self.group is not None
        has_state = torch.tensor([float(bool(state))])
        self.group.supply([has_state], source)
        if has_state.item() and not state:
            for parameter in self.parameters.values():
                self.optimizer.state[parameter] = {
                    "step": torch.zeros((), dtype=torch.float32),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
            state = optimizer_state(self.optimizer, self.parameters)
        with torch.no_grad():
            self.group.supply([p.data for p in self.parameters.values()], source)
            if has_state.item():
                self.group.supply([t for entry in state.values() for t in entry.values()], source)

    def _shared_store(self, address: list[Any]) -> Any:
        key = (str(address[0]), int(address[1]))
        if self._store is None or self._store[0] != key:
            self._store = (key, dist.TCPStore(*key, is_master=False))  # type: ignore[attr-defined]
        return self._store[1]

    # -- one iteration ---------------------------------------------------------------------------------------------

    def _iterate(self, command: dict[str, Any]) -> None:
        """Work until the coordinator says that the iteration is over."""
        node = self.node
        assert node is not None
        node.begin(_iteration(command))
        while True:
            if self.commands.empty():
                node.work(BEAT)
                continue
            inner = self.commands.get()
            while inner["do"] == "pause":  # once more for each node that is lost meanwhile
                for lost in inner["lost"]:
                    self.wire.forget(int(lost))
                node.finish_weights()
                node.flush()
                self.channel.send({"say": "paused", "arrived": node.arrived()})
                inner = self.commands.get()
            if inner["do"] == "recover":
                node.recover(inner["dropped"], [Attempt.from_dict(a) for a in inner["attempts"]])
                node.counts_already(inner["counted"])
                node.order.slots += int(inner["more_slots"])
                node.reorder({int(row): keys for row, keys in inner["keys"].items()})
            elif inner["do"] == "restart":
                self.gradients.zero()
                node.restart(_iteration(inner))
            elif inner["do"] == "finish":
                node.flush()
                self._finish(inner)
                return
            elif inner["do"] == "stop":
                self._leave()
                os._exit(0)
            elif inner["do"] != "resume":
                raise RuntimeError(f"'{inner['do']}' in the middle of an iteration")

    def _report(self, rows: list[tuple[int, int, float, float]]) -> None:
        """Say what has been done, with the losses, which would otherwise be gone if this node were lost."""
        node = self.node
        assert node is not None
        attempts = [(node.attempts[row], task) for row, task, *_ in rows if row in node.attempts]
        losses = {a.microbatch: node.losses[a.microbatch] for a, task in attempts if task == a.visits}
        self.channel.send({"say": "done", "tasks": rows, "losses": list(losses.items())})

    def _finish(self, command: dict[str, Any]) -> None:
        """Report losses; at the end of a step also sum the gradients of the stage."""
        node = self.node
        assert node is not None and self.group is not None
        answer: dict[str, Any] = {"say": "finished", "losses": list(node.losses.items()), "peak": node.order.peak}
        if command["reduce"]:
            answer.update(self._reduced(command))
        self.channel.send(answer)

    def _reduce(self, command: dict[str, Any]) -> None:
        """Sum the gradients once more, in another membership."""
        self.channel.send({"say": "finished", "losses": [], "peak": 0, **self._reduced(command)})

    def _reduced(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self.group is not None and self.node is not None
        began = time.monotonic()
        try:
            self.summed = self.group.summed(self.gradients.flat)
        except RuntimeError as error:
            return {"broken": str(error)[:200]}
        factor = float(command["scales"][self.stage])
        if factor != 1.0:
            self.summed = self.summed * factor
        square, absolute = sums(self.summed)
        until = float(command["until"][self.stage])
        while (left := until - time.monotonic()) > 0:
            time.sleep(left)
        answer: dict[str, Any] = {"square": square, "absolute": absolute}
        if self.same_clock:
            answer["sync"] = [began, time.monotonic()]
        return answer

    def _apply(self, command: dict[str, Any]) -> None:
        """One step of the optimizer."""
        if self.summed is not self.gradients.flat:
            self.gradients.flat.copy_(self.summed)
        apply_step(self.optimizer, self.gradients, factor=float(command["factor"]), rate=float(command["rate"]))
        self.channel.send({"say": "applied"})

    def _rest(self, command: dict[str, Any]) -> None:
        """Nothing to do in this round."""

    def _save(self, command: dict[str, Any]) -> None:
        """Write this stage's part of a checkpoint."""
        record = write_shard(
            Path(command["folder"]),
            int(command["step"]),
            self.stage,
            {name: p.detach() for name, p in self.parameters.items()},
            optimizer_state(self.optimizer, self.parameters),
            {"random": torch.get_rng_state().tolist()},
        )
        self.channel.send({"say": "saved", "shard": record.to_dict()})


def _iteration(command: dict[str, Any]) -> Iteration:
    return Iteration(
        number=int(command["number"]),
        start=float(command["start"]) if command["same_clock"] else time.monotonic(),
        position=int(command["position"]),
        attempts=[Attempt.from_dict(a) for a in command["attempts"]],
        forward_only=bool(command["forward_only"]),
        share=float(command["share"]),
    )


def _reach(coordinator: tuple[str, int], patience: float) -> socket.socket:
    """Connect to the coordinator, which may be about to start."""
    until = time.monotonic() + patience
    while True:
        try:
            return socket.create_connection(coordinator, timeout=PATIENCE)
        except ConnectionRefusedError:
            if time.monotonic() > until:
                raise
            time.sleep(BEAT)


def _device(wanted: str) -> torch.device:
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise InputError("expected cpu or auto: there is no GPU here", key="device")
    local = int(os.environ.get("LOCAL_RANK", "0"))
    return torch.device("cuda", local % torch.cuda.device_count())


def work(name: str, coordinator: tuple[str, int], host: str, *, patience: float = PATIENCE) -> int:
    """Be a node of a run, whose coordinator is there within `patience` seconds; returns the exit status."""
    return Worker(name, coordinator, host, patience).run()


def main() -> int:
    """Entry of ``python -m pathloom.worlds.train.runtime.worker``, for nodes that something else starts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--coordinator", required=True, metavar="HOST:PORT")
    parser.add_argument("--node", required=True)
    parser.add_argument("--host", default="127.0.0.1", help="address by which the other nodes reach this one")
    chosen = parser.parse_args()
    host, _, port = chosen.coordinator.rpartition(":")
    return work(chosen.node, (host, int(port)), chosen.host)


if __name__ == "__main__":
    sys.exit(main())
