"""Run a sink as a process: Kafka in, TimescaleDB out, each event exactly once."""

import signal
import threading
import time
from typing import Final

import structlog

from hcp.clock import seconds
from hcp.codecs import decode
from hcp.errors import BrokerError, FencedError, StoreError
from hcp.kafka.consumer import BatchConsumer, Partition
from hcp.kafka.producer import RecordProducer
from hcp.kafka.records import ConsumedRecord
from hcp.model.rejections import Rejected, RejectReason
from hcp.model.validation import check_event_time
from hcp.settings import Settings
from hcp.telemetry import RECORDS
from hcp.topics import all_topics
from sinks.timescale.migrations import migrate
from sinks.timescale.writer import Decoded, Refused, Writer

RECORDS_MAX: Final = 10_000
POLL_MS: Final = 200
BACKOFF_MS_MIN: Final = 100
BACKOFF_MS_MAX: Final = 5_000

_log = structlog.get_logger(__name__)


def run_sink(name: str, *, settings: Settings, topics: tuple[str, ...] = ()) -> int:
    """Run the sink until SIGTERM or SIGINT; return the exit code.

    Args:
        name: `timescale`.
        settings: Broker and database.
        topics: Only these; default: every topic and its dead letters.

    Raises:
        BrokerError: A topic is missing or the broker refuses.
        StoreError: The database refuses the migrations.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    dsn = settings.timescale_dsn.get_secret_value()
    _wait_for_store(lambda: migrate(dsn), stop=stop)
    sink = Sink(name=name, settings=settings, topics=topics or tuple(topic.name for topic in all_topics()))
    try:
        _log.info("sink_ready", sink=name)
        while not stop.is_set():
            sink.turn()
    finally:
        sink.close()
    return 0


def _wait_for_store(attempt: object, *, stop: threading.Event) -> None:
    """Call `attempt` until the database answers; says once that it does not."""
    assert callable(attempt), "a function is expected"
    backoff_ms, is_logged = BACKOFF_MS_MIN, False
    while not stop.is_set():
        try:
            attempt()
        except FencedError:
            raise
        except StoreError as error:
            if "must answer" not in str(error) and "connection" not in str(error):
                raise
            if not is_logged:
                _log.warning("store_unavailable", error=str(error))
                is_logged = True
            stop.wait(seconds(backoff_ms))
            backoff_ms = min(backoff_ms * 2, BACKOFF_MS_MAX)
        else:
            if is_logged:
                _log.info("store_available_again")
            return


class Sink:
    """One member of the sink's consumer group, and its connection."""

    def __init__(self, *, name: str, settings: Settings, topics: tuple[str, ...]) -> None:
        """Join the group; offsets come from the database on every assignment."""
        self._name = name
        self._dsn = settings.timescale_dsn.get_secret_value()
        self._writer: Writer | None = None
        self._expected: dict[Partition, int] = {}
        self._producer = RecordProducer(bootstrap=settings.kafka_bootstrap, produced_by=f"sink.{name}")
        self._consumer = BatchConsumer(
            bootstrap=settings.kafka_bootstrap,
            group=f"hcp-sink-{name}",
            topics=topics,
            client_id=f"sink-{name}-{settings.instance}",
            on_assigned=self._assigned,
        )

    def turn(self) -> None:
        """Take one batch through: decode, dead-letter what is bad, store the rest, commit."""
        records = self._consumer.poll(records_max=RECORDS_MAX, timeout_ms=POLL_MS)
        fresh = [each for each in records if each.offset >= self._expected.get((each.topic, each.partition), 0)]
        if not fresh:
            return
        following: dict[Partition, int] = {}
        for record in fresh:
            RECORDS.labels(f"sink.{self._name}", record.topic).inc()
            at = (record.topic, record.partition)
            following[at] = max(following.get(at, 0), record.offset + 1)
        good = self._sifted(fresh)
        refused = self._stored(good, following)
        if refused is None:
            return
        for each in refused:
            detail = f"its rows must fit their table, was refused: {each.words}"[:2000]
            self._producer.send_dead(each.record, Rejected(reason=RejectReason.STORE_REFUSED, detail=detail))
        self._producer.flush()
        self._expected.update(following)
        try:
            self._consumer.commit(fresh)  # for lag displays; the truth is in the database
        except BrokerError as error:
            _log.warning("commit_failed", error=str(error))

    def close(self) -> None:
        """Leave the group and close the connection."""
        self._consumer.close()
        self._producer.close()
        if self._writer is not None:
            self._writer.close()

    def _sifted(self, records: list[ConsumedRecord]) -> list[Decoded]:
        good = []
        for record in records:
            value = decode(record.value)
            at_ms = getattr(value, "observed_at_ms", None)
            if not isinstance(value, Rejected) and at_ms is not None:
                value = check_event_time(observed_at_ms=at_ms, record_timestamp_ms=record.timestamp_ms) or value
            if not isinstance(value, Rejected):
                good.append(Decoded(record=record, value=value))
            elif not record.topic.endswith(".dead"):
                self._producer.send_dead(record, value)
            else:
                _log.error("dead_letter_unreadable", topic=record.topic, offset=record.offset, detail=value.detail)
        self._producer.flush()  # before any offset moves past them
        return good

    def _stored(self, good: list[Decoded], following: dict[Partition, int]) -> list[Refused] | None:
        """Store; None when the partitions must be read again (another writer was here, or the database was away)."""
        backoff_ms, is_logged = BACKOFF_MS_MIN, False
        while True:
            try:
                refused = self._open().write(good, expected=self._expected, following=following)
            except FencedError as error:
                _log.warning("fenced", error=str(error))
                self._reread(tuple(following))
                return None
            except StoreError as error:
                if not is_logged:
                    _log.warning("store_unavailable", error=str(error))
                    is_logged = True
                self._drop()
                time.sleep(seconds(backoff_ms))
                backoff_ms = min(backoff_ms * 2, BACKOFF_MS_MAX)
                if self._is_stored(following):
                    return []
            else:
                if is_logged:
                    _log.info("store_available_again")
                return refused

    def _is_stored(self, following: dict[Partition, int]) -> bool:
        """Whether a commit whose answer was lost had taken effect all the same."""
        try:
            found = self._open().positions(tuple(following))
        except StoreError:
            return False
        return all(found.get(at) == offset for at, offset in following.items())

    def _open(self) -> Writer:
        if self._writer is None:
            self._writer = Writer(self._dsn, sink=self._name)
        return self._writer

    def _drop(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _assigned(self, partitions: tuple[Partition, ...]) -> None:
        for at, offset in self._known(partitions).items():
            self._consumer.seek(*at, offset)

    def _reread(self, partitions: tuple[Partition, ...]) -> None:
        owned = set(self._consumer.assignment())
        for at, offset in self._known(partitions).items():
            if at in owned:
                self._consumer.seek(*at, offset)

    def _known(self, partitions: tuple[Partition, ...]) -> dict[Partition, int]:
        found: dict[Partition, int] = {}

        def ask() -> None:
            nonlocal found
            try:
                found = self._open().positions(partitions)
            except StoreError:
                self._drop()
                raise

        _wait_for_store(ask, stop=threading.Event())
        for at in partitions:
            self._expected.pop(at, None)
        self._expected.update(found)
        return found
