"""A seeded synthetic market of any length: energy with spikes and negative nights, day-ahead too, BTC, difficulty."""

import math
import random
from collections.abc import Iterator
from heapq import merge
from typing import Final

from hcp.market_data.replay import Market, point_order
from hcp.market_data.series import BTC_INSTRUMENT, DIFFICULTY_INSTRUMENT, Point
from hcp.model.facilities import Fleet
from hcp.model.markets import PriceSeries, day_ahead_instrument
from hcp.model.units import MS_PER_DAY, MS_PER_HOUR, MS_PER_MINUTE

STEP_MS: Final = 15 * MS_PER_MINUTE
EPOCH_MS: Final = 14 * 24 * MS_PER_HOUR
BTC_START_USD: Final = 26_000.0
BTC_LIMITS_USD: Final = (1_000.0, 1_000_000.0)
BTC_LOG_STEP: Final = 0.005
DIFFICULTY_START: Final = 52_391_178_981_379.36
"""Of the epoch that began 2023-08-09."""
_MEAN_USD_PER_MWH: Final = 32.0
_REVERSION: Final = 0.08
_NOISE_USD_PER_MWH: Final = 4.0
_DAY_USD_PER_MWH: Final = 18.0
_WINDY_RATIO: Final = 0.35
_WIND_USD_PER_MWH: Final = 55.0
_SPIKE_RATIO: Final = 0.006
_SPIKE_END_RATIO: Final = 0.25
_SPIKE_USD_PER_MWH: Final = (250.0, 4_500.0)
_LIMITS_USD_PER_MWH: Final = (-250.0, 5_000.0)
_NIGHT_HOURS_UTC: Final = range(5, 12)
_PEAK_HOUR_UTC: Final = 22
_PUBLISHED_MS: Final = 18 * MS_PER_HOUR + 30 * MS_PER_MINUTE
"""Into the day before delivery: 13:30 in Texas in summer."""


def synthetic_market(*, seed: int, fleet: Fleet, start_ms: int) -> Market:
    """Make a synthetic market that begins at `start_ms` and never ends."""

    def points_from(hub: str, from_ms: int, until_ms: float) -> Iterator[Point]:
        if hub:
            return merge(
                day_ahead_points(hub, seed=seed, from_ms=from_ms, until_ms=until_ms),
                energy_points(hub, seed=seed, from_ms=from_ms, until_ms=until_ms),
                key=point_order,
            )
        return merge(
            btc_points(seed=seed, from_ms=from_ms, until_ms=until_ms),
            difficulty_points(seed=seed, from_ms=from_ms, until_ms=until_ms),
            key=point_order,
        )

    return Market(
        fleet=fleet,
        facilities=fleet.facilities,
        skipped=(),
        lacking=(),
        recorded=frozenset({PriceSeries.BTC, PriceSeries.DIFFICULTY}),
        start_ms=start_ms,
        end_ms=float("inf"),
        demand_seed=seed,
        points_from=points_from,
    )


def energy_points(market: str, *, seed: int, from_ms: int, until_ms: float) -> Iterator[Point]:
    """Yield real-time prices of one hub every 15 minutes, each known at the end of its interval."""
    draw = random.Random(f"{seed}/energy/{market}")
    start_ms = from_ms // STEP_MS * STEP_MS - STEP_MS
    level, spike = 0.0, 0.0
    while start_ms + STEP_MS <= until_ms:
        level += -_REVERSION * level + draw.gauss(0.0, _NOISE_USD_PER_MWH)
        if spike > 0.0:
            spike = 0.0 if draw.random() < _SPIKE_END_RATIO else spike
        elif draw.random() < _SPIKE_RATIO:
            low, high = _SPIKE_USD_PER_MWH
            spike = low * (high / low) ** draw.random()
        value = level + spike + _expected(market, seed=seed, at_ms=start_ms)
        yield Point(
            observed_at_ms=start_ms + STEP_MS,
            series=PriceSeries.ENERGY_REAL_TIME,
            instrument=market,
            value=round(min(max(value, _LIMITS_USD_PER_MWH[0]), _LIMITS_USD_PER_MWH[1]), 2),
            interval_start_ms=start_ms,
            interval_ms=STEP_MS,
            source=f"synthetic:seed={seed}",
        )
        start_ms += STEP_MS


