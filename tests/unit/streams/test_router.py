"""The router: class, site and price of a workload, what it asks for, and what it refuses."""

from dataclasses import replace
from typing import Any

import pytest

from hcp.codecs import decode, encode
from hcp.model.markets import PriceSeries
from hcp.model.rejections import Rejected
from hcp.model.units import EpochMs
from hcp.model.workloads import (
    AllocationAction,
    AllocationRequest,
    WorkloadEvent,
    WorkloadEventType,
    WorkloadStatus,
    WorkloadType,
)
from streams.inventory import SiteInventory, on_resource_state
from streams.rents import SiteRents, on_rent
from streams.router import Routed, Site, on_workload_event
from streams.service_levels import ServiceClass, classify
from tests import examples
from tests.unit.streams.world import DEMO_FLEET, START_MS, a_cause, a_price, a_report

NORTH, SOUTH = "tx-north", "tx-south"


def created(**changed: Any) -> WorkloadEvent:
    """Submit one H100 for batch work."""
    event = replace(
        examples.EVENT,
        workload_type=WorkloadType.BATCH,
        device_count=1,
        run_number=0,
        queue_position=None,
        device_ids="",
        price_usd_micros_per_device_hour=None,
        price_usd_micros_per_device_hour_max=2_500_000,
        observed_at_ms=EpochMs(START_MS),
    )
    return replace(event, **changed)


def site(name: str, *, price: float | None = 2.0, owners: int = 0) -> Site:
    """Return a site with eight H100s, some of them held."""
    facility = DEMO_FLEET.facility(name)
    assert facility is not None
    report = a_report(f"{name}.gpu-1/00", owners=(*(examples.WORKLOAD,) * owners, *("",) * (8 - owners)))
    counted = on_resource_state(None, report, fleet=DEMO_FLEET, cause=a_cause())
    assert not isinstance(counted, Rejected)
    inventory: SiteInventory = counted.updates[0][1]
    rents: SiteRents | None = None
    if price is not None:
        priced = on_rent(None, a_price(PriceSeries.GPU_RENTAL, "h100", price, facility_id=name), fleet=DEMO_FLEET)
        assert not isinstance(priced, Rejected)
        rents = priced.updates[0][1]
    return Site(facility=facility, inventory=inventory, rents=rents)


def routed(event: WorkloadEvent, *sites: Site, state: Routed | None = None) -> tuple[Routed | None, list[object]]:
    """Return what the router keeps and sends."""
    step = on_workload_event(state, event, sites=sites, fleet=DEMO_FLEET, cause=a_cause())
    return dict(step.updates).get(event.workload_id), list(step.outputs)


def test_a_workload_is_queued_at_a_site_with_its_price() -> None:
    """The event and the request say the same, and both have a wire format."""
    state, outputs = routed(created(), site(NORTH))
    queued, request = outputs
    assert isinstance(queued, WorkloadEvent)
    assert isinstance(request, AllocationRequest)
    assert (queued.event_type, queued.facility_id) == (WorkloadEventType.QUEUED, NORTH)
    assert request.price_usd_micros_per_device_hour == queued.price_usd_micros_per_device_hour == 2_000_000
    assert (request.action, request.observed_at_ms) == (AllocationAction.RESERVE, START_MS)
    assert state == Routed(life=state.life, facility_id=NORTH) if state else False
    assert all(decode(encode(record)) == record for record in outputs)


def test_batch_goes_where_it_is_cheap_and_real_time_where_it_is_warm() -> None:
    """The cheap site has no device left."""
    sites = (site(NORTH, price=1.0, owners=8), site(SOUTH, price=2.0))
    for workload_type, wanted in ((WorkloadType.BATCH, NORTH), (WorkloadType.INFERENCE_REAL_TIME, SOUTH)):
        state, _ = routed(created(workload_type=workload_type), *sites)
        assert state is not None
        assert state.facility_id == wanted


def test_a_customer_s_site_binds() -> None:
    """His data must stay there, whatever another site costs."""
    state, _ = routed(created(facility_id=SOUTH), site(NORTH, price=1.0), site(SOUTH))
    assert state is not None
    assert state.facility_id == SOUTH


@pytest.mark.parametrize(
    ("event", "price", "word"),
    [
        (created(device_class="s21"), 2.0, "GPU class"),
        (created(), 3.0, "price must be at most"),
        (created(), None, "no price is known"),
        (created(facility_id="atlantis"), 2.0, "no site"),
    ],
)
def test_what_no_site_can_run_fails_with_the_reason(event: WorkloadEvent, price: float | None, word: str) -> None:
    """At once, rather than wait in vain."""
    _, outputs = routed(event, site(NORTH, price=price))
    (failed,) = outputs
    assert isinstance(failed, WorkloadEvent)
    assert failed.event_type is WorkloadEventType.FAILED
    assert word in failed.reason


def test_a_cancellation_gives_the_devices_back() -> None:
    """To the site that was asked; a second one does nothing."""
    state, _ = routed(created(), site(NORTH))
    cancelled = created(event_type=WorkloadEventType.CANCELLED, event_id=examples.WORKLOAD)
    state, (release,) = routed(cancelled, state=state)
    assert isinstance(release, AllocationRequest)
    assert (release.action, release.facility_id) == (AllocationAction.RELEASE, NORTH)
    again, outputs = routed(replace(cancelled, event_id=examples.CUSTOMER), state=state)
    assert outputs == []
    assert again is not None
    assert (again.life.status, again.life.refused) == (WorkloadStatus.CANCELLED, 1)


def test_a_creation_delivered_twice_asks_once() -> None:
    """The second is refused and counted."""
    state, _ = routed(created(), site(NORTH))
    again, outputs = routed(created(), site(NORTH), state=state)
    assert outputs == []
    assert again is not None
    assert again.life.refused == 1


@pytest.mark.parametrize(
    ("workload_type", "priority", "wanted"),
    [
        (WorkloadType.INFERENCE_REAL_TIME, 1, ServiceClass.P1),
        (WorkloadType.INFERENCE_INTERACTIVE, 8, ServiceClass.P2),
        (WorkloadType.INFERENCE_INTERACTIVE, 9, ServiceClass.P1),
        (WorkloadType.BATCH, 5, ServiceClass.P3),
        (WorkloadType.BATCH, 10, ServiceClass.P2),
    ],
)
def test_the_class_follows_from_type_and_priority(
    workload_type: WorkloadType, priority: int, wanted: ServiceClass
) -> None:
    """The highest priorities lift a workload by one class."""
    assert classify(workload_type, priority=priority) is wanted
