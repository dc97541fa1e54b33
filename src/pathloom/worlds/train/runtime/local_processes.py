"""Nodes of one machine: a process each, forked from a server that has loaded what they need.

Loading PyTorch takes seconds; the fork server loads it once, so that a node starts in milliseconds.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess

from pathloom.worlds.train.runtime.cluster import Process

WORKER = "pathloom.worlds.train.runtime.worker"
OPTIMIZER = "torch._dynamo"
"""What the first optimizer of a process loads, hundreds of modules."""


class ForkedNode:
    """A node's process."""

    def __init__(self, process: BaseProcess) -> None:
        self._process = process
        assert process.pid is not None
        self.pid: int = process.pid

    def poll(self) -> int | None:
        """Exit status, the negative signal where one killed it, None while it runs."""
        return self._process.exitcode

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()


def local_launcher(host: str = "127.0.0.1") -> Callable[[str, tuple[str, int]], Process]:
    """Launcher of nodes that talk through `host`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([WORKER, OPTIMIZER])

    def launch(name: str, coordinator: tuple[str, int]) -> Process:
        process = context.Process(target=_work, args=(name, coordinator, host), name=f"node {name}", daemon=True)
        with _without_interrupts():  # else Ctrl-C would reach the fork server while it loads
            process.start()
        return ForkedNode(process)

    return launch


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes started inside never see Ctrl-C, which reaches all of a terminal; one for us comes afterwards."""
    resource_tracker.ensure_running()  # which would unblock it again if it had to be started inside
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(name: str, coordinator: tuple[str, int], host: str) -> None:
    import sys

    from pathloom.worlds.train.runtime.worker import work

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the coordinator, which then ends all nodes in order
    try:
        status = work(name, coordinator, host, patience=0.0)
    except ConnectionRefusedError:  # who started this process has ended meanwhile
        status = 1
    sys.exit(status)
