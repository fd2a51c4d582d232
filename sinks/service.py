"""Run a sink as a process: Kafka in, TimescaleDB out, each event exactly once."""

import signal
import threading
from collections.abc import Callable, Iterator
from typing import Final

import structlog

from hcp.clock import seconds
from hcp.codecs import decode
from hcp.errors import BrokerError, FencedError, StoreUnavailableError
from hcp.kafka.consumer import BatchConsumer, Partition
from hcp.kafka.producer import RecordProducer
from hcp.kafka.records import ConsumedRecord
from hcp.model.rejections import Rejected, RejectReason
from hcp.model.validation import check_event_time
from hcp.settings import Settings
from hcp.telemetry import RECORDS
from hcp.topics import DEAD_SUFFIX, all_topics
from sinks.timescale.maintenance import maintenance
from sinks.timescale.migrations import migrate
from sinks.timescale.rows import row_count
from sinks.timescale.writer import Decoded, Refused, Writer

RECORDS_MAX: Final = 2_000
"""A poll's: of full telemetry batches 2,000 are 70 MB."""
ROWS_MAX: Final = 20_000
"""A transaction's, and the last record's more: a backlog of columnar records must not fill the memory."""
POLL_MS: Final = 200
BACKOFF_MS_MIN: Final = 100
BACKOFF_MS_MAX: Final = 5_000
FROM_THE_START: Final = -2
"""librdkafka's OFFSET_BEGINNING: a partition of which the database has nothing is read whole."""

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
    names = topics or tuple(topic.name for topic in all_topics())
    sink = Sink(name=name, settings=settings, topics=names, stop=stop)
    try:
        _log.info("sink_ready", sink=name)
        with maintenance(dsn):
            while not stop.is_set():
                sink.turn()
    finally:
        sink.close()
    return 0


