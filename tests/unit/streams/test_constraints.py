"""One layer of constraints over any policy: each holds, says so, and lets power go down at once."""

from dataclasses import replace

import pytest

from hcp.model.commands import DecisionAction, DecisionReason, OrchestratorCommand
from hcp.model.devices import DeviceMode
from hcp.model.facilities import Constraints, Fleet
from hcp.model.ledger import Alert, AlertType
from hcp.model.markets import PriceSeries
from streams.policies import policy_named
from streams.site import Bucket
from tests.unit.streams.world import (
    ASICS,
    DEMO_FLEET,
    GPUS,
    MINUTE_MS,
    SITE,
    START_MS,
    Plane,
    a_price,
)

HOUR_MS = 60 * MINUTE_MS
TICK_MS = 5 * MINUTE_MS
DEAR, CHEAP = 500.0, 30.0
ASIC_KW, REST_KW = 3.5 * 1.1, 0.025 * 1.1
"""Site draw of an S21 mining and asleep, at tx-south's PUE."""


def a_fleet(
    *, constraints: Constraints | None = None, power_cap_mw: float = 75.0, ramp_mw_per_minute: float = 15.0
) -> Fleet:
    """Return the demo fleet with other limits at the site."""
    sites = tuple(
        replace(
            site,
            constraints=constraints or Constraints(),
            power_cap_mw=power_cap_mw,
            ramp_mw_per_minute=ramp_mw_per_minute,
        )
        if site.facility_id == SITE
        else site
        for site in DEMO_FLEET.facilities
    )
    return replace(DEMO_FLEET, facilities=sites)


def a_plane(policy: str = "greedy", *, fleet: Fleet = DEMO_FLEET) -> Plane:
    """Return a site with all prices and devices known, at 30 USD/MWh."""
    plane = Plane(policy=policy_named(policy), fleet=fleet)
    plane.see_devices()
    plane.see_prices()
    return plane


def asic_decisions(plane: Plane) -> list[OrchestratorCommand]:
    """Return what was decided for the ASICs, in order."""
    return [decision for decision in plane.decisions if decision.device_class == "s21"]


def asics_in(plane: Plane, mode: DeviceMode) -> int:
    """Count the ASICs in a mode."""
    return plane.shards[ASICS].modes.count(mode)


def btc_at(plane: Plane, *, at_ms: int) -> None:
    """Let time pass by a BTC price, telemetry fresh."""
    plane.wall_ms += 10_000
    plane.see_devices(at_ms=at_ms)
    plane.take(a_price(PriceSeries.BTC, "BTC-USD", 60_000.0, at_ms=at_ms))


def test_without_energy_prices_a_site_holds_and_then_rests() -> None:
    """A hold must not last for ever: after six hours devices go to the mode that draws least; a price wakes them."""
    plane = a_plane()
    btc_at(plane, at_ms=START_MS + 3 * HOUR_MS)
    assert asic_decisions(plane)[-1].reason is DecisionReason.PRICE_STALE
    assert plane.modes() == {DeviceMode.MINING}
    btc_at(plane, at_ms=START_MS + 6 * HOUR_MS + 1)
    last = asic_decisions(plane)[-1]
    assert (last.action, last.reason) == (DecisionAction.SWITCH, DecisionReason.SAFE_STATE)
    assert plane.modes() == {DeviceMode.SLEEP}
    assert plane.modes(GPUS) == {DeviceMode.IDLE}
    plane.energy(CHEAP, at_ms=START_MS + 7 * HOUR_MS)
    assert plane.modes() == {DeviceMode.MINING}
    assert plane.modes(GPUS) == {DeviceMode.AI_INFERENCE}


def test_a_price_nobody_believes_holds_every_class_and_says_so() -> None:
    """50,000 USD/MWh is in range and in no market's rules; the next sound price is acted on."""
    plane = a_plane()
    plane.energy(50_000.0, at_ms=START_MS + TICK_MS)
    plane.energy(50_000.0, at_ms=START_MS + 2 * TICK_MS)
    assert asic_decisions(plane)[-1].reason is DecisionReason.PRICE_IMPLAUSIBLE
    assert plane.modes() == {DeviceMode.MINING}
    alerts = [record for record in plane.records if isinstance(record, Alert)]
    assert [alert.alert_type for alert in alerts] == [AlertType.PRICE_IMPLAUSIBLE]
    assert "must be from -2000 to 15000, was 50000" in alerts[0].message
    assert "was 50000" in plane.recommendations[-1].market.implausible
    plane.energy(DEAR, at_ms=START_MS + 3 * TICK_MS)
    assert plane.modes() == {DeviceMode.SLEEP}
    assert not plane.recommendations[-1].market.implausible


