"""The outbox relay against real PostgreSQL and Kafka: order, gaps, kill -9, NOTIFY, rivals, pruning."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from gateway.migrations import prepare
from gateway.notifier import CHANNEL
from gateway.relay import Relay
from hcp.codecs import encode
from hcp.errors import BrokerError
from hcp.kafka.producer import RecordProducer
from hcp.model.ids import id_from_content
from hcp.model.workloads import WorkloadEvent, WorkloadEventType, WorkloadType
from hcp.topics import WORKLOAD_EVENTS
from tests.agent_process import Reader
from tests.fix_services import OwnStack
from tests.gateway_lab import FLEET, Lab, gateway_lab, relay_process, running
from tests.sink_process import Database, fresh_database, wait_until

pytestmark = pytest.mark.services

Connection = psycopg.Connection[Any]


@pytest.fixture(scope="module")
def lab(own_stack: OwnStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Give one gateway's databases to the module, on a stack of its own."""
    with gateway_lab(own_stack.addresses, tmp_path_factory.mktemp("gateway")) as made:
        yield made


@pytest.fixture
def database(own_stack: OwnStack) -> Iterator[Database]:
    """Give an empty outbox to one test."""
    with fresh_database(own_stack.addresses) as made:
        prepare(made.dsn, FLEET)
        yield made


@pytest.fixture
def reader(own_stack: OwnStack) -> Iterator[Reader]:
    """Read workload.events from the start."""
    made = Reader(bootstrap=own_stack.addresses.kafka_bootstrap, topics=[WORKLOAD_EVENTS.name])
    yield made
    made.close()


def _event(workload_id: str, event_type: WorkloadEventType = WorkloadEventType.CREATED) -> WorkloadEvent:
    return WorkloadEvent(
        event_id=id_from_content(event_type.value, workload_id),
        workload_id=workload_id,
        customer_id=str(uuid4()),
        event_type=event_type,
        workload_type=WorkloadType.BATCH,
        priority=5,
        device_class="h100",
        device_count=1,
        facility_id=None,
        reason="",
        observed_at_ms=1_795_000_000_000,  # type: ignore[arg-type]  # a number is what an EpochMs is
    )


def _owe(connection: Connection, event: WorkloadEvent) -> None:
    connection.execute(
        "insert into outbox (topic, record_key, record, trace_id) values (%s, %s, %s, %s)",
        (WORKLOAD_EVENTS.name, event.workload_id, encode(event), event.event_id),
    )


class ListSender:
    """Keeps what it is given; fails when told to."""

    def __init__(self) -> None:
        self.sent: list[WorkloadEvent] = []
        self.is_away = False

    def send(self, value: object, *, trace_id: str | None = None) -> None:
        """Keep a record."""
        assert isinstance(value, WorkloadEvent)
        assert trace_id == value.event_id
        self.sent.append(value)

    def flush(self) -> None:
        """Fail while the broker is away."""
        if self.is_away:
            raise BrokerError("away")


@contextmanager
def _relay(database: Database) -> Iterator[tuple[Relay, ListSender]]:
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        sender = ListSender()
        yield Relay(connection=connection, sender=sender), sender


def test_a_transaction_that_commits_late_is_not_skipped(database: Database) -> None:
    """The row with the lower id commits after the higher one was published: it is published then."""
    slow, quick = _event(str(uuid4())), _event(str(uuid4()))
    with _relay(database) as (relay, sender), psycopg.connect(database.dsn) as late:
        _owe(late, slow)  # takes the lower id, and does not commit yet
        with psycopg.connect(database.dsn) as early:
            _owe(early, quick)
        assert relay.pay() == 1
        assert sender.sent == [quick]
        assert relay.pay() == 0
        late.commit()
        assert relay.pay() == 1
        assert sender.sent == [quick, slow]


def test_events_of_a_workload_keep_their_order_also_when_kafka_fails(database: Database) -> None:
    """A workload's second event is sent only when the first is acknowledged; others do not wait for it."""
    one, two = str(uuid4()), str(uuid4())
    created, cancelled = _event(one), _event(one, WorkloadEventType.CANCELLED)
    other = _event(two)
    with _relay(database) as (relay, sender):
        with psycopg.connect(database.dsn) as writer:
            for event in (created, cancelled, other):
                _owe(writer, event)
        sender.is_away = True
        with pytest.raises(BrokerError):
            relay.pay()
        sender.is_away = False
        assert [relay.pay(), relay.pay(), relay.pay()] == [2, 1, 0]
    assert sender.sent == [created, other, created, other, cancelled]


