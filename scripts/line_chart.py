"""Draw lines over time as a small SVG, the same bytes for the same values."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape
from typing import Final

WIDTH: Final = 760
HEIGHT: Final = 240
LEFT: Final = 62
RIGHT: Final = 14
TOP: Final = 46
BOTTOM: Final = 30
TICKS: Final = 4
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's, told apart by the colour-blind too."""
LABELS_MAX: Final = 8
LABEL_HALF: Final = 30
HOURS_PER_DAY: Final = 24
SECONDS_PER_HOUR: Final = 3_600
_STEPS: Final = (1, 2, 3, 6, 12, 24, 48, 96, 168)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line: its name in the legend and its points by time."""

    name: str
    points: tuple[tuple[datetime, float], ...]


def line_chart(lines: Sequence[Line], *, title: str) -> str:
    """Return the picture.

    Raises:
        ValueError: There is no point to draw.
    """
    points = [point for line in lines for point in line.points]
    if not points:
        raise ValueError("lines must have a point, were empty")
    first, last = min(at for at, _ in points), max(at for at, _ in points)
    low, high, step = _nice(min(value for _, value in points), max(value for _, value in points))
    span = max((last - first).total_seconds(), 1.0)

    def place(at: datetime, value: float) -> str:
        x = LEFT + (at - first).total_seconds() / span * (WIDTH - LEFT - RIGHT)
        return f"{x:.1f},{_y(value, low=low, high=high):.1f}"

    drawn = [
        f'<polyline fill="none" stroke="{COLOURS[number % len(COLOURS)]}" stroke-width="1.4" stroke-linejoin="round" '
        f'points="{" ".join(place(*point) for point in line.points)}"/>'
        for number, line in enumerate(lines)
    ]
    parts = [*_values(low, high, step), *_times(first, last, span), *drawn, *_legend(lines)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="system-ui, sans-serif" font-size="11" fill="#3b434c">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
        f'<text x="{LEFT}" y="17" font-size="13" font-weight="600">{escape(title)}</text>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _nice(low: float, high: float) -> tuple[float, float, float]:
    """Return bounds and a step of 1, 2 or 5 times a power of ten; zero is shown when it is near."""
    if low > 0 and low < high / 2:
        low = 0.0
    raw = (high - low) / TICKS or max(abs(high), 1.0) / TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * (1 - 1e-9))
    return math.floor(low / step) * step, math.ceil(high / step) * step or step, step


def _y(value: float, *, low: float, high: float) -> float:
    return HEIGHT - BOTTOM - (value - low) / ((high - low) or 1.0) * (HEIGHT - TOP - BOTTOM)


def _values(low: float, high: float, step: float) -> list[str]:
    parts = []
    for number in range(round((high - low) / step) + 1):
        value = low + number * step
        y = _y(value, low=low, high=high)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#e3e7eb"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:,.6g}</text>')
    return parts


def _hours_between_labels(span: float) -> int:
    hours = span / SECONDS_PER_HOUR / LABELS_MAX
    days = math.ceil(hours / HOURS_PER_DAY)
    return next((each for each in _STEPS if hours <= each), days * HOURS_PER_DAY)


def _times(first: datetime, last: datetime, span: float) -> list[str]:
    hours = _hours_between_labels(span)
    at = first.replace(minute=0, second=0, microsecond=0)
    if hours >= HOURS_PER_DAY:
        at = at.replace(hour=0)
    words = "%b %d" if hours >= HOURS_PER_DAY else "%b %d %H:%M"
    parts = []
    while at <= last:
        if at >= first:
            x = LEFT + (at - first).total_seconds() / span * (WIDTH - LEFT - RIGHT)
            parts.append(f'<path d="M{x:.1f} {HEIGHT - BOTTOM}v4" stroke="#9aa4ae"/>')
            parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="{_anchor(x)}">{at:{words}}</text>')
        at += timedelta(hours=hours)
    return parts


def _anchor(x: float) -> str:
    return "end" if x > WIDTH - RIGHT - LABEL_HALF else "middle"


def _legend(lines: Sequence[Line]) -> list[str]:
    parts, x = [], LEFT
    for number, line in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        parts.append(f'<path d="M{x} 32h16" stroke="{colour}" stroke-width="3"/>')
        parts.append(f'<text x="{x + 21}" y="36">{escape(line.name)}</text>')
        x += 38 + 7 * len(line.name)
    return parts
