"""What a person tells HCP to do with devices, whatever the economics say."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from hcp.model.devices import DeviceMode
from hcp.model.facilities import Shard
from hcp.model.fields import Field
from hcp.model.ids import id_from_content
from hcp.model.types import (
    UUID_PATTERN,
    ClusterId,
    DeviceClassId,
    DeviceIndexes,
    FacilityId,
    ObservedAtMs,
    ShardId,
)
from hcp.model.units import EpochMs


class OrderAction(StrEnum):
    """What is to be done.

    `maintenance` leaves a device as it runs and keeps HCP from switching it. `pause` stops it too. `lock_out` does the
    same, and only whoever locked it releases it. `release` ends all of these and a quarantine. `switch` brings it to a
    mode once; policies decide on from there.
    """

    MAINTENANCE = "maintenance"
    PAUSE = "pause"
    LOCK_OUT = "lock_out"
    RELEASE = "release"
    SWITCH = "switch"


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorOrder:
    """A person's order for some devices of one shard; columnar."""

    order_id: Annotated[str, Field("Derived from all that is ordered.", pattern=UUID_PATTERN)]
    facility_id: FacilityId
    cluster_id: ClusterId
    shard_id: ShardId
    device_class: DeviceClassId
    action: Annotated[OrderAction, Field("What is to be done.")]
    to_mode: Annotated[DeviceMode | None, Field("Mode wanted, for a switch; null otherwise.")]
    device_indexes: DeviceIndexes
    operator: Annotated[str, Field("Who ordered it.", pattern=r"[^\s|]{1,64}")]
    origin: Annotated[str, Field("Host it was ordered from.", pattern=r"[^\s]{1,200}")]
    why: Annotated[str, Field("Why, for whoever finds the device so.", pattern=r"[^\n|]{1,200}")]
    observed_at_ms: ObservedAtMs


def order_of(
    action: OrderAction,
    shard: Shard,
    indexes: Iterable[int],
    *,
    operator: str,
    origin: str,
    why: str,
    observed_at_ms: EpochMs,
    to_mode: DeviceMode | None = None,
) -> OperatorOrder:
    """Word an order; the same one has the same id."""
    rows = tuple(sorted(indexes))
    named = (action, shard.shard_id, ",".join(map(str, rows)), to_mode or "", operator, observed_at_ms)
    return OperatorOrder(
        order_id=id_from_content("operator.order", *named),
        facility_id=shard.facility_id,
        cluster_id=shard.cluster_id,
        shard_id=shard.shard_id,
        device_class=shard.device_class,
        action=action,
        to_mode=to_mode,
        device_indexes=rows,
        operator=operator,
        origin=origin,
        why=why,
        observed_at_ms=observed_at_ms,
    )