def test_a_new_level_is_believed_once_it_has_lasted_a_day() -> None:
    """A wrong first difficulty must not keep the right ones out for ever."""
    plane = a_plane()
    for hour in (1, 12, 24):
        plane.take(a_price(PriceSeries.DIFFICULTY, "BTC", 800e12, at_ms=START_MS + hour * HOUR_MS))
        assert plane.recommendations[-1].market.difficulty == 80e12
        assert plane.recommendations[-1].market.implausible
    plane.take(a_price(PriceSeries.DIFFICULTY, "BTC", 800e12, at_ms=START_MS + 26 * HOUR_MS))
    assert plane.recommendations[-1].market.difficulty == 800e12
    assert not plane.recommendations[-1].market.implausible


def test_an_unbelievable_first_price_decides_nothing() -> None:
    """Nothing is known then that could be decided on."""
    plane = Plane(policy=policy_named("greedy"))
    plane.energy(50_000.0, at_ms=START_MS)
    assert plane.recommendations == []
    assert [type(record) for record in plane.records if isinstance(record, Alert)] == [Alert]


def test_the_loss_floor_overrules_a_policy_that_would_go_on() -> None:
    """Always mining loses 395 USD for each MWh at 500; a floor of 100 ends that, and ends again when mining pays."""
    plane = a_plane("always_mine", fleet=a_fleet(constraints=Constraints(loss_floor_usd_per_mwh=100.0)))
    plane.energy(180.0, at_ms=START_MS + HOUR_MS)
    assert plane.modes() == {DeviceMode.MINING}
    plane.energy(DEAR, at_ms=START_MS + 2 * HOUR_MS)
    assert asic_decisions(plane)[-1].reason is DecisionReason.LOSS_FLOOR
    assert plane.modes() == {DeviceMode.SLEEP}
    plane.energy(DEAR, at_ms=START_MS + 3 * HOUR_MS)
    assert plane.modes() == {DeviceMode.SLEEP}
    plane.energy(CHEAP, at_ms=START_MS + 4 * HOUR_MS)
    assert plane.modes() == {DeviceMode.MINING}


def test_raises_an_hour_are_counted_and_reductions_are_not() -> None:
    """Two raises an hour: the third waits for the first to be an hour ago, asleep meanwhile."""
    plane = a_plane(fleet=a_fleet(constraints=Constraints(switches_per_hour=2)))
    for tick in range(1, 7):
        plane.energy(DEAR if tick % 2 else CHEAP, at_ms=START_MS + tick * 10 * MINUTE_MS)
    assert asic_decisions(plane)[-1].reason is DecisionReason.SWITCHES_PER_HOUR
    assert plane.modes() == {DeviceMode.SLEEP}
    plane.energy(CHEAP, at_ms=START_MS + 85 * MINUTE_MS)
    assert plane.modes() == {DeviceMode.MINING}


def test_starts_wait_for_their_wear_budget() -> None:
    """0.02 USD a start and 0.02 USD a day: one start at once, the next when a day has paid for it."""
    plane = a_plane(fleet=a_fleet(constraints=Constraints(wear_budget_usd_per_device_day=0.02)))
    for hour in range(1, 5):
        plane.energy(DEAR if hour % 2 else CHEAP, at_ms=START_MS + hour * HOUR_MS)
    assert asic_decisions(plane)[-1].reason is DecisionReason.WEAR_BUDGET
    assert plane.modes() == {DeviceMode.SLEEP}
    for hour in range(5, 27):
        plane.energy(CHEAP, at_ms=START_MS + hour * HOUR_MS)
    assert plane.modes() == {DeviceMode.MINING}


