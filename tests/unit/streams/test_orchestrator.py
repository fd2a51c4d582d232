"""The orchestrator: when a class switches, when it holds and why, once each."""

from dataclasses import replace

import msgspec
import pytest

from hcp.codecs import decode, encode
from hcp.model.commands import ControllerCommand, ControllerResult, DecisionAction, DecisionReason, DeviceOutcome
from hcp.model.devices import DeviceMode, DeviceState
from hcp.model.ids import id_from_content
from hcp.model.ledger import Alert, AlertType
from hcp.model.markets import PriceSeries
from hcp.model.rejections import Rejected, RejectReason
from hcp.model.resources import StateReporter
from streams.inventory import on_resource_state
from streams.orchestrator import on_recommendation
from streams.policies import POLICIES, policy_named
from streams.site import SiteState
from tests.unit.streams.world import (
    ASICS,
    DEMO_FLEET,
    GPUS,
    MINUTE_MS,
    START_MS,
    Plane,
    a_cause,
    a_price,
    a_report,
    a_result,
    an_energy_price,
    step,
)

HOUR_MS = 60 * MINUTE_MS


def a_plane(policy: str = "greedy") -> Plane:
    """Return a site with all prices and devices known, at 30 USD/MWh."""
    plane = Plane(policy=policy_named(policy))
    plane.see_devices()
    plane.see_prices()
    return plane


def asic_reasons(plane: Plane) -> list[DecisionReason]:
    """Return the reasons published for the ASICs, in order."""
    return [decision.reason for decision in plane.decisions if decision.device_class == "s21"]


def unanswered(command: ControllerCommand) -> ControllerResult:
    """Answer some other command: for the books this one stays under way."""
    return replace(a_result(command), command_id=id_from_content("another"))


def test_a_price_spike_puts_the_asics_to_sleep_and_its_end_wakes_them() -> None:
    """The whole way from a price to verified modes and back."""
    plane = a_plane("threshold")
    assert plane.modes() == {DeviceMode.MINING}
    plane.energy(500.0, at_ms=START_MS + HOUR_MS)
    assert plane.modes() == {DeviceMode.SLEEP}
    plane.energy(-10.0, at_ms=START_MS + 3 * HOUR_MS)
    assert plane.modes() == {DeviceMode.MINING}
    assert plane.modes(GPUS) == {DeviceMode.AI_INFERENCE}


def test_a_hold_is_published_once_for_each_change_of_reason() -> None:
    """Ten equal prices are one hold, not ten."""
    plane = a_plane()
    for tick in range(1, 11):
        plane.energy(30.0, at_ms=START_MS + tick * 5 * MINUTE_MS)
    assert asic_reasons(plane) == [DecisionReason.ALREADY_BEST]


def test_a_decision_explains_itself_and_survives_the_wire() -> None:
    """Terms, threshold, what would flip it and its cause are all there."""
    plane = a_plane("threshold")
    plane.energy(500.0, at_ms=START_MS + HOUR_MS)
    switch = plane.decisions[-1]
    assert switch.action is DecisionAction.SWITCH
    assert (switch.from_mode, switch.to_mode, switch.device_count) == (DeviceMode.MINING, DeviceMode.SLEEP, 12)
    assert switch.gain_usd_per_hour > switch.threshold_usd_per_hour > 0.0
    assert switch.flip_usd_per_mwh == pytest.approx(104.6, abs=1.0)
    assert switch.command_id == id_from_content(switch.recommendation_id, "s21")
    assert decode(encode(switch)) == switch


def test_the_site_state_survives_json() -> None:
    """The table's changelog holds it as JSON, a pending switch included."""
    plane = a_plane()
    plane.answer = unanswered
    plane.energy(500.0, at_ms=START_MS + HOUR_MS)
    assert plane.site is not None
    assert msgspec.json.decode(msgspec.json.encode(plane.site), type=SiteState) == plane.site


def test_no_second_switch_while_one_is_under_way() -> None:
    """Until the devices have arrived, the class holds; the price may do what it likes."""
    plane = a_plane()
    plane.answer = unanswered
    plane.energy(500.0, at_ms=START_MS + HOUR_MS)
    plane.energy(-10.0, at_ms=START_MS + HOUR_MS + 20 * MINUTE_MS)
    assert asic_reasons(plane)[-2:] == [DecisionReason.GAIN_PAYS, DecisionReason.SWITCH_PENDING]


def test_an_unconfirmed_switch_stops_blocking_after_its_time() -> None:
    """A Resource Manager that died does not paralyse the class for ever."""
    plane = a_plane()
    plane.answer = unanswered
    plane.energy(500.0, at_ms=START_MS + HOUR_MS)
    plane.energy(500.0, at_ms=START_MS + 8 * HOUR_MS)
    assert asic_reasons(plane)[-1] is not DecisionReason.SWITCH_PENDING
    assert plane.site is not None
    assert plane.site.class_state("s21").pending is None


