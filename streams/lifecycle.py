"""The life of a workload as one state machine: what may follow what, and the clock of its service level.

The router, the sink of the read model and the tests hold workloads to this table; nobody keeps one of their own.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from hcp.model.workloads import WorkloadEvent, WorkloadEventType, WorkloadStatus

ENDED: Final = frozenset({WorkloadStatus.COMPLETED, WorkloadStatus.FAILED, WorkloadStatus.CANCELLED})
_ENDS: Final = {
    WorkloadEventType.FAILED: WorkloadStatus.FAILED,
    WorkloadEventType.CANCELLED: WorkloadStatus.CANCELLED,
}
_WAITS: Final = {
    WorkloadEventType.QUEUED: WorkloadStatus.QUEUED,
    WorkloadEventType.PLACED: WorkloadStatus.PLACED,
}
_GOES_BACK: Final = {WorkloadEventType.QUEUED: WorkloadStatus.QUEUED, WorkloadEventType.STARTED: WorkloadStatus.RUNNING}
_RUNS_NO_MORE: Final = {
    WorkloadEventType.PREEMPTED: WorkloadStatus.PREEMPTED,
    WorkloadEventType.COMPLETED: WorkloadStatus.COMPLETED,
}
TRANSITIONS: Final[dict[WorkloadStatus, dict[WorkloadEventType, WorkloadStatus]]] = {
    WorkloadStatus.CREATED: {**_WAITS, **_ENDS},
    WorkloadStatus.QUEUED: {**_WAITS, **_ENDS},
    WorkloadStatus.PLACED: {WorkloadEventType.STARTING: WorkloadStatus.STARTING, **_GOES_BACK, **_ENDS},
    WorkloadStatus.STARTING: {**_GOES_BACK, **_ENDS},
    WorkloadStatus.RUNNING: {
        WorkloadEventType.METERED: WorkloadStatus.RUNNING,
        WorkloadEventType.PREEMPTING: WorkloadStatus.PREEMPTING,
        **_RUNS_NO_MORE,
        **_ENDS,
    },
    WorkloadStatus.PREEMPTING: {**_RUNS_NO_MORE, **_ENDS},
    WorkloadStatus.PREEMPTED: {**_WAITS, **_ENDS},
    WorkloadStatus.COMPLETED: {},
    WorkloadStatus.FAILED: {},
    WorkloadStatus.CANCELLED: {},
}
_RUNNING: Final = frozenset({WorkloadStatus.RUNNING, WorkloadStatus.PREEMPTING})
_OF_NO_RUN: Final = frozenset({WorkloadEventType.CREATED, WorkloadEventType.CANCELLED})
"""Events of the gateway, which knows of no runs."""


class Refusal(StrEnum):
    """Why an event changes nothing."""

    UNKNOWN = "unknown_workload"
    DUPLICATE = "duplicate"
    LATE = "late"
    ILLEGAL = "illegal_transition"


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One workload as its events tell it; times are epoch ms by the events' own clock.

    Attributes:
        status: Where it is.
        run_number: The run placed last, counted from 1; 0 before the first.
        submitted_at_ms: When it was created.
        changed_at_ms: When `status` began.
        first_started_at_ms: When it first ran; None while it never has.
        running_since_ms: When the present run began; None while it does not run.
        running_ms: How long it ran, in runs that have ended.
        finished_at_ms: When it ended; None while it has not.
        preemptions: Runs that were taken from it.
        last_event_id: The event taken in last.
        refused: Events that were refused, duplicates included.
    """

    status: WorkloadStatus
    run_number: int = 0
    submitted_at_ms: int
    changed_at_ms: int
    first_started_at_ms: int | None = None
    running_since_ms: int | None = None
    running_ms: int = 0
    finished_at_ms: int | None = None
    preemptions: int = 0
    last_event_id: str = ""
    refused: int = 0

    @property
    def is_over(self) -> bool:
        """Say whether it has ended for good."""
        return self.status in ENDED

    @property
    def wait_ms(self) -> int | None:
        """Return the time from submission to the first start; None while it has not started."""
        return None if self.first_started_at_ms is None else max(self.first_started_at_ms - self.submitted_at_ms, 0)

    def availability_ratio(self, now_ms: int) -> float | None:
        """Return how much of the time since its first start it ran, 0..1; None before that.

        Args:
            now_ms: Until when; of a workload that has ended its end counts.
        """
        if self.first_started_at_ms is None:
            return None
        until_ms = max(now_ms if self.finished_at_ms is None else self.finished_at_ms, self.first_started_at_ms)
        passed_ms = until_ms - self.first_started_at_ms
        now_running_ms = 0 if self.running_since_ms is None else max(until_ms - self.running_since_ms, 0)
        return min((self.running_ms + now_running_ms) / passed_ms, 1.0) if passed_ms else 1.0


def advance(life: Life | None, event: WorkloadEvent) -> Life | Refusal:
    """Take in one event; a refusal leaves the life as it is (count it with `refuse`).

    Events of one workload share a partition, but come from the gateway, the router and the Resource Manager: what
    one of them says of an older run than is known is late.
    """
    kind = event.event_type
    if life is None:
        return _born(event) if kind in _OF_NO_RUN else Refusal.UNKNOWN
    if event.event_id == life.last_event_id or kind is WorkloadEventType.CREATED:
        return Refusal.DUPLICATE
    oldest_run = life.run_number + (kind is WorkloadEventType.PLACED)  # a placement begins a run
    if kind not in _OF_NO_RUN and event.run_number < oldest_run:
        return Refusal.LATE
    status = TRANSITIONS[life.status].get(kind)
    return Refusal.ILLEGAL if status is None else _moved(life, event, status=status)


def refuse(life: Life) -> Life:
    """Count one refused event."""
    return replace(life, refused=life.refused + 1)


def _born(event: WorkloadEvent) -> Life:
    """Begin with the creation, or with a cancellation that has overtaken it: then the creation comes too late."""
    at_ms = event.observed_at_ms
    is_cancelled = event.event_type is WorkloadEventType.CANCELLED
    return Life(
        status=WorkloadStatus.CANCELLED if is_cancelled else WorkloadStatus.CREATED,
        submitted_at_ms=at_ms,
        changed_at_ms=at_ms,
        finished_at_ms=at_ms if is_cancelled else None,
        last_event_id=event.event_id,
    )


def _moved(life: Life, event: WorkloadEvent, *, status: WorkloadStatus) -> Life:
    at_ms = max(event.observed_at_ms, life.changed_at_ms)  # clocks of three processes: time never runs backwards here
    since_ms, ran_ms, first_ms = life.running_since_ms, life.running_ms, life.first_started_at_ms
    if status is WorkloadStatus.RUNNING and since_ms is None:
        since_ms, first_ms = at_ms, at_ms if first_ms is None else first_ms
    elif status not in _RUNNING and since_ms is not None:
        ran_ms, since_ms = ran_ms + at_ms - since_ms, None
    return replace(
        life,
        status=status,
        run_number=max(event.run_number, life.run_number),
        changed_at_ms=life.changed_at_ms if status is life.status else at_ms,
        first_started_at_ms=first_ms,
        running_since_ms=since_ms,
        running_ms=ran_ms,
        finished_at_ms=at_ms if status in ENDED else None,
        preemptions=life.preemptions + (status is WorkloadStatus.PREEMPTED),
        last_event_id=event.event_id,
    )
