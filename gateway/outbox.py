"""What a transaction owes Kafka, written in that transaction; and the audit event of each change."""

from collections.abc import Sequence
from typing import Final

import msgspec

from gateway.database import Connection
from gateway.principals import Principal
from hcp.codecs import encode
from hcp.model.ids import id_from_content
from hcp.model.ledger import AuditEvent
from hcp.model.units import EpochMs
from hcp.topics import topic_of

_INSERT: Final = (
    "insert into outbox (topic, record_key, record, trace_id) "
    "select * from unnest(%s::text[], %s::text[], %s::bytea[], %s::uuid[])"
)


async def owe(connection: Connection, records: Sequence[object], *, trace_id: str) -> None:
    """Write records into the outbox, in order, within the caller's transaction.

    Raises:
        OutOfRangeError: A record breaks its documented range.
    """
    topics = [topic_of(record) for record in records]
    keys = [topic.key_of(record).decode() for topic, record in zip(topics, records, strict=True)]
    names = [topic.name for topic in topics]
    await connection.execute(_INSERT, (names, keys, [encode(each) for each in records], [trace_id] * len(records)))


def audit_of(
    action: str,
    subject: str,
    *,
    caller: Principal,
    origin: str,
    after: object,
    at_ms: EpochMs,
    before: object = None,
) -> AuditEvent:
    """Word an audit event; the same change has the same id."""
    return AuditEvent(
        audit_id=id_from_content("audit", action, subject, caller.user_id, at_ms),
        actor=caller.email,
        action=action,
        subject=subject,
        origin=origin,
        before=None if before is None else msgspec.json.encode(before).decode(),
        after=msgspec.json.encode(after).decode(),
        observed_at_ms=at_ms,
    )
