"""The audit chain in a real database: whole as written, broken whatever is done to it behind the sink's back."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hcp.codecs import encode
from hcp.errors import StoreError
from hcp.kafka.admin import ensure_topics
from hcp.kafka.producer import RecordProducer
from hcp.kafka.records import ConsumedRecord
from hcp.model.ledger import AuditEvent
from hcp.model.units import EpochMs
from hcp.stack import StackAddresses
from hcp.topics import AUDIT_EVENTS
from sinks.timescale.audit import Audited, Fault, Head, TopicEvent, content_hash, heads, link_hash, verify
from sinks.timescale.migrations import migrate, shipped
from sinks.timescale.writer import Decoded, Writer
from tests.cli_runs import Said, hcp
from tests.examples import AT, AUDIT
from tests.sink_process import Database, fresh_database, sink_process, wait_until

pytestmark = pytest.mark.services
EVENTS = 40
PARTITIONS = 3
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
WORD = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12)
STATE = st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)


@pytest.fixture(scope="module")
def kept(services: StackAddresses) -> Iterator[Database]:
    """A migrated database that tests add to."""
    with fresh_database(services) as database:
        migrate(database.dsn)
        yield database


@pytest.fixture
def database(services: StackAddresses) -> Iterator[Database]:
    """A migrated database with EVENTS events in PARTITIONS chains."""
    with fresh_database(services) as found:
        migrate(found.dsn)
        store(found, [event(number) for number in range(EVENTS)])
        yield found


def event(number: int) -> TopicEvent:
    """The audit event of a number, and where it lies."""
    changed = replace(AUDIT, audit_id=str(uuid4()), observed_at_ms=EpochMs(AT + number * HOUR_MS))
    return TopicEvent(partition=number % PARTITIONS, offset=number // PARTITIONS, event=changed)


def decoded(each: TopicEvent) -> Decoded:
    """As the sink has it in hand."""
    record = ConsumedRecord(
        topic=AUDIT_EVENTS.name,
        partition=each.partition,
        offset=each.offset,
        timestamp_ms=each.event.observed_at_ms,
        key=None,
        value=encode(each.event),
    )
    return Decoded(record=record, value=each.event)


def store(database: Database, events: list[TopicEvent], *, sink: str = "timescale") -> None:
    """Write events as the sink does, with its positions."""
    writer = Writer(database.dsn, sink=sink)
    places = sorted({(AUDIT_EVENTS.name, each.partition) for each in events})
    following = {place: 1 + max(each.offset for each in events if each.partition == place[1]) for place in places}
    writer.write(
        [decoded(each) for each in events],
        expected=writer.positions(places),
        following=following,
        on_refused=lambda refused: pytest.fail(f"refused: {refused[0].words}"),
    )
    writer.close()


def faults(seen: Audited) -> list[Fault]:
    """What was found."""
    return [each.fault for each in seen.findings]


def tamper(database: Database, statement: str, *values: object) -> None:
    """Do what only the database's owner can."""
    with psycopg.connect(database.dsn) as connection:
        assert connection.execute(statement.encode(), values or None).rowcount != 0


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    told=st.lists(
        st.tuples(WORD, WORD, WORD, STATE, STATE, st.integers(min_value=0, max_value=300 * DAY_MS)),
        min_size=1,
        max_size=5,
    )
)
def test_the_database_hashes_as_we_do(
    kept: Database, told: list[tuple[str, str, str, str | None, str | None, int]]
) -> None:
    """Two programs, one hash: whatever texts an event holds, in any order of time, in several batches."""
    known = {(head.partition, head.link): head.link_hash for head in heads(kept.dsn)}
    start = verify(kept.dsn).links
    events = [
        TopicEvent(
            partition=0,
            offset=start + place,
            event=AuditEvent(
                audit_id=str(uuid4()),
                actor=actor,
                action="tested",
                subject=subject,
                origin=origin,
                before=before,
                after=after,
                observed_at_ms=EpochMs(AT + moved_ms),
            ),
        )
        for place, (actor, subject, origin, before, after, moved_ms) in enumerate(told)
    ]
    store(kept, events)
    seen = verify(kept.dsn, noted=[Head(partition=p, link=n, link_hash=h) for (p, n), h in known.items()])
    assert seen.findings == []
    assert (seen.links, seen.events + seen.retired) == (start + len(events), start + len(events))
    previous = bytes.fromhex(known.get((0, start), "00" * 32))
    for each in events:
        previous = link_hash(previous, content_hash(each.event, partition=0, offset=each.offset))
    assert [head.link_hash for head in seen.heads] == [previous.hex()]


