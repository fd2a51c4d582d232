"""Hold the audit chain to its hashes, to the events stored beside it, to noted heads, and to the topic itself.

The database makes the links (migration 0021); here they are computed again, by other code, from what is there now.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final

import psycopg
from psycopg.rows import dict_row

from hcp.kafka.records import address_words
from hcp.model.ledger import AuditEvent
from hcp.topics import AUDIT_EVENTS
from sinks.timescale.failures import store_error
from sinks.timescale.maintenance import RETENTION_DAYS
from sinks.timescale.migrations import Edition, edition_of

GENESIS: Final = bytes(32)
"""What the first link of a partition follows."""
LOCK_MS: Final = 10_000
FETCHED: Final = 5_000
"""Rows of a cursor in hand."""
_LINKS: Final = """
select c.link, c.kafka_offset, c.audit_id::text as audit_id, c.observed_at, c.content_hash, c.link_hash,
       c.observed_at < %(kept_since)s as is_retired, e.audit_id is not null as is_stored,
       e.actor, e.action, e.subject, e.origin, e.before, e.after,
       (extract(epoch from e.observed_at) * 1000)::bigint as observed_at_ms
from audit_chain c
left join audit_events e on e.audit_id = c.audit_id and e.observed_at = c.observed_at
     and e.kafka_partition = c.kafka_partition and e.kafka_offset = c.kafka_offset
where c.kafka_partition = %(partition)s
order by c.link
"""
_UNLINKED: Final = """
select e.audit_id::text as audit_id, e.kafka_partition, e.kafka_offset, e.action, e.subject
from audit_events e
where not exists (select from audit_chain c where c.audit_id = e.audit_id and c.observed_at = e.observed_at
                  and c.kafka_partition = e.kafka_partition and c.kafka_offset = e.kafka_offset)
