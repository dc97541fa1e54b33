"""The command line: ``pathloom plan | run | compare | simulate | profile | eval | learn | bench | data``.

Importing this package imports nothing heavy: each command imports what it needs when it runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]

OK, INTERNAL, BAD_INPUT, INFEASIBLE, NO_PLAN, ABORTED = 0, 1, 2, 3, 4, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    Parameters
    ----------
    argv
        Arguments after the program's name; those of the process by default.

    Returns
    -------
    int
        0 a checked plan (or what else was asked for), 1 an internal error, 2 bad input, 3 proven infeasible, 4 no plan
        found within the time limit, 130 aborted from the keyboard. All but 0 come with one line on standard error.
    """
    from pathloom.cli.app import command

    try:
        status = command().main(args=None if argv is None else list(argv), prog_name="pathloom", standalone_mode=False)
        sys.stdout.flush()
        if status == ABORTED:  # newer versions of Typer turn an interruption into this
            return _say("aborted", ABORTED)
        return status if isinstance(status, int) else OK
    except KeyboardInterrupt:
        return _say("aborted", ABORTED)
    except BrokenPipeError:
        return _closed_pipe()
    except Exception as error:
        return _status(error)


def _status(error: Exception) -> int:
    """Exit status for an exception, after one line about it; what nobody foresaw keeps its traceback."""
    if hasattr(error, "format_message"):  # a mistake in the command's own options, found by the parser
        return _say(_option_mistake(error), BAD_INPUT)
    if type(error).__name__ == "Abort":
        return _say("aborted", ABORTED)

    from pathloom.plan import InfeasiblePlan, InputError, NoPlanFound, ProvenInfeasible

    if isinstance(error, InputError):
        return _say(str(error), BAD_INPUT)
    if isinstance(error, ProvenInfeasible):
        return _say(str(error), INFEASIBLE)
    if isinstance(error, NoPlanFound):
        return _say(f"no plan found: {error}", NO_PLAN)
    if isinstance(error, InfeasiblePlan):
        return _say(f"internal error, please report it: {error}", INTERNAL)
    raise error


def _option_mistake(error: Exception) -> str:
    message = " ".join(error.format_message().split())  # type: ignore[attr-defined]
    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", "pathloom")
    return f"{message.rstrip('.')} (see {path} --help)"


def _say(message: str, status: int) -> int:
    """Print `message` as one line on standard error, and return `status`."""
    print("pathloom: " + " ".join(message.split()), file=sys.stderr)
    return status


def _closed_pipe() -> int:
    """The reader of our output has gone (``pathloom ... | head``): end quietly."""
    import os

    # Python flushes standard output once more at its end, which must not fail again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return OK
