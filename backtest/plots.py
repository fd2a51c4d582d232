"""The plots of one site: prices, power, decisions, cumulative profit and daily regret over one time axis."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from backtest.reliability import BINS
from backtest.results import BEST_FIXED, HINDSIGHT, SiteResult
from backtest.series import DAY_MS, ClassSeries, FloatArray, IntArray, PolicyMoves
from hcp.model.devices import DeviceMode
from hcp.model.units import MS_PER_HOUR

POINTS_MAX: Final = 3_000
"""Points of a line at most: two years of days fit, and a page of many lines opens at once."""
MARKERS_MAX: Final = 4_000
"""Switches drawn of one policy and class at most; of more, every n-th, and the legend says so."""
_BUCKETS_MS: Final = (MS_PER_HOUR // 4, MS_PER_HOUR, 6 * MS_PER_HOUR, DAY_MS, 7 * DAY_MS)
_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a6d00", "#5b3fa0")
"""Okabe and Ito's palette, which colour-blind readers can tell apart ("Color Universal Design", 2008), and two more."""
_YARDSTICK_COLOURS: Final = {HINDSIGHT: "#222222", BEST_FIXED: "#9aa2ab"}
_MODE_SYMBOLS: Final = {
    DeviceMode.MINING: "triangle-up",
    DeviceMode.MINING_ECO: "diamond",
    DeviceMode.AI_INFERENCE: "star",
    DeviceMode.IDLE: "triangle-down",
    DeviceMode.SLEEP: "triangle-down",
}
_ROWS: Final = (
    "Real-time energy price (line: mean, band: least to greatest)",
    "Power drawn by the site (mean)",
    "Decisions to switch (▲ mining, ◆ mining at the power target, ★ inference, ▼ sleep or idle)",
    "Cumulative profit, switch costs deducted",
    "Regret by day: hindsight's profit less the policy's",
)
_RELIABILITY_ROWS: Final = (
    "How true its probability is that the better of two modes still is the better one at payback",
    "How often it said so",
)
_HEIGHTS: Final = (240.0, 210.0, 0.0, 350.0, 270.0)
"""Pixels of each plot; that of the decisions grows with its lanes."""
_LANE_HEIGHT: Final = 17.0
_LANES_MIN: Final = 6
_DECISIONS_ROW: Final = 3
_MARGINS_HEIGHT: Final = 420.0
_QUANTILES: Final = (0.005, 0.995)


def site_figure(site: SiteResult, *, moves: Sequence[PolicyMoves]) -> go.Figure:
    """Return the figure of a site; contenders keep their colour in every plot."""
    lanes = [each for each in moves if each.facility_id == site.facility.facility_id and each.moves]
    heights = list(_HEIGHTS)
    heights[_DECISIONS_ROW - 1] = _LANE_HEIGHT * max(len(lanes), _LANES_MIN)
    figure = make_subplots(
        rows=len(_ROWS), cols=1, shared_xaxes=True, vertical_spacing=0.045, row_heights=heights, subplot_titles=_ROWS
    )
    widest = max(site.classes, key=lambda each: len(each.starts_ms))
    bucket_ms = _bucket_ms(widest)
    _draw_prices(figure, widest, bucket_ms=bucket_ms)
    _draw_power(figure, site, bucket_ms=bucket_ms)
    _draw_decisions(figure, site, moves=lanes)
    _draw_profits(figure, site, bucket_ms=bucket_ms)
    for row, unit in enumerate(("USD/MWh", "MW", "", "USD", "USD a day"), start=1):
        figure.update_yaxes(title_text=unit, row=row, col=1)
    figure.update_yaxes(tickmode="linear", dtick=1, tickfont_size=11, row=_DECISIONS_ROW, col=1)  # every lane its name
    figure.update_xaxes(title_text="time (UTC)", row=len(_ROWS), col=1)
    figure.update_xaxes(showticklabels=True)
    figure.update_layout(
        height=sum(heights) + _MARGINS_HEIGHT,
        template="plotly_white",
        hovermode="x",
        legend={"orientation": "h", "y": 1.045, "x": 0.0},
        margin={"l": 130, "r": 20, "t": 90, "b": 50},
        bargap=0.1,
    )
    return figure


