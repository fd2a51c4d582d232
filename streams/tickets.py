"""The Resource Manager's books of one workload: what it wants, where it waits or runs, and its events in words."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from hcp.model.ids import device_id, id_from_content
from hcp.model.steps import Cause
from hcp.model.units import MS_PER_SECOND, EpochMs
from hcp.model.workloads import AllocationRequest, WorkloadEvent, WorkloadEventType, WorkloadType
from streams.service_levels import SERVICE_LEVELS, ServiceClass, ServiceLevel, classify

PRIORITY_STEP_MS: Final = 20 * MS_PER_SECOND
"""How much earlier each point of priority lets a workload count as submitted."""
REASON_CHARS_MAX: Final = 500
Place = tuple[str, int]
"""One device: shard and index."""


class TicketStatus(StrEnum):
    """What the Resource Manager does for a workload."""

    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    OVER = "over"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """One workload at one site; times are broker timestamps.

    Attributes:
        workload_id: The workload; the key of the table.
        customer_id: Who pays.
        facility_id: The site.
        device_class: Wanted.
        device_count: Wanted at once, all or none.
        workload_type: Kind of work.
        priority: 1 to 10.
        is_preemptible: Whether a more urgent workload may take its devices.
        price_usd_micros_per_device_hour: It was routed at.
        run_seconds_max: All runs together; None for no end.
        checkpoint_seconds: How often its work is saved; None when never.
        submitted_at_ms: When the customer submitted it.
        waiting_since_ms: When it last began to wait.
        status: What is done for it.
        run_number: The run placed last.
        devices: Held, sorted.
        started_at_ms: When the present run began; 0 while it does not run.
        ran_ms: Of runs that have ended.
        metered_at_ms: Up to when its run was told of.
        tries: Placements that failed, since it last ran.
        preemptions: Runs that a more urgent workload took.
        told_position: Place in the queue that its customer knows of; 0 for none.
        over_at_ms: When it ended; 0 while it has not.
    """

    workload_id: str
    customer_id: str
    facility_id: str
    device_class: str
    device_count: int
    workload_type: WorkloadType
    priority: int
    is_preemptible: bool
    price_usd_micros_per_device_hour: int
    run_seconds_max: int | None
    checkpoint_seconds: int | None
    submitted_at_ms: int
    waiting_since_ms: int
    status: TicketStatus = TicketStatus.WAITING
    run_number: int = 0
    devices: tuple[Place, ...] = ()
    started_at_ms: int = 0
    ran_ms: int = 0
    metered_at_ms: int = 0
    tries: int = 0
    preemptions: int = 0
    told_position: int = 0
    over_at_ms: int = 0

    @property
    def service_class(self) -> ServiceClass:
        """Return its class of urgency."""
        return classify(self.workload_type, priority=self.priority)

    @property
    def level(self) -> ServiceLevel:
        """Return what its class is promised."""
        return SERVICE_LEVELS[self.service_class]

    @property
    def turn(self) -> tuple[int, int, str]:
        """Return its place in the order of a queue: the lowest is next.

        It is the time of submission less a head start by class and priority. Waiting ages all alike, so the order of
        two never changes while both wait, and only what is submitted within the head start can overtake: nobody
        starves, however many more urgent ones keep coming.
        """
        head_start_ms = self.level.head_start_ms + self.priority * PRIORITY_STEP_MS
        return self.submitted_at_ms - head_start_ms, self.submitted_at_ms, self.workload_id

    @property
    def placement_id(self) -> str:
        """Name its present run's placement, the decision behind its commands."""
        return placement_id(self.workload_id, run_number=self.run_number)

    def lost_work_ms(self, now_ms: int) -> int:
        """Return how much device time would be lost if its run ended now: what came since its last checkpoint."""
        ran_ms = max(now_ms - self.started_at_ms, 0)
        if self.checkpoint_seconds is not None:
            ran_ms %= self.checkpoint_seconds * MS_PER_SECOND
        return ran_ms * self.device_count

    def ends_at_ms(self) -> int | None:
        """Return when its time is up; None when it has no end or does not run."""
        if self.run_seconds_max is None or self.status is not TicketStatus.RUNNING:
            return None
        return self.started_at_ms + max(self.run_seconds_max * MS_PER_SECOND - self.ran_ms, 0)


def placement_id(workload_id: str, *, run_number: int) -> str:
    """Name one placement of a workload."""
    return id_from_content("placement", workload_id, run_number)


def ticket_of(request: AllocationRequest, *, now_ms: int) -> Ticket:
    """Open the books of a workload."""
    return Ticket(
        workload_id=request.workload_id,
        customer_id=request.customer_id,
        facility_id=request.facility_id,
        device_class=request.device_class,
        device_count=request.device_count,
        workload_type=request.workload_type,
        priority=request.priority,
        is_preemptible=request.is_preemptible,
        price_usd_micros_per_device_hour=request.price_usd_micros_per_device_hour,
        run_seconds_max=request.run_seconds_max,
        checkpoint_seconds=request.checkpoint_seconds,
        submitted_at_ms=request.observed_at_ms,
        waiting_since_ms=now_ms,
    )


def event_of(
    ticket: Ticket,
    kind: WorkloadEventType,
    *,
    cause: Cause,
    ordinal: int,
    at_ms: int,
    reason: str = "",
    queue_position: int | None = None,
) -> WorkloadEvent:
    """Word an event of a workload; its id follows from the record that caused it and its place among the others."""
    return WorkloadEvent(
        event_id=id_from_content("resources", cause.topic, cause.partition, cause.offset, ordinal),
        workload_id=ticket.workload_id,
        customer_id=ticket.customer_id,
        event_type=kind,
        workload_type=ticket.workload_type,
        priority=ticket.priority,
        device_class=ticket.device_class,
        device_count=ticket.device_count,
        facility_id=ticket.facility_id,
        reason=reason[:REASON_CHARS_MAX],
        observed_at_ms=EpochMs(at_ms),
        run_number=ticket.run_number,
        queue_position=queue_position,
        device_ids=" ".join(device_id(shard_id=shard_id, device_index=index) for shard_id, index in ticket.devices),
        price_usd_micros_per_device_hour=ticket.price_usd_micros_per_device_hour,
        run_seconds_max=ticket.run_seconds_max,
        checkpoint_seconds=ticket.checkpoint_seconds,
    )
