"""The hard state of a shard, as one of its two reporters knows it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from hcp.model.devices import DeviceMode, DeviceState
from hcp.model.fields import Field
from hcp.model.types import ClusterId, DeviceClassId, DeviceIndexes, Epochs, FacilityId, ObservedAtMs, ShardId


class StateReporter(StrEnum):
    """Who says so. Each keeps its own compacted record, so neither overwrites what only the other knows."""

    FLEET_MONITOR = "fleet_monitor"
    RESOURCES = "resources"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceState:
    """Mode, health, fencing epoch and owner of each device of a shard.

    The fleet monitor reports what telemetry shows (epochs 0, owners empty); the Resource Manager reports what it has
    allocated and what controllers have verified.
    """

    state_key: Annotated[
        str,
        Field("Key of the compacted topic: <shard_id>/<reported_by>.", pattern=r"[a-z0-9._/-]{3,160}"),
    ]
    facility_id: FacilityId
    cluster_id: ClusterId
    shard_id: ShardId
    device_class: DeviceClassId
    reported_by: Annotated[StateReporter, Field("Who says so.")]
    device_indexes: DeviceIndexes
    modes: Annotated[tuple[DeviceMode, ...], Field("Mode of each device.", column=True)]
    states: Annotated[tuple[DeviceState, ...], Field("Whether it may be switched.", column=True)]
    epochs: Epochs
    owners: Annotated[
        tuple[str, ...],
        Field("Customer workload that holds the device; empty for none.", column=True),
    ]
    observed_at_ms: ObservedAtMs


def state_key(*, shard_id: str, reported_by: StateReporter) -> str:
    """Return the compaction key of one reporter's record of a shard."""
    return f"{shard_id}/{reported_by}"