def test_paid_records_are_kept_for_a_day_and_owed_ones_for_ever(database: Database) -> None:
    """Pruning deletes only what was published long ago."""
    with _relay(database) as (relay, _):
        with psycopg.connect(database.dsn) as writer:
            for _each in range(3):
                _owe(writer, _event(str(uuid4())))
            writer.execute("update outbox set published_at = now() - interval '25 hours' where outbox_id = 1")
            writer.execute("update outbox set published_at = now() - interval '1 hour' where outbox_id = 2")
        assert relay.prune() == 1
    assert [row["outbox_id"] for row in database.ask("select outbox_id from outbox order by 1")] == [2, 3]


def test_a_notification_ends_the_wait(database: Database) -> None:
    """The relay does not sleep out its time when the gateway says that something was committed."""
    with _relay(database) as (relay, _), psycopg.connect(database.dsn, autocommit=True) as gateway:
        relay.connection.execute(f"listen {CHANNEL}".encode())
        woken = threading.Event()

        def wait() -> None:
            relay.wait(timeout_ms=60_000)
            woken.set()

        waiter = threading.Thread(target=wait)
        waiter.start()
        gateway.execute(f"notify {CHANNEL}".encode())
        assert woken.wait(30.0)
        waiter.join()


def test_kill_9_loses_nothing_and_keeps_the_order(lab: Lab, reader: Reader, tmp_path: Path) -> None:
    """Killed and started again while events pour in: all arrive, each workload's first ones in order."""
    workloads = [str(uuid4()) for _ in range(150)]
    wanted = {(each, kind) for each in workloads for kind in (WorkloadEventType.CREATED, WorkloadEventType.CANCELLED)}
    for part in range(3):
        with psycopg.connect(lab.operational.dsn) as writer:
            for each in workloads[part * 50 : part * 50 + 50]:
                _owe(writer, _event(each))
                _owe(writer, _event(each, WorkloadEventType.CANCELLED))
        with relay_process(lab, tmp_path) as process:
            if part < 2:
                process.kill()
                process.wait()
            else:
                wait_until(lambda: lab.operational.count("outbox where published_at is null") == 0, "all is paid")

    def mine() -> list[tuple[str, WorkloadEventType]]:
        reader.poll()
        seen = [(value.workload_id, value.event_type) for _, value in reader.seen]
        return [each for each in seen if each in wanted]

    wait_until(lambda: set(mine()) == wanted, "every event is on the topic")
    first_seen = list(dict.fromkeys(mine()))
    for each in workloads:
        assert first_seen.index((each, WorkloadEventType.CREATED)) < first_seen.index(
            (each, WorkloadEventType.CANCELLED)
        )


def test_a_second_relay_stands_by_and_takes_over(lab: Lab, tmp_path: Path) -> None:
    """Two never work at once; when the first dies, the second pays what is owed."""

    def said(log: Path, word: str) -> Callable[[], bool]:
        return lambda: word in log.read_text(encoding="utf-8")

    with relay_process(lab, tmp_path) as first, running(lab, tmp_path, "relay") as (_, log):
        wait_until(said(log, "relay_stands_by"), "the second stands by")
        first.kill()
        first.wait()
        wait_until(said(log, "relay_ready"), "the second works")
        with psycopg.connect(lab.operational.dsn) as writer:
            _owe(writer, _event(str(uuid4())))
        wait_until(lambda: lab.operational.count("outbox where published_at is null") == 0, "it pays")


def test_what_kafka_does_not_acknowledge_stays_owed(database: Database) -> None:
    """A broker that is away costs nothing but time."""
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        nowhere = RecordProducer(bootstrap="127.0.0.1:1", produced_by="relay")

        class Hasty:
            """Waits a second only."""

            def send(self, value: object, *, trace_id: str | None = None) -> None:
                """Queue a record."""
                nowhere.send(value, trace_id=trace_id)

            def flush(self) -> None:
                """Wait a second."""
                nowhere.flush(timeout_ms=1_000)

        _owe(connection, _event(str(uuid4())))
        with pytest.raises(BrokerError):
            Relay(connection=connection, sender=Hasty()).pay()
    assert database.count("outbox where published_at is null") == 1
