"""Properties of scores, policies and the whole decision plane, on generated markets."""

import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcp.model.commands import DecisionAction, OrchestratorCommand
from hcp.model.devices import DeviceMode
from hcp.model.facilities import Fleet
from hcp.model.markets import PriceSeries
from hcp.model.recommendations import ClassRecommendation
from hcp.model.units import Usd
from streams.market import MarketState, apply_price
from streams.policies import POLICIES, ClassView, Policy, policy_named
from streams.recommendation import recommend_class, site_prices
from tests.unit.streams.world import DEFAULTS, DEMO_FLEET, MINUTE_MS, SITE, START_MS, Plane, a_price, an_energy_price

TICK_MS = 5 * MINUTE_MS
ENERGY = st.floats(min_value=-200.0, max_value=5_000.0, allow_nan=False)
NEAR_BREAK_EVEN = st.floats(min_value=60.0, max_value=160.0, allow_nan=False)
MARKET = st.lists(st.one_of(ENERGY, NEAR_BREAK_EVEN), min_size=1, max_size=30)
BTC = st.floats(min_value=1_000.0, max_value=500_000.0, allow_nan=False)
DECIDERS = st.sampled_from([policy_named("greedy"), policy_named("threshold")])
QUICK = settings(max_examples=40, deadline=None)


def scored(*, energy: float, btc: float, fleet: Fleet = DEMO_FLEET, device_class: str = "s21") -> ClassRecommendation:
    """Score one class with the default prices and these two."""
    market: MarketState | None = None
    changed = {PriceSeries.ENERGY_REAL_TIME: energy, PriceSeries.BTC: btc}
    for (series, instrument), value in DEFAULTS.items():
        market, _ = apply_price(market, a_price(series, instrument, changed.get(series, value)))
    facility, known = fleet.facility(SITE), fleet.device_class(device_class)
    assert market is not None
    assert facility is not None
    assert known is not None
    scores = recommend_class(known, prices=site_prices(market, facility=facility), facility=facility)
    assert scores is not None
    return scores


def a_view(scores: ClassRecommendation, from_mode: DeviceMode) -> ClassView:
    """Return what a policy sees of twelve ASICs."""
    device_class = DEMO_FLEET.device_class("s21")
    assert device_class is not None
    return ClassView(recommendation=scores, device_class=device_class, from_mode=from_mode, device_count=12)


def a_run(policy: Policy, prices: list[float], *, fleet: Fleet = DEMO_FLEET) -> Plane:
    """Run a market of five-minute prices."""
    plane = Plane(policy=policy, fleet=fleet)
    plane.see_devices()
    plane.see_prices()
    for tick, value in enumerate(prices, start=1):
        plane.energy(value, at_ms=START_MS + tick * TICK_MS)
    return plane


def switches(plane: Plane, device_class: str = "s21") -> list[OrchestratorCommand]:
    """Return the switches of a class, in order."""
    return [
        decision
        for decision in plane.decisions
        if decision.device_class == device_class and decision.action is DecisionAction.SWITCH
    ]


@given(energy=ENERGY, btc=BTC, factor=st.floats(min_value=1.0, max_value=5.0), policy=DECIDERS)
def test_more_revenue_never_turns_mine_into_sleep(energy: float, btc: float, factor: float, policy: Policy) -> None:
    """A miner that stays at work does so at a higher bitcoin price too; a sleeper that wakes, wakes too."""
    for mode in (DeviceMode.MINING, DeviceMode.SLEEP):
        before = policy.decide(a_view(scored(energy=energy, btc=btc), mode)).to_mode
        after = policy.decide(a_view(scored(energy=energy, btc=btc * factor), mode)).to_mode
        assert (before, after) != (DeviceMode.MINING, DeviceMode.SLEEP)


@given(energies=MARKET, btc=BTC, horizon_min=st.integers(min_value=10, max_value=600))
def test_a_doubled_switch_cost_never_adds_a_switch(energies: list[float], btc: float, horizon_min: int) -> None:
    """Neither at one price nor over a whole market: the band only widens."""
    policy = replace(policy_named("threshold"), horizon_ms=horizon_min * MINUTE_MS)  # type: ignore[type-var]
    counts: list[int] = []
    for factor in (1.0, 2.0):
        mode, count = DeviceMode.MINING, 0
        for energy in energies:
            scores = scored(energy=energy, btc=btc)
            rows = tuple(replace(row, switch_cost_usd=Usd(row.switch_cost_usd * factor)) for row in scores.scores)
            choice = policy.decide(a_view(replace(scores, scores=rows), mode))
            count += choice.to_mode is not mode
            mode = choice.to_mode
        counts.append(count)
    assert counts[1] <= counts[0]


