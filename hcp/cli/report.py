"""`hcp report`: a day or a week of the fleet as one HTML page with plots, from TimescaleDB."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from hcp.errors import HcpError
from hcp.settings import load_settings
from sinks.report.facts import facts_of, period_ending
from sinks.report.page import write_page
from sinks.timescale.asking import Question


class Length(StrEnum):
    """Of the period."""

    DAY = "day"
    WEEK = "week"


LENGTHS: Final = {Length.DAY: timedelta(days=1), Length.WEEK: timedelta(days=7)}


def report(
    length: Annotated[Length, typer.Argument(help="How long a time.")],
    until: Annotated[
        datetime | None, typer.Option(help="Its end, UTC; default: the end of the newest hour there is.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The page; default: reports/<day or week>-<end>.html.")] = None,
) -> None:
    """Render what prices, power, modes, profit and switches were: one HTML page that needs no network."""
    question = Question(load_settings().timescale_dsn.get_secret_value())
    try:
        end = until.replace(tzinfo=UTC) if until is not None else None
        period = period_ending(question, length=LENGTHS[length], until=end)
        facts = facts_of(question, period)
    finally:
        question.close()
    path = out or Path("reports") / f"{length}-{period.until:%Y-%m-%dT%H}.html"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_page(path, facts, title=f"The fleet, one {length}")
    except OSError as error:
        raise HcpError(f"{path} must be writable, was: {error}") from error
    typer.echo(path)
