"""Times as people type them: `15m` ago, `2026-11-24T03:12Z`, `now`, milliseconds since the epoch."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from hcp.errors import SettingsError
from hcp.model.units import MS_PER_DAY, MS_PER_HOUR, MS_PER_MINUTE, MS_PER_SECOND, EpochMs

_DURATION: Final = re.compile(r"(?:\d+(?:ms|s|m|h|d))+")
_PART: Final = re.compile(r"(\d+)(ms|s|m|h|d)")
_UNITS_MS: Final = {"ms": 1, "s": MS_PER_SECOND, "m": MS_PER_MINUTE, "h": MS_PER_HOUR, "d": MS_PER_DAY}
_EPOCH_MS: Final = re.compile(r"\d{12,15}")
"""Twelve digits and more: no year, day or clock has as many."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def duration_ms(text: str) -> int | None:
    """Return the milliseconds of `15m`, `1h30m` or `250ms`; None when the text is no duration."""
    if _DURATION.fullmatch(text) is None:
        return None
    return sum(int(count) * _UNITS_MS[unit] for count, unit in _PART.findall(text))


def instant_ms(text: str, *, option: str, now_ms: EpochMs) -> EpochMs:
    """Return the time that was typed, in ms since the epoch.

    Args:
        text: A duration before now, an ISO date or time (UTC unless it says), `now`, or ms since the epoch.
        option: Where it was typed, for the message.
        now_ms: What now is.

    Raises:
        SettingsError: It is none of these, or lies before 1970.
    """
    if text == "now":
        return now_ms
    if _EPOCH_MS.fullmatch(text):
        return EpochMs(int(text))
    ago_ms = duration_ms(text)
    at_ms = _iso_ms(text) if ago_ms is None else now_ms - ago_ms
    if at_ms is None or at_ms < 0:
        raise SettingsError(
            f"{option} must be a duration such as 15m or 2h30m, an ISO time such as 2026-11-24T03:12Z, now or "
            f"milliseconds since the epoch, was {text!r}"
        )
    return EpochMs(at_ms)


def time_words(at_ms: int | None) -> str:
    """Write a broker timestamp as UTC with milliseconds; a dash for none."""
    if at_ms is None or at_ms < 0:
        return "-"
    try:
        return (_EPOCH + timedelta(milliseconds=at_ms)).isoformat(timespec="milliseconds")[:-6] + "Z"
    except OverflowError:  # a producer may have written anything
        return f"{at_ms} ms"


def _iso_ms(text: str) -> int | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return round(found.timestamp() * MS_PER_SECOND)
