"""Settling by the interval: what counts from when, what a switch costs and when, in figures worked by hand."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from backtest.accounting import entered_interval, ramp_mw_per_minute_max, settle
from backtest.series import ClassSeries, Move
from hcp.model.devices import DeviceMode, ModeProfile
from hcp.model.units import MS_PER_HOUR, DurationMs, Usd, Watts
from streams.economics import SWITCH_COST_USD_MIN

MINING = ModeProfile(
    mode=DeviceMode.MINING,
    power_watts=Watts(3_000.0),
    enter_ms=DurationMs(360_000),
    enter_wear_usd=Usd(0.02),
    enter_reload_usd=Usd(0.01),
)
SLEEP = ModeProfile(
    mode=DeviceMode.SLEEP,
    power_watts=Watts(0.0),
    enter_ms=DurationMs(36_000),
    enter_wear_usd=Usd(0.005),
    enter_reload_usd=Usd(0.0),
)
EARNED = ((1.0, 0.0), (-3.0, 0.0), (2.0, 0.0))
"""USD per device-hour in three hours, mining and asleep."""
DEVICES = 10


def a_series(
    earned: Sequence[tuple[float, float]] = EARNED,
    *,
    starts_h: Sequence[int] | None = None,
    modes: tuple[ModeProfile, ...] = (MINING, SLEEP),
    revenue: float = 1.0,
) -> ClassSeries:
    """Return hourly intervals of ten devices that mine at first; mining's revenue is always `revenue`."""
    starts = np.array(range(len(earned)) if starts_h is None else starts_h, dtype=np.int64) * MS_PER_HOUR
    return ClassSeries(
        facility_id="here",
        device_class="s21",
        modes=modes,
        starts_ms=starts,
        interval_ms=np.full(len(earned), MS_PER_HOUR, dtype=np.int64),
        energy_usd_per_mwh=np.zeros(len(earned)),
        profit_usd_per_hour=np.array(earned, dtype=np.float64),
        revenue_usd_per_hour=np.array([(revenue, 0.0)] * len(earned)),
        power_kw=np.array([mode.power_watts / 1e3 for mode in modes]),
        initial_counts=np.array([float(DEVICES), 0.0]),
    )


def a_move(at_h: float, *, into: DeviceMode = DeviceMode.SLEEP, devices: int = DEVICES) -> Move:
    """Return a move of devices at an hour, out of the other mode."""
    left = DeviceMode.MINING if into is DeviceMode.SLEEP else DeviceMode.SLEEP
    return Move(at_ms=round(at_h * MS_PER_HOUR), from_mode=left, to_mode=into, device_count=devices)


SLEEP_COST_USD = 1.0 * 0.01 + 0.005
"""Mining's revenue lost for 36 s, and the wear."""
MINING_COST_USD = 1.0 * 0.1 + 0.02 + 0.01
"""Mining's revenue lost for 360 s, wear and reload."""


def test_without_moves_every_interval_earns_in_the_initial_mode() -> None:
    """Ten devices mine through all three hours: 10 + -30 + 20."""
    account = settle(a_series(), [])
    assert account.profit_usd.tolist() == [10.0, -30.0, 20.0]
    assert account.counts.tolist() == [[10.0, 0.0]] * 3
    assert (account.switch_count, account.moved_count, account.dwell_ms_min) == (0, 0.0, None)


def test_a_move_at_a_start_counts_from_that_interval_on_and_is_charged_there() -> None:
    """Decided at the end of the first hour: the first is whole, the second slept, the switch paid in the second."""
    account = settle(a_series(), [a_move(1), a_move(2, into=DeviceMode.MINING)])
    assert account.counts.tolist() == [[10.0, 0.0], [0.0, 10.0], [10.0, 0.0]]
    paid = [0.0, DEVICES * SLEEP_COST_USD, DEVICES * MINING_COST_USD]
    assert account.switch_cost_usd.tolist() == pytest.approx(paid)
    assert account.profit_usd.tolist() == pytest.approx([10.0, -paid[1], 20.0 - paid[2]])
    assert (account.switch_count, account.moved_count) == (2, 20.0)


