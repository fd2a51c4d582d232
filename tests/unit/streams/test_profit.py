"""The profit ledger: event time, fixed choices beside it, switch costs taken off."""

import pytest

from hcp.model.devices import DeviceMode
from hcp.model.units import USD_MICROS_PER_USD
from streams.policies import policy_named
from streams.profit import ProfitLedger, ProfitSummary
from tests.unit.streams.world import ASICS, DEMO_FLEET, GPUS, MINUTE_MS, START_MS, Plane

HOUR_MS = 60 * MINUTE_MS
INITIAL = {"s21": {DeviceMode.MINING: 12}, "h100": {DeviceMode.AI_INFERENCE: 8}}


def counts_of(plane: Plane) -> dict[str, dict[DeviceMode, int]]:
    """Count the books by class and mode."""
    counts: dict[str, dict[DeviceMode, int]] = {}
    for shard in plane.shards.values():
        by_mode = counts.setdefault(shard.device_class, {})
        for mode in shard.modes:
            by_mode[mode] = by_mode.get(mode, 0) + 1
    return counts


def run(policy: str, prices: list[float]) -> ProfitSummary:
    """Let a policy trade a series of five-minute prices and return its profit."""
    plane = Plane(policy=policy_named(policy))
    plane.see_devices()
    plane.see_prices()
    ledger = ProfitLedger(fleet=DEMO_FLEET)
    for tick, value in enumerate(prices, start=1):
        plane.energy(value, at_ms=START_MS + tick * 5 * MINUTE_MS)
        ledger.add(plane.recommendations[-1], counts_of(plane))
    return ledger.summary()


def test_an_hour_earns_what_the_scores_say() -> None:
    """Twelve S21s at 0.28418 and eight H100s at 1.4 - 0.0235950 - 0.02 USD/h make 14.261 USD."""
    plane = Plane(policy=policy_named("never"))
    plane.see_devices()
    plane.see_prices()
    ledger = ProfitLedger(fleet=DEMO_FLEET)
    ledger.add(plane.recommendations[-1], INITIAL)
    plane.energy(30.0, at_ms=START_MS + HOUR_MS)
    ledger.add(plane.recommendations[-1], INITIAL)
    summary = ledger.summary()
    assert summary.realised_usd == pytest.approx(12 * 0.284182 + 8 * (1.4 - 0.023595 - 0.02), abs=1e-3)
    assert summary.realised_usd_micros == summary.never_switch_usd_micros
    assert summary.covered_ms == HOUR_MS


def test_switches_are_charged_once_for_each_device() -> None:
    """Twelve S21s going to sleep lose five seconds of revenue and 0.001 USD each."""
    plane = Plane(policy=policy_named("never"))
    plane.see_devices()
    plane.see_prices()
    ledger = ProfitLedger(fleet=DEMO_FLEET)
    ledger.add(plane.recommendations[-1], INITIAL)
    ledger.add(plane.recommendations[-1], {**INITIAL, "s21": {DeviceMode.SLEEP: 12}})
    summary = ledger.summary()
    expected = 12 * (0.39968 * 5 / 3_600 + 0.001)
    assert summary.switch_cost_usd_micros / USD_MICROS_PER_USD == pytest.approx(expected, abs=1e-4)
    assert summary.switch_count == 12
    assert summary.realised_usd == pytest.approx(-expected, abs=1e-4)


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
