"""Legs of the market without a recording for 2023: GPU rental, GPU hash price, inference demand, fees; all seeded.

Every value is a function of seed and hour alone, so a replay may begin anywhere and agree with the one before.
"""

import math
import random
from collections.abc import Iterator
from typing import Final

from hcp.market_data.series import DIFFICULTY_INSTRUMENT, Point
from hcp.model.devices import DeviceKind
from hcp.model.facilities import Facility, Fleet
from hcp.model.markets import PriceSeries
from hcp.model.units import MS_PER_HOUR

DAY_MS: Final = 24 * MS_PER_HOUR
DEMAND_SEED: Final = 7

RENTAL_USD_PER_GPU_HOUR: Final = {"h100": 2.69, "a100": 1.39, "l40s": 0.79}
"""runpod, kind community, models h100-sxm, a100-sxm-80, l40s on 2026-07-05.

GPU rental price data by gpurentalprices.com, CC BY 4.0.
"""
RENTAL_SOURCE: Final = "price_list:gpurentalprices.com-2026-07-05-cc-by-4.0"
RENTAL_DEFAULT_USD_PER_GPU_HOUR: Final = 1.0
"""For a class the list does not have; its source is then `synthetic:`."""

KAWPOW: Final = "kawpow"
KAWPOW_USD_PER_MH_HOUR: Final = 0.0004
"""Assumed, at `KAWPOW_BTC_USD`: about 0.01 USD per MH/s and day, the order of mid 2023; no recording was found."""
KAWPOW_BTC_USD: Final = 26_000.0
HASH_PRICE_SOURCE: Final = "synthetic:kawpow-follows-btc"

BLOCK_FEES_BTC: Final = 0.2
"""Assumed mean of fees per block in August 2023 (the order of a fifth of a bitcoin); no recorded series was found."""
FEES_SOURCE: Final = "synthetic:mean-fees-2023-08"
SUBSIDY_SOURCE: Final = "recorded:bitcoin-halving-schedule"
_HALVINGS: Final = (
    (1_713_571_767_000, 3.125),  # block 840,000, 2024-04-20T00:09:27Z
    (1_589_225_023_000, 6.25),  # block 630,000, 2020-05-11T19:23:43Z
    (1_468_082_773_000, 12.5),  # block 420,000, 2016-07-09T16:46:13Z
    (1_354_116_278_000, 25.0),  # block 210,000, 2012-11-28T15:24:38Z
)

_DEMAND_PEAK: Final = {"h100": 0.82, "a100": 0.68, "l40s": 0.55}
_DEMAND_PEAK_DEFAULT: Final = 0.6
_LULL_RATIO: Final = {"h100": 0.30, "a100": 0.55, "l40s": 0.75}
"""Share of night hours in which a class has next to no demand: the smaller the card, the more often."""
_LULL_RATIO_DEFAULT: Final = 0.5
_DAY_LULL_RATIO: Final = 0.03
_NIGHT_HOURS_UTC: Final = range(5, 12)
"""Midnight to seven in Texas (CDT)."""
_PEAK_HOUR_UTC: Final = 20


def subsidy_btc(at_ms: int) -> float:
    """Return what a block was subsidised with at that time."""
    return next((subsidy for since_ms, subsidy in _HALVINGS if at_ms >= since_ms), 50.0)


def constant_points(*, from_ms: int, until_ms: float) -> Iterator[Point]:
    """Yield subsidy and fees once a UTC day, and the subsidy at a halving."""
    halvings = [since_ms for since_ms, _ in _HALVINGS]
    for day_ms in _steps(from_ms, step_ms=DAY_MS, until_ms=until_ms):
        yield _instant(PriceSeries.BLOCK_FEES, DIFFICULTY_INSTRUMENT, BLOCK_FEES_BTC, at_ms=day_ms, source=FEES_SOURCE)
        moments = [
            day_ms,
            *(at for at in sorted(halvings) if day_ms < at < day_ms + DAY_MS and at <= until_ms),
        ]
        for at_ms in moments:
            yield _instant(
                PriceSeries.BLOCK_SUBSIDY,
                DIFFICULTY_INSTRUMENT,
                subsidy_btc(at_ms),
                at_ms=at_ms,
                source=SUBSIDY_SOURCE,
            )


