"""`hcp stack ...`: the embedded Kafka, TimescaleDB and Redis from the command line."""

import re
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hcp.errors import StackError
from hcp.settings import load_settings
from hcp.stack import (
    DATABASE_MEMORY_MB,
    Healthy,
    Stack,
    StackAddresses,
    StackStatus,
    WantedPorts,
    default_cache_dir,
    stacks_in,
)

app = typer.Typer(
    no_args_is_help=True,
    help="Real Kafka, TimescaleDB and Redis as local processes: for a laptop, a demo and tests.",
)
errors = Console(stderr=True, highlight=False, soft_wrap=True)
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")

Name = Annotated[str, typer.Option(help="Which stack; several run side by side.")]
PORT_HELP = "Port on 127.0.0.1; default: a free one, kept for the next time."


def _progress(line: str) -> None:
    errors.print(f"[dim]{escape(line)}[/dim]")


def _stack(name: str, *, database_memory_mb: int = DATABASE_MEMORY_MB) -> Stack:
    if NAME.fullmatch(name) is None:
        raise StackError(f"a stack's name must be 1 to 32 of a-z, 0-9 and '-', was {name!r}")
    settings = load_settings()
    return Stack(
        settings.state_dir / "stacks" / name,
        default_cache_dir(settings.cache_dir),
        java_home=settings.java_home,
        progress=_progress,
        database_memory_mb=database_memory_mb,
    )


def settings_of(addresses: StackAddresses) -> dict[str, str]:
    """Return the environment that points HCP at these services."""
    return {
        "HCP_KAFKA_BOOTSTRAP": addresses.kafka_bootstrap,
        "HCP_TIMESCALE_DSN": addresses.timescale_dsn,
        "HCP_POSTGRES_DSN": addresses.postgres_dsn,
        "HCP_REDIS_URL": addresses.redis_url,
    }


@app.command()
def up(
    name: Name = "default",
    kafka_port: Annotated[int | None, typer.Option(help=PORT_HELP, min=1024, max=65_535)] = None,
    timescale_port: Annotated[int | None, typer.Option(help=PORT_HELP, min=1024, max=65_535)] = None,
    redis_port: Annotated[int | None, typer.Option(help=PORT_HELP, min=1024, max=65_535)] = None,
    database_memory_mb: Annotated[
        int, typer.Option(help="Shared memory of TimescaleDB, MB: a quarter of the host's for a whole fleet.", min=64)
    ] = DATABASE_MEMORY_MB,
) -> None:
    """Install what is missing, start the services, and leave them running until `hcp stack down`.

    Standard output is what a shell needs to use them: `eval "$(hcp stack up)"`.
    """
    stack = _stack(name, database_memory_mb=database_memory_mb)
    wanted = WantedPorts(kafka=kafka_port, timescaledb=timescale_port, redis=redis_port)
    addresses = stack.up(attached=False, wanted=wanted)
    errors.print(status_table([stack.status()]))
    for variable, value in settings_of(addresses).items():
        typer.echo(f"export {variable}={value}")


@app.command()
def down(
    name: Name = "default",
    wipe: Annotated[bool, typer.Option(help="Remove the stack's data and logs too.")] = False,
) -> None:
    """Stop the services; their data stays unless --wipe."""
    stack = _stack(name)
    if not stack.is_running():
        _progress(f"stack {name} does not run")
    if wipe:
        stack.wipe()
    else:
        stack.down()


@app.command()
def status(name: Annotated[str | None, typer.Option(help="Which stack; default: all.")] = None) -> None:
    """Show what runs where, at which version, and where the logs are; exit code 1 unless all is well."""
    settings = load_settings()
    directories = stacks_in(settings.state_dir)
    names = [name] if name is not None else [directory.name for directory in directories]
    found = [_stack(each).status() for each in names]
    if not found or all(not each.services for each in found):
        raise StackError(f"no stack was started under {settings.state_dir.absolute()} yet; `hcp stack up` starts one")
    Console(highlight=False, soft_wrap=True).print(status_table(found))
    for each in found:
        if each.failure is not None:
            errors.print(escape(f"stack {each.name} ended by itself: {each.failure}"))
    running = [each for each in found if each.is_running or name is not None]
    if not running or not all(each.is_healthy for each in running):
        raise typer.Exit(1)


def status_table(stacks: list[StackStatus]) -> Table:
    """Return one row a service."""
    table = Table(box=None, pad_edge=False)
    for heading in ("stack", "service", "address", "pid", "state"):
        table.add_column(heading, overflow="fold")
    for stack in stacks:
        for each in stack.services:
            healthy = isinstance(each.health, Healthy)
            words = each.health.detail if isinstance(each.health, Healthy) else each.health.reason
            restarts = f", restarted {each.restarts} times" if each.restarts else ""
            table.add_row(
                stack.name if stack.owner_pid is None else f"{stack.name} (of process {stack.owner_pid})",
                each.service,
                f"127.0.0.1:{each.port}",
                str(each.pid or "-"),
                f"[{'green' if healthy else 'red'}]{escape(words + restarts)}[/]",
            )
    logs = "\n".join(f"logs of {stack.name}: {_short(stack.directory / 'logs')}" for stack in stacks)
    table.caption, table.caption_justify = escape(logs), "left"
    return table


def _short(path: Path) -> str:
    """Return the path as seen from here when that is shorter."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
