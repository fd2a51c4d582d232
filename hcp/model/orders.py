"""What a person tells HCP to do with devices, whatever the economics say."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from hcp.model.devices import DeviceMode
from hcp.model.fields import Field
from hcp.model.types import (
    UUID_PATTERN,
    ClusterId,
    DeviceClassId,
    DeviceIndexes,
    FacilityId,
    ObservedAtMs,
    ShardId,
)


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