def _wait_for_store(attempt: Callable[[], object], *, stop: threading.Event) -> None:
    """Call `attempt` until the database answers or `stop` is set; says once that it does not."""
    backoff_ms, is_logged = BACKOFF_MS_MIN, False
    while not stop.is_set():
        try:
            attempt()
        except StoreUnavailableError as error:
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

    def __init__(self, *, name: str, settings: Settings, topics: tuple[str, ...], stop: threading.Event) -> None:
        """Join the group; offsets come from the database on every assignment."""
        self._name = name
        self._stop = stop
        self._records = {topic.name: topic.record for topic in all_topics()}
        self._dsn = settings.timescale_dsn.get_secret_value()
        self._writer: Writer | None = None
        self._expected: dict[Partition, int] = {}
        self._behind: set[Partition] = set()
        self._producer = RecordProducer(bootstrap=settings.kafka_bootstrap, produced_by=f"sink.{name}")
        self._consumer = BatchConsumer(
            bootstrap=settings.kafka_bootstrap,
            group=f"hcp-sink-{name}",
            topics=topics,
            client_id=f"sink-{name}-{settings.instance}",
            on_assigned=self._assigned,
        )

    def turn(self) -> None:
        """Take one poll through: decode, dead-letter what is bad, store the rest part by part, commit."""
        stored: list[ConsumedRecord] = []
        for taken, good in self._parts(self._fresh(self._consumer.poll(records_max=RECORDS_MAX, timeout_ms=POLL_MS))):
            following: dict[Partition, int] = {}
            for record in taken:
                RECORDS.labels(f"sink.{self._name}", record.topic).inc()
                at = (record.topic, record.partition)
                following[at] = max(following.get(at, 0), record.offset + 1)
            if not self._is_written(good, following):
                break  # the rest is read again
            self._expected.update(following)
            stored += taken
        try:
            self._consumer.commit(stored)  # for lag displays; the truth is in the database
        except BrokerError as error:
            _log.warning("commit_failed", error=str(error))

    def close(self) -> None:
        """Leave the group and close the connection."""
        self._consumer.close()
        self._producer.close()
        if self._writer is not None:
            self._writer.close()

    def _fresh(self, records: list[ConsumedRecord]) -> list[ConsumedRecord]:
        """Leave out what the database has; once per partition say so, for a topic made anew looks the same."""
        fresh = []
        for record in records:
            at = (record.topic, record.partition)
            if record.offset >= self._expected.get(at, 0):
                fresh.append(record)
            elif at not in self._behind:
                self._behind.add(at)
                words = {"offset": record.offset, "stored_offset": self._expected[at]}
                _log.warning("offset_behind_store", topic=record.topic, partition=record.partition, **words)
        return fresh

    def _parts(self, records: list[ConsumedRecord]) -> Iterator[tuple[list[ConsumedRecord], list[Decoded]]]:
        """Decode and cut into parts of about ROWS_MAX rows; a part's dead letters are delivered before it is stored."""
        taken: list[ConsumedRecord] = []
        good: list[Decoded] = []
        rows = 0
        for record in records:
            value = self._checked(record)
            taken.append(record)
            if isinstance(value, Rejected):
                self._refuse(record, value)
            else:
                good.append(Decoded(record=record, value=value))
                rows += row_count(value)
            if rows >= ROWS_MAX:
                self._producer.flush()
                yield taken, good
                taken, good, rows = [], [], 0
        if taken:
            self._producer.flush()
            yield taken, good

    def _checked(self, record: ConsumedRecord) -> object:
        """Return the value of a record, or why it is none for its topic."""
        value = decode(record.value)
        if isinstance(value, Rejected):
            return value
        wanted = self._records[record.topic]
        if type(value) is not wanted:
            detail = f"a record of {record.topic} must be a {wanted.__name__}, was a {type(value).__name__}"
            return Rejected(reason=RejectReason.WRONG_TYPE, detail=detail)
        at_ms = getattr(value, "observed_at_ms", None)
        if at_ms is None:
            return value
        return check_event_time(observed_at_ms=at_ms, record_timestamp_ms=record.timestamp_ms) or value

    def _refuse(self, record: ConsumedRecord, rejected: Rejected) -> None:
        """Send a dead letter; of a dead letter there is none, so that one is only logged."""
        if record.topic.endswith(DEAD_SUFFIX):
            _log.error("dead_letter_refused", topic=record.topic, offset=record.offset, detail=rejected.detail)
        else:
            self._producer.send_dead(record, rejected)

    def _refuse_rows(self, refused: list[Refused]) -> None:
        for each in refused:
            detail = f"its rows must fit their table, was refused: {each.words}"
            self._refuse(each.record, Rejected(reason=RejectReason.STORE_REFUSED, detail=detail))
        self._producer.flush()

    def _is_written(self, good: list[Decoded], following: dict[Partition, int]) -> bool:
        """Store; False when it was not to be: another writer was here, or the sink is told to stop."""
        backoff_ms, is_logged = BACKOFF_MS_MIN, False
        while not self._stop.is_set():
            try:
                self._open().write(good, expected=self._expected, following=following, on_refused=self._refuse_rows)
            except FencedError as error:
                _log.warning("fenced", error=str(error))
                self._reread()
                return False
            except StoreUnavailableError as error:
                if not is_logged:
                    _log.warning("store_unavailable", error=str(error))
                    is_logged = True
                self._drop()
                self._stop.wait(seconds(backoff_ms))
                backoff_ms = min(backoff_ms * 2, BACKOFF_MS_MAX)
                if self._is_stored(following):
                    return True
            else:
                if is_logged:
                    _log.info("store_available_again")
                return True
        return False

    def _is_stored(self, following: dict[Partition, int]) -> bool:
        """Whether a commit whose answer was lost had taken effect all the same."""
        try:
            found = self._open().positions(tuple(following))
        except StoreUnavailableError:
            self._drop()
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
        known = self._known(partitions)
        for at in partitions:
            self._consumer.seek(*at, known.get(at, FROM_THE_START))

    def _reread(self) -> None:
        """Go back to what is stored, on every partition: a poll is stored in parts, and later ones were not yet."""
        owned = self._consumer.assignment()
        known = self._known(owned)
        for at in owned:
            self._consumer.seek(*at, known.get(at, FROM_THE_START))

    def _known(self, partitions: tuple[Partition, ...]) -> dict[Partition, int]:
        found: dict[Partition, int] = {}

        def ask() -> None:
            nonlocal found
            try:
                found = self._open().positions(partitions)
            except StoreUnavailableError:
                self._drop()
                raise

        _wait_for_store(ask, stop=self._stop)
        for at in partitions:
            self._expected.pop(at, None)
        self._expected.update(found)
        return found
