"""Run a sink as a process: Kafka in, TimescaleDB out, each event exactly once."""

import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from hcp.clock import seconds
from hcp.errors import BrokerError, FencedError, StoreUnavailableError
from hcp.kafka.consumer import BatchConsumer, Partition
from hcp.kafka.producer import RecordProducer
from hcp.kafka.records import ConsumedRecord
from hcp.model.rejections import Rejected, RejectReason
from hcp.settings import Settings
from hcp.telemetry import RECORDS
from hcp.topics import DEAD_SUFFIX, all_topics
from sinks.intake import ROWS_MAX, Intake, Part
from sinks.replayed import prefix_of, prepare, topics_of
from sinks.stalls import StallWatch
from sinks.timescale.maintenance import maintenance
from sinks.timescale.migrations import migrate
from sinks.timescale.writer import Refused, Writer

POLL_MS: Final = 200
"""How long a batch is waited for."""
POLL_BYTES_MAX: Final = 16 * 1024 * 1024
"""In hand, and one step more: of telemetry by the shard it is 13 transactions."""
STEP_RECORDS_MAX: Final = 100
"""Taken at once; between steps the bytes are counted."""
RECORDS_MIN: Final = 32
QUEUE_BYTES_MAX: Final = 32 * 1024 * 1024
"""Fetched ahead of the poll."""
CONNECTIONS_MAX: Final = 16
BACKOFF_MS_MIN: Final = 100
BACKOFF_MS_MAX: Final = 5_000
HELD_POLL_MS: Final = 100
REPORT_EVERY_MS: Final = 500
LOOK_EVERY_MS: Final = 60_000
"""Between two looks at whether a partition stands still."""
STALLS_NAMED: Final = 5
FROM_THE_START: Final = -2
"""librdkafka's OFFSET_BEGINNING: a partition of which the database has nothing is read whole."""

_log = structlog.get_logger(__name__)


