"""What one site knows of its prices: the latest of every series, and how much each has lately moved."""

import math
from dataclasses import dataclass, replace
from typing import Final

from hcp.model.markets import MarketPrice, PriceSeries
from hcp.model.units import MS_PER_HOUR, MS_PER_MINUTE
from streams import day_ahead
from streams.day_ahead import DayAhead
from streams.plausibility import LASTING_MS, doubt_about

QUOTES_MAX: Final = 128
"""Series and instruments kept for a site; beyond it the longest silent one goes."""
VARIANCE_MAX: Final = 1e12
_CHANGE_MS_MIN: Final = MS_PER_MINUTE
"""Two prices closer than this count as this far apart, so that no variance explodes."""
_MEMORY_HOURS: Final = 24.0
"""Time constant of the moving variance: yesterday weighs a third of now."""
LOG_SERIES: Final = frozenset(
    {PriceSeries.BTC, PriceSeries.DIFFICULTY, PriceSeries.GPU_RENTAL, PriceSeries.GPU_HASH_PRICE}
)
"""Their changes are log returns; energy's are in asinh(price / scale), those of the others plain differences."""
ENERGY_SERIES: Final = frozenset({PriceSeries.ENERGY_REAL_TIME, PriceSeries.ENERGY_DAY_AHEAD})
ENERGY_SCALE_USD_PER_MWH: Final = 50.0
"""A usual price: below it changes count about linearly, above it as ratios, of either sign.

So a spike to 5,000 does not pass for volatility at 30 a day later. The transformation is Uniejewski, Weron and Ziel's
("Variance stabilizing transformations for electricity spot price forecasting", IEEE Trans. Power Syst. 33, 2018).
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """The latest price of one instrument.

    Attributes:
        series: What is priced.
        instrument: Which of it.
        value: In the series' unit.
        observed_at_ms: Event time.
        interval_ms: Length of the interval it is for; 0 for an instant.
        variance_per_hour: Moving variance of its changes, scaled to an hour; squared log returns for `LOG_SERIES`,
            squared asinh for energy, squared units otherwise. None until two prices have been seen.
    """

    series: PriceSeries
    instrument: str
    value: float
    observed_at_ms: int
    interval_ms: int = 0
    variance_per_hour: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """An instrument whose latest price is not believed.

    Attributes:
        series: What is priced.
        instrument: Which of it.
        words: What the price must be and was.
        since_ms: Event time of the first price not believed in a row.
    """

    series: PriceSeries
    instrument: str
    words: str
    since_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketState:
    """All quotes of one site, sorted by series and instrument, and what is not believed."""

    facility_id: str
    quotes: tuple[Quote, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    day_ahead: DayAhead | None = None

    @property
    def observed_at_ms(self) -> int:
        """Return the event time of the newest price; 0 before the first."""
        return max([quote.observed_at_ms for quote in self.quotes], default=0)

    def quote(self, series: PriceSeries, instrument: str) -> Quote | None:
        """Return the quote of exactly this instrument."""
        for quote in self.quotes:
            if quote.series is series and quote.instrument == instrument:
                return quote
        return None

    def latest(self, series: PriceSeries) -> Quote | None:
        """Return the newest quote of a global series, whatever its feed calls the instrument."""
        known = [quote for quote in self.quotes if quote.series is series]
        return max(known, key=lambda quote: (quote.observed_at_ms, quote.instrument), default=None)


def energy_stretch_usd_per_mwh(price_usd_per_mwh: float) -> float:
    """Return d price / d asinh(price / scale): what one unit of energy's variance means at this price."""
    return math.hypot(price_usd_per_mwh, ENERGY_SCALE_USD_PER_MWH)


