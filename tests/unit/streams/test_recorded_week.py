"""The promise on profit, on the recorded week that the demo plays: near the hindsight optimum, at half the switches."""

from dataclasses import dataclass
from functools import cache

import pytest

from hcp.market_data.replay import recorded_market, replay
from hcp.market_data.series import read_sample
from hcp.model.commands import DecisionAction
from hcp.model.markets import MarketPrice
from hcp.model.recommendations import Recommendation
from streams.policies import policy_named
from streams.profit import ProfitLedger, ProfitSummary
from streams.regret import ClassRegret, RegretState, hindsight_usd, on_recommendation_settled
from tests.unit.streams.test_profit import counts_of
from tests.unit.streams.world import DEMO_FLEET, Plane, step


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
        known, worked = len(plane.recommendations), counts_of(plane)
        plane.take(price)
        if len(plane.recommendations) > known:
            ledger.add(plane.recommendations[-1], worked)
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


def settled(recommendations: tuple[Recommendation, ...]) -> list[ClassRegret]:
    """Return the accounts of every class of every site after the week."""
    sites: dict[str, RegretState] = {}
    for advice in recommendations:
        done = step(on_recommendation_settled(sites.get(advice.facility_id), advice, fleet=DEMO_FLEET))
        sites.update(done.updates)
    return [known for site in sites.values() for known in site.classes]


def test_the_threshold_policy_comes_within_a_tenth_of_hindsight() -> None:
    """At least 90 % of the gap between the best fixed choice and the hindsight optimum is realised."""
    week = a_week("threshold")
    fixed = max(week.summary.always_mine_usd, week.summary.never_switch_usd)
    hindsight = sum(hindsight_usd(known) for known in settled(week.recommendations))
    assert hindsight > fixed
    assert week.summary.realised_usd - fixed >= 0.9 * (hindsight - fixed)


def test_the_threshold_policy_moves_at_most_half_of_what_greedy_moves() -> None:
    """And gives up less than 2 % of greedy's profit for it."""
    threshold, greedy = a_week("threshold"), a_week("greedy")
    assert 0 < threshold.device_moves * 2 <= greedy.device_moves
    assert threshold.summary.realised_usd >= 0.98 * greedy.summary.realised_usd


def test_the_ledger_and_the_regret_job_settle_alike() -> None:
    """One from the devices told, one from those in the recommendations: the same profit, to a cent."""
    week = a_week("threshold")
    realised = sum(known.device_count * known.realised_usd for known in settled(week.recommendations))
    assert realised == pytest.approx(week.summary.realised_usd, abs=0.01)


def test_the_ledger_charges_every_device_moved() -> None:
    """It counts what was decided, but for what was decided on the last price of the week, which no interval follows."""
    week = a_week("threshold")
    assert 0 < week.summary.switch_count <= week.device_moves
    assert week.device_moves - week.summary.switch_count <= DEMO_FLEET.device_count
    assert week.summary.switch_cost_usd_micros > 0
