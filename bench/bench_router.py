"""Router and placement as pure functions: decisions a second, and from submission to placed, beside the wire's limit.

Run: `python -m bench.bench_router`; no service is needed, one core, under a minute. The limit is what the wire alone
costs: one workload event decoded and one encoded, which no agent can do without.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import quantiles
from typing import Any, Final

from bench.report import machine, show, table
from hcp.codecs import decode, encode
from hcp.fleet import load_fleet
from hcp.model.devices import DeviceMode, DeviceState
from hcp.model.facilities import DEFAULT_WEIGHTS
from hcp.model.ids import id_from_content
from hcp.model.markets import MarketPrice, PriceSeries, PriceUnit
from hcp.model.rejections import Rejected
from hcp.model.resources import ResourceState, StateReporter, state_key
from hcp.model.steps import Cause, Step
from hcp.model.units import EpochMs
from hcp.model.workloads import AllocationAction, AllocationRequest, WorkloadEvent, WorkloadEventType, WorkloadType
from streams.allocation import on_observed
from streams.candidates import candidates_of
from streams.inventory import SiteInventory, on_resource_state
from streams.placement import attend, on_request
from streams.rents import SiteRents, on_rent
from streams.router import Site, on_workload_event
from streams.shards import ShardAllocation
from streams.tickets import Ticket

FLEET: Final = load_fleet(Path(__file__).parents[1] / "fleet.toml")
AT: Final = EpochMs(1_700_000_000_000)
CLASS, SITE = "h100", "tx-north"
ROUNDS: Final = 400
CUSTOMER: Final = id_from_content("bench-customer")


def cause(offset: int) -> Cause:
    """Name an input record."""
    return Cause(topic="workload.events", partition=0, offset=offset, timestamp_ms=AT + offset)


def created(number: int) -> WorkloadEvent:
    """Submit one device of real-time work."""
    workload_id = id_from_content("bench-workload", number)
    return WorkloadEvent(
        event_id=id_from_content("bench-created", number),
        workload_id=workload_id,
        customer_id=CUSTOMER,
        event_type=WorkloadEventType.CREATED,
        workload_type=WorkloadType.INFERENCE_REAL_TIME,
        priority=5,
        device_class=CLASS,
        device_count=1,
        facility_id=None,
        reason="",
        observed_at_ms=AT,
    )


def reports() -> list[ResourceState]:
    """Return every GPU shard as the fleet monitor sees it: warm, active, nobody's."""
    gpus = {CLASS, "a100", "l40s"}
    return [
        ResourceState(
            state_key=state_key(shard_id=shard.shard_id, reported_by=StateReporter.FLEET_MONITOR),
            facility_id=shard.facility_id,
            cluster_id=shard.cluster_id,
            shard_id=shard.shard_id,
            device_class=shard.device_class,
            reported_by=StateReporter.FLEET_MONITOR,
            device_indexes=tuple(range(shard.device_count)),
            modes=(DeviceMode.AI_INFERENCE,) * shard.device_count,
            states=(DeviceState.ACTIVE,) * shard.device_count,
            epochs=(0,) * shard.device_count,
            owners=("",) * shard.device_count,
            observed_at_ms=AT,
        )
        for shard in FLEET.shards()
        if shard.device_class in gpus
    ]


def sites() -> list[Site]:
    """Return what the router knows of every site."""
    inventories: dict[str, SiteInventory] = {}
    for report in reports():
        counted = _step(on_resource_state(inventories.get(report.facility_id), report, fleet=FLEET, cause=cause(0)))
        inventories |= dict(counted.updates)
    rents: dict[str, SiteRents] = {}
    for site in FLEET.facilities:
        price = MarketPrice(
            facility_id=site.facility_id,
            series=PriceSeries.GPU_RENTAL,
            instrument=CLASS,
            value=2.0,
            unit=PriceUnit.USD_PER_GPU_HOUR,
            interval_start_ms=AT,
            interval_ms=0,
            observed_at_ms=AT,
            source="synthetic:bench",
        )
        rents |= dict(_step(on_rent(None, price, fleet=FLEET)).updates)
    return [
        Site(facility=site, inventory=inventories.get(site.facility_id), rents=rents.get(site.facility_id))
        for site in FLEET.facilities
    ]