order by e.kafka_partition, e.kafka_offset
"""
_POSITIONS: Final = "select partition, next_offset from ingest_offsets where sink = 'timescale' and topic = %s"
_REFUSED: Final = "select source_partition, source_offset from dead_letters where source_topic = %s"
_NEWEST_CHUNK: Final = (
    "select least(max(range_start), now()) from timescaledb_information.chunks where hypertable_name = 'audit_events'"
)


class Fault(StrEnum):
    """What may be wrong with an event."""

    CHANGED = "changed"
    REMOVED = "removed"
    ADDED = "added"
    BROKEN = "broken"
    HEAD = "head"
    NOT_STORED = "not_stored"
    NOT_ON_TOPIC = "not_on_topic"
    OTHER_ON_TOPIC = "other_on_topic"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        fault: What.
        address: Of the record on audit.events that the event came from.
        words: What must be and what was.
    """

    fault: Fault
    address: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The newest link of a partition: whoever has noted it can tell later that nothing before it was rewritten.

    Attributes:
        partition: Of audit.events.
        link: Its number, 1 for the first.
        link_hash: SHA-256, 64 hex digits.
    """

    partition: int
    link: int
    link_hash: str


@dataclass(slots=True, kw_only=True)
class Audited:
    """What a verification saw.

    Attributes:
        links: Links checked.
        events: Events whose content was hashed again.
        retired: Links whose event retention has dropped; their hashes are checked, their content is the topic's.
        records: Records of the topic compared; None when the topic was not read.
        waiting: Records of the topic that the sink has not come to yet.
        heads: Newest link of each partition.
        findings: What is wrong, in the order found.
    """

    links: int = 0
    events: int = 0
    retired: int = 0
    records: int | None = None
    waiting: int = 0
    heads: list[Head] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicEvent:
    """An audit event as it lies on the topic."""

    partition: int
    offset: int
    event: AuditEvent


def content_hash(event: AuditEvent, *, partition: int, offset: int) -> bytes:
    """Return SHA-256 of an event and its address, each field a netstring and null `-,`; as the database does."""
    texts = (
        event.audit_id,
        event.actor,
        event.action,
        event.subject,
        event.origin,
        event.before,
        event.after,
        str(event.observed_at_ms),
        str(partition),
        str(offset),
    )
    return hashlib.sha256(b"".join(map(_netstring, texts))).digest()


def link_hash(previous: bytes, content: bytes) -> bytes:
    """Return the hash of a link that follows `previous`."""
    return hashlib.sha256(previous + content).digest()


def _netstring(text: str | None) -> bytes:
    if text is None:
        return b"-,"
    data = text.encode()
    return b"%d:%b," % (len(data), data)


def heads(dsn: str) -> tuple[Head, ...]:
    """Return the newest link of each partition.

    Raises:
        StoreUnavailableError: The database does not answer.
        StoreError: It is not migrated.
    """
    try:
        with psycopg.connect(dsn, connect_timeout=10, autocommit=True) as connection:
            return tuple(_heads(connection))
    except psycopg.Error as error:
        raise store_error("the audit chain must be read", error) from error


def verify(dsn: str, *, noted: Iterable[Head] = (), topic: Iterable[TopicEvent] | None = None) -> Audited:
    """Compute every link again and compare; one snapshot of the database, whatever is written meanwhile.

    Args:
        dsn: The database.
        noted: Heads noted earlier: each must still be in the chain.
        topic: What audit.events holds, in offset order within a partition; None to leave the topic out.

    Raises:
        StoreUnavailableError: The database does not answer.
        StoreError: It is not migrated.
        BrokerError: As `topic` raises it.
    """
    try:
        with psycopg.connect(dsn, connect_timeout=10) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            return _Verification(connection, noted).result(topic)
    except psycopg.Error as error:
        raise store_error("the audit chain must be read", error) from error


def _heads(connection: psycopg.Connection) -> Iterator[Head]:
    found = connection.execute(
        "select distinct on (kafka_partition) kafka_partition, link, encode(link_hash, 'hex') "
        "from audit_chain order by kafka_partition, link desc"
    )
    for partition, link, digest in found:
        yield Head(partition=partition, link=link, link_hash=digest)


class _Verification:
    """One pass over the chain, then one over the topic."""

    def __init__(self, connection: psycopg.Connection, noted: Iterable[Head]) -> None:
        self._connection, self._noted = connection, tuple(noted)
        self._seen = Audited()
        self._contents: dict[tuple[int, int], bytes] = {}
        """Content hash by address: an audit log is written by people, and fits."""
        self._ids: set[str] = set()

    def result(self, topic: Iterable[TopicEvent] | None) -> Audited:
        self._connection.execute("select set_config('lock_timeout', %s, true)", (str(LOCK_MS),))
        self._seen.heads = list(_heads(self._connection))
        kept_since = self._kept_since()
        for head in self._seen.heads:
            self._walk(head.partition, kept_since)
        self._find_added()
        for head in self._noted:
            self._hold_to(head)
        if topic is not None:
            self._compare(topic)
        return self._seen

    def _kept_since(self) -> Any:  # noqa: ANN401  # a time, or None where there is no chunk
        """Return the time before which retention may have dropped events."""
        is_community = edition_of(self._connection) is Edition.COMMUNITY
        newest = self._connection.execute("select now()" if is_community else _NEWEST_CHUNK).fetchone()
        return None if newest is None or newest[0] is None else newest[0] - timedelta(days=RETENTION_DAYS)

    def _walk(self, partition: int, kept_since: object) -> None:
        previous, wanted = GENESIS, 1
        with self._connection.cursor(name="links", row_factory=dict_row) as cursor:
            cursor.itersize = FETCHED
            cursor.execute(_LINKS, {"partition": partition, "kept_since": kept_since})
            for row in cursor:
                address = _address(partition, row["kafka_offset"])
                if row["link"] != wanted:
                    self._find(Fault.BROKEN, address, f"link must be {wanted}, was {row['link']}")
                elif link_hash(previous, row["content_hash"]) != row["link_hash"]:
                    self._find(Fault.BROKEN, address, f"link {wanted} must follow the one before, did not")
                self._hold_content(partition, row, address)
                self._contents[partition, row["kafka_offset"]] = row["content_hash"]
                self._ids.add(row["audit_id"])
                self._seen.links += 1
                previous, wanted = row["link_hash"], row["link"] + 1

    def _hold_content(self, partition: int, row: dict[str, Any], address: str) -> None:
        if not row["is_stored"]:
            if row["is_retired"]:
                self._seen.retired += 1
            else:
                self._find(Fault.REMOVED, address, f"event {row['audit_id']} must be stored, was not")
            return
        held = AuditEvent(**{name: row[name] for name in AuditEvent.__dataclass_fields__})
        self._seen.events += 1
        if content_hash(held, partition=partition, offset=row["kafka_offset"]) != row["content_hash"]:
            self._find(Fault.CHANGED, address, f"event {row['audit_id']} must hash to its link, did not")

    def _find_added(self) -> None:
        with self._connection.cursor(name="unlinked", row_factory=dict_row) as cursor:
            for row in cursor.execute(_UNLINKED):
                words = f"event {row['audit_id']} ({row['action']} {row['subject']}) must have a link, had none"
                self._find(Fault.ADDED, _address(row["kafka_partition"], row["kafka_offset"]), words)

    def _hold_to(self, head: Head) -> None:
        row = self._connection.execute(
            "select encode(link_hash, 'hex') from audit_chain where kafka_partition = %s and link = %s",
            (head.partition, head.link),
        ).fetchone()
        found = "not there" if row is None else row[0]
        if found != head.link_hash:
            words = f"link {head.link} must be the one noted, {head.link_hash}, was {found}"
            self._find(Fault.HEAD, f"{AUDIT_EVENTS.name}[{head.partition}]", words)

    def _compare(self, topic: Iterable[TopicEvent]) -> None:
        positions: dict[int, int] = dict(self._connection.execute(_POSITIONS, (AUDIT_EVENTS.name,)).fetchall())
        refused = set(self._connection.execute(_REFUSED, (AUDIT_EVENTS.name,)).fetchall())
        first: dict[int, int] = {}
        self._seen.records = 0
        unread = dict(self._contents)
        for each in topic:
            self._seen.records += 1
            first.setdefault(each.partition, each.offset)
            address = _address(each.partition, each.offset)
            expected = unread.pop((each.partition, each.offset), None)
            if expected is not None:
                if content_hash(each.event, partition=each.partition, offset=each.offset) != expected:
                    self._find(Fault.OTHER_ON_TOPIC, address, "the topic's event must hash to its link, did not")
            elif each.event.audit_id in self._ids or (each.partition, each.offset) in refused:
                continue  # sent twice, the first one is stored; or kept whole among the dead letters
            elif each.offset < positions.get(each.partition, 0):
                self._find(Fault.NOT_STORED, address, f"event {each.event.audit_id} must have a link, had none")
            else:
                self._seen.waiting += 1
        for partition, offset in sorted(unread):
            if offset >= first.get(partition, offset + 1):  # what is older the topic's own retention has taken
                self._find(Fault.NOT_ON_TOPIC, _address(partition, offset), "the record must be on the topic, was not")

    def _find(self, fault: Fault, address: str, words: str) -> None:
        self._seen.findings.append(Finding(fault=fault, address=address, words=words))


def _address(partition: int, offset: int) -> str:
    return address_words(AUDIT_EVENTS.name, partition, offset)
