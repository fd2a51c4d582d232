"""The TimescaleDB sink on real services: the exam of every record, exactly once, bad input, crashes, fencing."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from hcp.codecs import encode
from hcp.errors import FencedError, StoreError, StoreUnavailableError
from hcp.kafka.admin import ensure_topics
from hcp.kafka.producer import RecordProducer
from hcp.kafka.ranges import NEVER, ranges_by_offset, read
from hcp.kafka.records import ConsumedRecord
from hcp.model.devices import DeviceMode
from hcp.model.ids import device_id
from hcp.model.ledger import AuditEvent
from hcp.model.recommendations import ClassDevices, Recommendation
from hcp.model.rejections import DeadLetter
from hcp.model.resources import ResourceState, state_key
from hcp.stack import StackAddresses
from hcp.topics import AUDIT_EVENTS, METRICS_ASIC, TOPICS
from sinks.intake import ROWS_MAX
from sinks.timescale.migrations import Edition, migrate, shipped
from sinks.timescale.tables import SINGULAR, table_of
from sinks.timescale.writer import Decoded, Refused, Writer
from tests.examples import ASIC_TELEMETRY, AT, AUDIT, EXAMPLES, LETTER
from tests.sink_process import Database, fresh_database, sink_process, wait_until

pytestmark = pytest.mark.services
AUDIT_TOPICS = (AUDIT_EVENTS.name, AUDIT_EVENTS.dead)


@pytest.fixture
def database(services: StackAddresses) -> Iterator[Database]:
    """A fresh database."""
    ensure_topics(services.kafka_bootstrap)
    with fresh_database(services) as found:
        yield found


@pytest.fixture
def producer(services: StackAddresses) -> RecordProducer:
    """A producer of records."""
    return RecordProducer(bootstrap=services.kafka_bootstrap, produced_by="test")


def _own(value: Any, tag: str) -> Any:
    """Make an example this test's own: its site, shard and ids are nobody else's."""
    changes: dict[str, Any] = {}
    for field in fields(value):
        old = getattr(value, field.name)
        if field.name == "facility_id" and old is not None:
            changes[field.name] = tag
        elif field.name == "cluster_id":
            changes[field.name] = f"{tag}.c"
        elif field.name == "shard_id":
            changes[field.name] = f"{tag}.c/00"
        elif field.name.endswith("_id") and isinstance(old, str) and len(old) == 36:
            changes[field.name] = str(uuid4())
    if isinstance(value, ResourceState):
        changes["state_key"] = state_key(shard_id=f"{tag}.c/00", reported_by=value.reported_by)
    if isinstance(value, DeadLetter):
        changes["source_offset"] = uuid4().int % 2**50
    return replace(value, **changes)


def _cell(name: str, value: Any) -> tuple[str, Any]:
    """Say what a field must be in SQL, without the sink's own code."""
    if isinstance(value, int) and name.endswith("_ms") and value > 10**12:
        return name.removesuffix("_ms"), datetime.fromtimestamp(value / 1_000, tz=UTC)
    return SINGULAR.get(name, name), value.value if isinstance(value, Enum) else value


def _counted(devices: ClassDevices | None, mode: DeviceMode) -> dict[str, int]:
    """Say which devices of the class are in the mode; none where none was counted."""
    movable, switching = next(
        (
            (at.movable_count, at.switching_count)
            for at in (() if devices is None else devices.modes)
            if at.mode is mode
        ),
        (0, 0),
    )
    return {
        "movable_count": movable,
        "switching_count": switching,
        "stale_count": 0 if devices is None else devices.stale_count,
        "epoch_sum": 0 if devices is None else devices.epoch_sum,
    }


def _rows(value: Any) -> list[dict[str, Any]]:
    plain = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Recommendation):
        market, classes, devices = plain.pop("market"), plain.pop("classes"), plain.pop("devices")
        by_class = {counted.device_class: counted for counted in devices}
        head = {**plain, **{field.name: getattr(market, field.name) for field in fields(market)}}
        return [
            dict(
                _cell(*item)
                for item in (
                    head
                    | {"device_class": scored.device_class, "best_mode": scored.best_mode}
                    | {"runner_up_confidence": scored.confidence, "delta_usd_per_hour": scored.delta_usd_per_hour}
                    | {field.name: getattr(score, field.name) for field in fields(score)}
                    | _counted(by_class.get(scored.device_class), score.mode)
                ).items()
            )
            for scored in classes
            for score in scored.scores
        ]
    if "device_indexes" not in plain:
        return [dict(_cell(*item) for item in plain.items())]
    return [
        dict(_cell(name, cell[place] if isinstance(cell, tuple) else cell) for name, cell in plain.items())
        | {"device_id": device_id(shard_id=plain["shard_id"], device_index=index)}
        for place, index in enumerate(plain["device_indexes"])
    ]


