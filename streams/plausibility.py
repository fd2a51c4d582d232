"""Is a price in range also believable? What is not is held back, said so, and believed once it has lasted a day."""

from typing import Final

from hcp.model.markets import MarketPrice, PriceSeries
from hcp.model.units import MS_PER_DAY

ENERGY_USD_PER_MWH_MIN: Final = -2_000.0
ENERGY_USD_PER_MWH_MAX: Final = 15_000.0
"""Beyond every offer cap in use: 9,000 in ERCOT until 2021, 5,000 since; about 11,500 in Australia's NEM.

SPP printed 43,000 to 55,000 in February 2021, uncorrected scarcity intervals that nobody was settled at.
"""
RATIO_MAX: Final = {
    PriceSeries.BTC: 3.0,
    PriceSeries.GPU_RENTAL: 5.0,
    PriceSeries.GPU_HASH_PRICE: 5.0,
    PriceSeries.DIFFICULTY: 4.0,
}
"""How many times the last value a new one may be, or the other way round; difficulty's is Bitcoin's own rule."""
LASTING_MS: Final = MS_PER_DAY
"""A last value older than this, or a doubt that old, no longer speaks against a new value."""


def doubt_about(price: MarketPrice, *, last: float | None, last_at_ms: int) -> str:
    """Say what a price must be and is, when it is not to be believed; empty when it is.

    Args:
        price: In range of its series.
        last: The value before it that was believed; None when there is none.
        last_at_ms: When that was observed, event time.
    """
    if price.series in {PriceSeries.ENERGY_REAL_TIME, PriceSeries.ENERGY_DAY_AHEAD}:
        if ENERGY_USD_PER_MWH_MIN <= price.value <= ENERGY_USD_PER_MWH_MAX:
            return ""
        limits = f"{ENERGY_USD_PER_MWH_MIN:g} to {ENERGY_USD_PER_MWH_MAX:g}"
        return f"{_name(price)} must be from {limits}, was {price.value:g}"
    ratio = RATIO_MAX.get(price.series)
    if ratio is None or last is None or last <= 0.0:
        return ""
    is_old = price.series is not PriceSeries.DIFFICULTY and price.observed_at_ms - last_at_ms > LASTING_MS
    if is_old or last / ratio <= price.value <= last * ratio:
        return ""
    return f"{_name(price)} must be within {ratio:g} times {last:g} either way, was {price.value:g}"


def _name(price: MarketPrice) -> str:
    return f"{price.series} {price.instrument}"
