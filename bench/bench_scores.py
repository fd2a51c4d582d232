"""How fast the pure decision plane is: device scores per second, and one price to every controller command.

Run: `python -m bench.bench_scores`; no service is needed.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hcp.fleet import load_fleet
from hcp.model.commands import OrchestratorCommand
from hcp.model.devices import DeviceMode, DeviceState
from hcp.model.facilities import Facility, Fleet
from hcp.model.markets import SERIES_RULES, MarketPrice, PriceSeries
from hcp.model.recommendations import Recommendation
from hcp.model.rejections import Rejected
from hcp.model.resources import ResourceState, StateReporter, state_key
from hcp.model.steps import Cause, Step
from hcp.model.units import EpochMs
from streams.allocation import on_command, on_observed
from streams.inventory import SiteInventory, on_resource_state
from streams.market import MarketState, apply_price
from streams.optimizer import on_price
from streams.orchestrator import on_recommendation
from streams.policies import policy_named
from streams.shards import ShardAllocation

START_MS = 1_700_000_000_000
ROUNDS = 200
PLANE_ROUNDS = 30
GOAL_DEVICE_SCORES_PER_S = 1_000_000
GOAL_PRICE_TO_COMMAND_MS = 250.0
CAUSE = Cause(topic="market.price", partition=0, offset=0, timestamp_ms=START_MS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One facility, warm: all prices known, all shards seen."""

    facility: Facility
    market: MarketState
    inventory: SiteInventory
    shards: dict[str, ShardAllocation]


def price_of(facility: Facility, series: PriceSeries, instrument: str, value: float, at_ms: int) -> MarketPrice:
    """Make one price."""
    return MarketPrice(
        facility_id=facility.facility_id,
        series=series,
        instrument=instrument,
        value=value,
        unit=SERIES_RULES[series].unit,
        interval_start_ms=EpochMs(at_ms),
        interval_ms=0,
        observed_at_ms=EpochMs(at_ms),
        source="synthetic:bench",
    )


def all_prices(fleet: Fleet, facility: Facility, at_ms: int) -> Iterator[MarketPrice]:
    """Yield a price for every series a site needs; GPUs and ASICs both earn."""
    yield price_of(facility, PriceSeries.ENERGY_REAL_TIME, facility.energy_market, 30.0, at_ms)
    yield price_of(facility, PriceSeries.BTC, "BTC-USD", 60_000.0, at_ms)
    yield price_of(facility, PriceSeries.DIFFICULTY, "BTC", 80e12, at_ms)
    yield price_of(facility, PriceSeries.BLOCK_SUBSIDY, "BTC", 3.125, at_ms)
    yield price_of(facility, PriceSeries.BLOCK_FEES, "BTC", 0.1, at_ms)
    yield price_of(facility, PriceSeries.GPU_HASH_PRICE, "kawpow", 0.0004, at_ms)
    for device_class in fleet.device_classes:
        yield price_of(facility, PriceSeries.GPU_RENTAL, device_class.device_class, 2.0, at_ms)
        yield price_of(facility, PriceSeries.INFERENCE_UTILISATION, device_class.device_class, 0.7, at_ms)


def observed(facility: Facility, at_ms: int) -> Iterator[ResourceState]:
    """Yield what the fleet monitor reports of every shard: all active, in the initial mode."""
    for cluster in facility.clusters:
        for shard in cluster.shards():
            count = shard.device_count
            yield ResourceState(
                state_key=state_key(shard_id=shard.shard_id, reported_by=StateReporter.FLEET_MONITOR),
                facility_id=facility.facility_id,
                cluster_id=cluster.cluster_id,
                shard_id=shard.shard_id,
                device_class=shard.device_class,
                reported_by=StateReporter.FLEET_MONITOR,
                device_indexes=tuple(range(count)),
                modes=(cluster.initial_mode,) * count,
                states=(DeviceState.ACTIVE,) * count,
                epochs=(0,) * count,
                owners=("",) * count,
                observed_at_ms=EpochMs(at_ms),
            )


def step_of(result: Step[object] | Rejected | Step[SiteInventory] | Step[ShardAllocation] | Step[MarketState]) -> Step:  # type: ignore[type-arg]
    """Return the step; a rejection ends the benchmark."""
    assert isinstance(result, Step), result
    return result


