"""Loaded first by the fork server of the nodes: Ctrl-C ends it without a word while it loads the rest.

Once it has loaded everything, it ignores Ctrl-C, and so do the nodes: the coordinator ends them in order.
"""

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