def day_ahead_points(market: str, *, seed: int, from_ms: int, until_ms: float) -> Iterator[Point]:
    """Yield the day-ahead prices of one hub, a UTC day at once in the afternoon before: expected, without spikes."""
    day_ms = from_ms // MS_PER_DAY * MS_PER_DAY
    while (published_ms := day_ms - MS_PER_DAY + _PUBLISHED_MS) <= until_ms:
        for start_ms in range(day_ms, day_ms + MS_PER_DAY, MS_PER_HOUR):
            draw = random.Random(f"{seed}/day-ahead/{market}/{start_ms}")
            value = _expected(market, seed=seed, at_ms=start_ms) + draw.gauss(0.0, _NOISE_USD_PER_MWH)
            yield Point(
                observed_at_ms=published_ms,
                series=PriceSeries.ENERGY_DAY_AHEAD,
                instrument=day_ahead_instrument(market, start_ms),
                value=round(value, 2),
                interval_start_ms=start_ms,
                interval_ms=MS_PER_HOUR,
                source=f"synthetic:seed={seed}",
            )
        day_ms += MS_PER_DAY


def btc_points(*, seed: int, from_ms: int, until_ms: float) -> Iterator[Point]:
    """Yield hourly closes of a geometric random walk, each known at its close."""
    draw = random.Random(f"{seed}/btc")
    start_ms = from_ms // MS_PER_HOUR * MS_PER_HOUR - MS_PER_HOUR
    value = BTC_START_USD
    while start_ms + MS_PER_HOUR <= until_ms:
        value *= math.exp(draw.gauss(0.0, BTC_LOG_STEP))
        value = min(max(value, BTC_LIMITS_USD[0]), BTC_LIMITS_USD[1])
        yield Point(
            observed_at_ms=start_ms + MS_PER_HOUR,
            series=PriceSeries.BTC,
            instrument=BTC_INSTRUMENT,
            value=round(value, 2),
            interval_start_ms=start_ms,
            interval_ms=MS_PER_HOUR,
            source=f"synthetic:seed={seed}",
        )
        start_ms += MS_PER_HOUR


def difficulty_points(*, seed: int, from_ms: int, until_ms: float) -> Iterator[Point]:
    """Yield the difficulty of every fortnight, known at its start."""
    draw = random.Random(f"{seed}/difficulty")
    at_ms = from_ms // EPOCH_MS * EPOCH_MS
    value = DIFFICULTY_START
    while at_ms <= until_ms:
        yield Point(
            observed_at_ms=at_ms,
            series=PriceSeries.DIFFICULTY,
            instrument=DIFFICULTY_INSTRUMENT,
            value=value,
            interval_start_ms=at_ms,
            interval_ms=0,
            source=f"synthetic:seed={seed}",
        )
        value = min(max(value * math.exp(draw.gauss(0.01, 0.03)), 1.0), 1e17)
        at_ms += EPOCH_MS


def _expected(market: str, *, seed: int, at_ms: int) -> float:
    """Return the price that hour and wind make likely: dear evenings, negative nights when it blows."""
    hour = at_ms // MS_PER_HOUR
    day, hour_of_day = divmod(hour, 24)
    curve = _DAY_USD_PER_MWH * math.cos((hour_of_day - _PEAK_HOUR_UTC) / 24.0 * 2.0 * math.pi)
    is_windy = random.Random(f"{seed}/wind/{market}/{day}").random() < _WINDY_RATIO
    wind = _WIND_USD_PER_MWH if is_windy and hour_of_day in _NIGHT_HOURS_UTC else 0.0
    return _MEAN_USD_PER_MWH + curve - wind