def warm(fleet: Fleet, facility: Facility) -> Site:
    """Bring one site to where every price is known and every shard seen."""
    market: MarketState | None = None
    for price in all_prices(fleet, facility, START_MS):
        market, _ = apply_price(market, price)
    assert market is not None
    inventory: SiteInventory | None = None
    shards: dict[str, ShardAllocation] = {}
    for report in observed(facility, START_MS):
        inventory = step_of(on_resource_state(inventory, report, fleet=fleet, cause=CAUSE)).updates[0][1]
        shards.update(step_of(on_observed(shards, report, fleet=fleet, cause=CAUSE)).updates)
    assert inventory is not None
    return Site(facility=facility, market=market, inventory=inventory, shards=shards)


def timed_ms(work: Callable[[], object], rounds: int) -> list[float]:
    """Return the milliseconds of each round, sorted."""
    taken: list[float] = []
    for _ in range(rounds):
        begun = time.perf_counter_ns()
        work()
        taken.append((time.perf_counter_ns() - begun) / 1e6)
    return sorted(taken)


def decide_everything(fleet: Fleet, sites: list[Site]) -> int:
    """Let a price spike reach every site and return how many devices were commanded to move."""
    moved = 0
    policy = policy_named("threshold")
    for site in sites:
        energy = site.facility.energy_market
        spike = price_of(site.facility, PriceSeries.ENERGY_REAL_TIME, energy, 2_000.0, START_MS + 300_000)
        recommendation = step_of(
            on_price(site.market, spike, inventory=site.inventory, fleet=fleet, cause=CAUSE)
        ).outputs[0]
        assert isinstance(recommendation, Recommendation)
        decided = step_of(on_recommendation(None, recommendation, fleet=fleet, policy=policy, cause=CAUSE))
        for command in decided.outputs:
            assert isinstance(command, OrchestratorCommand)
            moved += command.device_count
            step_of(on_command(site.shards, command, fleet=fleet, cause=CAUSE))
    return moved


def main() -> int:
    """Print the table; return 1 when a goal is missed."""
    fleet = load_fleet(Path(__file__).resolve().parents[1] / "fleet.toml")
    sites = [warm(fleet, facility) for facility in fleet.facilities]

    def rescore() -> None:
        for site in sites:
            price = price_of(
                site.facility, PriceSeries.ENERGY_REAL_TIME, site.facility.energy_market, 31.0, START_MS + 300_000
            )
            step_of(on_price(site.market, price, inventory=site.inventory, fleet=fleet, cause=CAUSE))

    scored = timed_ms(rescore, ROUNDS)
    median_s = statistics.median(scored) / 1e3
    class_scores = sum(
        len(device_class.modes)
        for site in sites
        for name in site.facility.device_classes()
        if (device_class := fleet.device_class(name)) is not None
    )
    device_scores_per_s = fleet.device_count / median_s
    moved = decide_everything(fleet, sites)
    plane = timed_ms(lambda: decide_everything(fleet, sites), PLANE_ROUNDS)
    plane_p99 = plane[min(len(plane) - 1, round(len(plane) * 0.99))]
    asleep = sum(1 for site in sites for shard in site.shards.values() if DeviceMode.MINING in shard.modes)
    print(f"fleet: {fleet.device_count:,} devices, {len(sites)} sites, {sum(len(s.shards) for s in sites)} shards")
    print(f"re-score all sites (on_price x {len(sites)})  p50 {median_s * 1e3:8.3f} ms   p99 {scored[-2]:8.3f} ms")
    print(f"mode scores computed per second             {class_scores / median_s:14,.0f}  ({class_scores} a round)")
    print(
        f"devices re-scored per second, one core      {device_scores_per_s:14,.0f}  (goal {GOAL_DEVICE_SCORES_PER_S:,})"
    )
    print("  (one class score serves every device of the class at its site; all modes of a device count as one)")
    print(
        f"price spike to all commands, whole fleet    p50 {statistics.median(plane):8.1f} ms   p99 {plane_p99:8.1f} ms"
        f"   (goal p99 {GOAL_PRICE_TO_COMMAND_MS:g} ms; {moved:,} devices moved, {asleep} mining shards)"
    )
    is_met = device_scores_per_s >= GOAL_DEVICE_SCORES_PER_S and plane_p99 < GOAL_PRICE_TO_COMMAND_MS
    return 0 if is_met else 1


if __name__ == "__main__":
    raise SystemExit(main())
