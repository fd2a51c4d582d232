"""The report for people: one HTML page that needs no network, with the results as a table and plots for each site."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Final

import plotly.graph_objects as go

from backtest.plots import reliability_figure, site_figure
from backtest.results import FLEET, BacktestResult, ResultRow
from backtest.series import PolicyMoves
from backtest.wording import COLUMNS, OVER_CAP_NOTE, cells, hours_cells, hours_titles, is_over_cap, method_words

_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1280px; padding: 0 1rem; color: #1b1f24; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #d9dee4; white-space: nowrap; }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left; }
tr.yardstick { color: #5b6570; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
p, li { max-width: 75ch; } .note { color: #5b6570; }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportHead:
    """What the page says of the run.

    Attributes:
        sources: Where the prices came from, in words.
        from_ms: First event time settled.
        until_ms: Last.
        price_count: Prices taken in.
        decision_count: Decisions published by all policies.
    """

    sources: tuple[str, ...]
    from_ms: int
    until_ms: int
    price_count: int
    decision_count: int


def write_report(path: Path, result: BacktestResult, *, moves: Sequence[PolicyMoves], head: ReportHead) -> None:
    """Write the page.

    Raises:
        OSError: It cannot be written.
    """
    parts = [_head(head), *_tables(result.rows), _notes(result)]
    for number, site in enumerate(result.sites):
        facility = site.facility
        figure = site_figure(site, moves=moves)
        parts.append(
            f"<h2>{escape(facility.name)} ({escape(facility.facility_id)}), energy at "
            f"{escape(facility.energy_market)}</h2>"
        )
        parts.append(_embedded(figure, name=f"site-{number}", is_first=number == 0))
        calibration = reliability_figure(site)
        if calibration is not None:
            parts.append(_embedded(calibration, name=f"reliability-{number}", is_first=False))
    body = "\n".join(parts)
    path.write_text(
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>HCP backtest</title><style>{_STYLE}</style></head><body>\n{body}\n</body></html>\n",
        encoding="utf-8",
    )


def _embedded(figure: go.Figure, *, name: str, is_first: bool) -> str:
    page: str = figure.to_html(
        full_html=False,
        include_plotlyjs=is_first,
        div_id=name,  # plotly's own ids are random: the same run is to give the same page
        config={"displaylogo": False, "responsive": True},
    )
    return page


def _head(head: ReportHead) -> str:
    first, last = (datetime.fromtimestamp(at_ms / 1_000, tz=UTC) for at_ms in (head.from_ms, head.until_ms))
    sources = ", ".join(escape(source) for source in head.sources)
    return (
        f"<h1>Backtest, {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC</h1>"
        f"<p>{head.price_count:,} prices from {sources}; {head.decision_count:,} decisions published. "
        "Every decision is in <code>decisions.parquet</code> beside this page.</p>"
    )


def _tables(rows: Sequence[ResultRow]) -> tuple[str, ...]:
    note = f"<p>{escape(OVER_CAP_NOTE)}.</p>" if any(is_over_cap(row) for row in rows) else ""
    return (
        _table(rows, [column.title for column in COLUMNS], [cells(row) for row in rows]),
        note,
        "<p>Device-hours in each mode, and hours in which the site drew more than its power cap:</p>",
        _table(rows, hours_titles(rows), [hours_cells(row, rows) for row in rows]),
    )


def _table(rows: Sequence[ResultRow], titles: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    heads = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join(
        f"<tr{_kind(row)}>{''.join(f'<td>{escape(cell)}</td>' for cell in line)}</tr>"
        for row, line in zip(rows, lines, strict=True)
    )
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"


def _kind(row: ResultRow) -> str:
    return ' class="yardstick"' if row.switch_cost_usd is None else ""


def _notes(result: BacktestResult) -> str:
    methods = "".join(
        f"<li>{escape(site.facility.facility_id)}: {escape(method_words(site.hindsight.method))}</li>"
        for site in result.sites
    )
    return (
        '<div class="note"><p>Share of the gap is (policy - best fixed) / (hindsight - best fixed): 0 % is the best '
        "single mode kept throughout, 100 % what could have been earned with every price known. A price settles the "
        "interval it is for; what is decided on it acts from the next. Time without a price earns nothing, for "
        f"anybody. The rows of {FLEET} add all sites up.</p><p>Hindsight:</p><ul>{methods}</ul></div>"
    )