def run_sink(
    name: str,
    *,
    settings: Settings,
    topics: tuple[str, ...] = (),
    connections: int = 1,
    is_by_record: bool = False,
    replay: str | None = None,
) -> int:
    """Run the sink until SIGTERM or SIGINT; return the exit code.

    Args:
        name: `timescale`.
        settings: Broker and database.
        topics: Only these; default: every topic and its dead letters.
        connections: Members of the group in this process, each with partitions and a connection of its own.
        is_by_record: Decode with fastavro alone.
        replay: Take this replay's topics, into a database of its own, instead of the live ones.

    Raises:
        SettingsError: There is no such replay.
        BrokerError: A topic is missing or the broker refuses.
        StoreError: The database refuses the migrations.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    dsn = settings.timescale_dsn.get_secret_value()
    if replay is not None:
        names = topics or topics_of(settings.kafka_bootstrap, replay)
        dsn = prepare(dsn, replay)
    else:
        names = topics or tuple(topic.name for topic in all_topics())
    _wait_for_store(lambda: migrate(dsn), stop=stop)

    def member(place: int) -> Sink:
        intake = Intake(is_by_record=is_by_record, is_replay=replay is not None)
        return Sink(
            name=name, place=place, settings=settings, dsn=dsn, topics=names, stop=stop, intake=intake, replay=replay
        )

    with maintenance(dsn):
        _run_together([member(place) for place in range(connections)], stop=stop, name=name)
    return 0


def _run_together(members: "list[Sink]", *, stop: threading.Event, name: str) -> None:
    """Run every member until `stop`; one that fails stops the others, and its error is raised."""
    failures: list[BaseException] = []

    def run(sink: Sink) -> None:
        try:
            sink.run()
        except BaseException as error:  # noqa: BLE001  # raised again below, on the main thread
            failures.append(error)
            stop.set()

    threads = [threading.Thread(target=run, args=(sink,), name=f"sink-{place}") for place, sink in enumerate(members)]
    for thread in threads[1:]:
        thread.start()
    _log.info("sink_ready", sink=name, connections=len(members))
    run(members[0])  # on the main thread, which signals interrupt
    for thread in threads[1:]:
        thread.join()
    if failures:
        raise failures[0]


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
    """One member of the sink's consumer group, and its connection.

    The database says where to read on: after every assignment, every failure and every doubt the partitions are held,
    what is in hand is dropped, and reading goes on from what is stored. So memory stays bounded while a store is away.
    """

    def __init__(
        self,
        *,
        name: str,
        place: int,
        settings: Settings,
        dsn: str,
        topics: tuple[str, ...],
        stop: threading.Event,
        intake: Intake,
        replay: str | None = None,
    ) -> None:
        """Join the group."""
        self._name, self._stop, self._intake = name, stop, intake
        self._dsn, self._replay = dsn, replay
        self._writer: Writer | None = None
        self._expected: dict[Partition, int] = {}
        self._behind: set[Partition] = set()
        self._lettered: set[tuple[str, int, int]] = set()
        self._unreported: dict[Partition, int] = {}
        self._reported_at_s = 0.0
        self._records_wanted = STEP_RECORDS_MAX
        self._is_held = self._is_revoked = False
        self._outage = _Outage()
        self._stalls, self._looked_at_s = StallWatch(), time.monotonic()
        self._producer = RecordProducer(bootstrap=settings.kafka_bootstrap, produced_by=f"sink.{name}")
        member = f"sink-{name}-{settings.instance}-{place}"
        is_named = "instance" in settings.model_fields_set  # two that nobody named must not be taken for one
        self._consumer = BatchConsumer(
            bootstrap=settings.kafka_bootstrap,
            group=f"hcp-sink-{name}" if replay is None else f"hcp-sink-{name}-{replay}",
            topics=topics,
            prefix="" if replay is None else prefix_of(replay),
            client_id=member,
            instance_id=member if is_named else None,
            queue_bytes_max=QUEUE_BYTES_MAX,
            assignment="roundrobin",  # four partitions carry the fleet's ASICs, and all lie in the lower half
            on_assigned=lambda _: self._hold(),
            on_revoked=lambda _: self._note_revoked(),
        )

    def run(self) -> None:
        """Take turns until told to stop; then leave the group and close the connection."""
        try:
            while not self._stop.is_set():
                self.turn()
        finally:
            self._report(is_last=True)
            self._consumer.close()
            self._producer.close()
            self._drop()

    def turn(self) -> None:
        """Take one poll through: decode, dead-letter what is bad, store the rest part by part."""
        if self._is_held:
            self._place()
            return
        self._is_revoked = False
        records = self._poll()
        if self._is_doubtful():
            return  # the partitions changed in between: what is in hand may be another member's
        rows = 0
        for part in self._intake.parts(self._fresh(records)):
            if not self._is_written(part):
                return
            rows += part.rows
        if records:
            self._records_wanted = max(RECORDS_MIN, min(ROWS_MAX, ROWS_MAX * len(records) // max(rows, 1)))
        self._report()
        self._look()

    def _is_doubtful(self) -> bool:
        return self._is_held or self._is_revoked

    def _poll(self) -> list[ConsumedRecord]:
        """Return about ROWS_MAX rows, judged by the last poll, or what came in POLL_MS."""
        records: list[ConsumedRecord] = []
        until_s, size = time.monotonic() + seconds(POLL_MS), 0
        while len(records) < self._records_wanted and size < POLL_BYTES_MAX and not self._is_doubtful():
            left_ms = int((until_s - time.monotonic()) * 1_000)
            if left_ms <= 0:
                break
            step = min(STEP_RECORDS_MAX, self._records_wanted - len(records))
            taken = self._consumer.poll(records_max=step, timeout_ms=left_ms)
            records += taken
            size += sum([len(record.value or b"") for record in taken])
        return records

    def _fresh(self, records: list[ConsumedRecord]) -> Sequence[ConsumedRecord]:
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

    def _is_written(self, part: Part) -> bool:
        """Store; False when it was not to be: another writer was here, or the store or the broker is away."""
        try:
            self._refuse(part.refused)
            self._open().write(
                part.good,
                blocks=part.blocks,
                expected=self._expected,
                following=part.following,
                on_refused=self._refuse_rows,
            )
        except FencedError as error:
            _log.warning("fenced", error=str(error))
            self._hold()
        except (StoreUnavailableError, BrokerError) as error:
            self._hold()
            self._away(error, is_writing=True)
        else:
            self._stored(part)
            return True
        return False

    def _stored(self, part: Part) -> None:
        self._outage.end(is_writing=True)
        self._expected.update(part.following)
        self._unreported.update(part.following)
        for topic, count in part.counts.items():
            RECORDS.labels(f"sink.{self._name}", topic).inc(count)
        if self._lettered:
            stored = part.following
            self._lettered = {letter for letter in self._lettered if letter[2] >= stored.get(letter[:2], 0)}

    def _refuse(self, refused: Sequence[tuple[ConsumedRecord, Rejected]]) -> None:
        """Deliver dead letters, each once while this process lives; of a dead letter there is none, only a line."""
        sent = set()
        for record, rejected in refused:
            letter = (record.topic, record.partition, record.offset)
            if letter in self._lettered:
                continue
            sent.add(letter)
            if record.topic.endswith(DEAD_SUFFIX) or self._replay is not None:  # a replay writes to nothing live
                _log.error("dead_letter_refused", topic=record.topic, offset=record.offset, detail=rejected.detail)
            else:
                self._producer.send_dead(record, rejected)
        if sent:
            self._producer.flush()
            self._lettered |= sent

    def _refuse_rows(self, refused: list[Refused]) -> None:
        detail = "its rows must fit their table, was refused: "
        self._refuse(
            [(each.record, Rejected(reason=RejectReason.STORE_REFUSED, detail=detail + each.words)) for each in refused]
        )

    def _report(self, *, is_last: bool = False) -> None:
        """Tell the group how far we are, for displays of the lag; the truth is in the database."""
        now_s = time.monotonic()
        if self._unreported and (is_last or now_s - self._reported_at_s >= seconds(REPORT_EVERY_MS)):
            self._consumer.commit_soon(self._unreported)
            self._unreported, self._reported_at_s = {}, now_s

    def _look(self) -> None:
        """Read on from what is stored when a partition stands still although it has more: nothing else would tell."""
        now_s = time.monotonic()
        if now_s - self._looked_at_s < seconds(LOOK_EVERY_MS):
            return
        self._looked_at_s = now_s
        try:
            ends = self._consumer.ends()
        except BrokerError:
            return  # it is away, and the poll says so
        stalled = self._stalls.look(self._expected, ends)
        if stalled:
            named = [f"{topic}[{partition}]" for topic, partition in stalled]
            _log.warning("reading_anew", partitions=named[:STALLS_NAMED], count=len(named))
            self._hold()

    def _open(self) -> Writer:
        if self._writer is None:
            self._writer = Writer(self._dsn, sink=self._name)
        return self._writer

    def _drop(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _hold(self) -> None:
        self._is_held = True
        self._unreported = {}
        self._consumer.hold()

    def _note_revoked(self) -> None:
        self._is_revoked = True

    def _place(self) -> None:
        """Read on from what is stored, on every partition; wait a little when the database does not say."""
        owned = self._consumer.assignment()
        try:
            found = self._open().positions(owned)
        except StoreUnavailableError as error:
            self._away(error, is_writing=False)
            return
        self._outage.end(is_writing=False)
        self._expected = found
        self._consumer.go_on({at: found.get(at, FROM_THE_START) for at in owned})
        self._is_held = False

    def _away(self, error: StoreUnavailableError | BrokerError, *, is_writing: bool) -> None:
        """Say once that it is away and wait, longer each time; polls in between keep the membership."""
        self._drop()
        backoff_ms = self._outage.begin(error, is_writing=is_writing)
        until_s = time.monotonic() + seconds(backoff_ms)
        while time.monotonic() < until_s and not self._stop.is_set():
            self._consumer.poll(records_max=1, timeout_ms=HELD_POLL_MS)  # held: there is nothing to lose


class _Outage:
    """What is known of a store or broker that is away."""

    def __init__(self) -> None:
        """Begin with none."""
        self._name = ""
        self._is_writing = False
        self._backoff_ms = BACKOFF_MS_MIN

    def begin(self, error: StoreUnavailableError | BrokerError, *, is_writing: bool) -> int:
        """Say it, the first time; return how long to wait, in ms."""
        if not self._name:
            self._name = "store" if isinstance(error, StoreUnavailableError) else "broker"
            _log.warning(f"{self._name}_unavailable", error=str(error))
        self._is_writing |= is_writing
        waiting_ms, self._backoff_ms = self._backoff_ms, min(self._backoff_ms * 2, BACKOFF_MS_MAX)
        return waiting_ms

    def end(self, *, is_writing: bool) -> None:
        """Say that it is over: after a failed write only a write shows it (a full disk can still be read)."""
        if self._name and (is_writing or not self._is_writing):
            _log.info(f"{self._name}_available_again")
            self._name, self._is_writing, self._backoff_ms = "", False, BACKOFF_MS_MIN
