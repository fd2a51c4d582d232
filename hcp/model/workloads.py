"""Customers' workloads: their events and the request for devices that the router makes of them."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

from hcp.model.fields import Field
from hcp.model.types import NAME_PATTERN, UUID_PATTERN, DeviceClassId, FacilityId, ObservedAtMs


class WorkloadEventType(StrEnum):
    """What happened to a workload; `metered` says that it still runs, and up to when."""

    CREATED = "workload.created"
    QUEUED = "workload.queued"
    PLACED = "workload.placed"
    STARTING = "workload.starting"
    STARTED = "workload.started"
    METERED = "workload.metered"
    PREEMPTING = "workload.preempting"
    PREEMPTED = "workload.preempted"
    COMPLETED = "workload.completed"
    FAILED = "workload.failed"
    CANCELLED = "workload.cancelled"


class WorkloadType(StrEnum):
    """What kind of work it is."""

    INFERENCE_REAL_TIME = "inference_real_time"
    INFERENCE_INTERACTIVE = "inference_interactive"
    BATCH = "batch"


class WorkloadStatus(StrEnum):
    """Where a workload is in its life; the last three are its end."""

    CREATED = "created"
    QUEUED = "queued"
    PLACED = "placed"
    STARTING = "starting"
    RUNNING = "running"
    PREEMPTING = "preempting"
    PREEMPTED = "preempted"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class AllocationAction(StrEnum):
    """What is asked of the Resource Manager."""

    RESERVE = "reserve"
    RELEASE = "release"


DEVICES_NAMED_CHARS_MAX: Final = 65_536
_YEAR_SECONDS: Final = 366 * 24 * 3_600

Priority = Annotated[int, Field("1 is least, 10 most urgent.", unit="1", minimum=1, maximum=10)]
DeviceCount = Annotated[int, Field("Devices needed at once.", unit="1", minimum=1, maximum=100_000)]
OptionalFacilityId = Annotated[
    str | None, Field("Site; null while not placed or when any will do.", pattern=NAME_PATTERN)
]
RunSecondsMax = Annotated[
    int | None, Field("Longest run, all runs together; null for no end.", unit="s", minimum=1, maximum=_YEAR_SECONDS)
]
CheckpointSeconds = Annotated[
    int | None,
    Field("How often its work is saved; null when never.", unit="s", minimum=1, maximum=_YEAR_SECONDS),
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
    run_number: Annotated[
        int,
        Field(
            "Which run, counted from 1: each preemption ends one; 0 before the first.",
            unit="1",
            minimum=0,
            maximum=1_000,
        ),
    ] = 0
    queue_position: Annotated[
        int | None,
        Field(
            "Place in the queue of its site and class, 1 is next; null when it does not wait.",
            unit="1",
            minimum=1,
            maximum=2**31,
        ),
    ] = None
    device_ids: Annotated[
        str,
        Field(
            "Devices it is placed on, separated by a space; empty when none.",
            pattern=rf"[a-z0-9._/ -]{{0,{DEVICES_NAMED_CHARS_MAX}}}",
        ),
    ] = ""
    price_usd_micros_per_device_hour: Annotated[
        int | None, Field("Price of this run; null when not yet known.", unit="USD micros/h", minimum=0, maximum=2**53)
    ] = None
    price_usd_micros_per_device_hour_max: Annotated[
        int | None, Field("Dearest price taken; null when any is.", unit="USD micros/h", minimum=0, maximum=2**53)
    ] = None
    run_seconds_max: RunSecondsMax = None
    checkpoint_seconds: CheckpointSeconds = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocationRequest:
    """Devices of one site wanted for one workload, or given back.

    `observed_at_ms` is when the workload was submitted, or when it ended.
    """

    allocation_id: Annotated[str, Field("Derived from the workload event.", pattern=UUID_PATTERN)]
    workload_id: Annotated[str, Field("The workload.", pattern=UUID_PATTERN)]
    customer_id: Annotated[str, Field("Who pays.", pattern=UUID_PATTERN)]
    facility_id: FacilityId
    device_class: DeviceClassId
    device_count: DeviceCount
    priority: Priority
    is_preemptible: Annotated[bool, Field("Whether a more urgent workload may take its devices.")]
    observed_at_ms: ObservedAtMs
    action: Annotated[AllocationAction, Field("Devices wanted, or given back.")] = AllocationAction.RESERVE
    workload_type: Annotated[WorkloadType, Field("Kind of work.")] = WorkloadType.BATCH
    price_usd_micros_per_device_hour: Annotated[
        int, Field("Price it was routed at.", unit="USD micros/h", minimum=0, maximum=2**53)
    ] = 0
    run_seconds_max: RunSecondsMax = None
    checkpoint_seconds: CheckpointSeconds = None
