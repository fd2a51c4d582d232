"""A site in a few lines: prices, reports and a plane that runs every transformation and lets controllers succeed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import assert_never

from hcp.fleet import load_fleet
from hcp.model.commands import ControllerCommand, ControllerResult, DeviceOutcome, OrchestratorCommand
from hcp.model.devices import DeviceMode, DeviceState
from hcp.model.facilities import Fleet, Shard
from hcp.model.markets import SERIES_RULES, MarketPrice, PriceSeries
from hcp.model.recommendations import Recommendation
from hcp.model.rejections import Rejected
from hcp.model.resources import ResourceState, StateReporter, state_key
from hcp.model.steps import Cause, State, Step
from hcp.model.units import EpochMs
from streams.allocation import on_command, on_observed, on_result
from streams.inventory import SiteInventory, on_resource_state
from streams.market import MarketState
from streams.optimizer import on_price
from streams.orchestrator import on_recommendation
from streams.policies import Policy
from streams.shards import ShardAllocation
from streams.site import SiteState
from streams.situation import LIMITS, Limits

DEMO_FLEET = load_fleet(Path(__file__).parents[3] / "fleet.demo.toml")
START_MS = 1_700_000_000_000
MINUTE_MS = 60_000
SITE = "tx-south"
ASICS, GPUS = "tx-south.asic-1/00", "tx-south.gpu-1/00"
DEFAULTS = {
    (PriceSeries.ENERGY_REAL_TIME, "HB_HOUSTON"): 30.0,
    (PriceSeries.BTC, "BTC-USD"): 60_000.0,
    (PriceSeries.DIFFICULTY, "BTC"): 80e12,
    (PriceSeries.BLOCK_SUBSIDY, "BTC"): 3.125,
    (PriceSeries.BLOCK_FEES, "BTC"): 0.125,
    (PriceSeries.GPU_HASH_PRICE, "kawpow"): 0.0004,
    (PriceSeries.GPU_RENTAL, "h100"): 2.0,
    (PriceSeries.INFERENCE_UTILISATION, "h100"): 0.7,
}
"""Prices at which an S21 earns 0.28 USD/h; it breaks even with sleep at 104.6 USD/MWh."""


def a_cause(offset: int = 0, *, topic: str = "market.price", timestamp_ms: int = START_MS) -> Cause:
    """Name an input record."""
    return Cause(topic=topic, partition=0, offset=offset, timestamp_ms=timestamp_ms)


def a_price(  # every field that a test asks about
    series: PriceSeries,
    instrument: str,
    value: float,
    *,
    at_ms: int = START_MS,
    interval_ms: int = 0,
    facility_id: str = SITE,
) -> MarketPrice:
    """Make one price in its series' unit, known when its interval ends."""
    return MarketPrice(
        facility_id=facility_id,
        series=series,
        instrument=instrument,
        value=value,
        unit=SERIES_RULES[series].unit,
        interval_start_ms=EpochMs(at_ms - interval_ms),
        interval_ms=interval_ms,
        observed_at_ms=EpochMs(at_ms),
        source="synthetic:test",
    )


def an_energy_price(value: float, *, at_ms: int) -> MarketPrice:
    """Make one energy price of the site, for the five minutes before."""
    return a_price(PriceSeries.ENERGY_REAL_TIME, "HB_HOUSTON", value, at_ms=at_ms, interval_ms=5 * MINUTE_MS)


def a_report(  # every column can be told
    shard_id: str = ASICS,
    *,
    fleet: Fleet = DEMO_FLEET,
    modes: tuple[DeviceMode, ...] | None = None,
    states: tuple[DeviceState, ...] | None = None,
    owners: tuple[str, ...] | None = None,
    at_ms: int = START_MS,
    reported_by: StateReporter = StateReporter.FLEET_MONITOR,
) -> ResourceState:
    """Make a report of a whole shard; by default active, unowned and in the initial mode."""
    shard, mode = next((known, mode) for known, mode in shards_with_modes(fleet) if known.shard_id == shard_id)
    count = shard.device_count
    return ResourceState(
        state_key=state_key(shard_id=shard_id, reported_by=reported_by),
        facility_id=shard.facility_id,
        cluster_id=shard.cluster_id,
        shard_id=shard_id,
        device_class=shard.device_class,
        reported_by=reported_by,
        device_indexes=tuple(range(count)),
        modes=modes or (mode,) * count,
        states=states or (DeviceState.ACTIVE,) * count,
        epochs=(0,) * count,
        owners=owners or ("",) * count,
        observed_at_ms=EpochMs(at_ms),
    )


def shards_with_modes(fleet: Fleet) -> Iterator[tuple[Shard, DeviceMode]]:
    """Yield every shard with its cluster's initial mode."""
    for site in fleet.facilities:
        for cluster in site.clusters:
            for shard in cluster.shards():
                yield shard, cluster.initial_mode