def test_a_class_comes_back_only_after_its_minimum_off_time() -> None:
    """Greedy as it is, hardware is owed five minutes."""
    plane = a_plane()
    plane.energy(500.0, at_ms=START_MS + HOUR_MS)
    plane.energy(30.0, at_ms=START_MS + HOUR_MS + 4 * MINUTE_MS)
    assert asic_reasons(plane)[-1] is DecisionReason.MINIMUM_OFF_TIME
    plane.energy(30.0, at_ms=START_MS + HOUR_MS + 5 * MINUTE_MS)
    assert asic_reasons(plane)[-1] is DecisionReason.GAIN_PAYS


def test_a_class_stays_on_for_its_minimum_on_time() -> None:
    """A second spike right after waking waits five minutes."""
    plane = a_plane()
    plane.energy(500.0, at_ms=START_MS + HOUR_MS)
    plane.energy(30.0, at_ms=START_MS + 2 * HOUR_MS)
    plane.energy(500.0, at_ms=START_MS + 2 * HOUR_MS + MINUTE_MS)
    assert asic_reasons(plane)[-1] is DecisionReason.MINIMUM_ON_TIME
    plane.energy(501.0, at_ms=START_MS + 2 * HOUR_MS + 5 * MINUTE_MS)
    assert asic_reasons(plane)[-1] is DecisionReason.GAIN_PAYS


def test_a_stale_energy_price_holds_the_site_and_warns_once() -> None:
    """BTC still ticks, but two and a half hours without an energy price are too many."""
    plane = a_plane()
    for tick in range(3):
        at_ms = START_MS + 151 * MINUTE_MS + tick
        plane.see_devices(at_ms=at_ms)
        plane.take(a_price(PriceSeries.BTC, "BTC-USD", 30_000.0, at_ms=at_ms))
    alerts = [record for record in plane.records if isinstance(record, Alert)]
    assert [alert.alert_type for alert in alerts] == [AlertType.PRICE_STALE]
    assert asic_reasons(plane)[-1] is DecisionReason.PRICE_STALE


def test_devices_without_fresh_telemetry_are_not_moved() -> None:
    """Half an hour of silence holds the class."""
    plane = a_plane()
    plane.wall_ms += 31 * MINUTE_MS
    plane.take(an_energy_price(500.0, at_ms=START_MS + 31 * MINUTE_MS))
    assert asic_reasons(plane)[-1] is DecisionReason.TELEMETRY_STALE
    assert plane.modes() == {DeviceMode.MINING}


def test_a_replay_faster_than_life_does_not_make_telemetry_stale() -> None:
    """A tick a second by the wall is fresh, though twenty minutes of event time lie between two."""
    plane = a_plane()
    plane.wall_ms += 1_000
    plane.take(an_energy_price(500.0, at_ms=START_MS + 40 * MINUTE_MS))
    assert asic_reasons(plane)[-1] is DecisionReason.GAIN_PAYS


def test_customers_and_sick_devices_are_never_counted_as_movable() -> None:
    """Twelve devices: four held, two quarantined, one unreachable; five move."""
    plane = a_plane()
    states = [DeviceState.ACTIVE] * 12
    states[4:7] = [DeviceState.QUARANTINED, DeviceState.QUARANTINED, DeviceState.UNREACHABLE]
    report = a_report(
        ASICS,
        states=tuple(states),
        owners=(*(id_from_content("workload"),) * 4, *("",) * 8),
        at_ms=START_MS + 1,
        reported_by=StateReporter.RESOURCES,
    )
    counted = step(on_resource_state(plane.inventory, report, fleet=DEMO_FLEET, cause=a_cause()))
    plane.inventory = counted.updates[0][1]
    plane.take(an_energy_price(500.0, at_ms=START_MS + 10 * MINUTE_MS))
    assert plane.decisions[-1].device_count == 5


def test_the_resource_manager_s_report_wins_over_the_fleet_monitor_s() -> None:
    """Telemetry refreshes a shard's age, not its counts, once the Resource Manager has spoken."""
    plane = a_plane()
    assert plane.inventory is not None
    before = next(shard for shard in plane.inventory.shards if shard.shard_id == ASICS)
    report = a_report(ASICS, modes=(DeviceMode.SLEEP,) * 12, at_ms=START_MS + MINUTE_MS)
    counted = step(on_resource_state(plane.inventory, report, fleet=DEMO_FLEET, cause=a_cause())).updates[0][1]
    after = next(shard for shard in counted.shards if shard.shard_id == ASICS)
    assert after.counts == before.counts
    assert after.seen_at_ms == START_MS + MINUTE_MS


def test_an_older_report_is_late() -> None:
    """Out of order reports of one reporter change nothing."""
    plane = a_plane()
    report = a_report(ASICS, at_ms=START_MS - 1)
    done = step(on_resource_state(plane.inventory, report, fleet=DEMO_FLEET, cause=a_cause()))
    assert (done.updates, done.ignored) == ((), "late")


