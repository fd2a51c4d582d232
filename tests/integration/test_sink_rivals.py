"""Two live sinks of one group: one killed by -9, one stopped for longer than its session and continued as a zombie."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from hcp.kafka.producer import RecordProducer
from hcp.model.ledger import AuditEvent
from hcp.topics import AUDIT_EVENTS
from tests.examples import AUDIT
from tests.fix_services import OwnStack
from tests.sink_process import Database, SinkProcess, fresh_database, sink_process, wait_until

pytestmark = pytest.mark.services
GROUP: Final = "hcp-sink-timescale"
TOPICS: Final = (AUDIT_EVENTS.name, AUDIT_EVENTS.dead)
EVENTS: Final = 10_000
FLUSH_EVERY: Final = 50
ATTEMPTS_MAX: Final = 300
_never = threading.Event()


@pytest.fixture
def database(own_stack: OwnStack) -> Iterator[Database]:
    """A fresh database on this module's own stack."""
    with fresh_database(own_stack.addresses) as found:
        yield found


class Load:
    """Sends events in the background, in small flushes, so that the sinks always have some in hand."""

    def __init__(self, bootstrap: str) -> None:
        """Make the events; `start` sends them."""
        self.tag = uuid4().hex
        self.events = [self._event(place) for place in range(EVENTS)]
        self._producer = RecordProducer(bootstrap=bootstrap, produced_by="test")
        self._thread = threading.Thread(target=self._send)

    def _event(self, place: int) -> AuditEvent:
        return replace(AUDIT, audit_id=str(uuid4()), actor=self.tag, subject=str(place))

    def stored(self, database: Database) -> int:
        """Count the rows of these events."""
        return database.count("audit_events where actor = %s", self.tag)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def _send(self) -> None:
        for place, event in enumerate(self.events):
            self._producer.send(event)
            if place % FLUSH_EVERY == 0:
                self._producer.flush()
        self._producer.flush()

    def send_one(self) -> AuditEvent:
        """Send one more event, now."""
        event = self._event(EVENTS)
        self._producer.send(event)
        self._producer.flush()
        self.events.append(event)
        return event

    def join(self) -> None:
        """Wait until all is sent."""
        self._thread.join(timeout=90)
        assert not self._thread.is_alive()


def _shares(bootstrap: str) -> dict[str, int]:
    """Return how many partitions of the topic each member owns; none while the group has no coordinator yet."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    try:
        found = admin.describe_consumer_groups([GROUP], request_timeout=2)[GROUP].result(timeout=90)
    except KafkaException:
        return {}
    return {
        member.member_id: sum(each.topic == AUDIT_EVENTS.name for each in member.assignment.topic_partitions)
        for member in found.members
    }


def _wait_shared(bootstrap: str) -> None:
    def is_shared() -> bool:
        shares = _shares(bootstrap)
        return len(shares) == 2 and min(shares.values()) > 0 and sum(shares.values()) == AUDIT_EVENTS.partitions

    wait_until(is_shared, "two sinks that share the partitions")


def _assert_each_once(database: Database, load: Load) -> None:
    rows = database.ask("select audit_id from audit_events where actor = %s", load.tag)
    assert sorted(str(row["audit_id"]) for row in rows) == sorted(event.audit_id for event in load.events)


def _ended(sink: SinkProcess) -> int:
    sink.process.terminate()
    return sink.process.wait(timeout=90)


def test_a_sink_killed_beside_its_rival_leaves_one_row_an_event(
    own_stack: OwnStack, database: Database, tmp_path: Path
) -> None:
    """Two started together share the partitions; kill -9 of one under load: the other stores the rest, each once."""
    load = Load(own_stack.addresses.kafka_bootstrap)
    with _two_sinks(own_stack, database, tmp_path) as (first, second):
        load.start()
        wait_until(lambda: load.stored(database) > EVENTS // 20, "rows")
        first.process.kill()
        first.process.wait(timeout=90)
        load.join()
        wait_until(lambda: load.stored(database) >= EVENTS, "all rows")
        assert _ended(second) == 0
    _assert_each_once(database, load)


def test_a_zombie_sink_hinders_nobody_and_doubles_nothing(
    own_stack: OwnStack, database: Database, tmp_path: Path
) -> None:
    """Stopped in mid-transaction until its session ends: the rival stores all; continued, it is fenced and goes on."""
    bootstrap = own_stack.addresses.kafka_bootstrap
    load = Load(bootstrap)
    with _two_sinks(own_stack, database, tmp_path) as (zombie, rival):
        load.start()
        wait_until(lambda: load.stored(database) > EVENTS // 20, "rows")
        _stop_in_transaction(zombie, database)
        load.join()
        wait_until(lambda: len(_shares(bootstrap)) == 1, "the zombie's session over")
        assert load.stored(database) < EVENTS
        wait_until(lambda: load.stored(database) >= EVENTS, "all rows, while the zombie holds still")
        zombie.process.send_signal(signal.SIGCONT)
        _wait_shared(bootstrap)
        assert _ended(rival) == 0
        last = load.send_one()
        wait_until(lambda: database.count("audit_events where audit_id = %s", last.audit_id) == 1, "the zombie works")
        assert _ended(zombie) == 0
    _assert_each_once(database, load)


@contextmanager
def _two_sinks(own_stack: OwnStack, database: Database, folder: Path) -> Iterator[tuple[SinkProcess, SinkProcess]]:
    """Start two sinks together; give them once they share the partitions."""
    with (
        sink_process(own_stack.addresses, database, folder, *TOPICS) as first,
        sink_process(own_stack.addresses, database, folder, *TOPICS) as second,
    ):
        _wait_shared(own_stack.addresses.kafka_bootstrap)
        yield first, second


def _stop_in_transaction(sink: SinkProcess, database: Database) -> None:
    """Stop a process in the middle of a transaction of its own, row locks held."""
    for _ in range(ATTEMPTS_MAX):
        sink.process.send_signal(signal.SIGSTOP)
        mine = _open_transactions(database)
        if mine:
            _never.wait(0.5)  # the rival's come and go, and a statement that was under way ends
        if mine and mine & _open_transactions(database):
            return
        sink.process.send_signal(signal.SIGCONT)
        _never.wait(0.01)
    raise AssertionError("a transaction must be met")


def _open_transactions(database: Database) -> set[tuple[int, object]]:
    """Return pid and begin of every transaction that has written and waits for its client."""
    rows = database.ask(
        "select pid, xact_start from pg_stat_activity "
        "where datname = %s and backend_xid is not null and state = 'idle in transaction'",
        database.name,
    )
    return {(row["pid"], row["xact_start"]) for row in rows}
