"""What a customer is promised, by class of urgency: time to start, availability, and what a miss is credited with."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from hcp.model.units import MS_PER_HOUR, MS_PER_MINUTE, MS_PER_SECOND
from hcp.model.workloads import WorkloadType

LIFTED_PRIORITY: Final = 9
"""From this priority on, a workload counts as one class more urgent than its type."""
PERCENT: Final = 100


class ServiceClass(StrEnum):
    """Urgency: real-time, interactive, batch."""

    P1 = "p1"
    P2 = "p2"
    P3 = "p3"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceLevel:
    """The promises to one class.

    Attributes:
        rank: 1 is the most urgent; a lower rank may preempt a higher one.
        start_ms_max: From submission to the first start; None where nothing is promised.
        availability_percent_min: Share of the time from first start to end that it runs; None likewise.
        wait_ms_max: Longest wait in the queue before it is given up.
        head_start_ms: How much earlier than batch it counts as submitted in the queue.
        preemptions_max: Runs that may be taken from it, all told.
        late_start_credit_percent: Of its bill, when it started late.
        availability_credit_percent: Of its bill, when it ran less than promised.
    """

    rank: int
    start_ms_max: int | None
    availability_percent_min: int | None
    wait_ms_max: int
    head_start_ms: int
    preemptions_max: int
    late_start_credit_percent: int
    availability_credit_percent: int


SERVICE_LEVELS: Final = {
    ServiceClass.P1: ServiceLevel(
        rank=1,
        start_ms_max=500,
        availability_percent_min=99,
        wait_ms_max=5 * MS_PER_MINUTE,
        head_start_ms=30 * MS_PER_MINUTE,
        preemptions_max=0,
        late_start_credit_percent=10,
        availability_credit_percent=25,
    ),
    ServiceClass.P2: ServiceLevel(
        rank=2,
        start_ms_max=5 * MS_PER_SECOND,
        availability_percent_min=95,
        wait_ms_max=MS_PER_HOUR,
        head_start_ms=10 * MS_PER_MINUTE,
        preemptions_max=1,
        late_start_credit_percent=5,
        availability_credit_percent=10,
    ),
    ServiceClass.P3: ServiceLevel(
        rank=3,
        start_ms_max=None,
        availability_percent_min=None,
        wait_ms_max=24 * MS_PER_HOUR,
        head_start_ms=0,
        preemptions_max=3,
        late_start_credit_percent=0,
        availability_credit_percent=0,
    ),
}
_BY_TYPE: Final = {
    WorkloadType.INFERENCE_REAL_TIME: ServiceClass.P1,
    WorkloadType.INFERENCE_INTERACTIVE: ServiceClass.P2,
    WorkloadType.BATCH: ServiceClass.P3,
}
_LIFTED: Final = {
    ServiceClass.P1: ServiceClass.P1,
    ServiceClass.P2: ServiceClass.P1,
    ServiceClass.P3: ServiceClass.P2,
}


def classify(workload_type: WorkloadType, *, priority: int) -> ServiceClass:
    """Return the class of a kind of work at a priority of 1 to 10."""
    found = _BY_TYPE[workload_type]
    return _LIFTED[found] if priority >= LIFTED_PRIORITY else found


def credit_percent(service_class: ServiceClass, *, wait_ms: int | None, availability_ratio: float | None) -> int:
    """Return which share of its bill a workload is credited with, 0 to 100.

    Args:
        service_class: Its class.
        wait_ms: From submission to the first start; None when it never started: then nothing was billed.
        availability_ratio: Share of the time since then that it ran; None likewise.
    """
    level = SERVICE_LEVELS[service_class]
    percent = 0
    if level.start_ms_max is not None and wait_ms is not None and wait_ms > level.start_ms_max:
        percent += level.late_start_credit_percent
    promised = level.availability_percent_min
    if promised is not None and availability_ratio is not None and availability_ratio * PERCENT < promised:
        percent += level.availability_credit_percent
    return percent