def a_result(
    command: ControllerCommand, *, outcome: DeviceOutcome = DeviceOutcome.COMMITTED, mode: DeviceMode | None = None
) -> ControllerResult:
    """Answer a command with one outcome for all its devices."""
    count = len(command.device_indexes)
    ended = mode or (command.to_mode if outcome is DeviceOutcome.COMMITTED else command.from_mode)
    unmeasured = (None,) * count
    return ControllerResult(
        command_id=command.command_id,
        decision_id=command.decision_id,
        facility_id=command.facility_id,
        cluster_id=command.cluster_id,
        shard_id=command.shard_id,
        device_class=command.device_class,
        from_mode=command.from_mode,
        to_mode=command.to_mode,
        attempt=command.attempt,
        controller_id="controller-0",
        device_indexes=command.device_indexes,
        epochs=command.epochs,
        outcomes=(outcome,) * count,
        modes=(ended,) * count,
        details=("",) * count,
        begin_ms=unmeasured,
        validate_ms=unmeasured,
        pause_ms=unmeasured,
        save_ms=unmeasured,
        activate_ms=unmeasured,
        verify_ms=unmeasured,
        commit_ms=unmeasured,
        total_ms=unmeasured,
        settled_ms=unmeasured,
        started_at_ms=EpochMs(START_MS),
        finished_at_ms=EpochMs(START_MS),
        observed_at_ms=command.observed_at_ms,
    )


def step(result: Step[State] | Rejected) -> Step[State]:
    """Return the step; a rejection fails the test."""
    assert isinstance(result, Step), result
    return result


@dataclass(slots=True, kw_only=True)
class Plane:
    """The whole decision plane of one site, run in order in one thread; devices obey at once."""

    policy: Policy
    fleet: Fleet = DEMO_FLEET
    facility_id: str = SITE
    limits: Limits = LIMITS
    answer: Callable[[ControllerCommand], ControllerResult] = a_result
    market: MarketState | None = None
    inventory: SiteInventory | None = None
    site: SiteState | None = None
    shards: dict[str, ShardAllocation] = field(default_factory=dict)
    recommendations: list[Recommendation] = field(default_factory=list)
    decisions: list[OrchestratorCommand] = field(default_factory=list)
    records: list[object] = field(default_factory=list)
    offset: int = 0
    wall_ms: int = START_MS

    def see_devices(self, *, at_ms: int = START_MS) -> None:
        """Report every shard of the site as the books or, at first sight, the fleet file have it."""
        for shard, _ in shards_with_modes(self.fleet):
            if shard.facility_id != self.facility_id:
                continue
            known = self.shards.get(shard.shard_id)
            self.take(
                a_report(
                    shard.shard_id, fleet=self.fleet, at_ms=at_ms, modes=known.modes if known is not None else None
                )
            )

    def see_prices(self, *, at_ms: int = START_MS) -> None:
        """Publish every default price."""
        for (series, instrument), value in DEFAULTS.items():
            self.take(a_price(series, instrument, value, at_ms=at_ms, facility_id=self.facility_id))

    def energy(self, value: float, *, at_ms: int) -> None:
        """Publish fresh telemetry and one energy price, ten seconds by the wall after what was before."""
        self.wall_ms += 10_000
        self.see_devices(at_ms=at_ms)
        self.take(an_energy_price(value, at_ms=at_ms))

    def take(self, record: object) -> None:
        """Run one record and all that follows from it, first come first served."""
        queue = [record]
        while queue:
            record = queue.pop(0)
            self.records.append(record)
            self.offset += 1
            queue.extend(self._outputs(record, a_cause(self.offset, timestamp_ms=self.wall_ms)))

    def modes(self, shard_id: str = ASICS) -> set[DeviceMode]:
        """Return the modes of a shard's devices."""
        return set(self.shards[shard_id].modes)

    def _outputs(self, record: object, cause: Cause) -> tuple[object, ...]:
        match record:
            case ControllerCommand():
                return (self.answer(record),)
            case OrchestratorCommand() | ControllerResult() | ResourceState():
                return self._manage(record, cause)
            case Recommendation():
                return self._decide(record, cause)
            case MarketPrice():
                priced = step(on_price(self.market, record, inventory=self.inventory, fleet=self.fleet, cause=cause))
                self.market = dict(priced.updates).get(self.facility_id, self.market)
                return priced.outputs
        return ()

    def _manage(
        self, record: OrchestratorCommand | ControllerResult | ResourceState, cause: Cause
    ) -> tuple[object, ...]:
        match record:
            case OrchestratorCommand():
                self.decisions.append(record)
                result = on_command(self.shards, record, fleet=self.fleet, cause=cause)
            case ControllerResult():
                result = on_result(self.shards, record, fleet=self.fleet, cause=cause)
            case ResourceState():
                counted = step(on_resource_state(self.inventory, record, fleet=self.fleet, cause=cause))
                self.inventory = dict(counted.updates).get(self.facility_id, self.inventory)
                result = on_observed(self.shards, record, fleet=self.fleet, cause=cause)
            case _:
                assert_never(record)
        allocated = step(result)
        self.shards.update(allocated.updates)
        return allocated.outputs

    def _decide(self, recommendation: Recommendation, cause: Cause) -> tuple[object, ...]:
        self.recommendations.append(recommendation)
        decided = step(
            on_recommendation(
                self.site, recommendation, fleet=self.fleet, policy=self.policy, cause=cause, limits=self.limits
            )
        )
        self.site = dict(decided.updates).get(self.facility_id, self.site)
        return decided.outputs