def _found(database: Database, value: Any, wanted: dict[str, Any]) -> int:
    """Return how many rows of the record's table have exactly the values wanted."""
    rows = database.ask(f"select * from {table_of(type(value)).name}")  # noqa: S608  # names of the registry
    plain = [{name: str(cell) if isinstance(cell, UUID) else cell for name, cell in row.items()} for row in rows]
    return sum(all(row[name] == cell for name, cell in wanted.items()) for row in plain)


def _send(producer: RecordProducer, value: Any) -> None:
    if isinstance(value, DeadLetter):
        producer.send_raw(f"{LETTER.source_topic}.dead", b"test", encode(value), partition=0)
    else:
        producer.send(value)


def _audits(tag: str, count: int) -> list[AuditEvent]:
    return [replace(AUDIT, audit_id=str(uuid4()), subject=tag) for _ in range(count)]


def _in_hand(value: object, offset: int) -> Decoded:
    record = ConsumedRecord(topic=AUDIT_EVENTS.name, partition=0, offset=offset, timestamp_ms=AT, key=None, value=b"")
    return Decoded(record=record, value=value)


def test_migrations_apply_once(database: Database) -> None:
    """Run again they change nothing; one edited after it was shipped is refused by name."""
    assert migrate(database.dsn) == tuple(each.name for each in shipped() if each.fits(Edition.APACHE))
    assert migrate(database.dsn) == ()
    edited = (replace(shipped()[0], sql=shipped()[0].sql + "-- later thought\n"), *shipped()[1:])
    with pytest.raises(StoreError, match=r"0001_tables.sql must stay as it was shipped"):
        migrate(database.dsn, edited)


def test_two_that_migrate_at_once_take_turns(database: Database) -> None:
    """Sinks start together: one applies each migration, the other finds it done."""
    with ThreadPoolExecutor(2) as pool:
        applied = list(pool.map(migrate, [database.dsn] * 2))
    assert sorted(map(len, applied)) == [0, sum(each.fits(Edition.APACHE) for each in shipped())]


def test_every_column_has_the_type_of_its_field(database: Database) -> None:
    """What the database really has is what the records say, provenance included."""
    migrate(database.dsn)
    found = database.ask("select table_name, column_name, data_type, is_nullable from information_schema.columns")
    kinds = {(row["table_name"], row["column_name"]): row["data_type"] for row in found}
    long = {"timestamptz": "timestamp with time zone"}
    for topic in TOPICS:
        table = table_of(topic.record)
        for column in table.columns():
            assert kinds[table.name, column.name] == long.get(column.sql_type, column.sql_type)
        assert {name for held, name in kinds if held == table.name} == set(table.column_names())


def test_every_record_reaches_its_table_once(
    services: StackAddresses, database: Database, producer: RecordProducer, tmp_path: Path
) -> None:
    """The exam: values equal to the record's, one row a device, and the same event sent twice is one row."""
    tag = f"t-{uuid4().hex[:12]}"
    values = [_own(value, tag) for value in EXAMPLES]
    with sink_process(services, database, tmp_path) as sink:
        for value in values:
            _send(producer, value)
        producer.flush()
        sink.wait_said("sink_ready")
        for value in values:
            for wanted in _rows(value):
                wait_until(lambda v=value, w=wanted: _found(database, v, w) >= 1, str(wanted))  # type: ignore[misc]
        for value in values:
            if not isinstance(value, (DeadLetter, ResourceState)):  # a letter and a state are told apart by offset
                _send(producer, value)
        last = _audits(tag, 1)[0]
        for _ in range(2):
            producer.send(last)
        producer.flush()
        wait_until(lambda: _found(database, last, _rows(last)[0]) == 1, "the last event stored")
        wait_until(lambda: _all_read(services, database), "all records read")
    for value in values:
        assert [_found(database, value, wanted) for wanted in _rows(value)] == [1] * len(_rows(value)), value


def _all_read(services: StackAddresses, database: Database) -> bool:
    """Whether nothing but other tests' transaction markers lies behind the sink's stored offsets."""
    rows = database.ask("select topic, partition, next_offset from ingest_offsets")
    left = {(row["topic"], row["partition"]): (row["next_offset"], NEVER) for row in rows}
    return not any(read(services.kafka_bootstrap, ranges_by_offset(services.kafka_bootstrap, left)))


