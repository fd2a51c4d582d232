"""`hcp backtest`: policies over recorded markets, beside the best that could have been done; needs no Kafka."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from backtest.engine import BacktestRun, run_backtest
from backtest.history import History, open_history, prices_of
from backtest.report import ReportHead, write_report
from backtest.results import BacktestResult, evaluate
from backtest.wording import (
    COLUMNS,
    OVER_CAP_NOTE,
    cells,
    hours_cells,
    hours_titles,
    is_over_cap,
    method_words,
)
from hcp.clock import wall_ms
from hcp.decisions_parquet import DecisionFile
from hcp.errors import MarketDataError, SettingsError
from hcp.fleet import load_fleet
from hcp.model.facilities import Fleet
from hcp.model.markets import MarketPrice
from hcp.model.steps import Cause
from hcp.model.units import MS_PER_SECOND
from hcp.settings import load_settings
from streams.policies import POLICIES, Policy, policy_named

REPORT_NAME: Final = "report.html"
DECISIONS_NAME: Final = "decisions.parquet"
TABLE_COLUMNS: Final = 120
_PROGRESS_PRICES: Final = 500
"""Prices between two moves of the progress bar: one a price would cost more than the deciding."""
_ALIASES: Final = {"always": "always_mine"}

_progress = Console(stderr=True, highlight=False, soft_wrap=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Event time to replay: from, and up to and with."""

    from_ms: int
    until_ms: int


def backtest(  # every option stands for itself
    market: Annotated[
        list[Path] | None,
        typer.Option(help="File or folder of recorded series; may be given again. Default: the week HCP ships."),
    ] = None,
    fleet_file: Annotated[
        Path | None, typer.Option("--fleet", help="Fleet description; default: HCP_FLEET_FILE or fleet.toml.")
    ] = None,
    policy: Annotated[
        list[str] | None, typer.Option(help="Policy by name; may be given again. Default: every one there is.")
    ] = None,
    from_time: Annotated[
        str | None, typer.Option("--from", help="ISO date or time, UTC unless it says; default: when all is recorded.")
    ] = None,
    to_time: Annotated[
        str | None, typer.Option("--to", help="ISO date or time up to which prices count; default: the last.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for report and decisions; default: .hcp/backtests/<UTC time>.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON instead of tables.")] = False,
) -> None:
    """Replay recorded prices through the live decision functions and say what each policy would have earned."""
    settings = load_settings(fleet_file=fleet_file)
    policies = policies_named(policy)
    fleet = load_fleet(settings.fleet_file)
    first_ms, last_ms = time_ms(from_time, "--from"), time_ms(to_time, "--to")
    if first_ms is not None and last_ms is not None and first_ms >= last_ms:
        raise SettingsError(f"--from must be before --to, was {from_time} and {to_time}")
    with _progress.status("reading the recorded market"):
        history = open_history(market or (), fleet=fleet)
    _warn(history)
    window = _window(history, first_ms=first_ms, last_ms=last_ms)
    folder = (
        out or settings.state_dir / "backtests" / f"{datetime.fromtimestamp(wall_ms() / 1e3, tz=UTC):%Y%m%dT%H%M%SZ}"
    )
    names = [each.name for each in policies]
    run, decision_count = _run(history, window=window, fleet=fleet, policies=policies, folder=folder)
    with _progress.status("settling, finding the hindsight optimum and drawing"):
        result = evaluate(run, fleet=fleet, policies=names)
        head = ReportHead(
            sources=tuple(str(source) for source in market or ()) or ("the week HCP ships",),
            from_ms=min(int(series.starts_ms[0]) for series in run.series),
            until_ms=max(int(series.starts_ms[-1] + series.interval_ms[-1]) for series in run.series),
            price_count=run.price_count,
            decision_count=decision_count,
        )
        write_report(folder / REPORT_NAME, result, moves=run.moves, head=head)
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in result.rows], indent=2))
    else:
        _print(result)
    _progress.print(f"report     {folder / REPORT_NAME}", style=None, markup=False)
    _progress.print(f"decisions  {folder / DECISIONS_NAME} ({decision_count:,})", style=None, markup=False)


def policies_named(names: list[str] | None) -> list[Policy]:
    """Return the policies of those names, each once; all there are when none is named.

    Raises:
        SettingsError: There is none of a name; the message lists those there are.
    """
    chosen: dict[str, Policy] = {}
    for name in names or [each.name for each in POLICIES]:
        try:
            policy = policy_named(_ALIASES.get(name, name))
        except ValueError as error:
            raise SettingsError(str(error)) from error
        chosen[policy.name] = policy
    return list(chosen.values())