def reliability_figure(site: SiteResult) -> go.Figure | None:
    """Return how often what was predicted came true, by what was said; None when no policy of the site says anything.

    A calibrated one lies on the diagonal. Bars count the predictions, on a logarithmic scale.
    """
    if not site.reliability:
        return None
    figure = make_subplots(
        rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.12, row_heights=[3, 1], subplot_titles=_RELIABILITY_ROWS
    )
    whole = {"color": "#9aa2ab", "dash": "dot", "width": 1}
    figure.add_trace(go.Scatter(x=[0, 1], y=[0, 1], mode="lines", name="said = came true", line=whole), row=1, col=1)
    for name, found in site.reliability.items():
        is_filled = found.counts > 0
        said, held, counts = (each[is_filled].tolist() for each in (found.said, found.held, found.counts))
        colour = _colour(site, name)
        figure.add_trace(
            go.Scatter(
                x=np.round(said, 4).tolist(),
                y=np.round(held, 4).tolist(),
                text=[f"{count:,} predictions" for count in counts],
                mode="lines+markers",
                name=f"{name}: Brier score {found.brier:.4f}, of a constant {found.brier_constant:.4f}",
                line={"color": colour, "width": 1.8},
            ),
            row=1,
            col=1,
        )
        middles = ((np.flatnonzero(is_filled) + 0.5) / BINS).tolist()
        bars = {"width": 0.9 / BINS, "marker": {"color": colour}, "showlegend": False}
        figure.add_trace(go.Bar(x=middles, y=counts, name=name, **bars), row=2, col=1)
    figure.update_xaxes(range=[-0.02, 1.02])
    figure.update_xaxes(title_text="probability said", row=2, col=1)
    figure.update_yaxes(title_text="share that came true", range=[-0.05, 1.05], row=1, col=1)
    figure.update_yaxes(title_text="predictions", type="log", row=2, col=1)
    figure.update_layout(height=560.0, template="plotly_white", legend={"orientation": "h", "y": 1.14, "x": 0.0})
    return figure


def times(at_ms: Sequence[int] | IntArray) -> list[str]:
    """Return event times as plotly reads them, UTC."""
    return [f"{datetime.fromtimestamp(int(at) / 1_000, tz=UTC):%Y-%m-%d %H:%M:%S}" for at in at_ms]


