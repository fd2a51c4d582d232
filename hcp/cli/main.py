"""The `hcp` command: its sub-commands, and one place that turns HCP's errors into one line and exit code 1."""

import sys
from importlib.metadata import version
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from hcp.cli import audit, db, dead, demo, devices, gateway, processes, rebuild, replay, stack, topics
from hcp.cli.backtest import backtest
from hcp.cli.doctor import doctor
from hcp.cli.explain import explain
from hcp.cli.live import live
from hcp.cli.report import report
from hcp.cli.trace import trace
from hcp.errors import HcpError

EXIT_ERROR = 1
EXIT_INTERRUPTED = 130

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="HCP keeps a fleet of GPUs and Bitcoin ASICs on the work that earns most.\n\n"
    "Every setting is an environment variable HCP_<NAME>; `hcp doctor` shows what is reachable.",
)
app.add_typer(stack.app, name="stack")
app.add_typer(topics.app, name="topics")
app.add_typer(dead.app, name="dead")
app.add_typer(replay.app, name="replay")
app.add_typer(audit.app, name="audit")
app.add_typer(rebuild.app, name="rebuild")
app.add_typer(db.app, name="db")
app.add_typer(devices.app, name="device")
app.add_typer(gateway.users, name="users")
app.add_typer(processes.simulate, name="simulate")
app.command()(processes.agent)
app.command()(processes.controller)
app.command()(processes.sink)
app.command()(gateway.gateway)
app.command()(gateway.relay)
app.command()(live)
app.command()(demo.demo)
app.command()(backtest)
app.command()(explain)
app.command()(trace)
app.command()(report)
app.command()(doctor)


def _print_version(value: bool) -> None:  # noqa: FBT001  # typer's callback
    if value:
        typer.echo(f"hcp {version('hcp')}")
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,  # a flag
) -> None:
    """Hold the options that come before a sub-command."""


def main() -> None:
    """Run the command line; errors of HCP's own are one line on standard error, without a traceback."""
    try:
        app()
    except HcpError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"[red]error:[/] {escape(str(error))}")
        sys.exit(EXIT_ERROR)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
