"""Workloads in PostgreSQL: submitted once by their key, listed, cancelled; each change owes its events to Kafka."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import msgspec

from gateway.cursors import Position, cursor_of, position_of
from gateway.database import Connection, Database, Row
from gateway.etags import etag_of, require_match
from gateway.outbox import audit_of, owe
from gateway.principals import Principal
from gateway.problems import ProblemError, not_found
from gateway.quotas import FINISHED, locked_quota, reserved_usd_micros
from gateway.records import Requirements, Submission, Workload, WorkloadPage
from hcp.model.ids import id_from_content
from hcp.model.units import EpochMs
from hcp.model.workloads import WorkloadEvent, WorkloadEventType, WorkloadStatus, WorkloadType

_MS: Final = "(extract(epoch from {0}) * 1000)::bigint as {0}_ms"
_TIMES: Final = ", ".join(
    _MS.format(each) for each in ("created_at", "cancel_requested_at", "started_at", "finished_at")
)
_COLUMNS: Final = (
    "workload_id::text, customer_id::text, name, workload_type, priority, requirements, status, status_reason, "
    f"facility_id, device_ids, queue_position, cost_usd_micros, reserved_usd_micros, device_seconds, {_TIMES}"
)
_KNOWN: Final = (
    "select request_hash, workload_id::text from idempotency_keys where customer_id = %s and idempotency_key = %s"
)
_INSERT: Final = """
with made as (
    insert into workloads (workload_id, customer_id, submitted_by, name, workload_type, priority, device_class,
                           device_count, requirements, reserved_usd_micros, created_at)
    values (%(workload_id)s, %(customer_id)s, %(user_id)s, %(name)s, %(workload_type)s, %(priority)s, %(device_class)s,
            %(device_count)s, %(requirements)s::jsonb, %(reserved)s, to_timestamp(%(at_ms)s::double precision / 1000))
    returning customer_id, workload_id, created_at
)
insert into idempotency_keys
select customer_id, %(key)s, %(hash)s, workload_id, created_at from made
"""
SORTS: Final[dict[str, tuple[str, str]]] = {
    "-created_at": ("created_at", "desc"),
    "created_at": ("created_at", "asc"),
    "-priority": ("priority", "desc"),
    "priority": ("priority", "asc"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Who calls, from where and when."""

    caller: Principal
    origin: str
    at_ms: EpochMs


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """A workload and whether this call made it, or an earlier one with the same key."""

    workload: Workload
    is_replay: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which workloads a list shall hold, in which order."""

    status: WorkloadStatus | None
    workload_type: WorkloadType | None
    sort: str
    cursor: str | None
    limit: int


def workload_of(row: Row) -> Workload:
    """Return the workload that a row holds."""
    return msgspec.convert(row, Workload)


async def submit(database: Database, submission: Submission, *, key: str, call: Call) -> Submitted:
    """Insert a workload with its event, or return the one that this key has made.

    Raises:
        ProblemError: 409 for a key that was used for another body; 422 for a broken quota.
        StoreError: The database is away or refuses.
    """
    customer_id = call.caller.customer_id
    request_hash = sha256(msgspec.json.encode(submission)).digest()
    async with database.transaction() as connection:
        locked = await locked_quota(connection, customer_id)  # also lets calls with one key in one after the other
        found = await connection.execute(_KNOWN, (customer_id, key))
        quota, known = await locked.read(), await found.fetchone()
        if known is not None:
            return await _replayed(connection, known, request_hash)
        wants = submission.requirements
        reserved = reserved_usd_micros(
            device_count=wants.device_count,
            run_seconds_max=wants.run_seconds_max,
            price_usd_micros_per_device_hour=wants.price_usd_micros_per_device_hour_max,
        )
        exceeded = quota.refuses(device_count=wants.device_count, reserved_usd_micros=reserved)
        if exceeded is not None:
            raise ProblemError(422, "quota_exceeded", exceeded.reason)
        workload = _made(submission, key=key, reserved=reserved, call=call)
        await _insert(connection, workload, key=key, request_hash=request_hash, call=call)
        return Submitted(workload=workload, is_replay=False)


def _made(submission: Submission, *, key: str, reserved: int, call: Call) -> Workload:
    """Return a workload as its row will be read: the insert need not be waited for to say what it says."""
    return Workload(
        workload_id=id_from_content("workload", call.caller.customer_id, key),
        customer_id=call.caller.customer_id,
        name=submission.name,
        workload_type=submission.workload_type,
        priority=submission.priority,
        requirements=submission.requirements,
        status=WorkloadStatus.CREATED,
        status_reason="",
        facility_id=None,
        device_ids=[],
        queue_position=None,
        cost_usd_micros=0,
        reserved_usd_micros=reserved,
        device_seconds=0,
        created_at_ms=call.at_ms,
        cancel_requested_at_ms=None,
        started_at_ms=None,
        finished_at_ms=None,
    )


async def _insert(connection: Connection, workload: Workload, *, key: str, request_hash: bytes, call: Call) -> None:
    requirements = msgspec.json.encode(workload.requirements).decode()
    await connection.execute(
        _INSERT.encode(),
        {
            "workload_id": workload.workload_id,
            "customer_id": workload.customer_id,
            "user_id": call.caller.user_id,
            "name": workload.name,
            "workload_type": workload.workload_type.value,
            "priority": workload.priority,
            "device_class": workload.requirements.device_class,
            "device_count": workload.requirements.device_count,
            "requirements": requirements,
            "reserved": workload.reserved_usd_micros,
            "at_ms": call.at_ms,
            "key": key,
            "hash": request_hash,
        },
    )
    event = event_of(
        WorkloadEventType.CREATED,
        workload_id=workload.workload_id,
        customer_id=workload.customer_id,
        workload_type=workload.workload_type,
        priority=workload.priority,
        requirements=workload.requirements,
        reason="",
        at_ms=call.at_ms,
    )
    audit = _audit("workload.submit", workload.workload_id, call, after=requirements)
    await owe(connection, [event, audit], trace_id=event.event_id)


def _audit(action: str, workload_id: str, call: Call, *, after: object) -> object:
    return audit_of(action, workload_id, caller=call.caller, origin=call.origin, after=after, at_ms=call.at_ms)


async def _replayed(connection: Connection, known: Row, request_hash: bytes) -> Submitted:
    if bytes(known["request_hash"]) != request_hash:
        raise ProblemError(
            409, "idempotency_key_reused", "Idempotency-Key must be new for another body, was used for a different one"
        )
    found = await connection.execute(_one("").encode(), (known["workload_id"],))
    row = await found.fetchone()
    assert row is not None, "a key must have its workload, by foreign key"
    return Submitted(workload=workload_of(row), is_replay=True)


def event_of(
    event_type: WorkloadEventType,
    *,
    workload_id: str,
    customer_id: str,
    workload_type: WorkloadType,
    priority: int,
    requirements: Requirements,
    reason: str,
    at_ms: EpochMs,
) -> WorkloadEvent:
    """Word an event of the gateway's; one workload has each of its types once, so the id follows from both."""
    return WorkloadEvent(
        event_id=id_from_content(event_type.value, workload_id),
        workload_id=workload_id,
        customer_id=customer_id,
        event_type=event_type,
        workload_type=workload_type,
        priority=priority,
        device_class=requirements.device_class,
        device_count=requirements.device_count,
        facility_id=requirements.facility_id,
        reason=reason,
        observed_at_ms=at_ms,
        price_usd_micros_per_device_hour_max=requirements.price_usd_micros_per_device_hour_max,
        run_seconds_max=requirements.run_seconds_max,
        checkpoint_seconds=requirements.checkpoint_seconds,
    )


