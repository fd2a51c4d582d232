"""The promise on profit, on the recorded week that the demo plays: near the hindsight optimum, at half the switches."""

from dataclasses import dataclass
from functools import cache

from hcp.model.commands import DecisionAction
from hcp.model.devices import DeviceMode
from hcp.model.markets import MarketPrice
from hcp.model.recommendations import Recommendation
from hcp.model.units import MS_PER_HOUR
from simulators.replay import recorded_market, replay
from simulators.series import read_sample
from streams.economics import switch_cost_usd
from streams.policies import policy_named
from streams.profit import ProfitLedger, ProfitSummary
from tests.unit.streams.test_profit import counts_of
from tests.unit.streams.world import DEMO_FLEET, Plane


@dataclass(frozen=True, slots=True, kw_only=True)
class Week:
    """What a policy made of the week.

    Attributes:
        summary: Its profit and the baselines.
        device_moves: Devices moved.
        recommendations: All of them, in order.
    """

    summary: ProfitSummary
    device_moves: int
    recommendations: tuple[Recommendation, ...]


@cache
def recorded_prices() -> tuple[MarketPrice, ...]:
    """Read the sample once."""
    market = recorded_market(read_sample(), fleet=DEMO_FLEET)
    return tuple(replay(market, start_ms=market.start_ms, end_ms=market.end_ms))


@cache
def a_week(policy: str) -> Week:
    """Run a policy over the recorded week of the demo fleet; devices obey at once."""
    sites = {
        site.facility_id: Plane(policy=policy_named(policy), facility_id=site.facility_id)
        for site in DEMO_FLEET.facilities
    }
    ledger = ProfitLedger(fleet=DEMO_FLEET)
    for price in recorded_prices():
        plane = sites[price.facility_id]
        plane.wall_ms += 1_000
        plane.see_devices(at_ms=price.observed_at_ms)
        known = len(plane.recommendations)
        plane.take(price)
        if len(plane.recommendations) > known:
            ledger.add(plane.recommendations[-1], counts_of(plane))
    return Week(
        summary=ledger.summary(),
        device_moves=sum(
            decision.device_count
            for plane in sites.values()
            for decision in plane.decisions
            if decision.action is DecisionAction.SWITCH
        ),
        recommendations=tuple(advice for plane in sites.values() for advice in plane.recommendations),
    )


def hindsight_usd(recommendations: tuple[Recommendation, ...]) -> float:
    """Return what perfect foresight would have earned: dynamic programming over modes, switch costs paid."""
    total = 0.0
    for site in DEMO_FLEET.facilities:
        own = [advice for advice in recommendations if advice.facility_id == site.facility_id]
        for cluster in site.clusters:
            device_class = DEMO_FLEET.device_class(cluster.device_class)
            assert device_class is not None
            value: dict[DeviceMode, float] = {cluster.initial_mode: 0.0}
            for advice, following in zip(own, [*own[1:], own[-1]], strict=True):
                scored = next((each for each in advice.classes if each.device_class == cluster.device_class), None)
                if scored is None:
                    continue
                rows = {row.mode: row for row in scored.scores}
                passed_hours = (following.observed_at_ms - advice.observed_at_ms) / MS_PER_HOUR
                after: dict[DeviceMode, float] = {}
                for mode, row in rows.items():
                    profile = device_class.profile(mode)
                    reached = (
                        held
                        if before is mode
                        else held
                        - switch_cost_usd(
                            from_revenue=rows[before].revenue_usd_per_hour,
                            to_revenue=row.revenue_usd_per_hour,
                            enter_ms=profile.enter_ms,
                            enter_wear_usd=profile.enter_wear_usd,
                            enter_reload_usd=profile.enter_reload_usd,
                        )
                        for before, held in value.items()
                    )
                    after[mode] = max(reached) + row.profit_usd_per_hour * passed_hours
                value = after
            total += cluster.device_count * max(value.values())
    return total


def test_the_threshold_policy_comes_within_a_tenth_of_hindsight() -> None:
    """At least 90 % of the gap between the best fixed choice and the hindsight optimum is realised."""
    week = a_week("threshold")
    fixed = max(week.summary.always_mine_usd, week.summary.never_switch_usd)
    hindsight = hindsight_usd(week.recommendations)
    assert hindsight > fixed
    assert week.summary.realised_usd - fixed >= 0.9 * (hindsight - fixed)


def test_the_threshold_policy_moves_at_most_half_of_what_greedy_moves() -> None:
    """And gives up less than 2 % of greedy's profit for it."""
    threshold, greedy = a_week("threshold"), a_week("greedy")
    assert 0 < threshold.device_moves * 2 <= greedy.device_moves
    assert threshold.summary.realised_usd >= 0.98 * greedy.summary.realised_usd


def test_the_ledger_charges_every_device_moved() -> None:
    """Decisions and the ledger count the same."""
    week = a_week("threshold")
    assert week.summary.switch_count == week.device_moves
    assert week.summary.switch_cost_usd_micros > 0
