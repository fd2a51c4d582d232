"""What changed between two runs, as one HTML page that needs no network."""

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Final

import plotly.graph_objects as go

from hcp.errors import HcpError
from hcp.model.units import USD_MICROS_PER_USD
from replay.decisions.difference import Difference, Run
from replay.decisions.wording import class_rows, differing_row
from replay.decisions.worth import Key

ROWS_MAX: Final = 2_000
_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1280px; padding: 0 1rem; color: #1b1f24; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; text-align: left; border-bottom: 1px solid #d9dee4; white-space: nowrap; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; } .note { color: #5b6570; }
"""


def write_page(path: Path, found: Difference, *, a: Run, b: Run) -> None:
    """Write the page.

    Raises:
        HcpError: It cannot be written.
    """
    parts = [
        f"<h1>{escape(a.name)} (A) against {escape(b.name)} (B)</h1>",
        _table(class_rows(found)),
        *_money(a, b),
        f"<h2>{len(found.differing):,} decisions differ</h2>",
        _table([differing_row(each) for each in found.differing[:ROWS_MAX]]),
    ]
    if len(found.differing) > ROWS_MAX:
        parts.append(f'<p class="note">The first {ROWS_MAX:,} are shown; <code>--json</code> prints all.</p>')
    body = "\n".join(parts)
    text = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>HCP replay diff</title>'
        f"<style>{_STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise HcpError(f"--html must be a file that can be written, was {error}") from error


def _table(rows: Sequence[dict[str, object]]) -> str:
    if not rows:
        return "<p>None.</p>"
    heads = "".join(f"<th>{escape(name)}</th>" for name in rows[0])
    body = "".join(f"<tr>{''.join(map(_cell, row.values()))}</tr>" for row in rows)
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"


def _cell(cell: object) -> str:
    return f"<td>{'-' if cell is None else escape(str(cell))}</td>"


def _money(a: Run, b: Run) -> tuple[str, ...]:
    """Draw how much more B has earned, hour by hour, class by class."""
    if a.worth is None or b.worth is None:
        return ('<p class="note">What they earned is known of folders and of live, not of a file of decisions.</p>',)
    figure = go.Figure()
    for key in sorted({*a.worth, *b.worth}):
        hours, usd = _cumulative(a, b, key)
        figure.add_trace(go.Scatter(x=hours, y=usd, name=" ".join(key), mode="lines"))
    figure.update_layout(height=420, template="plotly_white", yaxis_title="USD", margin={"t": 30})
    drawn = figure.to_html(full_html=False, include_plotlyjs=True, div_id="money", config={"displaylogo": False})
    return "<h2>What B has earned more than A</h2>", drawn


def _cumulative(a: Run, b: Run, key: Key) -> tuple[list[datetime], list[float]]:
    hourly = [run.worth[key].by_hour if run.worth is not None and key in run.worth else {} for run in (a, b)]
    hours = sorted({*hourly[0], *hourly[1]})
    total, usd = 0, []
    for hour in hours:
        total += hourly[1].get(hour, 0) - hourly[0].get(hour, 0)
        usd.append(total / USD_MICROS_PER_USD)
    return [datetime.fromtimestamp(hour / 1_000, tz=UTC) for hour in hours], usd
