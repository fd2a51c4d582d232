"""Figures of a report: each site's hours under one time axis, and the switches of the fleet."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from sinks.report.facts import Facts

PANELS: Final = ("Energy price", "Power", "Devices in each mode", "Profit by hour", "Regret since the start")
UNITS: Final = ("USD/MWh", "MW", "devices", "USD", "USD")
PANEL_HEIGHT: Final = 190
MARGINS_HEIGHT: Final = 120
MODE_COLOURS: Final = {
    "mining": "#e69f00",
    "mining_eco": "#f0e442",
    "ai_inference": "#0072b2",
    "idle": "#b8c0c8",
    "sleep": "#56606b",
}
CLASS_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
LINE: Final = {"color": "#1b1f24", "width": 1.3}


def site_figure(facts: Facts, facility_id: str) -> go.Figure:
    """Return price, power, modes, profit and regret of a site."""
    figure = make_subplots(rows=len(PANELS), cols=1, shared_xaxes=True, vertical_spacing=0.05, subplot_titles=PANELS)
    for row, (name, column) in enumerate((("prices", "usd_per_mwh"), ("power", "power_mw")), start=1):
        figure.add_trace(_line(facts, name, column, facility_id), row=row, col=1)
    for mode, colour in MODE_COLOURS.items():
        counts = facts.column("modes", "device_count", facility_id=facility_id, mode=mode)
        if any(counts):
            at = _times(facts.column("modes", "time", facility_id=facility_id, mode=mode))
            band = {"stackgroup": "modes", "line": {"width": 0.5, "color": colour}, "fillcolor": colour}
            figure.add_trace(go.Scatter(x=at, y=counts, name=mode, **band), row=3, col=1)
    profits = facts.column("earnings", "profit_usd", facility_id=facility_id)
    at = _times(facts.column("earnings", "time", facility_id=facility_id))
    colours = ["#b23b3b" if profit is not None and profit < 0 else "#3b7a57" for profit in profits]
    figure.add_trace(go.Bar(x=at, y=profits, marker_color=colours, showlegend=False), row=4, col=1)
    figure.add_trace(_line(facts, "regret", "regret_usd", facility_id), row=5, col=1)
    for row, unit in enumerate(UNITS, start=1):
        figure.update_yaxes(title_text=unit, row=row, col=1)
    return _laid_out(figure, facts, panels=len(PANELS))


def latency_figure(facts: Facts) -> go.Figure:
    """Return the p99 of committed switches by hour and class."""
    figure = go.Figure()
    for number, name in enumerate(sorted(set(facts.column("latency", "device_class")))):
        figure.add_trace(
            go.Scatter(
                x=_times(facts.column("latency", "time", device_class=name)),
                y=facts.column("latency", "total_ms_p99", device_class=name),
                name=name,
                mode="lines+markers",
                line={"width": 1, "color": CLASS_COLOURS[number % len(CLASS_COLOURS)]},
            )
        )
    figure.update_yaxes(title_text="ms", rangemode="tozero")
    return _laid_out(figure, facts, panels=2)


def _line(facts: Facts, name: str, column: str, facility_id: str) -> go.Scatter:
    at = _times(facts.column(name, "time", facility_id=facility_id))
    values = facts.column(name, column, facility_id=facility_id)
    return go.Scatter(x=at, y=values, mode="lines", line=LINE, name=column, showlegend=False)


def _laid_out(figure: go.Figure, facts: Facts, *, panels: int) -> go.Figure:
    figure.update_xaxes(range=_times([facts.period.since, facts.period.until]), showticklabels=True)
    figure.update_layout(
        height=panels * PANEL_HEIGHT + MARGINS_HEIGHT,
        template="plotly_white",
        hovermode="x",
        legend={"orientation": "h", "y": -0.04, "x": 0.0},
        margin={"l": 80, "r": 20, "t": 50, "b": 40},
    )
    return figure


def _times(times: Sequence[datetime]) -> list[str]:
    return [f"{at:%Y-%m-%d %H:%M:%S}" for at in times]
