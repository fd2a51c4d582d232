"""The engine does what the two live functions say, and nothing else: held to a run stepped by hand."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

import pytest

from backtest.engine import BacktestRun, run_backtest
from backtest.history import with_causes
from backtest.results import evaluate
from backtest.series import Move
from hcp.market_data.replay import recorded_market, replay
from hcp.market_data.series import read_sample
from hcp.model.commands import DecisionAction, OrchestratorCommand
from hcp.model.devices import DeviceMode
from hcp.model.facilities import Fleet
from hcp.model.markets import MarketPrice, PriceSeries
from hcp.model.recommendations import ClassDevices, ModeDevices, Recommendation
from hcp.model.units import MS_PER_HOUR, EpochMs
from streams.market import MarketState
from streams.optimizer import on_price
from streams.orchestrator import on_recommendation
from streams.policies import POLICIES, Policy, policy_named
from streams.site import SiteState
from tests.unit.backtest.market import (
    ASICS,
    GPUS,
    MINES_USD_PER_MWH,
    QUARTER_MS,
    SLEEPS_USD_PER_MWH,
    a_fleet,
    interval_price,
    market_of,
    run_over,
)
from tests.unit.streams.world import DEMO_FLEET, SITE, START_MS, a_price, step

EVERY_POLICY = pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
FROM_MS, UNTIL_MS = 1_692_849_600_000, 1_692_849_600_000 + 30 * MS_PER_HOUR
"""2023-08-24T04:00Z on: quiet hours, then a scarcity evening."""


def sample_prices() -> tuple[MarketPrice, ...]:
    """Return thirty hours of the shipped week."""
    market = recorded_market(read_sample(), fleet=DEMO_FLEET)
    return tuple(replay(market, start_ms=FROM_MS, end_ms=UNTIL_MS))


def counted(counts: dict[str, Counter[DeviceMode]], epochs: Counter[str]) -> tuple[ClassDevices, ...]:
    """Return devices as resource.state would count them."""
    return tuple(
        ClassDevices(
            device_class=name,
            modes=tuple(
                ModeDevices(mode=mode, movable_count=count, switching_count=0)
                for mode, count in sorted(counts[name].items())
                if count
            ),
            stale_count=0,
            epoch_sum=epochs[name],
        )
        for name in sorted(counts)
    )


def stepped_by_hand(prices: Sequence[MarketPrice], *, fleet: Fleet, policy: Policy) -> list[OrchestratorCommand]:
    """Call the live functions price by price and let devices obey at once."""
    markets: dict[str, MarketState] = {}
    sites: dict[str, SiteState] = {}
    counts: dict[str, dict[str, Counter[DeviceMode]]] = {}
    for site in fleet.facilities:
        of_site = counts.setdefault(site.facility_id, {})
        for cluster in site.clusters:
            of_site.setdefault(cluster.device_class, Counter())[cluster.initial_mode] += cluster.device_count
    epochs = {site.facility_id: Counter[str]() for site in fleet.facilities}
    decisions: list[OrchestratorCommand] = []
    for price, cause in with_causes(prices):
        name = price.facility_id
        priced = step(on_price(markets.get(name), price, fleet=fleet, cause=cause))
        markets.update(priced.updates)
        for advice in priced.outputs:
            assert isinstance(advice, Recommendation)
            seen = replace(advice, devices=counted(counts[name], epochs[name]))
            decided = step(on_recommendation(sites.get(name), seen, fleet=fleet, policy=policy, cause=cause))
            sites.update(decided.updates)
            for decision in decided.outputs:
                if not isinstance(decision, OrchestratorCommand):
                    continue
                decisions.append(decision)
                if decision.action is DecisionAction.SWITCH:
                    counts[name][decision.device_class][decision.from_mode] -= decision.device_count
                    counts[name][decision.device_class][decision.to_mode] += decision.device_count
                    epochs[name][decision.device_class] += 1
    return decisions


@EVERY_POLICY
def test_a_run_is_the_live_functions_stepped_by_hand(policy: Policy) -> None:
    """Every decision of a recorded day and a bit is the one that `on_price` and `on_recommendation` give."""
    prices = sample_prices()
    decisions: list[OrchestratorCommand] = []
    run = run_backtest(
        with_causes(prices),
        fleet=DEMO_FLEET,
        policies=[policy],
        settle_from_ms=FROM_MS,
        on_decision=decisions.append,
    )
    assert decisions == stepped_by_hand(prices, fleet=DEMO_FLEET, policy=policy)
    assert decisions
    moves = Counter(
        (each.facility_id, each.device_class, move.at_ms, move.from_mode, move.to_mode, move.device_count)
        for each in run.moves
        for move in each.moves
    )
    switched = Counter(
        (each.facility_id, each.device_class, each.observed_at_ms, each.from_mode, each.to_mode, each.device_count)
        for each in decisions
        if each.action is DecisionAction.SWITCH
    )
    assert moves == switched


def test_policies_side_by_side_do_not_touch_each_other() -> None:
    """A policy decides the same alone and beside all others."""
    prices = sample_prices()
    together: list[OrchestratorCommand] = []
    run_backtest(
        with_causes(prices),
        fleet=DEMO_FLEET,
        policies=POLICIES,
        settle_from_ms=FROM_MS,
        on_decision=together.append,
    )
    for policy in POLICIES:
        own = [decision for decision in together if decision.policy == policy.name]
        assert own == stepped_by_hand(prices, fleet=DEMO_FLEET, policy=policy)


def test_a_decision_counts_from_the_price_that_caused_it() -> None:
    """The dear quarter itself is mined through: its price comes at its end, and devices leave then."""
    run = run_over(
        [MINES_USD_PER_MWH, MINES_USD_PER_MWH, SLEEPS_USD_PER_MWH, SLEEPS_USD_PER_MWH, SLEEPS_USD_PER_MWH],
        fleet=a_fleet(ASICS),
        policies=[policy_named("greedy")],
    )
    known_at_ms = START_MS + 3 * QUARTER_MS
    assert moves_of(run, "s21") == (
        Move(at_ms=known_at_ms, from_mode=DeviceMode.MINING, to_mode=DeviceMode.SLEEP, device_count=12),
    )
    series = run.series[0]
    assert series.starts_ms.tolist() == [START_MS + quarter * QUARTER_MS for quarter in range(5)]
    assert series.energy_usd_per_mwh.tolist() == [30.0, 30.0, 2_000.0, 2_000.0, 2_000.0]
    account = evaluate(run, fleet=a_fleet(ASICS), policies=["greedy"]).sites[0].accounts["greedy"][0]
    sleeping = series.mode_index(DeviceMode.SLEEP)
    assert account.counts[:, sleeping].tolist() == [0.0, 0.0, 0.0, 12.0, 12.0]


def test_only_the_sites_own_energy_price_settles() -> None:
    """Another hub, an instant without an interval, BTC and what began before the window settle nothing."""
    early = interval_price(20.0, quarter=-1)
    foreign = replace(interval_price(21.0, quarter=1), instrument="HB_WEST")
    instant = replace(interval_price(22.0, quarter=2), interval_ms=0)
    btc = a_price(PriceSeries.BTC, "BTC-USD", 50_000.0, at_ms=START_MS + 4 * QUARTER_MS)
    prices = [*market_of([]), early, interval_price(30.0, quarter=0), foreign, instant, btc]
    prices.append(interval_price(31.0, quarter=4))
    run = run_backtest(
        with_causes(prices), fleet=a_fleet(ASICS), policies=[policy_named("never")], settle_from_ms=START_MS
    )
    assert run.series[0].energy_usd_per_mwh.tolist() == [30.0, 31.0]
    assert run.price_count == len(prices)


def test_time_settled_once_is_not_settled_again() -> None:
    """A price for an hour that ends a quarter later settles that quarter alone."""
    start_ms = EpochMs(START_MS + QUARTER_MS)
    hour = replace(interval_price(50.0, quarter=4), interval_start_ms=start_ms, interval_ms=4 * QUARTER_MS)
    prices = [*market_of([30.0, 31.0, 32.0, 33.0]), hour]
    run = run_backtest(
        with_causes(prices), fleet=a_fleet(ASICS), policies=[policy_named("never")], settle_from_ms=START_MS
    )
    series = run.series[0]
    assert series.starts_ms.tolist() == [START_MS + quarter * QUARTER_MS for quarter in range(5)]
    assert series.interval_ms.tolist() == [QUARTER_MS] * 5
    assert series.energy_usd_per_mwh.tolist() == [30.0, 31.0, 32.0, 33.0, 50.0]


def test_late_repeated_and_foreign_prices_are_passed_over_and_counted() -> None:
    """They change nothing: not a decision, not an interval."""
    prices = [*market_of([30.0, 40.0])]
    late, repeated = prices[-2], prices[-1]
    unknown = replace(repeated, facility_id="mars")
    run = run_backtest(
        with_causes([*prices, late, repeated, unknown]),
        fleet=a_fleet(ASICS),
        policies=[policy_named("greedy")],
        settle_from_ms=START_MS,
    )
    assert (run.price_count, run.passed_over_count) == (len(prices), 3)
    assert run.series[0].energy_usd_per_mwh.tolist() == [30.0, 40.0]


def test_a_class_without_its_prices_has_no_series() -> None:
    """No BTC price, no score, no row: what is not known is not settled as nothing."""
    prices = [price for price in market_of([30.0, 40.0]) if price.series is not PriceSeries.BTC]
    run = run_backtest(
        with_causes(prices),
        fleet=a_fleet(ASICS, GPUS),
        policies=[policy_named("greedy")],
        settle_from_ms=START_MS,
    )
    assert [series.device_class for series in run.series] == ["h100"]
    assert [each.device_class for each in run.moves] == ["h100"]


@EVERY_POLICY
def test_the_order_and_cut_of_clusters_changes_nothing(policy: Policy) -> None:
    """Devices of a class are one thing: any order of clusters, and one cluster cut in two, give the same rows."""
    energy = [30.0, 2_000.0, 2_000.0, -20.0, 90.0, 110.0, 100.0, 30.0] * 3
    parts = [("s21", 12, DeviceMode.MINING), ("s21", 5, DeviceMode.SLEEP), ("h100", 8, DeviceMode.AI_INFERENCE)]
    cut = [("s21", 7, DeviceMode.MINING), *parts[1:], ("s21", 5, DeviceMode.MINING)]
    fleets = [a_fleet(*order) for order in (*permutations(parts), cut)]
    first, *others = [
        evaluate(run_over(energy, fleet=fleet, policies=[policy]), fleet=fleet, policies=[policy.name]).rows
        for fleet in fleets
    ]
    assert len(others) == 6
    assert all(rows == first for rows in others)


def test_a_site_starts_in_its_initial_modes() -> None:
    """Counts before the first interval are those of the fleet file, by class."""
    fleet = a_fleet(("s21", 12, DeviceMode.MINING), ("s21", 5, DeviceMode.SLEEP), GPUS)
    run = run_over([30.0], fleet=fleet, policies=[policy_named("never")])
    by_class = {
        series.device_class: dict(
            zip([mode.mode for mode in series.modes], series.initial_counts.tolist(), strict=True)
        )
        for series in run.series
    }
    assert by_class["s21"][DeviceMode.MINING] == 12.0
    assert by_class["s21"][DeviceMode.SLEEP] == 5.0
    assert by_class["h100"][DeviceMode.AI_INFERENCE] == 8.0
    assert {series.facility_id for series in run.series} == {SITE}


def moves_of(run: BacktestRun, device_class: str) -> tuple[Move, ...]:
    """Return the moves of a class under the only policy."""
    return next(each.moves for each in run.moves if each.device_class == device_class)