def test_a_site_above_its_cap_sheds_what_loses_least() -> None:
    """12 ASICs mining draw 46.2 kW; under a cap of 30 kW some sleep, and no cheap price brings them back."""
    gpu_kw = 0.715 * 1.1 * len(a_plane().shards[GPUS].modes)
    plane = a_plane(fleet=a_fleet(power_cap_mw=(30.0 + gpu_kw) / 1_000.0))
    plane.energy(CHEAP, at_ms=START_MS + TICK_MS)
    mining = asics_in(plane, DeviceMode.MINING)
    assert mining * ASIC_KW + (12 - mining) * REST_KW <= 30.0 < (mining + 1) * ASIC_KW + (11 - mining) * REST_KW
    assert plane.modes(GPUS) == {DeviceMode.AI_INFERENCE}
    assert DecisionReason.POWER_CAP in [decision.reason for decision in asic_decisions(plane)]
    for tick in range(2, 20):
        plane.energy(CHEAP, at_ms=START_MS + tick * TICK_MS)
    assert asics_in(plane, DeviceMode.MINING) == mining


def test_a_raise_goes_as_far_as_the_cap_and_says_when_it_cannot() -> None:
    """After a price spike under a cap, as many wake as may, the others never."""
    gpu_kw = 0.715 * 1.1 * len(a_plane().shards[GPUS].modes)
    plane = a_plane(fleet=a_fleet(power_cap_mw=(30.0 + gpu_kw) / 1_000.0))
    plane.energy(DEAR, at_ms=START_MS + TICK_MS)
    plane.energy(DEAR, at_ms=START_MS + 3 * TICK_MS)
    assert plane.modes() == {DeviceMode.SLEEP}
    plane.energy(CHEAP, at_ms=START_MS + 6 * TICK_MS)
    assert asics_in(plane, DeviceMode.MINING) == 7
    plane.energy(CHEAP, at_ms=START_MS + 12 * TICK_MS)
    assert asics_in(plane, DeviceMode.MINING) == 7


def test_a_raise_keeps_to_the_ramp_and_the_rest_follows_without_dwell() -> None:
    """4 kW a minute, 20 kW at once: five ASICs, five minutes later the next ones; power goes down all at once."""
    plane = a_plane("threshold", fleet=a_fleet(ramp_mw_per_minute=0.004))
    plane.energy(DEAR, at_ms=START_MS + HOUR_MS)
    assert plane.modes() == {DeviceMode.SLEEP}
    mining = []
    for tick in range(12, 40):
        plane.energy(-10.0, at_ms=START_MS + HOUR_MS + tick * TICK_MS)
        mining.append(asics_in(plane, DeviceMode.MINING))
    assert mining[:4] == [5, 10, 12, 12]


def test_a_bucket_gives_what_its_rate_and_capacity_allow() -> None:
    """Spent at once, won back with time, never more than its capacity."""
    full = Bucket().after(10.0, rate_per_ms=0.01, now_ms=0)
    assert full.left(rate_per_ms=0.01, capacity=10.0, now_ms=0) == 0.0
    assert full.left(rate_per_ms=0.01, capacity=10.0, now_ms=500) == pytest.approx(5.0)
    assert full.left(rate_per_ms=0.01, capacity=10.0, now_ms=10**9) == 10.0
    assert full.left(rate_per_ms=0.01, capacity=10.0, now_ms=-500) == 0.0


def test_the_counterfactual_price_of_a_policy_that_remembers_is_true() -> None:
    """Replayed with a price on either side of the flip, the decision is the one and the other."""
    prices = [(START_MS + tick * TICK_MS, CHEAP) for tick in range(1, 12)]
    plane = a_plane("lcp")
    for at_ms, value in prices:
        plane.energy(value, at_ms=at_ms)
    plane.energy(300.0, at_ms=START_MS + 12 * TICK_MS)
    asked = asic_decisions(plane)[-1]
    assert asked.flip_usd_per_mwh is not None
    chosen = []
    for by in (-0.5, 0.5):
        again = a_plane("lcp")
        for at_ms, value in prices:
            again.energy(value, at_ms=at_ms)
        again.energy(asked.flip_usd_per_mwh + by, at_ms=START_MS + 12 * TICK_MS)
        chosen.append(again.modes())
    assert chosen == [{DeviceMode.MINING}, {DeviceMode.SLEEP}]