def test_a_whole_chain_is_said_to_be_whole(database: Database) -> None:
    """Every partition has a chain of its own; what is stored again changes none."""
    again = [event(number) for number in range(EVENTS, EVENTS + PARTITIONS)]
    store(database, again)
    before = heads(database.dsn)
    writer = Writer(database.dsn, sink="another")
    writer.write(
        [decoded(each) for each in again], expected={}, following={}, on_refused=lambda _: pytest.fail("refused")
    )
    writer.close()
    seen = verify(database.dsn)
    assert seen.findings == []
    assert (seen.links, seen.events, seen.retired) == (EVENTS + PARTITIONS, EVENTS + PARTITIONS, 0)
    assert tuple(seen.heads) == before
    assert [head.partition for head in before] == list(range(PARTITIONS))


@pytest.mark.parametrize("column", ["actor", "action", "subject", "origin", "before", "after"])
def test_a_changed_event_is_found(database: Database, column: str) -> None:
    """One word of one event, whichever, is enough."""
    tamper(
        database,
        f"update audit_events set {column} = 'other' where kafka_partition = 1 and kafka_offset = 4",  # noqa: S608
    )
    seen = verify(database.dsn)
    assert [(each.fault, each.address) for each in seen.findings] == [(Fault.CHANGED, "audit.events[1]@4")]


def test_a_changed_time_is_an_event_removed_and_one_added(database: Database) -> None:
    """The time is part of an event's name."""
    tamper(
        database,
        "update audit_events set observed_at = observed_at + interval '1 ms' "
        "where kafka_partition = 1 and kafka_offset = 4",
    )
    assert faults(verify(database.dsn)) == [Fault.REMOVED, Fault.ADDED]


def test_a_removed_event_is_found(database: Database) -> None:
    """Its link says that it was there."""
    tamper(database, "delete from audit_events where kafka_partition = 2 and kafka_offset = 0")
    assert faults(verify(database.dsn)) == [Fault.REMOVED]


def test_an_event_removed_with_its_link_is_found(database: Database) -> None:
    """The next link follows another."""
    for table in ("audit_events", "audit_chain"):
        tamper(database, f"delete from {table} where kafka_partition = 2 and kafka_offset = 3")  # noqa: S608
    seen = verify(database.dsn)
    assert [(each.fault, each.address) for each in seen.findings] == [(Fault.BROKEN, "audit.events[2]@4")]


def test_an_event_slipped_in_without_a_link_is_found(database: Database) -> None:
    """Whoever takes the trigger away to hide an event shows it."""
    tamper(database, "drop trigger chain on audit_events")
    store(database, [event(EVENTS)])
    assert faults(verify(database.dsn)) == [Fault.ADDED]


def test_a_chain_rewritten_whole_is_found_by_a_noted_head(database: Database) -> None:
    """The owner can compute every hash again, but not have it be the one that was noted."""
    noted = heads(database.dsn)
    tamper(database, "update audit_events set actor = 'nobody' where kafka_partition = 0 and kafka_offset = 1")
    tamper(database, "delete from audit_chain")
    with psycopg.connect(database.dsn) as connection:
        connection.execute(
            "select count(audit_append(o.event)) from (select held::audit_events as event from audit_events as held "
            "order by kafka_partition, kafka_offset) as o"
        )
    assert faults(verify(database.dsn)) == []
    assert [(each.fault, each.address) for each in verify(database.dsn, noted=noted).findings] == [
        (Fault.HEAD, "audit.events[0]")
    ]