def _one(suffix: str) -> str:
    return f"select {_COLUMNS} from workloads where workload_id = %s{suffix}"  # noqa: S608  # columns of ours


_VISIBLE: Final = " and (%s::uuid is null or customer_id = %s::uuid)"


async def one(database: Database, workload_id: str, *, caller: Principal) -> Workload:
    """Return a workload that the caller may see.

    Raises:
        ProblemError: 404; there is none, or it is another customer's.
    """
    row = await database.row(_one(_VISIBLE), workload_id, caller.sees_customer, caller.sees_customer)
    if row is None:
        raise not_found("workload", workload_id)
    return workload_of(row)


async def cancel(database: Database, workload_id: str, *, if_match: str | None, call: Call) -> Workload:
    """Ask for a workload's end; asked again, nothing changes.

    Raises:
        ProblemError: 404 as `one`; 409 when it has ended; 412 when it is not as the caller saw it.
    """
    seen = call.caller.sees_customer
    async with database.transaction() as connection:
        found = await connection.execute(_one(_VISIBLE + " for update").encode(), (workload_id, seen, seen))
        row = await found.fetchone()
        if row is None:
            raise not_found("workload", workload_id)
        workload = workload_of(row)
        require_match(if_match, etag_of(workload))
        if workload.status in FINISHED:
            raise ProblemError(409, "already_finished", f"workload must still be active, was {workload.status}")
        if workload.cancel_requested_at_ms is not None:
            return workload
        await connection.execute(
            "update workloads set cancel_requested_at = to_timestamp(%s::double precision / 1000) "
            "where workload_id = %s",
            (call.at_ms, workload_id),
        )
        event = event_of(
            WorkloadEventType.CANCELLED,
            workload_id=workload_id,
            customer_id=workload.customer_id,
            workload_type=workload.workload_type,
            priority=workload.priority,
            requirements=workload.requirements,
            reason=f"cancelled by {call.caller.role.value}",
            at_ms=call.at_ms,
        )
        audit = _audit("workload.cancel", workload_id, call, after={"cancel_requested_at_ms": call.at_ms})
        trace_id = id_from_content(WorkloadEventType.CREATED.value, workload_id)
        await owe(connection, [event, audit], trace_id=trace_id)
        return msgspec.structs.replace(workload, cancel_requested_at_ms=call.at_ms)


