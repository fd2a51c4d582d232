"""Where a workload would run now, when and at what price: the router's own choice, by what the gateway knows."""

from typing import Final
from uuid import UUID

from gateway.quotas import reserved_usd_micros
from gateway.records import RouteAnswer, Submission
from gateway.view import Capacity
from gateway.workloads import event_of
from hcp.model.facilities import Fleet
from hcp.model.units import EpochMs
from hcp.model.workloads import WorkloadEventType
from streams.router import QUEUE_MS, Offer, options_of

WARM_START_MS: Final = 300
"""What the platform aims at from POST to started when a warm device is free."""
NOBODY: Final = str(UUID(int=0))


def route_of(
    submission: Submission,
    *,
    fleet: Fleet,
    capacity: dict[tuple[str, str], Capacity],
    prices: dict[tuple[str, str], int],
    as_of_ms: int | None,
) -> RouteAnswer:
    """Choose as the router would; nothing is reserved, and the next submission may take what is named here.

    A site whose devices are all busy is an answer too: the workload would wait there, nobody knows how long.
    """
    wants = submission.requirements
    asked = event_of(
        WorkloadEventType.CREATED,
        workload_id=NOBODY,
        customer_id=NOBODY,
        workload_type=submission.workload_type,
        priority=submission.priority,
        requirements=wants,
        reason="",
        at_ms=EpochMs(0),
    )
    offers = []
    for site in fleet.facilities:
        key = (site.facility_id, wants.device_class)
        known = capacity.get(key, Capacity())
        offers.append(
            Offer(
                facility=site,
                price_usd_micros_per_device_hour=prices.get(key),
                warm_count=known.warm,
                free_count=known.free,
            )
        )
    options, refused = options_of(asked, offers=offers, fleet=fleet)
    best = options[0] if options else None
    waits = best is not None and best.start_ms >= QUEUE_MS
    reasons = [*map(str, options[:1]), "it would wait for devices"] if waits else []
    price = wants.price_usd_micros_per_device_hour_max if best is None else best.price_usd_micros_per_device_hour
    return RouteAnswer(
        is_possible=best is not None,
        facility_id=None if best is None else best.facility_id,
        start_ms=None if best is None or waits else WARM_START_MS + best.start_ms,
        price_usd_micros_per_device_hour=None if best is None else price,
        reserved_usd_micros=reserved_usd_micros(
            device_count=wants.device_count,
            run_seconds_max=wants.run_seconds_max,
            price_usd_micros_per_device_hour=price,
        ),
        reasons=[*reasons, *refused],
        as_of_ms=as_of_ms,
    )