def _bucket_ms(series: ClassSeries) -> int:
    span_ms = int(series.starts_ms[-1] - series.starts_ms[0])
    return next((each for each in _BUCKETS_MS if span_ms // each <= POINTS_MAX), _BUCKETS_MS[-1])


def _draw_prices(figure: go.Figure, series: ClassSeries, *, bucket_ms: int) -> None:
    starts, index = np.unique(series.starts_ms // bucket_ms, return_inverse=True)
    edges = np.flatnonzero(np.diff(index, prepend=-1))
    price = series.energy_usd_per_mwh
    low, high = np.minimum.reduceat(price, edges), np.maximum.reduceat(price, edges)
    mean = _means(price, series.hours, index=index)
    at = times(starts * bucket_ms)
    band = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    figure.add_trace(go.Scatter(x=at, y=_rounded(low), **band), row=1, col=1)
    figure.add_trace(
        go.Scatter(x=at, y=_rounded(high), fill="tonexty", fillcolor="rgba(86,180,233,0.35)", **band), row=1, col=1
    )
    line = {"color": "#1b1f24", "width": 1}
    figure.add_trace(go.Scatter(x=at, y=_rounded(mean), name="energy price", line=line, showlegend=False), row=1, col=1)
    bottom, top = (float(np.quantile(edge, share)) for edge, share in zip((low, high), _QUANTILES, strict=True))
    if float(high.max()) > 2.0 * max(top, 1.0):
        # A few spikes would press all the rest into one line; a double click shows everything.
        figure.update_yaxes(range=[bottom - 0.05 * (top - bottom), top], row=1, col=1)


def _draw_power(figure: go.Figure, site: SiteResult, *, bucket_ms: int) -> None:
    for name, counts in (
        *((policy, [account.counts for account in accounts]) for policy, accounts in site.accounts.items()),
        (HINDSIGHT, site.hindsight.counts),
    ):
        energy: dict[int, float] = {}
        hours: dict[int, float] = {}
        for each, planned in zip(site.classes, counts, strict=True):
            buckets, index = np.unique(each.starts_ms // bucket_ms, return_inverse=True)
            drawn = np.bincount(index, weights=(planned @ each.power_kw) * each.hours)
            covered = np.bincount(index, weights=each.hours)
            for bucket, kwh, length in zip(buckets.tolist(), drawn.tolist(), covered.tolist(), strict=True):
                energy[bucket] = energy.get(bucket, 0.0) + kwh
                hours[bucket] = max(hours.get(bucket, 0.0), length)
        figure.add_trace(
            go.Scatter(
                x=times([bucket * bucket_ms for bucket in sorted(energy)]),
                y=[round(energy[bucket] / hours[bucket] / 1_000.0, 3) for bucket in sorted(energy)],
                name=name,
                legendgroup=name,
                showlegend=False,
                line={"width": 1, "color": _colour(site, name)},
            ),
            row=2,
            col=1,
        )


def _draw_decisions(figure: go.Figure, site: SiteResult, *, moves: Sequence[PolicyMoves]) -> None:
    for each in moves:
        every = -(-len(each.moves) // MARKERS_MAX)
        shown = each.moves[::every]
        lane = f"{each.policy} {each.device_class}" + (f" (1 of {every})" if every > 1 else "")
        figure.add_trace(
            go.Scattergl(
                x=times([move.at_ms for move in shown]),
                y=[lane] * len(shown),
                mode="markers",
                marker={
                    "size": 7,
                    "color": _colour(site, each.policy),
                    "symbol": [_MODE_SYMBOLS[move.to_mode] for move in shown],
                    "opacity": 0.55,
                },
                text=[f"{move.device_count:,} from {move.from_mode} to {move.to_mode}" for move in shown],
                hovertemplate="%{y}<br>%{x}<br>%{text}<extra></extra>",
                legendgroup=each.policy,
                showlegend=False,
            ),
            row=_DECISIONS_ROW,
            col=1,
        )


def _draw_profits(figure: go.Figure, site: SiteResult, *, bucket_ms: int) -> None:
    _, best = site.profit_usd(HINDSIGHT)
    for name in (*site.accounts, HINDSIGHT, BEST_FIXED):
        starts, earned = site.profit_usd(name, every_ms=bucket_ms)
        colour = _colour(site, name)
        dash = "dot" if name in _YARDSTICK_COLOURS else "solid"
        figure.add_trace(
            go.Scatter(
                x=times([*starts, starts[-1] + bucket_ms]),
                y=[0.0, *_rounded(np.cumsum(earned))],  # what is earned by the end of each stretch
                name=name,
                legendgroup=name,
                mode="lines",
                line={"width": 1.8, "color": colour, "dash": dash},
            ),
            row=4,
            col=1,
        )
        if name in site.accounts:
            days, earned = site.profit_usd(name)
            figure.add_trace(
                go.Bar(
                    x=times(days),
                    y=_rounded(best - earned),
                    xperiod=DAY_MS,
                    xperiodalignment="middle",
                    name=name,
                    legendgroup=name,
                    showlegend=False,
                    marker={"color": colour, "line": {"width": 0}},
                ),
                row=5,
                col=1,
            )


def _colour(site: SiteResult, name: str) -> str:
    if name in _YARDSTICK_COLOURS:
        return _YARDSTICK_COLOURS[name]
    return _COLOURS[list(site.accounts).index(name) % len(_COLOURS)]


def _means(values: FloatArray, weights: FloatArray, *, index: IntArray) -> FloatArray:
    return np.asarray(np.bincount(index, weights=values * weights) / np.bincount(index, weights=weights))


def _rounded(values: FloatArray) -> list[float]:
    """Return cents: the page is for eyes, and shorter numbers load faster."""
    rounded: list[float] = np.round(values, 2).tolist()
    return rounded