def _step(step: Step[Any] | Rejected) -> Step[Any]:
    assert not isinstance(step, Rejected), step
    return step


class Manager:
    """The Resource Manager's books of one site."""

    def __init__(self) -> None:
        """See every GPU shard of the site."""
        facility = FLEET.facility(SITE)
        assert facility is not None
        self._facility = facility
        self.shards: dict[str, ShardAllocation] = {}
        self._tickets: dict[str, Ticket] = {}
        for report in reports():
            if report.facility_id == SITE:
                self.shards |= dict(_step(on_observed(self.shards, report, fleet=FLEET, cause=cause(0))).updates)

    def handle(self, request: AllocationRequest, offset: int) -> Step[Any]:
        """Do one request to the end."""
        opened = _step(on_request(self._tickets, request, fleet=FLEET, cause=cause(offset)))
        done = attend(
            opened,
            self.shards,
            self._tickets,
            facility=self._facility,
            fleet=FLEET,
            cause=cause(offset),
            readings={},
        )
        for key, state in done.updates:
            if isinstance(state, Ticket):
                self._tickets[key] = state
            elif state is not None:
                self.shards[key] = state
        return done


def timed(work: Callable[[int], object]) -> list[float]:
    """Return the milliseconds of each round."""
    taken = []
    for number in range(ROUNDS):
        began = time.perf_counter()
        work(number)
        taken.append((time.perf_counter() - began) * 1_000)
    return taken


def main() -> None:
    """Print the table."""
    known, manager = sites(), Manager()
    wire = encode(created(0))
    device_class = FLEET.device_class(CLASS)
    assert device_class is not None

    def routed(number: int) -> list[object]:
        step = on_workload_event(None, created(number), sites=known, fleet=FLEET, cause=cause(number))
        return list(step.outputs)

    def request(number: int) -> AllocationRequest:
        asked = routed(number)[-1]
        assert isinstance(asked, AllocationRequest)
        return replace(asked, facility_id=SITE)

    def placed_and_released(number: int) -> None:
        asked = request(number)
        manager.handle(asked, 2 * number)
        manager.handle(replace(asked, action=AllocationAction.RELEASE), 2 * number + 1)

    def placed_on_the_wire(number: int) -> None:
        asked = request(ROUNDS + number)
        for record in manager.handle(asked, 2 * (ROUNDS + number)).outputs:
            encode(record)
        manager.handle(replace(asked, action=AllocationAction.RELEASE), 2 * (ROUNDS + number) + 1)

    def scored(_: int) -> object:
        return candidates_of(
            [shard for shard in manager.shards.values() if shard.device_class == CLASS],
            device_class=device_class,
            device_count=1,
            holder="",
            weights=DEFAULT_WEIGHTS,
            readings={},
        )

    rows = {
        "limit: one event decoded, one encoded": timed(lambda number: (decode(wire), encode(created(number)))),
        "router: one submission": timed(routed),
        "scorer: 512 candidates": timed(scored),
        "submit to placed, and released": timed(placed_and_released),
        "the same, all records encoded": timed(placed_on_the_wire),
    }
    limit_ms = quantiles(rows["limit: one event decoded, one encoded"], n=2)[0]
    made = table(f"Router and placement, {ROUNDS} rounds", "what", "p50 ms", "p99 ms", "a second", "times the limit")
    for what, taken in rows.items():
        cuts = quantiles(taken, n=100, method="inclusive")
        made.add_row(
            what, f"{cuts[49]:.3f}", f"{cuts[98]:.3f}", f"{1_000 / cuts[49]:,.0f}", f"{cuts[49] / limit_ms:.1f}"
        )
    show(made, machine())


if __name__ == "__main__":
    main()