def test_bad_records_become_dead_letters_and_stop_no_neighbour(
    services: StackAddresses, database: Database, producer: RecordProducer, tmp_path: Path
) -> None:
    """No record, a record of another topic, a row the database refuses: each becomes a letter, the rest is stored."""
    tag = f"t-{uuid4().hex[:12]}"
    good = _audits(tag, 20)
    refused = replace(_audits(tag, 1)[0], before="a\x00b")
    with sink_process(services, database, tmp_path, *AUDIT_TOPICS) as sink:
        sink.wait_said("sink_ready")
        for value in good[:10]:
            producer.send(value)
        producer.send_raw(AUDIT_EVENTS.name, tag.encode(), b"no record")
        producer.send_raw(AUDIT_EVENTS.name, tag.encode(), encode(EXAMPLES[0]))
        producer.send(refused)
        for value in good[10:]:
            producer.send(value)
        producer.flush()
        wait_until(lambda: database.count("audit_events where subject = %s", tag) == 20, "20 neighbours")
        letters = "dead_letters where rejected_by = 'sink.timescale' and (record_key = %s)"
        wait_until(lambda: database.count(letters, tag.encode()) == 3, "three letters")
    rows = database.ask("select reason, record_value from dead_letters where record_key = %s", tag.encode())
    assert {row["reason"]: row["record_value"] for row in rows} == {
        "not_a_record": b"no record",
        "wrong_type": encode(EXAMPLES[0]),
        "store_refused": encode(refused),
    }


def test_a_killed_sink_leaves_exactly_one_row_an_event(
    services: StackAddresses, database: Database, producer: RecordProducer, tmp_path: Path
) -> None:
    """Killed by -9 in the middle of 5,000 records; the next one goes on from the database's own offsets."""
    tag = f"t-{uuid4().hex[:12]}"
    values = _audits("", 5_000)
    values = [replace(value, subject=f"{tag}/{place % 50}") for place, value in enumerate(values)]
    mine = "audit_events where subject like %s"
    killed = threading.Event()

    def send() -> None:
        for place, value in enumerate(values):
            if place == 4_000:  # a fast sink would else have written all before it could be killed
                producer.flush()
                killed.wait(timeout=90)
            producer.send(value)
            if place % 100 == 99:
                producer.flush()

    with sink_process(services, database, tmp_path, *AUDIT_TOPICS) as sink:
        sink.wait_said("sink_ready")
        sender = threading.Thread(target=send)
        sender.start()
        wait_until(lambda: database.count(mine, f"{tag}/%") > 200, "some rows")
        sink.process.kill()
        sink.process.wait(timeout=90)
        killed.set()
        sender.join(timeout=90)
    assert 200 < database.count(mine, f"{tag}/%") <= 4_000
    with sink_process(services, database, tmp_path, *AUDIT_TOPICS):
        wait_until(lambda: database.count(mine, f"{tag}/%") >= 5_000, "5,000 rows")
    rows = database.ask("select audit_id from audit_events where subject like %s", f"{tag}/%")
    assert sorted(str(row["audit_id"]) for row in rows) == sorted(value.audit_id for value in values)


def test_a_database_that_is_away_is_waited_for(
    services: StackAddresses, database: Database, producer: RecordProducer, tmp_path: Path
) -> None:
    """Down at the start and in the middle: said once, waited for, nothing lost, and SIGTERM still ends the sink."""
    tag = f"t-{uuid4().hex[:12]}"
    mine = "audit_events where subject = %s"
    database.close_doors()
    with sink_process(services, database, tmp_path, *AUDIT_TOPICS) as sink:
        sink.wait_said("store_unavailable")
        assert not sink.said("sink_ready")
        database.open_doors()
        sink.wait_said("sink_ready")
        for value in _audits(tag, 10):
            producer.send(value)
        producer.flush()
        wait_until(lambda: database.count(mine, tag) == 10, "10 rows")
        database.close_doors()
        for value in _audits(tag, 10):
            producer.send(value)
        producer.flush()
        wait_until(lambda: sink.log.read_text().count("store_unavailable") == 2, "the second outage noticed")
        database.open_doors()
        wait_until(lambda: database.count(mine, tag) == 20, "20 rows")
        database.close_doors()
        producer.send(_audits(tag, 1)[0])
        producer.flush()
        wait_until(lambda: sink.log.read_text().count("store_unavailable") == 3, "the third outage noticed")
        sink.process.terminate()
        assert sink.process.wait(timeout=90) == 0
    database.open_doors()
    assert database.count(mine, tag) == 20