@given(energy=ENERGY, btc=BTC)
def test_scores_hold_together(energy: float, btc: float) -> None:
    """The best earns most, the delta is its lead, every switch costs, confidence is a probability of at least half."""
    for name in ("s21", "h100"):
        scores = scored(energy=energy, btc=btc, device_class=name)
        rows = {row.mode: row for row in scores.scores}
        best = rows[scores.best_mode]
        assert best.profit_usd_per_hour == max(row.profit_usd_per_hour for row in scores.scores)
        assert scores.delta_usd_per_hour == rows[scores.runner_up_mode].gain_usd_per_hour
        for row in scores.scores:
            if row is not best:
                assert row.switch_cost_usd > 0.0
                assert 0.5 <= row.confidence <= 1.0


@given(btc=BTC)
def test_the_break_even_price_is_one(btc: float) -> None:
    """At the price said, the two modes do earn the same."""
    price = next(
        row.break_even_usd_per_mwh
        for row in scored(energy=30.0, btc=btc).scores
        if row.break_even_usd_per_mwh is not None
    )
    profits = [row.profit_usd_per_hour for row in scored(energy=price, btc=btc).scores]
    assert profits[0] == pytest.approx(profits[1], abs=1e-9, rel=1e-9)


@QUICK
@given(prices=MARKET, policy=DECIDERS)
def test_minimum_times_and_dwell_hold_on_any_market(prices: list[float], policy: Policy) -> None:
    """Between two switches lies at least the minimum on or off time, and before power rises the dwell of its gain."""
    done = switches(a_run(policy, prices))
    for first, second in pairwise(done):
        passed_ms = second.observed_at_ms - first.observed_at_ms
        is_waking = second.to_mode is DeviceMode.MINING
        timing = policy.timing
        assert passed_ms >= (timing.minimum_off_ms if is_waking else timing.minimum_on_ms)
        if is_waking and second.threshold_usd_per_hour > 0.0:
            assert passed_ms >= timing.dwell_ms * second.threshold_usd_per_hour / second.gain_usd_per_hour


@QUICK
@given(prices=MARKET, policy=DECIDERS, order=st.randoms(use_true_random=False))
def test_the_order_of_classes_and_clusters_changes_no_decision(
    prices: list[float], policy: Policy, order: object
) -> None:
    """fleet.toml may list them as it likes."""
    assert hasattr(order, "sample")
    classes = tuple(order.sample(DEMO_FLEET.device_classes, len(DEMO_FLEET.device_classes)))
    facilities = tuple(
        replace(site, clusters=tuple(order.sample(site.clusters, len(site.clusters)))) for site in DEMO_FLEET.facilities
    )
    shuffled = Fleet(facilities=facilities[::-1], device_classes=classes)
    plain, other = a_run(policy, prices), a_run(policy, prices, fleet=shuffled)

    def told(plane: Plane) -> list[tuple[object, ...]]:
        return [(d.device_class, d.action, d.reason, d.to_mode, d.device_count) for d in plane.decisions]

    assert told(plain) == told(other)


@QUICK
@given(prices=MARKET, policy=st.sampled_from(POLICIES))
def test_replaying_the_same_records_gives_the_same_ids_and_bytes(prices: list[float], policy: Policy) -> None:
    """The history decides, nothing else does."""
    first, second = a_run(policy, prices), a_run(policy, prices)
    assert msgspec.json.encode(first.records) == msgspec.json.encode(second.records)
    assert len({decision.command_id for decision in first.decisions}) == len(first.decisions)


@QUICK
@given(prices=MARKET, policy=DECIDERS)
def test_delivering_everything_twice_changes_nothing(prices: list[float], policy: Policy) -> None:
    """At-least-once: each price again right after itself moves no device a second time."""
    once = a_run(policy, prices)
    twice = Plane(policy=policy)
    twice.see_devices()
    twice.see_prices()
    for tick, value in enumerate(prices, start=1):
        twice.energy(value, at_ms=START_MS + tick * TICK_MS)
        twice.take(an_energy_price(value, at_ms=START_MS + tick * TICK_MS))
        twice.take(twice.recommendations[-1])
        if twice.decisions:
            twice.take(twice.decisions[-1])
    assert len(switches(once)) == len({switch.command_id for switch in switches(twice)})
    assert {key: shard.modes for key, shard in once.shards.items()} == {
        key: shard.modes for key, shard in twice.shards.items()
    }
    assert {key: shard.epochs for key, shard in once.shards.items()} == {
        key: shard.epochs for key, shard in twice.shards.items()
    }


_PRINT_DIGEST = """
import hashlib, msgspec
from streams.policies import policy_named
from tests.property.test_decisions import a_run
records = a_run(policy_named("threshold"), [30.0, 500.0, 90.0, -20.0, 104.0, 300.0, 20.0]).records
print(hashlib.sha256(msgspec.json.encode(records)).hexdigest())
"""


def test_the_hash_seed_changes_no_byte() -> None:
    """Sets and dictionaries are never iterated in hash order where it shows."""
    root = Path(__file__).parents[2]
    digests = {
        subprocess.run(
            [sys.executable, "-c", _PRINT_DIGEST],
            check=True,
            capture_output=True,
            text=True,
            cwd=root,
            env={"PYTHONHASHSEED": seed, "PATH": os.defpath},
        ).stdout
        for seed in ("0", "1", "4242")
    }
    assert len(digests) == 1
