"""How fast the pure decision plane is: device scores per second, and one price to every controller command.

Run: `python -m bench.bench_scores`; no service is needed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bench.load import price, reports
from bench.report import against, machine, p50_p99, show, table, timed_ms
from hcp.fleet import load_fleet
from hcp.model.commands import OrchestratorCommand
from hcp.model.facilities import Facility, Fleet
from hcp.model.markets import MarketPrice, PriceSeries
from hcp.model.recommendations import Recommendation
from hcp.model.rejections import Rejected
from hcp.model.steps import Cause, Step
from hcp.model.units import MS_PER_SECOND
from streams.allocation import on_command, on_observed
from streams.inventory import SiteInventory, on_resource_state
from streams.market import MarketState, apply_price
from streams.optimizer import on_price
from streams.orchestrator import on_recommendation
from streams.policies import policy_named
from streams.shards import ShardAllocation

State = TypeVar("State")
START_MS = 1_700_000_000_000
STEP_MS = 300_000
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


def all_prices(fleet: Fleet, site: Facility) -> Iterator[MarketPrice]:
    """Yield a price for every series a site needs; GPUs and ASICs both earn."""
    values = [
        (PriceSeries.ENERGY_REAL_TIME, site.energy_market, 30.0),
        (PriceSeries.BTC, "BTC-USD", 60_000.0),
        (PriceSeries.DIFFICULTY, "BTC", 80e12),
        (PriceSeries.BLOCK_SUBSIDY, "BTC", 3.125),
        (PriceSeries.BLOCK_FEES, "BTC", 0.1),
        (PriceSeries.GPU_HASH_PRICE, "kawpow", 0.0004),
    ]
    for each in fleet.device_classes:
        values.append((PriceSeries.GPU_RENTAL, each.device_class, 2.0))
        values.append((PriceSeries.INFERENCE_UTILISATION, each.device_class, 0.7))
    for series, instrument, value in values:
        yield price(site, series, instrument=instrument, value=value, at_ms=START_MS)


def energy_price(site: Facility, value: float) -> MarketPrice:
    """Return the site's next real-time price, in USD per MWh."""
    instrument = site.energy_market
    return price(site, PriceSeries.ENERGY_REAL_TIME, instrument=instrument, value=value, at_ms=START_MS + STEP_MS)


def step_of(result: Step[State] | Rejected) -> Step[State]:
    """Return the step; a rejection ends the benchmark."""
    assert isinstance(result, Step), result
    return result


def warm(fleet: Fleet, facility: Facility) -> Site:
    """Bring one site to where every price is known and every shard seen."""
    market: MarketState | None = None
    for known in all_prices(fleet, facility):
        market, _ = apply_price(market, known)
    assert market is not None
    inventory: SiteInventory | None = None
    shards: dict[str, ShardAllocation] = {}
    for report in reports(facility, at_ms=START_MS):
        inventory = step_of(on_resource_state(inventory, report, fleet=fleet, cause=CAUSE)).updates[0][1]
        shards.update(step_of(on_observed(shards, report, fleet=fleet, cause=CAUSE)).updates)
    assert inventory is not None
    return Site(facility=facility, market=market, inventory=inventory, shards=shards)


def decide_everything(fleet: Fleet, sites: list[Site]) -> int:
    """Let a price spike reach every site and return how many devices were commanded to move."""
    moved = 0
    policy = policy_named("threshold")
    for site in sites:
        spike = energy_price(site.facility, 2_000.0)
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


def rescore(fleet: Fleet, sites: list[Site]) -> None:
    """Let a small change of price reach every site, up to the recommendation."""
    for site in sites:
        change = energy_price(site.facility, 31.0)
        step_of(on_price(site.market, change, inventory=site.inventory, fleet=fleet, cause=CAUSE))


def scores_of(fleet: Fleet, sites: list[Site]) -> int:
    """Return how many modes of classes a re-scoring computes; one score serves every device of a class at its site."""
    classes = (fleet.device_class(name) for site in sites for name in site.facility.device_classes())
    return sum(len(each.modes) for each in classes if each is not None)


def main() -> int:
    """Print the table; return 1 when a goal is missed."""
    fleet = load_fleet(Path(__file__).resolve().parents[1] / "fleet.toml")
    sites = [warm(fleet, facility) for facility in fleet.facilities]
    score_p50, score_p99 = p50_p99(timed_ms(lambda: rescore(fleet, sites), ROUNDS))
    moved = decide_everything(fleet, sites)
    plane_p50, plane_p99 = p50_p99(timed_ms(lambda: decide_everything(fleet, sites), PLANE_ROUNDS))
    device_scores_per_s = fleet.device_count / score_p50 * MS_PER_SECOND
    found = table(f"{fleet.device_count:,} devices of {len(sites)} sites, one core", "what", "figure", "goal", "ratio")
    found.add_row("re-score all sites", f"p50 {score_p50:.3f} ms, p99 {score_p99:.3f} ms", "", "")
    found.add_row("mode scores/s", f"{scores_of(fleet, sites) / score_p50 * MS_PER_SECOND:,.0f}", "", "")
    goal = against(device_scores_per_s, GOAL_DEVICE_SCORES_PER_S)
    found.add_row("devices re-scored/s", f"{device_scores_per_s:,.0f}", *goal)
    what = f"price to every command, {moved:,} devices moved"
    found.add_row(
        what, f"p50 {plane_p50:.1f} ms, p99 {plane_p99:.1f} ms", *against(plane_p99, GOAL_PRICE_TO_COMMAND_MS)
    )
    show(machine(), found)
    is_met = device_scores_per_s >= GOAL_DEVICE_SCORES_PER_S and plane_p99 < GOAL_PRICE_TO_COMMAND_MS
    return 0 if is_met else 1


if __name__ == "__main__":
    raise SystemExit(main())