def time_ms(text: str | None, option: str) -> int | None:
    """Return an ISO date or time as ms since the epoch; without a zone it is UTC.

    Raises:
        SettingsError: It is none; the message names the option.
    """
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError as error:
        raise SettingsError(f"{option} must be an ISO date or time such as 2023-08-20, was {text!r}") from error
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return round(when.timestamp() * MS_PER_SECOND)


def _window(history: History, *, first_ms: int | None, last_ms: int | None) -> Window:
    recorded = Window(from_ms=history.market.start_ms, until_ms=int(history.market.end_ms))
    window = Window(
        from_ms=recorded.from_ms if first_ms is None else max(first_ms, recorded.from_ms),
        until_ms=recorded.until_ms if last_ms is None else min(last_ms, recorded.until_ms),
    )
    if window.from_ms >= window.until_ms:
        first, last = (
            f"{datetime.fromtimestamp(at / 1e3, tz=UTC):%Y-%m-%dT%H:%MZ}"
            for at in (recorded.from_ms, recorded.until_ms)
        )
        raise MarketDataError(f"--from and --to must overlap what is recorded, {first} to {last}, was outside")
    return window


def _warn(history: History) -> None:
    for site in history.market.skipped:
        _progress.print(
            f"[yellow]left out:[/] {escape(site.facility_id)}, no prices of its hub {escape(site.energy_market)}"
        )
    for path in history.passed_over:
        _progress.print(f"[yellow]passed over:[/] {escape(str(path))}, its columns are no documented shape")


def _run(
    history: History, *, window: Window, fleet: Fleet, policies: list[Policy], folder: Path
) -> tuple[BacktestRun, int]:
    """Replay with a progress bar; decisions go to their file as they come."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        decisions = DecisionFile(folder / DECISIONS_NAME)
    except OSError as error:
        raise SettingsError(f"--out must be a folder that can be written, was {folder}: {error.strerror}") from error
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeRemainingColumn(),
    )
    with decisions, Progress(*columns, console=_progress, transient=True) as progress:
        task = progress.add_task("deciding", total=window.until_ms - window.from_ms)
        prices = prices_of(history.market, from_ms=window.from_ms, until_ms=window.until_ms)
        run = run_backtest(
            _tracked(prices, progress=progress, task=task, from_ms=window.from_ms),
            fleet=fleet,
            policies=policies,
            settle_from_ms=window.from_ms,
            on_decision=decisions.add,
        )
    if not run.series:
        raise MarketDataError("--from and --to must hold at least one priced interval, was none")
    return run, decisions.row_count


def _tracked(
    prices: Iterable[tuple[MarketPrice, Cause]], *, progress: Progress, task: TaskID, from_ms: int
) -> Iterator[tuple[MarketPrice, Cause]]:
    for number, item in enumerate(prices):
        if number % _PROGRESS_PRICES == 0:
            progress.update(task, completed=max(item[0].observed_at_ms - from_ms, 0))
        yield item


def _print(result: BacktestResult) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=TABLE_COLUMNS)
    table = Table(box=None, pad_edge=False)
    for number, column in enumerate(COLUMNS):
        table.add_column(column.title, justify="left" if number < 2 else "right")  # noqa: PLR2004  # two names
    hours = Table(box=None, pad_edge=False, title="device-hours in each mode", title_justify="left")
    for number, title in enumerate(hours_titles(result.rows)):
        hours.add_column(title, justify="left" if number < 2 else "right")  # noqa: PLR2004  # two names
    facility_id = ""
    for row in result.rows:
        if facility_id not in {"", row.facility_id}:
            table.add_row()
            hours.add_row()
        facility_id = row.facility_id
        style = "dim" if row.switch_cost_usd is None else ""
        table.add_row(*cells(row), style=style)
        hours.add_row(*hours_cells(row, result.rows), style=style)
    console.print(table)
    if any(is_over_cap(row) for row in result.rows):
        console.print(OVER_CAP_NOTE)
    console.print()
    console.print(hours)
    console.print()
    for site in result.sites:
        console.print(f"hindsight of {site.facility.facility_id}: {method_words(site.hindsight.method)}", markup=False)
