"""Customers' workloads: their events and the request for devices that the router makes of them."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from hcp.model.fields import Field
from hcp.model.types import NAME_PATTERN, UUID_PATTERN, DeviceClassId, FacilityId, ObservedAtMs


class WorkloadEventType(StrEnum):
    """What happened to a workload."""

    CREATED = "workload.created"
    QUEUED = "workload.queued"
    PLACED = "workload.placed"
    STARTED = "workload.started"
    PREEMPTED = "workload.preempted"
    COMPLETED = "workload.completed"
    FAILED = "workload.failed"
    CANCELLED = "workload.cancelled"


class WorkloadType(StrEnum):
    """What kind of work it is."""

    INFERENCE_REAL_TIME = "inference_real_time"
    INFERENCE_INTERACTIVE = "inference_interactive"
    BATCH = "batch"


Priority = Annotated[int, Field("1 is least, 10 most urgent.", unit="1", minimum=1, maximum=10)]
DeviceCount = Annotated[int, Field("Devices needed at once.", unit="1", minimum=1, maximum=100_000)]
OptionalFacilityId = Annotated[
    str | None, Field("Site; null while not placed or when any will do.", pattern=NAME_PATTERN)
]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadEvent:
    """One step in the life of a workload."""

    event_id: Annotated[str, Field("Derived from the cause.", pattern=UUID_PATTERN)]
    workload_id: Annotated[str, Field("The workload.", pattern=UUID_PATTERN)]
    customer_id: Annotated[str, Field("Who pays.", pattern=UUID_PATTERN)]
    event_type: Annotated[WorkloadEventType, Field("What happened.")]
    workload_type: Annotated[WorkloadType, Field("Kind of work.")]
    priority: Priority
    device_class: DeviceClassId
    device_count: DeviceCount
    facility_id: OptionalFacilityId
    reason: Annotated[str, Field("Why, in words; may be empty.", pattern=r"[\s\S]{0,500}")]
    observed_at_ms: ObservedAtMs


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocationRequest:
    """Devices wanted at one site for one workload."""

    allocation_id: Annotated[str, Field("Derived from the workload event.", pattern=UUID_PATTERN)]
    workload_id: Annotated[str, Field("The workload.", pattern=UUID_PATTERN)]
    customer_id: Annotated[str, Field("Who pays.", pattern=UUID_PATTERN)]
    facility_id: FacilityId
    device_class: DeviceClassId
    device_count: DeviceCount
    priority: Priority
    is_preemptible: Annotated[bool, Field("Whether a more urgent workload may take its devices.")]
    observed_at_ms: ObservedAtMs
