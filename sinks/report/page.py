"""The report as one HTML page that needs no network."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

import plotly.graph_objects as go

from sinks.report.facts import Facts
from sinks.report.figures import latency_figure, site_figure
from sinks.timescale.asking import Answer

_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1180px; padding: 0 1rem; color: #1b1f24; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #d9dee4; }
th:first-child, td:first-child, td.words { text-align: left; } td:first-child { white-space: nowrap; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; } p { max-width: 75ch; } .note { color: #5b6570; }
"""
_SUMMARY: Final = (
    "site", "energy MWh", "mean price USD/MWh", "revenue USD", "energy cost USD", "profit USD", "settled USD",
    "switch cost USD", "billed USD", "switches", "not committed",
)  # fmt: skip

_NOTE: Final = (
    '<p class="note">Revenue, cost and profit are devices in each mode times the rates of that mode; settled is what '
    "the regret job settled, switch costs taken off. A field is empty where nothing is known.</p>"
)


def write_page(path: Path, facts: Facts, *, title: str) -> None:
    """Write the page.

    Raises:
        OSError: It cannot be written.
    """
    parts = [
        f"<h1>{escape(title)}: {facts.period}</h1>",
        _table(_SUMMARY, [_summary(facts, site) for site in facts.facilities]),
        _NOTE,
    ]
    for number, site in enumerate(facts.facilities):
        parts += [
            f"<h2>{escape(site)}</h2>",
            _drawn(site_figure(facts, site), name=f"site-{number}", is_first=not number),
        ]
    parts.append("<h2>Switches</h2>")
    if facts.answers["latency"].rows:
        parts.append("<p>99th percentile of committed switches, by hour and class:</p>")
        parts.append(_drawn(latency_figure(facts), name="latency", is_first=not facts.facilities))
    parts += [
        _answer(facts.answers["outcomes"], none="No device was switched."),
        "<h2>Decisions</h2>",
        _answer(facts.answers["decisions"], none="Nothing was decided."),
        "<h2>Alerts</h2>",
        _answer(facts.answers["alerts"], none="No alert."),
        "<h2>Refused records</h2>",
        _answer(facts.answers["refused"], none="No record was refused."),
    ]
    body = "\n".join(parts)
    path.write_text(
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>\n{body}\n</body></html>\n",
        encoding="utf-8",
    )


def _summary(facts: Facts, site: str) -> list[Any]:
    earned = [
        _total(facts.column("earnings", name, facility_id=site))
        for name in ("revenue_usd", "energy_cost_usd", "profit_usd", "realised_usd", "switch_cost_usd", "billed_usd")
    ]
    prices = facts.column("prices", "usd_per_mwh", facility_id=site)
    switched = facts.column("outcomes", "switch_count", facility_id=site)
    committed = facts.column("outcomes", "switch_count", facility_id=site, outcome="committed")
    return [
        site,
        _total(facts.column("power", "power_mw", facility_id=site)),  # a row is an hour's mean: MW times 1 h
        sum(prices) / len(prices) if prices else None,
        *earned,
        sum(switched),
        sum(switched) - sum(committed),
    ]


def _total(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _drawn(figure: go.Figure, *, name: str, is_first: bool) -> str:
    """Return the figure; the first of a page brings the library, and a name makes the same facts the same page."""
    drawn: str = figure.to_html(
        full_html=False, include_plotlyjs=is_first, div_id=name, config={"displaylogo": False, "responsive": True}
    )
    return drawn


def _answer(answer: Answer, *, none: str) -> str:
    if not answer.rows:
        return f"<p>{escape(none)}</p>"
    return _table([column.replace("_", " ") for column in answer.columns], answer.rows)


def _table(titles: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    heads = "".join(f"<th>{escape(title)}</th>" for title in titles)
    lines = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>"


def _cell(value: Any) -> str:  # noqa: ANN401  # a cell of any type
    if isinstance(value, str):
        return f'<td class="words">{escape(value)}</td>'
    if isinstance(value, float):
        return f"<td>{value:,.2f}</td>"
    if isinstance(value, int):
        return f"<td>{value:,}</td>"
    return "<td></td>" if value is None else f"<td>{value:%Y-%m-%d %H:%M}</td>"
