"""The commands of ``pathloom`` and their common options."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pathloom.cli.bench import bench
from pathloom.cli.compare import compare
from pathloom.cli.data import app as data
from pathloom.cli.evaluate import evaluate
from pathloom.cli.learn import app as learn
from pathloom.cli.plan import plan
from pathloom.cli.profile import profile
from pathloom.cli.run import run
from pathloom.cli.simulate import simulate

app = typer.Typer(
    name="pathloom",
    help="Schedule paths: who goes where, through what, and when, on a network of limited resources.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("plan")(plan)
app.command("compare")(compare)
app.command("simulate")(simulate)
app.command("bench", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(bench)
app.command("run")(run)
app.command("profile")(profile)
app.command("eval")(evaluate)
app.add_typer(learn, name="learn")
app.add_typer(data, name="data")


def _version(wanted: bool) -> None:
    if wanted:
        from pathloom import __version__

        print(f"pathloom {__version__}")
        raise typer.Exit


@app.callback()
def _pathloom(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options before the command."""


def command() -> Any:
    """The command group that parses and runs a command line."""
    return typer.main.get_command(app)
