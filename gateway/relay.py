"""`hcp relay`: pays the outbox's debts to Kafka, in order for each key, at least once, and forgets paid ones.

A row is owed until it is marked: no position is remembered, so a row that commits late with a low id is found like any
other. Of each key only the oldest owed record is sent in a round: none overtakes another even when a send fails.
"""

import signal
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType
from typing import Final, NamedTuple, Protocol
from uuid import UUID

import psycopg
import structlog
from prometheus_client import Counter, Histogram
from psycopg.rows import namedtuple_row

from gateway.failures import store_error
from gateway.migrations import prepare
from gateway.notifier import CHANNEL
from hcp.clock import seconds
from hcp.codecs import decode
from hcp.errors import BrokerError, StoreError, StoreUnavailableError
from hcp.kafka.producer import RecordProducer
from hcp.model.facilities import Fleet
from hcp.model.rejections import Rejected
from hcp.settings import Settings

LOCK_KEY: Final = 4_811_008
"""Advisory lock of the one relay that works; others stand by."""
BATCH_MAX: Final = 1_000
LOOK_MS: Final = 250
"""Owed records are looked for this often even when no NOTIFY comes."""
STAND_BY_MS: Final = 1_000
AGAIN_MS: Final = 500
PRUNE_EVERY_MS: Final = 60_000
PRUNE_ROWS_MAX: Final = 10_000
KEPT: Final = "24 hours"
CONNECT_SECONDS: Final = 10
EXIT_OK: Final = 0

_OWED: Final = (
    "select outbox_id, topic, record_key, record, trace_id, extract(epoch from created_at)::float8 as created_s "
    "from outbox where published_at is null order by outbox_id limit %s"
)
_PAID: Final = "update outbox set published_at = now() where outbox_id = any(%s)"
_PRUNE: Final = (
    "delete from outbox where outbox_id in (select outbox_id from outbox where published_at < now() - %s::interval "
    "order by published_at limit %s)"
)

RELAYED: Final = Counter("hcp_relay_records", "Records of the outbox acknowledged by Kafka.", ["topic"])
LAG_SECONDS: Final = Histogram(
    "hcp_relay_lag_seconds",
    "From the insert into the outbox to Kafka's acknowledgement.",
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0),
)


class Owed(NamedTuple):
    """One row of the outbox."""

    outbox_id: int
    topic: str
    record_key: str
    record: bytes
    trace_id: UUID
    created_s: float


class Sender(Protocol):
    """What the relay needs of a producer."""

    def send(self, value: object, *, trace_id: str | None = None) -> None:
        """Queue a record."""

    def flush(self) -> None:
        """Wait until all that was sent is acknowledged.

        Raises:
            BrokerError: Some of it was not.
        """


def first_of_each_key(owed: Iterable[Owed]) -> list[Owed]:
    """Return, of rows in order, the first of each topic and key."""
    firsts: dict[tuple[str, str], Owed] = {}
    for row in owed:
        firsts.setdefault((row.topic, row.record_key), row)
    return list(firsts.values())


@dataclass(slots=True, kw_only=True)
class Relay:
    """Moves owed records; the connection must be in autocommit."""

    connection: psycopg.Connection
    sender: Sender

    def pay(self) -> int:
        """Send one round of owed records and mark them paid; return how many.

        Killed between the two, it sends them again: events keep their ids.

        Raises:
            BrokerError: Kafka did not take them; they stay owed.
            psycopg.Error: The database is away; they stay owed.
        """
        with self.connection.cursor(row_factory=namedtuple_row) as cursor:
            rows = [Owed(*row) for row in cursor.execute(_OWED, (BATCH_MAX,)).fetchall()]
        round_ = first_of_each_key(rows)
        if not round_:
            return 0
        for row in round_:
            record = decode(bytes(row.record))
            assert not isinstance(record, Rejected), f"the outbox must hold records of ours, was: {record}"
            self.sender.send(record, trace_id=str(row.trace_id))
        self.sender.flush()
        self.connection.execute(_PAID, ([row.outbox_id for row in round_],))
        _observe(round_)
        return len(round_)

    def prune(self) -> int:
        """Delete records that were paid a day ago, a bounded number at a time; return how many."""
        return self.connection.execute(_PRUNE, (KEPT, PRUNE_ROWS_MAX)).rowcount

    def wait(self, *, timeout_ms: int) -> None:
        """Return when somebody notifies, or after the time."""
        for _ in self.connection.notifies(timeout=seconds(timeout_ms), stop_after=1):
            pass


def _observe(paid: Sequence[Owed]) -> None:
    now_s = time.time()
    for row in paid:
        RELAYED.labels(row.topic).inc()
        LAG_SECONDS.observe(max(0.0, now_s - row.created_s))


def run_relay(*, settings: Settings, fleet: Fleet) -> int:
    """Relay until SIGTERM; a database or broker that is away is waited for. Return the exit code."""
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    dsn = settings.postgres_dsn.get_secret_value()
    producer = RecordProducer(bootstrap=settings.kafka_bootstrap, produced_by="relay")
    log = structlog.get_logger(__name__)
    is_prepared = False
    while not stop.is_set():
        try:
            if not is_prepared:
                prepare(dsn, fleet)
                is_prepared = True
            with psycopg.connect(dsn, autocommit=True, connect_timeout=CONNECT_SECONDS) as connection:
                _work(Relay(connection=connection, sender=producer), stop)
        except psycopg.Error as error:
            log.warning("relay_waits", error=str(store_error("database hcp must answer", error)))
            stop.wait(seconds(AGAIN_MS))
        except (BrokerError, StoreUnavailableError) as error:
            log.warning("relay_waits", error=str(error))
            stop.wait(seconds(AGAIN_MS))
    with suppress(BrokerError):  # what is not acknowledged stays owed
        producer.close()
    return EXIT_OK


def _work(relay: Relay, stop: threading.Event) -> None:
    log = structlog.get_logger(__name__)
    is_standing_by = False
    while not _has_lock(relay.connection):
        if not is_standing_by:
            log.info("relay_stands_by")
        is_standing_by = True
        if stop.wait(seconds(STAND_BY_MS)):
            return
    relay.connection.execute(f"listen {CHANNEL}".encode())
    log.info("relay_ready")
    pruned_s = 0.0
    while not stop.is_set():
        if relay.pay() == 0:
            relay.wait(timeout_ms=LOOK_MS)
        if time.monotonic() - pruned_s >= seconds(PRUNE_EVERY_MS):
            relay.prune()
            pruned_s = time.monotonic()


def _has_lock(connection: psycopg.Connection) -> bool:
    row = connection.execute("select pg_try_advisory_lock(%s)", (LOCK_KEY,)).fetchone()
    if row is None:
        raise StoreError("pg_try_advisory_lock must answer, was silent")
    return bool(row[0])