def rental_points(fleet: Fleet, *, from_ms: int, until_ms: float) -> Iterator[Point]:
    """Yield the list price of every GPU class once a UTC day."""
    classes = gpu_classes(fleet)
    for day_ms in _steps(from_ms, step_ms=DAY_MS, until_ms=until_ms):
        for name in classes:
            price = RENTAL_USD_PER_GPU_HOUR.get(name)
            source = RENTAL_SOURCE if price is not None else "synthetic:rental-default"
            value = RENTAL_DEFAULT_USD_PER_GPU_HOUR if price is None else price
            yield _instant(PriceSeries.GPU_RENTAL, name, value, at_ms=day_ms, source=source)


def demand_points(
    facility: Facility, *, classes: tuple[str, ...], seed: int, from_ms: int, until_ms: float
) -> Iterator[Point]:
    """Yield the utilisation that inference demand gives each GPU class of a site, known at the end of its hour."""
    for start_ms in _steps(from_ms - MS_PER_HOUR, step_ms=MS_PER_HOUR, until_ms=until_ms - MS_PER_HOUR):
        for name in classes:
            yield Point(
                observed_at_ms=start_ms + MS_PER_HOUR,
                series=PriceSeries.INFERENCE_UTILISATION,
                instrument=name,
                value=utilisation_ratio(facility.facility_id, name, seed=seed, hour=start_ms // MS_PER_HOUR),
                interval_start_ms=start_ms,
                interval_ms=MS_PER_HOUR,
                source=f"synthetic:seed={seed}",
            )


def utilisation_ratio(facility_id: str, device_class: str, *, seed: int, hour: int) -> float:
    """Return the utilisation of one hour: a day curve with noise, and lulls in which demand is next to nil."""
    draw = random.Random(f"{seed}/{facility_id}/{device_class}/{hour}")  # noqa: S311  # seeded, no cryptography
    hour_of_day = hour % 24
    is_night = hour_of_day in _NIGHT_HOURS_UTC
    lull_ratio = _LULL_RATIO.get(device_class, _LULL_RATIO_DEFAULT) if is_night else _DAY_LULL_RATIO
    if draw.random() < lull_ratio:
        return round(draw.uniform(0.0, 0.012), 4)
    day = 0.5 * (1.0 + math.cos((hour_of_day - _PEAK_HOUR_UTC) / 24.0 * 2.0 * math.pi))
    peak = _DEMAND_PEAK.get(device_class, _DEMAND_PEAK_DEFAULT)
    return round(min(max(peak * (0.15 + 0.85 * day) + draw.gauss(0.0, 0.05), 0.03), 1.0), 4)


def hash_price_point(btc: Point) -> Point:
    """Return the GPU hash price that goes with a BTC price: pools pay in BTC."""
    return Point(
        observed_at_ms=btc.observed_at_ms,
        series=PriceSeries.GPU_HASH_PRICE,
        instrument=KAWPOW,
        value=KAWPOW_USD_PER_MH_HOUR * btc.value / KAWPOW_BTC_USD,
        interval_start_ms=btc.interval_start_ms,
        interval_ms=btc.interval_ms,
        source=HASH_PRICE_SOURCE,
    )


def gpu_classes(fleet: Fleet) -> tuple[str, ...]:
    """Return the GPU classes of the fleet, sorted."""
    return tuple(sorted(each.device_class for each in fleet.device_classes if each.kind is DeviceKind.GPU))


def _steps(from_ms: int, *, step_ms: int, until_ms: float) -> Iterator[int]:
    at_ms = from_ms // step_ms * step_ms
    while at_ms <= until_ms:
        yield at_ms
        at_ms += step_ms


def _instant(series: PriceSeries, instrument: str, value: float, *, at_ms: int, source: str) -> Point:
    return Point(
        observed_at_ms=at_ms,
        series=series,
        instrument=instrument,
        value=value,
        interval_start_ms=at_ms,
        interval_ms=0,
        source=source,
    )