def test_the_newest_event_cut_off_is_found_by_a_noted_head_and_by_the_topic(database: Database) -> None:
    """A chain cut at its end is a shorter chain, and whole; what is beside it tells."""
    noted = heads(database.dsn)
    on_topic = [
        TopicEvent(partition=row["kafka_partition"], offset=row["kafka_offset"], event=_event_of(row))
        for row in database.ask(
            "select *, audit_id::text as audit_id, (extract(epoch from observed_at) * 1000)::bigint as observed_at_ms "
            "from audit_events order by kafka_partition, kafka_offset"
        )
    ]
    for table in ("audit_events", "audit_chain"):
        tamper(database, f"delete from {table} where kafka_partition = 0 and kafka_offset = %s", EVENTS // PARTITIONS)  # noqa: S608
    assert faults(verify(database.dsn)) == []
    assert faults(verify(database.dsn, noted=noted)) == [Fault.HEAD]
    assert faults(verify(database.dsn, topic=on_topic)) == [Fault.NOT_STORED]
    assert faults(verify(database.dsn, topic=[each for each in on_topic if each.offset != 2])) == [
        *[Fault.NOT_STORED],
        *[Fault.NOT_ON_TOPIC] * PARTITIONS,
    ]
    other = [replace(each, event=replace(each.event, actor="nobody")) for each in on_topic[:1]]
    assert faults(verify(database.dsn, topic=[*other, *on_topic[1:]])) == [Fault.OTHER_ON_TOPIC, Fault.NOT_STORED]


def _event_of(row: dict[str, object]) -> AuditEvent:
    return AuditEvent(**{name: row[name] for name in AuditEvent.__dataclass_fields__})  # type: ignore[arg-type]


def test_what_retention_drops_leaves_its_links(database: Database) -> None:
    """Old events go with their chunks; the chain goes on from their links and stays whole."""
    late = TopicEvent(
        partition=0,
        offset=EVENTS,
        event=replace(AUDIT, audit_id=str(uuid4()), observed_at_ms=EpochMs(AT + 300 * DAY_MS)),
    )
    store(database, [late])
    database.ask("select * from retire_chunks(interval '180 days')")
    assert database.count("audit_events") == 1
    seen = verify(database.dsn)
    assert seen.findings == []
    assert (seen.links, seen.events, seen.retired) == (EVENTS + 1, 1, EVENTS)


def test_the_writer_takes_nothing_back(database: Database) -> None:
    """hcp_writer stores events and their links follow; it changes and removes neither."""
    dsn = psycopg.conninfo.make_conninfo(database.dsn, user="hcp_writer")
    store(replace(database, dsn=dsn), [event(EVENTS)])
    assert verify(database.dsn).links == EVENTS + 1
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in (
            "update audit_events set actor = 'nobody'",
            "delete from audit_events",
            "truncate audit_events",
            "delete from audit_chain",
            "insert into audit_chain select * from audit_chain",
            "drop trigger chain on audit_events",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)
    assert verify(dsn).findings == []


def test_events_of_before_the_chain_are_linked(services: StackAddresses) -> None:
    """A database that is migrated with events in it has them linked in the topic's order."""
    with fresh_database(services) as database:
        migrate(database.dsn, tuple(each for each in shipped() if each.name < "0021"))
        store(database, [event(number) for number in range(EVENTS)])
        migrate(database.dsn)
        seen = verify(database.dsn)
        assert (seen.findings, seen.links, seen.events) == ([], EVENTS, EVENTS)


def test_a_database_without_the_chain_says_what_it_needs(services: StackAddresses) -> None:
    """It is not migrated: an error, not a whole log."""
    with fresh_database(services) as database, pytest.raises(StoreError, match="audit_chain"):
        verify(database.dsn)


def _audit(services: StackAddresses, database: Database, *arguments: str) -> Said:
    return hcp(services, "audit", *arguments, environment={"HCP_TIMESCALE_DSN": database.dsn})


def test_the_commands_on_what_the_sink_stored(services: StackAddresses, tmp_path: Path) -> None:
    """Sent to the topic, stored by `hcp sink timescale`, listed, verified; then tampered with, and told."""
    ensure_topics(services.kafka_bootstrap)
    tag = f"t-{uuid4().hex[:8]}"
    producer = RecordProducer(bootstrap=services.kafka_bootstrap, produced_by="test")
    for number in range(5):
        action = "tested.twice" if number == 4 else "tested"
        producer.send(
            replace(AUDIT, audit_id=str(uuid4()), actor=tag, action=action, observed_at_ms=EpochMs(AT + number))
        )
    producer.flush(timeout_ms=60_000)
    with fresh_database(services) as database:
        with sink_process(services, database, tmp_path, AUDIT_EVENTS.name):
            wait_until(lambda: database.count("audit_events where actor = %s", tag) == 5, "all is stored")

            def is_caught_up() -> bool:
                said = _audit(services, database, "verify", "--json")
                return said.code == 0 and json.loads(said.out)["waiting"] == 0

            wait_until(is_caught_up, "nothing waits")
        said = _audit(services, database, "list", "--actor", tag, "--json")
        assert [json.loads(line)["action"] for line in said.out.splitlines()] == ["tested.twice", *["tested"] * 4]
        said = _audit(services, database, "list", "--actor", tag, "--action", "%.twice")
        assert said.out.count("tested.twice") == 1
        assert "there are more than 2" in _audit(services, database, "list", "-n", "2").err
        noted = tmp_path / "heads.json"
        noted.write_text(_audit(services, database, "heads").out, encoding="utf-8")
        said = _audit(services, database, "verify", "--heads", str(noted))
        assert (said.code, "the log is whole" in said.out) == (0, True)
        tamper(database, "update audit_events set actor = 'nobody' where actor = %s and action = 'tested.twice'", tag)
        said = _audit(services, database, "verify", "--no-topic")
        assert said.code == 1
        assert "changed: audit.events[" in said.out
        assert "1 findings: the log is NOT whole" in said.out


def test_a_file_that_holds_no_heads_is_named(services: StackAddresses, tmp_path: Path) -> None:
    """Before anything is asked."""
    file = tmp_path / "heads.json"
    file.write_text("{}", encoding="utf-8")
    said = hcp(services, "audit", "verify", "--heads", str(file))
    assert said.code == 1
    assert "must hold lines that `hcp audit heads` printed" in said.err
