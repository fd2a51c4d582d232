"""When a price of a recording became known that does not say so itself."""

from datetime import UTC, date, datetime, timedelta
from typing import Final

from hcp.model.units import MS_PER_HOUR, MS_PER_MINUTE, MS_PER_SECOND

ERCOT_LOCATIONS: Final = ("HB_", "LZ_")
"""What the names of ERCOT's hubs and load zones begin with."""
_PUBLISHED_MS: Final = 13 * MS_PER_HOUR + 30 * MS_PER_MINUTE
"""Of the day before delivery, local time: ERCOT posts its day-ahead results by 13:30 (Nodal Protocols, 4.5.3)."""
_STANDARD_MS: Final = -6 * MS_PER_HOUR
_SUMMER_MS: Final = -5 * MS_PER_HOUR
_MARCH, _NOVEMBER, _SUNDAY = 3, 11, 6


def ercot_day_ahead_published_ms(start_ms: int) -> int:
    """Return when ERCOT publishes the day-ahead price of the hour that begins at `start_ms`: 13:30 the day before.

    Summer time follows the rule in force since 2007, worked out here: not every machine has a time zone database.
    """
    local = datetime.fromtimestamp((start_ms + _offset_ms(start_ms)) / MS_PER_SECOND, tz=UTC)
    before = datetime(local.year, local.month, local.day, tzinfo=UTC) - timedelta(days=1)
    published_ms = round(before.timestamp() * MS_PER_SECOND) + _PUBLISHED_MS
    return published_ms - _offset_ms(published_ms - _STANDARD_MS)


def _offset_ms(at_ms: int) -> int:
    """Return Chicago's offset from UTC: summer time from the second Sunday of March to the first of November, 2:00."""
    year = datetime.fromtimestamp((at_ms + _STANDARD_MS) / MS_PER_SECOND, tz=UTC).year
    begins_ms = _sunday_ms(year, _MARCH, nth=2) + 2 * MS_PER_HOUR - _STANDARD_MS
    ends_ms = _sunday_ms(year, _NOVEMBER, nth=1) + 2 * MS_PER_HOUR - _SUMMER_MS
    return _SUMMER_MS if begins_ms <= at_ms < ends_ms else _STANDARD_MS


def _sunday_ms(year: int, month: int, *, nth: int) -> int:
    """Return midnight, as if it were UTC, of the n-th Sunday of a month."""
    first = date(year, month, 1)
    day = 1 + (_SUNDAY - first.weekday()) % 7 + 7 * (nth - 1)
    return round(datetime(year, month, day, tzinfo=UTC).timestamp() * MS_PER_SECOND)