def test_a_switch_is_charged_at_the_revenues_of_the_interval_it_enters() -> None:
    """Mining earns 1, 5, 9 USD an hour: leaving it in the second hour loses 36 s of 5."""
    series = replace(a_series(), revenue_usd_per_hour=np.array([[1.0, 0.0], [5.0, 0.0], [9.0, 0.0]]))
    account = settle(series, [a_move(1), a_move(2, into=DeviceMode.MINING)])
    paid = [0.0, DEVICES * (5.0 * 0.01 + 0.005), DEVICES * (9.0 * 0.1 + 0.02 + 0.01)]
    assert account.switch_cost_usd.tolist() == pytest.approx(paid)


def test_a_move_within_an_interval_is_settled_by_share_of_time() -> None:
    """Six devices leave after a quarter of the second hour: 4 mine on, 6 mined for a quarter."""
    account = settle(a_series(), [a_move(1.25, devices=6)])
    assert account.counts.tolist() == [[10.0, 0.0], [5.5, 4.5], [4.0, 6.0]]
    assert account.profit_usd.tolist() == pytest.approx([10.0, -3.0 * 5.5 - 6 * SLEEP_COST_USD, 2.0 * 4.0])


def test_a_move_after_the_last_interval_is_not_charged() -> None:
    """What is decided on the last price has no interval to act in."""
    account = settle(a_series(), [a_move(3)])
    assert account.profit_usd.tolist() == [10.0, -30.0, 20.0]
    assert (account.switch_count, account.switch_cost_usd.sum(), account.moved_count) == (0, 0.0, 0.0)


def test_a_move_in_a_gap_enters_the_next_interval_whole() -> None:
    """Hours 1 to 4 have no price: a move at 2:30 acts from hour 5 on, in full."""
    series = a_series(starts_h=(0, 5, 6))
    account = settle(series, [a_move(2.5)])
    assert account.counts.tolist() == [[10.0, 0.0], [0.0, 10.0], [0.0, 10.0]]
    at_ms = np.array([-1, 0, MS_PER_HOUR, 5 * MS_PER_HOUR, 7 * MS_PER_HOUR], dtype=np.int64)
    assert entered_interval(series, at_ms).tolist() == [0, 0, 1, 1, 3]


def test_a_move_before_the_first_interval_is_charged_in_it() -> None:
    """Devices that moved while prices only informed begin the first interval in their new mode."""
    account = settle(a_series(), [a_move(-2)])
    assert account.counts[0].tolist() == [0.0, 10.0]
    assert account.profit_usd[0] == pytest.approx(-DEVICES * SLEEP_COST_USD)


def test_a_switch_is_never_free() -> None:
    """Nothing earned, no wear: the floor of `streams.economics` is charged."""
    bare = ModeProfile(
        mode=DeviceMode.SLEEP,
        power_watts=Watts(0.0),
        enter_ms=DurationMs(0),
        enter_wear_usd=Usd(0.0),
        enter_reload_usd=Usd(0.0),
    )
    account = settle(a_series(modes=(MINING, bare), revenue=0.0), [a_move(1)])
    assert account.switch_cost_usd.tolist() == [0.0, DEVICES * SWITCH_COST_USD_MIN, 0.0]


def test_the_shortest_stay_between_two_switches_is_the_dwell() -> None:
    """Asleep for 1.5 h, then mining for 0.5 h: the shorter one; the stay in the initial mode does not count."""
    moves = [a_move(0.25), a_move(1.75, into=DeviceMode.MINING)]
    assert settle(a_series(), moves).dwell_ms_min == round(1.5 * MS_PER_HOUR)
    assert settle(a_series(), [*moves, a_move(2.25)]).dwell_ms_min == round(0.5 * MS_PER_HOUR)


def test_ramp_adds_up_what_a_site_moves_within_a_minute() -> None:
    """Two classes that move 30 and 12 kW down in one minute ramp by 42 kW; a minute later they would not."""
    series = [a_series(), a_series()]
    at_once = [[a_move(1)], [a_move(1, devices=4)]]
    assert ramp_mw_per_minute_max(series, at_once) == pytest.approx(0.042)
    apart = [[a_move(1)], [a_move(1 + 1 / 60, devices=4)]]
    assert ramp_mw_per_minute_max(series, apart) == pytest.approx(0.030)
    assert ramp_mw_per_minute_max(series, [[], []]) == 0.0


def test_opposite_moves_of_a_minute_cancel_in_the_ramp() -> None:
    """What one class sheds and the other takes up within the minute is no change of the site's draw."""
    asleep = a_move(1)
    awake = a_move(1, into=DeviceMode.MINING)
    assert ramp_mw_per_minute_max([a_series(), a_series()], [[asleep], [awake]]) == 0.0
