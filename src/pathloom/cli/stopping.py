"""Ctrl-C during long work: the first asks it to end with what it has, the second aborts."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from pathloom.plan import clear_stop, request_stop


@contextmanager
def stopping_politely(promise: str = "stopping with the best plan so far") -> Iterator[None]:
    """While inside, Ctrl-C sets `pathloom.plan.stop_requested` instead of ending the program, and says `promise`.

    A second Ctrl-C raises KeyboardInterrupt, so that open files and threads are tidied up; a third ends the process
    at once. Outside the main thread, where Python delivers no signals, this does nothing.
    """
    clear_stop()
    pressed = 0

    def handle(signum: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed += 1
        request_stop()
        if pressed == 1:
            # Straight to the file descriptor: the progress display may be in the middle of its own writing.
            os.write(2, f"\npathloom: {promise}; Ctrl-C again to abort\n".encode())
        elif pressed == 2:
            raise KeyboardInterrupt
        else:
            os._exit(130)

    try:
        before = signal.signal(signal.SIGINT, handle)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        sys.stderr.flush()
