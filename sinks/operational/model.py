"""The operational read model in PostgreSQL: status, cost and invoices of workloads; this sink is its only writer.

It writes, in table `workloads`: status, status_reason, facility_id, device_ids, queue_position, started_at,
finished_at, status_changed_at, kafka_partition, kafka_offset (from workload.events), cost_usd_micros, device_seconds
(from billing.usage); and the tables invoices and invoice_lines, of which each line names the record it was made from.

Exactly once without offsets of its own: a workload's events share a partition, so one is new when its offset is above
the row's; a usage is new when its line is not there yet.
"""

from datetime import UTC, datetime
from typing import Any, Final

import psycopg

from hcp.kafka.records import ConsumedRecord
from hcp.model.ids import id_from_content
from hcp.model.ledger import BillingUsage
from hcp.model.units import MS_PER_SECOND
from hcp.model.workloads import WorkloadEvent, WorkloadEventType, WorkloadStatus
from streams.lifecycle import ENDED, TRANSITIONS

_TIME: Final = "to_timestamp(%(at_ms)s::double precision / 1000)"
_LOCKED: Final = "select status, kafka_offset, customer_id::text from workloads where workload_id = %s for update"
_SEEN: Final = (
    "update workloads set kafka_partition = %(partition)s, kafka_offset = %(offset)s where workload_id = %(id)s"
)
_MOVE: Final = f"""
update workloads set status = %(status)s, status_reason = %(reason)s,
    facility_id = coalesce(%(facility_id)s, facility_id), device_ids = %(device_ids)s,
    queue_position = %(queue_position)s,
    started_at = case when %(is_running)s then coalesce(started_at, {_TIME}) else started_at end,
    finished_at = case when %(is_over)s then {_TIME} else finished_at end,
    status_changed_at = case when status = %(status)s then status_changed_at else {_TIME} end,
    kafka_partition = %(partition)s, kafka_offset = %(offset)s
where workload_id = %(id)s
"""  # noqa: S608  # a time of ours
_INVOICE: Final = (
    "insert into invoices (invoice_id, customer_id, day, amount_usd_micros, issued_at) values (%s, %s, %s, 0, %s) "
    "on conflict do nothing"
)
_LINE: Final = (
    "insert into invoice_lines (invoice_id, usage_id, workload_id, facility_id, device_class, interval_start, "
    "interval_end, device_seconds, price_usd_micros_per_device_hour, amount_usd_micros, kafka_topic, kafka_partition, "
    "kafka_offset) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) on conflict do nothing"
)
_OWED: Final = "update invoices set amount_usd_micros = amount_usd_micros + %s where invoice_id = %s"
_COST: Final = (
    "update workloads set cost_usd_micros = cost_usd_micros + %s, device_seconds = device_seconds + %s "
    "where workload_id = %s"
)


def status_after(status: WorkloadStatus, event: WorkloadEvent) -> WorkloadStatus | None:
    """Return the status after an event; None when it may not follow.

    The router's word of the queue, which knows no run, may come behind the placement that answered it: it is late.
    """
    is_late = event.event_type is WorkloadEventType.QUEUED and event.run_number == 0
    if is_late and status not in {WorkloadStatus.CREATED, WorkloadStatus.QUEUED}:
        return None
    return TRANSITIONS[status].get(event.event_type)


def take_event(connection: psycopg.Connection[Any], event: WorkloadEvent, *, record: ConsumedRecord) -> str | None:
    """Write what an event changes; return why it changed nothing, or None when it did.

    A workload that the gateway does not have is nobody's: nothing is written.
    """
    row = connection.execute(_LOCKED, (event.workload_id,)).fetchone()
    if row is None:
        return "unknown_workload"
    status, stored_offset, _ = row
    if stored_offset is not None and record.offset <= stored_offset:
        return "duplicate"
    seen = {"id": event.workload_id, "partition": record.partition, "offset": record.offset}
    after = status_after(WorkloadStatus(status), event)
    if after is None:
        connection.execute(_SEEN, seen)
        return "known" if event.event_type is WorkloadEventType.CREATED else "illegal_transition"
    if event.event_type is WorkloadEventType.METERED:
        connection.execute(_SEEN, seen)
        return None
    connection.execute(
        _MOVE,
        {
            **seen,
            "status": after.value,
            "reason": event.reason,
            "facility_id": event.facility_id,
            "device_ids": event.device_ids.split(),
            "queue_position": event.queue_position,
            "is_running": after is WorkloadStatus.RUNNING,
            "is_over": after in ENDED,
            "at_ms": event.observed_at_ms,
        },
    )
    return None


def take_usage(connection: psycopg.Connection[Any], usage: BillingUsage, *, record: ConsumedRecord) -> str | None:
    """Put a usage on its day's invoice and on its workload's cost; return why it changed nothing, or None."""
    row = connection.execute(_LOCKED, (usage.workload_id,)).fetchone()
    if row is None or row[2] != usage.customer_id:
        return "unknown_workload"
    start, end = _time(usage.interval_start_ms), _time(usage.interval_end_ms)
    day = start.date()
    invoice_id = id_from_content("invoice", usage.customer_id, day.isoformat())
    connection.execute(_INVOICE, (invoice_id, usage.customer_id, day, _time(usage.observed_at_ms)))
    line = (
        *(invoice_id, usage.usage_id, usage.workload_id, usage.facility_id, usage.device_class, start, end),
        *(usage.device_seconds, usage.price_usd_micros_per_device_hour, usage.amount_usd_micros),
        *(record.topic, record.partition, record.offset),
    )
    if connection.execute(_LINE, line).rowcount == 0:
        return "duplicate"
    connection.execute(_OWED, (usage.amount_usd_micros, invoice_id))
    connection.execute(_COST, (usage.amount_usd_micros, usage.device_seconds, usage.workload_id))
    return None


def _time(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / MS_PER_SECOND, tz=UTC)