def test_a_backlog_of_columns_is_stored_part_by_part(
    services: StackAddresses, database: Database, producer: RecordProducer, tmp_path: Path
) -> None:
    """60 full batches are 30,720 rows, more than one transaction may have: each row is stored, and once."""
    size, batches = 512, 60
    assert size * batches > ROWS_MAX
    own = _own(ASIC_TELEMETRY, f"t-{uuid4().hex[:12]}")
    columns = {field.name: getattr(own, field.name) for field in fields(own)}
    wide = {name: cells[:1] * size for name, cells in columns.items() if isinstance(cells, tuple)}
    wide["device_indexes"] = tuple(range(size))
    for place in range(batches):
        producer.send(replace(own, **wide, observed_at_ms=AT + place * 1_000))
    producer.flush()
    mine = "asic_telemetry where cluster_id = %s"
    with sink_process(services, database, tmp_path, METRICS_ASIC.name):
        wait_until(lambda: database.count(mine, own.cluster_id) >= size * batches, "all rows")
    assert database.count(mine, own.cluster_id) == size * batches
    keys = database.ask(f"select distinct device_id, observed_at from {mine}", own.cluster_id)  # noqa: S608  # as above
    assert len(keys) == size * batches


def test_a_topic_behind_the_store_is_said(
    services: StackAddresses, database: Database, producer: RecordProducer, tmp_path: Path
) -> None:
    """Offsets that the database has already are not stored again; that a topic was made anew shows in the log."""
    migrate(database.dsn)
    tag = f"t-{uuid4().hex[:12]}"
    with psycopg.connect(database.dsn) as connection:
        connection.execute(
            "insert into ingest_offsets (sink, topic, partition, next_offset) "
            "select 'timescale', %s, n, 1000000000 from generate_series(0, %s) n",
            (AUDIT_EVENTS.name, AUDIT_EVENTS.partitions - 1),
        )
    for value in _audits(tag, 5):
        producer.send(value)
    producer.flush()
    with sink_process(services, database, tmp_path, *AUDIT_TOPICS) as sink:
        sink.wait_said("offset_behind_store")
    assert database.count("audit_events where subject = %s", tag) == 0


def test_a_second_writer_is_fenced(database: Database) -> None:
    """Offsets move only from where a writer knows them: the one that is late stores nothing."""
    migrate(database.dsn)
    at = (AUDIT_EVENTS.name, 0)
    first, second = Writer(database.dsn, sink="t"), Writer(database.dsn, sink="t")
    values = _audits("fence", 3)
    refused: list[Refused] = []
    first.write([_in_hand(values[0], 0)], expected={}, following={at: 1}, on_refused=refused.extend)
    with pytest.raises(FencedError):
        second.write([_in_hand(values[1], 0)], expected={}, following={at: 1}, on_refused=refused.extend)
    first.write([_in_hand(values[1], 1)], expected={at: 1}, following={at: 2}, on_refused=refused.extend)
    with pytest.raises(FencedError):
        second.write([_in_hand(values[2], 1)], expected={at: 1}, following={at: 2}, on_refused=refused.extend)
    assert second.positions([at]) == {at: 2}
    found = {str(row["audit_id"]) for row in database.ask("select audit_id from audit_events")}
    assert found == {values[0].audit_id, values[1].audit_id}
    assert refused == []
    first.close()
    second.close()


def test_refused_rows_are_handed_over_before_the_commit(database: Database) -> None:
    """When the dead letter cannot be sent, nothing is stored and no offset moves: a crash in between loses nothing."""
    migrate(database.dsn)
    at = (AUDIT_EVENTS.name, 0)
    writer = Writer(database.dsn, sink="t")
    good, bad = _audits("handed", 2)
    bad = replace(bad, after="\x00")
    batch = [_in_hand(good, 0), _in_hand(bad, 1)]

    def fail(_refused: list[Refused]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        writer.write(batch, expected={}, following={at: 2}, on_refused=fail)
    assert writer.positions([at]) == {}
    assert database.count("audit_events") == 0
    refused: list[Refused] = []
    writer.write(batch, expected={}, following={at: 2}, on_refused=refused.extend)
    assert [each.record.offset for each in refused] == [1]
    assert database.count("audit_events") == 1
    writer.close()


def test_a_time_beyond_the_calendar_is_refused(database: Database) -> None:
    """A broker timestamp past the year 9999 makes no row; it must not end the sink."""
    migrate(database.dsn)
    writer = Writer(database.dsn, sink="t")
    value = _own(replace(LETTER, source_timestamp_ms=2**53), "t")
    refused: list[Refused] = []
    writer.write([_in_hand(value, 0)], expected={}, following={("x", 0): 1}, on_refused=refused.extend)
    assert len(refused) == 1
    writer.close()


def test_a_missing_table_is_not_waited_for(database: Database) -> None:
    """Only a database that is away is waited for; one without our tables is an error that says so."""
    writer = Writer(database.dsn, sink="t")
    with pytest.raises(StoreError, match="must be read") as caught:
        writer.positions([("x", 0)])
    assert not isinstance(caught.value, StoreUnavailableError)
    database.close_doors()
    with pytest.raises(StoreUnavailableError):
        writer.positions([("x", 0)])
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(database.dsn)
    writer.close()
