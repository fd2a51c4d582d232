"""The profit ledger: event time, fixed choices beside it, switch costs taken off."""

from dataclasses import replace

import pytest

from hcp.model.devices import DeviceMode
from hcp.model.units import USD_MICROS_PER_USD
from streams.policies import policy_named
from streams.profit import Counts, ProfitLedger, ProfitSummary
from tests.unit.streams.world import ASICS, DEMO_FLEET, GPUS, MINUTE_MS, START_MS, Plane, an_energy_price

TICK_MS, QUARTER_MS, HOUR_MS = 5 * MINUTE_MS, 15 * MINUTE_MS, 60 * MINUTE_MS
INITIAL = {"s21": {DeviceMode.MINING: 12}, "h100": {DeviceMode.AI_INFERENCE: 8}}


def counts_of(plane: Plane) -> dict[str, dict[DeviceMode, int]]:
    """Count the books by class and mode."""
    counts: dict[str, dict[DeviceMode, int]] = {}
    for shard in plane.shards.values():
        by_mode = counts.setdefault(shard.device_class, {})
        for mode in shard.modes:
            by_mode[mode] = by_mode.get(mode, 0) + 1
    return counts


def settle(
    plane: Plane, ledger: ProfitLedger, value: float, *, at_ms: int, interval_ms: int, counts: Counts | None = None
) -> None:
    """Publish the price of the interval that ends at `at_ms`, and settle it with the devices as they were before."""
    plane.wall_ms += 10_000
    plane.see_devices(at_ms=at_ms)
    worked = counts_of(plane) if counts is None else counts
    plane.take(replace(an_energy_price(value, at_ms=at_ms), interval_ms=interval_ms))
    ledger.add(plane.recommendations[-1], worked)


def run(policy: str, prices: list[float]) -> ProfitSummary:
    """Let a policy trade a series of five-minute prices and return its profit."""
    plane, ledger = begun(policy)
    for tick, value in enumerate(prices, start=1):
        settle(plane, ledger, value, at_ms=START_MS + tick * TICK_MS, interval_ms=TICK_MS)
    return ledger.summary()


def begun(policy: str = "never") -> tuple[Plane, ProfitLedger]:
    """Return a site with devices and prices, and an empty ledger."""
    plane = Plane(policy=policy_named(policy))
    plane.see_devices()
    plane.see_prices()
    return plane, ProfitLedger(fleet=DEMO_FLEET)


def test_an_hour_earns_what_the_scores_say() -> None:
    """Twelve S21s at 0.28418 and eight H100s at 1.4 - 0.0235950 - 0.02 USD/h make 14.261 USD."""
    plane, ledger = begun()
    settle(plane, ledger, 30.0, at_ms=START_MS + HOUR_MS, interval_ms=HOUR_MS)
    summary = ledger.summary()
    assert summary.realised_usd == pytest.approx(12 * 0.284182 + 8 * (1.4 - 0.023595 - 0.02), abs=1e-3)
    assert summary.realised_usd_micros == summary.never_switch_usd_micros
    assert summary.covered_ms == HOUR_MS


def test_a_price_is_that_of_the_interval_it_ends() -> None:
    """A quarter of an hour at 500 USD/MWh costs what was drawn in it, whatever the price before and after."""
    plane, ledger = begun()
    for tick, value in enumerate([30.0, 500.0, 30.0], start=1):
        settle(plane, ledger, value, at_ms=START_MS + tick * QUARTER_MS, interval_ms=QUARTER_MS)
    asics_usd_per_hour = [0.39968 - 3.5 * 1.1 * value / 1_000 for value in (30.0, 500.0, 30.0)]
    gpus_usd_per_hour = [1.38 - 0.715 * 1.1 * value / 1_000 for value in (30.0, 500.0, 30.0)]
    expected = (12 * sum(asics_usd_per_hour) + 8 * sum(gpus_usd_per_hour)) / 4
    assert ledger.summary().realised_usd == pytest.approx(expected, abs=1e-3)