def test_a_recommendation_alone_decides_whatever_topic_came_first() -> None:
    """The devices counted travel with it: reports that come later, or never, change nothing of what was decided."""
    plane = a_plane("threshold")
    plane.answer = unanswered
    plane.energy(500.0, at_ms=START_MS + HOUR_MS)
    site: SiteState | None = None
    decided: list[object] = []
    for number, recommendation in enumerate(plane.recommendations):
        cause = a_cause(number)
        done = step(on_recommendation(site, recommendation, fleet=DEMO_FLEET, policy=plane.policy, cause=cause))
        site = dict(done.updates)[recommendation.facility_id]
        decided += done.outputs
    assert decided == plane.decisions
    spike = plane.recommendations[-1]
    assert [(count.mode, count.movable_count) for count in spike.devices[-1].modes] == [(DeviceMode.MINING, 12)]
    assert spike.resource_state_offset is not None


def test_the_same_recommendation_twice_decides_once() -> None:
    """Delivered again after a crash, it is a duplicate."""
    plane = a_plane()
    again = on_recommendation(
        plane.site, plane.recommendations[-1], fleet=DEMO_FLEET, policy=plane.policy, cause=a_cause(99)
    )
    assert step(again).ignored == "duplicate"


def test_recommendations_of_one_event_time_are_decided_once_each() -> None:
    """After a crash the whole tail comes again: prices of several series at one time must not decide anew."""
    plane = a_plane()
    plane.take(a_price(PriceSeries.BTC, "BTC-USD", 61_000.0, at_ms=START_MS + 1))
    plane.take(a_price(PriceSeries.GPU_RENTAL, "h100", 2.1, at_ms=START_MS + 1))
    assert plane.site is not None
    again = [
        step(on_recommendation(plane.site, known, fleet=DEMO_FLEET, policy=plane.policy, cause=a_cause(offset)))
        for known, offset in zip(
            plane.recommendations[-2:], (plane.site.decided_offset - 1, plane.site.decided_offset), strict=True
        )
    ]
    assert [done.ignored for done in again] == ["duplicate", "duplicate"]


def test_devices_that_rolled_back_are_sent_after_the_others() -> None:
    """A minority left behind moves later, without a new dwell for the class."""
    plane = a_plane()
    plane.energy(500.0, at_ms=START_MS + HOUR_MS)
    switched = plane.site and plane.site.class_state("s21").switched_at_ms
    at_ms = START_MS + 2 * HOUR_MS
    plane.wall_ms += 10_000
    modes = (DeviceMode.MINING, *(DeviceMode.SLEEP,) * 11)
    plane.take(a_report(ASICS, modes=modes, at_ms=at_ms))
    plane.take(an_energy_price(500.0, at_ms=at_ms + 1))
    assert plane.modes() == {DeviceMode.SLEEP}
    assert plane.decisions[-1].device_count == 1
    assert plane.site is not None
    assert plane.site.class_state("s21").switched_at_ms == switched


def test_no_devices_is_said_when_none_has_reported() -> None:
    """Before the first report there is nothing to move."""
    plane = Plane(policy=policy_named("greedy"))
    plane.see_prices()
    assert asic_reasons(plane) == [DecisionReason.NO_DEVICES]


def test_never_holds_and_always_mine_mines() -> None:
    """The two baselines do what they are called."""
    for name, expected in (("never", DeviceMode.AI_INFERENCE), ("always_mine", DeviceMode.MINING)):
        plane = a_plane(name)
        plane.energy(500.0, at_ms=START_MS + HOUR_MS)
        assert plane.modes(GPUS) == {expected}
        assert plane.modes() == {DeviceMode.MINING}


def test_a_command_that_fails_everywhere_leaves_devices_where_they_were() -> None:
    """Three attempts, then the class is free to decide again."""
    plane = a_plane()
    plane.answer = lambda command: a_result(command, outcome=DeviceOutcome.ROLLED_BACK)
    plane.energy(500.0, at_ms=START_MS + HOUR_MS)
    attempts = [record.attempt for record in plane.records if isinstance(record, ControllerCommand)]
    assert attempts == [1, 2, 3]
    assert plane.modes() == {DeviceMode.MINING}
    plane.energy(500.0, at_ms=START_MS + 2 * HOUR_MS)
    assert asic_reasons(plane)[-2:] == [DecisionReason.GAIN_PAYS, DecisionReason.GAIN_PAYS]


def test_policies_are_found_by_name_and_a_wrong_one_lists_them() -> None:
    """The CLI prints that message as it is."""
    assert [policy_named(policy.name) for policy in POLICIES] == list(POLICIES)
    with pytest.raises(ValueError, match=", ".join(policy.name for policy in POLICIES)):
        policy_named("psychic")


def test_unknown_places_are_refused() -> None:
    """A facility or shard that fleet.toml does not have goes to the dead letters."""
    plane = a_plane()
    lost = replace(plane.recommendations[-1], facility_id="atlantis")
    refused = on_recommendation(None, lost, fleet=DEMO_FLEET, policy=plane.policy, cause=a_cause())
    assert isinstance(refused, Rejected)
    assert refused.reason is RejectReason.UNKNOWN_FACILITY
    missing = replace(a_report(ASICS), shard_id="tx-south.asic-1/09")
    unknown = on_resource_state(None, missing, fleet=DEMO_FLEET, cause=a_cause())
    assert isinstance(unknown, Rejected)
    assert unknown.reason is RejectReason.UNKNOWN_SHARD
