"""What holds for all tests."""

from __future__ import annotations

import signal

# Where tests are started in the background Ctrl-C is ignored, and so it would be by every process that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
