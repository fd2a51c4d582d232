"""Where a workload would run now, when and at what price: a pure answer from what is known; nothing is reserved."""

from typing import Final

from gateway.quotas import reserved_usd_micros
from gateway.records import RouteAnswer, Submission
from gateway.view import Capacity
from hcp.model.devices import DeviceKind, DeviceMode
from hcp.model.facilities import Fleet

WARM_START_MS: Final = 300
"""What the platform aims at from POST to started when a warm device is free."""


def route_of(
    submission: Submission,
    *,
    fleet: Fleet,
    capacity: dict[tuple[str, str], Capacity],
    prices: dict[tuple[str, str], int],
    as_of_ms: int | None,
) -> RouteAnswer:
    """Choose the site: warm devices before cold ones, then the lower price, then the name; say why others are not."""
    wants = submission.requirements
    reasons: list[str] = []
    candidates: list[tuple[int, int, str]] = []
    cold_ms = _cold_start_ms(fleet, wants.device_class)
    if cold_ms is None:
        reasons.append(f"device_class must be a GPU class of the fleet, was {wants.device_class}")
    for site in fleet.facilities if cold_ms is not None else ():
        key = (site.facility_id, wants.device_class)
        if wants.facility_id not in {None, site.facility_id} or wants.device_class not in site.device_classes():
            continue
        free = capacity.get(key, Capacity())
        price = prices.get(key)
        if price is None:
            reasons.append(f"{site.facility_id}: no price is known")
        elif price > wants.price_usd_micros_per_device_hour_max:
            reasons.append(f"{site.facility_id}: price must be at most the wanted one, is {price}")
        elif free.free < wants.device_count:
            reasons.append(f"{site.facility_id}: {wants.device_count} devices must be free, are {free.free}")
        else:
            start_ms = WARM_START_MS if free.warm >= wants.device_count else WARM_START_MS + (cold_ms or 0)
            candidates.append((start_ms, price, site.facility_id))
    best = min(candidates, default=None)
    price_usd_micros = wants.price_usd_micros_per_device_hour_max if best is None else best[1]
    return RouteAnswer(
        is_possible=best is not None,
        facility_id=None if best is None else best[2],
        start_ms=None if best is None else best[0],
        price_usd_micros_per_device_hour=None if best is None else best[1],
        reserved_usd_micros=reserved_usd_micros(
            device_count=wants.device_count,
            run_seconds_max=wants.run_seconds_max,
            price_usd_micros_per_device_hour=price_usd_micros,
        ),
        reasons=reasons or ([] if best is not None else ["no site has devices of that class"]),
        as_of_ms=as_of_ms,
    )


def _cold_start_ms(fleet: Fleet, name: str) -> int | None:
    device_class = fleet.device_class(name)
    if device_class is None or device_class.kind is not DeviceKind.GPU:
        return None
    modes = {profile.mode: profile.enter_ms for profile in device_class.modes}
    return modes.get(DeviceMode.AI_INFERENCE)
