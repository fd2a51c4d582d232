"""Records people are paid, woken or audited by: usage, alerts, audit events."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from hcp.model.fields import Field
from hcp.model.types import (
    EARLIEST_EVENT_MS,
    LATEST_EVENT_MS,
    UUID_PATTERN,
    DeviceClassId,
    FacilityId,
    ObservedAtMs,
)
from hcp.model.units import EpochMs


@dataclass(frozen=True, slots=True, kw_only=True)
class BillingUsage:
    """Device-seconds of one workload in one interval, priced in integer micro-dollars."""

    usage_id: Annotated[
        str, Field("Derived from workload and interval: a replay bills nothing twice.", pattern=UUID_PATTERN)
    ]
    workload_id: Annotated[str, Field("The workload.", pattern=UUID_PATTERN)]
    customer_id: Annotated[str, Field("Who pays.", pattern=UUID_PATTERN)]
    facility_id: FacilityId
    device_class: DeviceClassId
    interval_start_ms: Annotated[
        EpochMs,
        Field(
            "Start of the interval.",
            unit="ms since epoch",
            minimum=EARLIEST_EVENT_MS,
            maximum=LATEST_EVENT_MS,
        ),
    ]
    interval_end_ms: Annotated[
        EpochMs,
        Field("End of the interval.", unit="ms since epoch", minimum=EARLIEST_EVENT_MS, maximum=LATEST_EVENT_MS),
    ]
    device_seconds: Annotated[int, Field("Devices times seconds.", unit="s", minimum=0, maximum=2**53)]
    price_usd_micros_per_device_hour: Annotated[
        int, Field("Price at the time.", unit="USD micros/h", minimum=0, maximum=2**53)
    ]
    amount_usd_micros: Annotated[
        int, Field("What is owed; negative for a credit.", unit="USD micros", minimum=-(2**53), maximum=2**53)
    ]
    observed_at_ms: ObservedAtMs


class AlertSeverity(StrEnum):
    """How soon a person must look."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class AlertType(StrEnum):
    """What an alert is about."""

    DEVICE_OVERHEATED = "device_overheated"
    DEVICE_SILENT = "device_silent"
    DEVICE_QUARANTINED = "device_quarantined"
    MODE_MISMATCH = "mode_mismatch"
    SWITCH_FAILED = "switch_failed"
    PRICE_STALE = "price_stale"
    PRICE_IMPLAUSIBLE = "price_implausible"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something a person should know; sent once when it begins."""

    alert_id: Annotated[str, Field("Derived from the cause.", pattern=UUID_PATTERN)]
    facility_id: FacilityId
    severity: Annotated[AlertSeverity, Field("How soon to look.")]
    alert_type: Annotated[AlertType, Field("What it is about.")]
    subject: Annotated[str, Field("Shard, device or class concerned.", pattern=r"[a-z0-9._/-]{1,160}")]
    message: Annotated[str, Field("For a person: what is, what should be.", pattern=r"[\s\S]{1,1000}")]
    observed_at_ms: ObservedAtMs


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """Who changed what, from where, before and after."""

    audit_id: Annotated[str, Field("Derived from the change.", pattern=UUID_PATTERN)]
    actor: Annotated[str, Field("Person or service.", pattern=r"[^\s]{1,200}")]
    action: Annotated[str, Field("What was done, snake_case.", pattern=r"[a-z][a-z0-9_.]{0,99}")]
    subject: Annotated[str, Field("What it was done to.", pattern=r"[^\s]{1,200}")]
    origin: Annotated[str, Field("Address or host it came from.", pattern=r"[^\s]{1,200}")]
    before: Annotated[str | None, Field("State before, JSON; null for none.", pattern=r"[\s\S]{0,65536}")]
    after: Annotated[str | None, Field("State after, JSON; null for none.", pattern=r"[\s\S]{0,65536}")]
    observed_at_ms: ObservedAtMs