def test_a_switch_counts_for_the_interval_after_the_price_it_was_decided_on() -> None:
    """Miners that sleep at the first 500 USD/MWh have paid for that interval, and not for the next."""
    first, second = run("threshold", [500.0]), run("threshold", [500.0, 500.0])
    mined = 12 * (0.39968 - 3.5 * 1.1 * 0.5) / 12
    assert first.switch_count == 0
    assert first.realised_usd == pytest.approx(mined + 8 * (1.38 - 0.715 * 1.1 * 0.5) / 12, abs=1e-3)
    assert second.switch_count == 12
    assert second.realised_usd > first.realised_usd + mined


def test_the_same_price_settles_once_and_gaps_and_instants_nothing() -> None:
    """Later recommendations of the same energy price, what overlaps and what no price is for add no time."""
    plane, ledger = begun()
    settle(plane, ledger, 30.0, at_ms=START_MS + HOUR_MS, interval_ms=0)
    assert ledger.summary().covered_ms == 0
    settle(plane, ledger, 30.0, at_ms=START_MS + 2 * HOUR_MS, interval_ms=QUARTER_MS)
    ledger.add(plane.recommendations[-1], INITIAL)
    assert ledger.summary().covered_ms == QUARTER_MS
    settle(plane, ledger, 30.0, at_ms=START_MS + 2 * HOUR_MS + TICK_MS, interval_ms=QUARTER_MS)
    assert ledger.summary().covered_ms == QUARTER_MS + TICK_MS
    settle(plane, ledger, 30.0, at_ms=START_MS + 9 * HOUR_MS, interval_ms=QUARTER_MS)
    assert ledger.summary().covered_ms == 2 * QUARTER_MS + TICK_MS


def test_switches_are_charged_once_for_each_device() -> None:
    """Twelve S21s going to sleep lose five seconds of revenue and 0.001 USD each."""
    plane, ledger = begun()
    asleep = {**INITIAL, "s21": {DeviceMode.SLEEP: 12}}
    for tick in (1, 2, 3):
        settle(plane, ledger, 30.0, at_ms=START_MS + tick * TICK_MS, interval_ms=TICK_MS, counts=asleep)
    summary = ledger.summary()
    expected = 12 * (0.39968 * 5 / 3_600 + 0.001)
    assert summary.switch_cost_usd_micros / USD_MICROS_PER_USD == pytest.approx(expected, abs=1e-4)
    assert summary.switch_count == 12
    earned = (12 * -0.000825 + 8 * (1.4 - 0.023595 - 0.02)) / 4
    assert summary.realised_usd == pytest.approx(earned - expected, abs=1e-4)


def test_never_switching_realises_exactly_its_baseline() -> None:
    """The ledger and the policy agree on what "never" is."""
    summary = run("never", [30.0, 500.0, 30.0])
    assert summary.realised_usd_micros == summary.never_switch_usd_micros
    assert summary.switch_count == 0


def test_spikes_pay_the_threshold_policy() -> None:
    """Hours of 400 USD/MWh between hours of 25: asleep in the one, at work in the other, both baselines beaten."""
    summary = run("threshold", ([25.0] * 24 + [400.0] * 12) * 4)
    assert summary.realised_usd_micros > summary.never_switch_usd_micros
    assert summary.realised_usd_micros > summary.always_mine_usd_micros


def test_the_threshold_policy_switches_less_than_greedy_and_earns_no_less() -> None:
    """A price that jitters around the break-even of 104.6 USD/MWh makes greedy flap."""
    jitter = [98.0, 111.0, 101.0, 109.0, 97.0, 112.0] * 20
    greedy, threshold = run("greedy", jitter), run("threshold", jitter)
    assert threshold.switch_count * 2 <= greedy.switch_count
    assert threshold.realised_usd_micros >= greedy.realised_usd_micros


def test_the_books_hold_every_device() -> None:
    """The site's shards are the demo fleet's."""
    plane = Plane(policy=policy_named("never"))
    plane.see_devices()
    assert set(plane.shards) == {ASICS, GPUS}
    assert counts_of(plane) == INITIAL