async def page(database: Database, wanted: Wanted, *, caller: Principal) -> WorkloadPage:
    """Return a page of workloads that the caller may see.

    Raises:
        ProblemError: 400; the order is unknown or the cursor is not of this list.
    """
    if wanted.sort not in SORTS:
        raise ProblemError(400, "bad_sort", f"sort must be one of {', '.join(SORTS)}, was {wanted.sort[:32]!r}")
    column, direction = SORTS[wanted.sort]
    conditions, values = ["true"], []
    for name, value in (
        ("customer_id = %s::uuid", caller.sees_customer),
        ("status = %s", wanted.status),
        ("workload_type = %s", wanted.workload_type),
    ):
        if value is not None:
            conditions.append(name)
            values.append(str(value))
    if wanted.cursor is not None:
        position = position_of(wanted.cursor, sort=wanted.sort)
        after = "%s::bigint" if column == "priority" else "to_timestamp(%s::double precision / 1000)"
        conditions.append(f"({column}, workload_id) {'<' if direction == 'desc' else '>'} ({after}, %s::uuid)")
        values += [position.value, position.identity]  # type: ignore[list-item]
    question = (
        f"select {_COLUMNS} from workloads where {' and '.join(conditions)} "  # noqa: S608  # columns of ours
        f"order by {column} {direction}, workload_id {direction} limit {wanted.limit + 1}"
    )
    items = [workload_of(row) for row in await database.rows(question, *values)]
    return WorkloadPage(items=items[: wanted.limit], next_cursor=_next(items, wanted))


def _next(items: list[Workload], wanted: Wanted) -> str | None:
    if len(items) <= wanted.limit:
        return None
    last = items[wanted.limit - 1]
    value = last.priority if wanted.sort.endswith("priority") else last.created_at_ms
    return cursor_of(Position(sort=wanted.sort, value=value, identity=last.workload_id))