def apply_price(state: MarketState | None, price: MarketPrice) -> tuple[MarketState, str | None]:
    """Take in one price; return the new state and why the price was ignored, or None.

    A price older than the latest of its instrument is `late`, one of the same time a `duplicate`. One that is not
    believed leaves the quotes as they are and a doubt. A day-ahead price is no quote: `streams.day_ahead` keeps it.
    """
    state = state or MarketState(facility_id=price.facility_id)
    if price.series is PriceSeries.ENERGY_DAY_AHEAD:
        return _apply_day_ahead(state, price)
    known = state.quote(price.series, price.instrument)
    if known is not None and price.observed_at_ms < known.observed_at_ms:
        return state, "late"
    if known is not None and price.observed_at_ms == known.observed_at_ms:
        return state, "duplicate"
    doubt = _doubt(state, known, price)
    doubts = tuple(other for other in state.doubts if not is_about(other, price)) if state.doubts else ()
    if doubt is not None:
        return replace(state, doubts=(*doubts, doubt)), None
    quote = Quote(
        series=price.series,
        instrument=price.instrument,
        value=price.value,
        observed_at_ms=price.observed_at_ms,
        interval_ms=price.interval_ms,
        variance_per_hour=None if known is None else _variance(known, price),
    )
    return MarketState(
        facility_id=state.facility_id,
        quotes=_with(state.quotes, quote, known),
        doubts=doubts,
        day_ahead=state.day_ahead,
    ), None


def _apply_day_ahead(state: MarketState, price: MarketPrice) -> tuple[MarketState, str | None]:
    """Take in an hour's day-ahead price; one not believed leaves its hour as it was, and a doubt about its market."""
    ignored = day_ahead.not_taken(state.day_ahead, price)
    if ignored is not None:
        return state, ignored
    doubt = _doubt(state, None, price)
    doubts = tuple(other for other in state.doubts if not is_about(other, price)) if state.doubts else ()
    if doubt is not None:
        return replace(state, doubts=(*doubts, doubt)), None
    return replace(state, doubts=doubts, day_ahead=day_ahead.taken(state.day_ahead, price)), None


def _with(quotes: tuple[Quote, ...], quote: Quote, known: Quote | None) -> tuple[Quote, ...]:
    """Return the quotes with a new one, in the place of the known one of its instrument if there is one."""
    if known is not None:
        return tuple([quote if other is known else other for other in quotes])
    others = list(quotes)
    if len(others) >= QUOTES_MAX:
        others.remove(min(others, key=lambda other: (other.observed_at_ms, other.series, other.instrument)))
    return tuple(sorted([*others, quote], key=lambda other: (other.series, other.instrument)))


def _doubt(state: MarketState, known: Quote | None, price: MarketPrice) -> Doubt | None:
    """Return why a price is not believed, or None when it is: at once, or because the doubt has lasted."""
    words = doubt_about(
        price,
        last=None if known is None else known.value,
        last_at_ms=0 if known is None else known.observed_at_ms,
    )
    if not words:
        return None
    since_ms = next((other.since_ms for other in state.doubts if is_about(other, price)), price.observed_at_ms)
    if price.series not in ENERGY_SERIES and price.observed_at_ms - since_ms > LASTING_MS:
        return None
    return Doubt(series=price.series, instrument=_subject(price), words=words, since_ms=since_ms)


def is_about(doubt: Doubt, price: MarketPrice) -> bool:
    """Say whether a doubt is about what a price prices."""
    return doubt.series is price.series and doubt.instrument == _subject(price)


def _subject(price: MarketPrice) -> str:
    """Return whose prices are in doubt: a day-ahead price's market, not its hour, so that doubts stay few."""
    return day_ahead.market_of(price) if price.series is PriceSeries.ENERGY_DAY_AHEAD else price.instrument


def _variance(known: Quote, price: MarketPrice) -> float | None:
    """Move the variance per hour towards the square of this change, by the share of the memory that has passed."""
    if price.series in ENERGY_SERIES:
        change = math.asinh(price.value / ENERGY_SCALE_USD_PER_MWH) - math.asinh(known.value / ENERGY_SCALE_USD_PER_MWH)
    elif price.series not in LOG_SERIES:
        change = price.value - known.value
    elif known.value > 0.0 and price.value > 0.0:
        change = math.log(price.value / known.value)
    else:
        return known.variance_per_hour
    passed_hours = max(price.observed_at_ms - known.observed_at_ms, _CHANGE_MS_MIN) / MS_PER_HOUR
    sample = min(change * change / passed_hours, VARIANCE_MAX)
    if known.variance_per_hour is None:
        return sample
    share = -math.expm1(-passed_hours / _MEMORY_HOURS)
    return known.variance_per_hour + share * (sample - known.variance_per_hour)
