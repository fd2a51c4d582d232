"""`hcp db ...`: migrate the analytics database, see how it stands, keep it in shape, ask it."""

import csv
import sys
from datetime import datetime
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hcp.errors import SettingsError
from hcp.settings import load_settings
from sinks.timescale.asking import ROWS_MAX, Answer, Question
from sinks.timescale.maintenance import RETENTION_DAYS, maintain
from sinks.timescale.migrations import Edition, migrate, schema_status
from sinks.timescale.overview import HypertableSize, hypertable_sizes

BYTES_PER_MIB: Final = 1_048_576

app = typer.Typer(no_args_is_help=True, help="The analytics database: migrate, status, maintain, query.")


def _dsn() -> str:
    return load_settings().timescale_dsn.get_secret_value()


@app.command(name="migrate")
def migrate_database() -> None:
    """Apply the migrations that are missing, in order, in one transaction; running it again changes nothing."""
    applied = migrate(_dsn())
    for name in applied:
        typer.echo(name)
    typer.echo(f"{len(applied)} migrations applied" if applied else "nothing to apply")


@app.command()
def status() -> None:
    """Show edition, migrations and hypertables; exit with 1 when migrations are missing or were edited."""
    found = schema_status(_dsn())
    console = Console(highlight=False, soft_wrap=True)
    last = f", the last at {_minute(found.applied[-1][1])}" if found.applied else ""
    console.print(f"TimescaleDB {found.edition.name.lower()} edition, {len(found.applied)} migrations applied{last}")
    for name in found.missing:
        console.print(f"[red]missing:[/] {name} (hcp db migrate)")
    for name in found.edited:
        console.print(f"[red]edited since it was applied:[/] {name}")
    if found.applied:
        console.print(_sizes(hypertable_sizes(_dsn())))
    if found.missing or found.edited:
        raise typer.Exit(1)


def _sizes(sizes: tuple[HypertableSize, ...]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("hypertable", "chunks", "MiB", "from", "until", "policies"):
        table.add_column(heading, justify="left" if heading in {"hypertable", "from", "until"} else "right")
    for each in sizes:
        table.add_row(
            each.name,
            f"{each.chunk_count:,}",
            f"{each.size_bytes / BYTES_PER_MIB:,.1f}",
            _minute(each.since),
            _minute(each.until),
            str(each.policy_count),
        )
    return table


def _minute(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M}"


@app.command(name="maintain")
def maintain_database(
    days: Annotated[
        int, typer.Option(min=1, help="Days kept, counted from the newest chunk of each table.")
    ] = RETENTION_DAYS,
) -> None:
    """Settle minute rollups and drop what is past its retention; on the community edition policies do both."""
    done = maintain(_dsn(), retention_days=days)
    if done.edition is Edition.COMMUNITY:
        typer.echo("community edition: its policies settle, compress and drop; nothing to do")
    elif done.is_skipped:
        typer.echo("another process is at it; nothing done")
    else:
        typer.echo(f"{done.settled_rows:,} device-minutes settled, {done.late_minutes:,} late minutes settled again")
        for hypertable, chunk_count in done.retired_chunks:
            typer.echo(f"{hypertable}: {chunk_count:,} chunks of more than {days} days dropped")


@app.command()
def query(
    question: Annotated[str, typer.Argument(help="One SQL statement; - reads it from standard input.")],
    rows_max: Annotated[int, typer.Option("--limit", "-n", min=1, help="Rows at most.")] = ROWS_MAX,
    zone: Annotated[str, typer.Option(help="Time zone of times shown.")] = "UTC",
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,  # a flag
) -> None:
    """Ask one question, read-only, with a limit of rows and of 30 s."""
    words = sys.stdin.read() if question == "-" else question
    if not words.strip():
        raise SettingsError("question must be an SQL statement, was empty")
    asked = Question(_dsn(), zone=zone)
    try:
        answer = asked.ask(words, rows_max=rows_max)
    finally:
        asked.close()
    if as_csv:
        writer = csv.writer(sys.stdout)
        writer.writerow(answer.columns)
        writer.writerows(answer.rows)
    else:
        Console(highlight=False, soft_wrap=True).print(_table(answer))
    if answer.is_cut:
        typer.echo(f"more than {rows_max:,} rows: only these are shown (--limit)", err=True)


def _table(answer: Answer) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in answer.columns:
        table.add_column(name, overflow="fold")
    for row in answer.rows:
        table.add_row(*map(_cell, row))
    return table


def _cell(value: Any) -> str:  # noqa: ANN401  # a cell of any type
    if value is None:
        return ""
    return f"{value:,.4g}" if isinstance(value, float) else escape(str(value))
