"""The router: a new workload is classed, given a site and a price, and its devices asked for; its life is followed.

Where it then waits for devices is the Resource Manager's: only who knows the devices can keep their queue.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from hcp.model.devices import DeviceKind, DeviceMode
from hcp.model.facilities import Facility, Fleet
from hcp.model.ids import id_from_content
from hcp.model.recommendations import ClassDevices
from hcp.model.steps import Cause, Step
from hcp.model.units import MS_PER_MINUTE, USD_MICROS_PER_USD, EpochMs
from hcp.model.workloads import (
    AllocationAction,
    AllocationRequest,
    WorkloadEvent,
    WorkloadEventType,
)
from streams.inventory import SiteInventory, count_site
from streams.lifecycle import Life, Refusal, advance, refuse
from streams.rents import SiteRents
from streams.service_levels import ServiceClass, classify

QUEUE_MS: Final = 10 * MS_PER_MINUTE
"""What a wait in a queue counts as beside warm and cold devices; nobody knows how long it will be."""
REASON_CHARS_MAX: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What the router knows of a site: soft, and as old as its last records.

    Attributes:
        facility: As configured.
        inventory: Its devices as counted last; None before the first count.
        rents: Its prices; None before the first.
    """

    facility: Facility
    inventory: SiteInventory | None
    rents: SiteRents | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a site has of a class.

    Attributes:
        facility: The site.
        price_usd_micros_per_device_hour: Its price; None when none is known.
        warm_count: Devices that serve inference and are free.
        free_count: Devices that are free or mine.
    """

    facility: Facility
    price_usd_micros_per_device_hour: int | None
    warm_count: int
    free_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """A site that could run a workload.

    Attributes:
        facility_id: The site.
        start_ms: How soon it would start: 0 on warm devices, `QUEUE_MS` when it must wait for some.
        price_usd_micros_per_device_hour: Its price.
        warm_count: Devices that serve inference and are free.
        free_count: Devices that are free or mine.
    """

    facility_id: str
    start_ms: int
    price_usd_micros_per_device_hour: int
    warm_count: int
    free_count: int

    def __str__(self) -> str:
        """Say it in words."""
        price_usd = self.price_usd_micros_per_device_hour / USD_MICROS_PER_USD
        return f"{self.facility_id}: {self.warm_count} warm of {self.free_count} free, {price_usd:.2f} USD/h"


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """A workload as the router follows it.

    Attributes:
        life: Where it is in its life.
        facility_id: The site its devices were asked of; None when of none.
    """

    life: Life
    facility_id: str | None = None


def on_workload_event(
    state: Routed | None, event: WorkloadEvent, *, sites: Iterable[Site], fleet: Fleet, cause: Cause
) -> Step[Routed]:
    """Take in one event; the table's key is the workload. What may not follow is refused, and counted.

    A creation asks for devices, a cancellation gives them back; everything else is only followed.
    """
    life = advance(None if state is None else state.life, event)
    if isinstance(life, Refusal):
        if state is None:
            return Step(ignored=life.value)
        counted = Routed(life=refuse(state.life), facility_id=state.facility_id)
        return Step(updates=((event.workload_id, counted),), ignored=life.value)
    facility_id = None if state is None else state.facility_id
    outputs: tuple[object, ...] = ()
    if event.event_type is WorkloadEventType.CREATED:
        facility_id, outputs = _routed(event, sites=sites, fleet=fleet, cause=cause)
    elif event.event_type is WorkloadEventType.CANCELLED and facility_id is not None:
        outputs = (_request(event, facility_id, action=AllocationAction.RELEASE, price=0),)
    return Step(updates=((event.workload_id, Routed(life=life, facility_id=facility_id)),), outputs=outputs)


def options_of(event: WorkloadEvent, *, offers: Iterable[Offer], fleet: Fleet) -> tuple[list[Option], list[str]]:
    """Return the sites that could run a workload, best first, and why the others cannot.

    Real-time and interactive work goes where it starts first, then where it is cheapest; batch the other way round.
    A customer's site binds: his data must stay there.
    """
    device_class = fleet.device_class(event.device_class)
    if device_class is None or device_class.kind is not DeviceKind.GPU:
        return [], [f"device_class must be a GPU class of the fleet, was {event.device_class}"]
    cold_ms = int(device_class.profile(DeviceMode.AI_INFERENCE).enter_ms)
    options: list[Option] = []
    refused: list[str] = []
    for offer in offers:
        name, price = offer.facility.facility_id, offer.price_usd_micros_per_device_hour
        if event.facility_id not in {None, name} or event.device_class not in offer.facility.device_classes():
            continue
        dearest = event.price_usd_micros_per_device_hour_max
        if price is None:
            refused.append(f"{name}: no price is known")
        elif dearest is not None and price > dearest:
            refused.append(f"{name}: price must be at most {dearest}, was {price} micro-dollars")
        else:
            options.append(_option(offer, price=price, device_count=event.device_count, cold_ms=cold_ms))
    is_batch = classify(event.workload_type, priority=event.priority) is ServiceClass.P3
    options.sort(key=lambda each: _rank(each, is_batch=is_batch))
    return options, refused or ([] if options else ["no site has devices of that class"])


def _rank(option: Option, *, is_batch: bool) -> tuple[int, int, str]:
    start_ms, price = option.start_ms, option.price_usd_micros_per_device_hour
    return (price, start_ms, option.facility_id) if is_batch else (start_ms, price, option.facility_id)


def _option(offer: Offer, *, price: int, device_count: int, cold_ms: int) -> Option:
    warm, free = offer.warm_count, offer.free_count
    return Option(
        facility_id=offer.facility.facility_id,
        start_ms=0 if warm >= device_count else cold_ms if free >= device_count else QUEUE_MS,
        price_usd_micros_per_device_hour=price,
        warm_count=warm,
        free_count=free,
    )


def _offer(site: Site, event: WorkloadEvent, *, cause: Cause) -> Offer:
    # Event time 0: nothing is left out for its age, since the Resource Manager knows better and has the last word.
    counted = count_site(site.inventory, now_ms=0, wall_ms=cause.timestamp_ms)
    warm, free = _free(counted, event.device_class)
    price = None if site.rents is None else site.rents.price_of(event.device_class)
    return Offer(facility=site.facility, price_usd_micros_per_device_hour=price, warm_count=warm, free_count=free)


def _free(counted: Iterable[ClassDevices], device_class: str) -> tuple[int, int]:
    """Return how many devices are warm and free, and how many could be had at all."""
    for devices in counted:
        if devices.device_class == device_class:
            counts = {count.mode: count.movable_count for count in devices.modes}
            return counts.get(DeviceMode.AI_INFERENCE, 0), sum(counts.values())
    return 0, 0


def _routed(
    event: WorkloadEvent, *, sites: Iterable[Site], fleet: Fleet, cause: Cause
) -> tuple[str | None, tuple[object, ...]]:
    offers = [_offer(site, event, cause=cause) for site in sites]
    options, refused = options_of(event, offers=offers, fleet=fleet)
    if not options:
        reason = "; ".join(refused)
        return None, (
            _event(event, WorkloadEventType.FAILED, reason=reason, facility_id=None, price=None, cause=cause),
        )
    best = options[0]
    price = best.price_usd_micros_per_device_hour
    service_class = classify(event.workload_type, priority=event.priority)
    reason = "; ".join([service_class.value, *map(str, options), *refused])
    queued = _event(
        event, WorkloadEventType.QUEUED, reason=reason, facility_id=best.facility_id, price=price, cause=cause
    )
    return best.facility_id, (
        queued,
        _request(event, best.facility_id, action=AllocationAction.RESERVE, price=price),
    )


def _request(event: WorkloadEvent, facility_id: str, *, action: AllocationAction, price: int) -> AllocationRequest:
    service_class = classify(event.workload_type, priority=event.priority)
    return AllocationRequest(
        allocation_id=id_from_content("allocation", event.event_id, action),
        workload_id=event.workload_id,
        customer_id=event.customer_id,
        facility_id=facility_id,
        device_class=event.device_class,
        device_count=event.device_count,
        priority=event.priority,
        is_preemptible=service_class is not ServiceClass.P1,
        observed_at_ms=event.observed_at_ms,
        action=action,
        workload_type=event.workload_type,
        price_usd_micros_per_device_hour=price,
        run_seconds_max=event.run_seconds_max,
        checkpoint_seconds=event.checkpoint_seconds,
    )


def _event(
    event: WorkloadEvent,
    kind: WorkloadEventType,
    *,
    reason: str,
    facility_id: str | None,
    price: int | None,
    cause: Cause,
) -> WorkloadEvent:
    return WorkloadEvent(
        event_id=id_from_content("router", event.event_id, kind),
        workload_id=event.workload_id,
        customer_id=event.customer_id,
        event_type=kind,
        workload_type=event.workload_type,
        priority=event.priority,
        device_class=event.device_class,
        device_count=event.device_count,
        facility_id=facility_id,
        reason=reason[:REASON_CHARS_MAX],
        observed_at_ms=EpochMs(max(event.observed_at_ms, cause.timestamp_ms)),
        price_usd_micros_per_device_hour=price,
        price_usd_micros_per_device_hour_max=event.price_usd_micros_per_device_hour_max,
        run_seconds_max=event.run_seconds_max,
        checkpoint_seconds=event.checkpoint_seconds,
    )
