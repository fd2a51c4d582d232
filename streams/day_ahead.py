"""Day-ahead prices of a site: hour by hour, two days at most, and none before it was published."""

from dataclasses import dataclass
from typing import Final

from hcp.model.markets import MarketPrice, day_ahead_instrument
from hcp.model.units import MS_PER_HOUR

HOURS_MAX: Final = 48
"""Hours kept: what is published by early afternoon reaches to the end of tomorrow, 36 hours or less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DayAhead:
    """The day-ahead prices of one energy market; columns, since a map an hour takes four times the bytes.

    Attributes:
        market: The energy market, as a facility names it.
        first_hour_ms: Start of the first hour kept.
        usd_per_mwh: Price of that hour and of each that follows; None for one not published.
        published_ms: Event time at which each was published; 0 for one that was not.
    """

    market: str
    first_hour_ms: int
    usd_per_mwh: tuple[float | None, ...] = ()
    published_ms: tuple[int, ...] = ()

    def known(self, hour_ms: int, *, at_ms: int) -> float | None:
        """Return the price of the hour that begins at `hour_ms` if it had been published by `at_ms`."""
        index = (hour_ms - self.first_hour_ms) // MS_PER_HOUR
        if not 0 <= index < len(self.usd_per_mwh) or self.published_ms[index] > at_ms:
            return None
        return self.usd_per_mwh[index]


def hour_of(at_ms: int) -> int:
    """Return the start of the hour that an event time lies in."""
    return at_ms // MS_PER_HOUR * MS_PER_HOUR


def not_taken(known: DayAhead | None, price: MarketPrice) -> str | None:
    """Say why a day-ahead price tells nothing, or return None when it does.

    It is `not_hourly` unless it is for one whole hour, which its instrument names; `late` when the hour was over an
    hour before or a newer price of it is known; `too_early` beyond the hours kept; a `duplicate` when one of the same
    time is known for the hour.
    """
    start_ms, market = price.interval_start_ms, market_of(price)
    if (
        price.interval_ms != MS_PER_HOUR
        or start_ms % MS_PER_HOUR
        or price.instrument != day_ahead_instrument(market, start_ms)
    ):
        return "not_hourly"
    first_ms = _first_hour_ms(known, price)
    if start_ms < first_ms:
        return "late"
    if start_ms >= first_ms + HOURS_MAX * MS_PER_HOUR:
        return "too_early"
    if known is None or known.market != market:
        return None
    index = (start_ms - known.first_hour_ms) // MS_PER_HOUR
    if index >= len(known.usd_per_mwh) or known.published_ms[index] < price.observed_at_ms:
        return None
    return "duplicate" if known.published_ms[index] == price.observed_at_ms else "late"


def taken(known: DayAhead | None, price: MarketPrice) -> DayAhead:
    """Return what is known with a price for which `not_taken` has no reason; hours long over are dropped."""
    first_ms, market = _first_hour_ms(known, price), market_of(price)
    prices: list[float | None] = []
    published: list[int] = []
    if known is not None and known.market == market:
        over = (first_ms - known.first_hour_ms) // MS_PER_HOUR
        prices, published = list(known.usd_per_mwh[over:]), list(known.published_ms[over:])
    index = (price.interval_start_ms - first_ms) // MS_PER_HOUR
    missing = index + 1 - len(prices)
    prices += [None] * missing
    published += [0] * missing
    prices[index], published[index] = price.value, price.observed_at_ms
    return DayAhead(market=market, first_hour_ms=first_ms, usd_per_mwh=tuple(prices), published_ms=tuple(published))


def market_of(price: MarketPrice) -> str:
    """Return the energy market of a day-ahead price: its instrument without the hour."""
    return price.instrument.rpartition("/")[0]


def _first_hour_ms(known: DayAhead | None, price: MarketPrice) -> int:
    """Return the first hour worth keeping: the one before now, whose last real-time price may be yet to come."""
    first_ms = hour_of(price.observed_at_ms) - MS_PER_HOUR
    if known is None or known.market != market_of(price):
        return first_ms
    return max(first_ms, known.first_hour_ms)
