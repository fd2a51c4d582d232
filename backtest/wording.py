"""Results in words, the same in the terminal and on the page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from backtest.results import ResultRow
from backtest.yardsticks import Method
from hcp.model.devices import DeviceMode

UNKNOWN: Final = "–"  # noqa: RUF001  # an en dash, as typeset
OVER_CAP: Final = "†"
OVER_CAP_NOTE: Final = f"{OVER_CAP} drew more than a site's power cap for a time, so its shares say nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of the results: its title with unit, and how a row fills it."""

    title: str
    cell: Callable[[ResultRow], str]


def _number(value: float | None, form: str) -> str:
    return UNKNOWN if value is None else format(value, form)


def _share(row: ResultRow, ratio: float | None, form: str) -> str:
    return _number(ratio, form) + (OVER_CAP if is_over_cap(row) else "")


def is_over_cap(row: ResultRow) -> bool:
    """Say whether the row is of someone who drew more than was allowed."""
    return row.over_cap_hours > 0.0


def _dwell(minutes: float | None) -> str:
    if minutes is None:
        return UNKNOWN
    return f"{minutes:,.0f} min" if minutes < 120.0 else f"{minutes / 60.0:,.0f} h"  # noqa: PLR2004  # two hours


COLUMNS: Final = (
    Column(title="facility", cell=lambda row: row.facility_id),
    Column(title="policy", cell=lambda row: row.contender),
    Column(title="profit USD", cell=lambda row: _number(row.profit_usd, ",.0f")),
    Column(title="of hindsight", cell=lambda row: _share(row, row.hindsight_ratio, ".2%")),
    Column(title="of the gap", cell=lambda row: _share(row, row.gap_ratio, ".1%")),
    Column(title="switches", cell=lambda row: _number(row.switch_count, ",d")),
    Column(title="per device-day", cell=lambda row: _number(row.switches_per_device_day, ".3f")),
    Column(title="curtailed MWh", cell=lambda row: _number(row.curtailed_mwh, ",.0f")),
    Column(title="max ramp MW/min", cell=lambda row: _number(row.ramp_mw_per_minute_max, ",.1f")),
    Column(title="min dwell", cell=lambda row: _dwell(row.dwell_minutes_min)),
)


def cells(row: ResultRow) -> list[str]:
    """Return a row's cells, one a column."""
    return [column.cell(row) for column in COLUMNS]


def hours_titles(rows: Sequence[ResultRow]) -> list[str]:
    """Return the headings of the table of hours: one a mode that any row has."""
    return ["facility", "policy", *(f"{mode.value} h" for mode in _modes(rows)), "over cap h"]


def hours_cells(row: ResultRow, rows: Sequence[ResultRow]) -> list[str]:
    """Return device-hours in each mode with their share, and the hours in which the site drew more than its cap."""
    total = sum(row.device_hours.values()) or 1.0
    spent = [row.device_hours.get(mode) for mode in _modes(rows)]
    return [
        row.facility_id,
        row.contender,
        *(UNKNOWN if hours is None else f"{hours:,.0f} ({hours / total:.0%})" for hours in spent),
        f"{row.over_cap_hours:,.0f}",
    ]


def _modes(rows: Sequence[ResultRow]) -> list[DeviceMode]:
    return [mode for mode in DeviceMode if any(mode in row.device_hours for row in rows)]


def method_words(method: Method) -> str:
    """Say how hindsight was found."""
    if method == "dp":
        return "dynamic programming for each class, exact; neither power cap nor ramp limit of the site binds"
    return "power cap or ramp limit binds: linear programme over device counts, in windows of 28 days"
