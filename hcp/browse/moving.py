"""Move records byte for byte: topic to file, file to topic, topic to topic."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from confluent_kafka import Message

from hcp.browse.archive import ArchiveReader, ArchiveWriter, Kept, Origin
from hcp.browse.auditing import Operator, audit_of
from hcp.browse.overview import TopicState, topic_states
from hcp.clock import wall_ms
from hcp.errors import BrokerError, HcpError, SettingsError
from hcp.kafka.admin import ensure_topics
from hcp.kafka.forwarding import Forwarder
from hcp.kafka.producer import RecordProducer
from hcp.kafka.ranges import QUEUE_BYTES_MAX, RECORDS_MAX, Range, read_messages
from hcp.topics import Cleanup, Topic, topic_named

PRODUCED_BY: Final = "hcp-topics"
STEP_RECORDS: Final = 1_000
"""Records between two calls that say how far it is."""
Step = Callable[[int], None]
"""Called with how many records were moved since the last call."""


@dataclass(slots=True, kw_only=True)
class Moved:
    """What was moved; grows batch by batch.

    Attributes:
        records: How many.
        size_bytes: Of keys, values and headers.
        retimed: Of those sent, how many had no timestamp (or the epoch itself) and got that of now.
    """

    records: int = 0
    size_bytes: int = 0
    retimed: int = 0

    def count(self, record: Kept) -> None:
        """Take one record in."""
        self.records += 1
        self.size_bytes += record.size_bytes
        self.retimed += record.timestamp_ms <= 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where records go.

    Attributes:
        topic: Its name.
        partitions: How many it must have: records stay in theirs.
        create: Whether it is made when it is missing, its records kept for ever.
        append: Whether it may hold records already.
        live: Whether it may be a topic of the registry, which processes act upon.
    """

    topic: str
    partitions: int
    create: bool = False
    append: bool = False
    live: bool = False


def export_topic(
    bootstrap: str, ranges: Iterable[Range], writer: ArchiveWriter, *, key: bytes | None, on_step: Step
) -> Moved:
    """Write every record of `ranges` to a file, and finish it; when that fails, no file is left.

    Raises:
        BrokerError: The broker does not answer.
        HcpError: The file cannot be written.
    """
    moved = Moved()
    try:
        for batch in kept(bootstrap, ranges, key=key, on_step=on_step):
            for record in batch:
                moved.count(record)
            writer.add(batch)
        writer.finish()
    except OSError as error:
        writer.discard()
        raise HcpError(f"the file must be writable, was: {error.strerror or error}") from error
    except BaseException:
        writer.discard()
        raise
    return moved


def import_records(bootstrap: str, reader: ArchiveReader, target: Target, *, on_step: Step) -> Moved:
    """Send every record of a file to a topic that is `ready`, into the partition it lay in.

    Raises:
        BrokerError: The broker refused one or does not answer.
        HcpError: The file is damaged; what lay before the damage was sent.
    """
    return _send(bootstrap, _steps(reader.records(), on_step), target)


def copy_records(bootstrap: str, ranges: Iterable[Range], target: Target, *, key: bytes | None, on_step: Step) -> Moved:
    """Send every record of `ranges` to a topic that is `ready`, into the same partition.

    Raises:
        BrokerError: The broker refused one or does not answer.
    """
    return _send(bootstrap, kept(bootstrap, ranges, key=key, on_step=on_step), target)


def kept(
    bootstrap: str,
    ranges: Iterable[Range],
    *,
    key: bytes | None = None,
    on_step: Step = lambda _: None,
    records_max: int = RECORDS_MAX,
    queue_bytes_max: int = QUEUE_BYTES_MAX,
) -> Iterator[list[Kept]]:
    """Yield the records of `ranges` whole, those with `key` only when one is given; memory is bound as by `read`.

    Raises:
        BrokerError: The broker does not answer.
    """
    batches = read_messages(bootstrap, ranges, records_max=records_max, queue_bytes_max=queue_bytes_max)
    return _kept_batches(batches, key=key, on_step=on_step)


def _kept_batches(batches: Iterable[list[Message]], *, key: bytes | None, on_step: Step) -> Iterator[list[Kept]]:
    for messages in batches:
        records = [_kept(each) for each in messages]
        yield records if key is None else [each for each in records if each.key == key]
        on_step(len(records))


def origin_of(bootstrap: str, topic: str) -> Origin:
    """Return what a file says of the topic it comes from.

    Raises:
        BrokerError: The broker does not answer or has no such topic.
    """
    state = _state(bootstrap, topic)
    if not state.partitions:
        raise BrokerError(f"topic must exist on {bootstrap}, was not there: {topic}; see `hcp topics list --all`")
    return Origin(topic=topic, partitions=len(state.partitions))


def ready(bootstrap: str, target: Target, *, operator: Operator, source: str) -> None:
    """See that records may go to a topic, make it where that was asked, and say so on the audit when it is live.

    Args:
        bootstrap: The broker.
        target: Where to.
        operator: Who does it, for the audit.
        source: Where the records come from.

    Raises:
        SettingsError: It is live, or holds records, and that was not allowed.
        BrokerError: It is missing, has another number of partitions, or the broker does not answer.
    """
    is_live = topic_named(target.topic) is not None
    if is_live and not target.live:
        raise SettingsError(f"the target must be no live topic without --yes-live, was {target.topic}")
    state = _state(bootstrap, target.topic)
    if not state.partitions and target.create and not is_live:
        ensure_topics(bootstrap, [_plain(target)])
        return
    if not state.partitions:
        made = "run `hcp topics create`" if is_live else "give --create"
        raise BrokerError(f"{target.topic} must exist with {target.partitions} partitions, was not there: {made}")
    if len(state.partitions) != target.partitions:
        raise BrokerError(
            f"{target.topic} must have {target.partitions} partitions as {source} has, was {len(state.partitions)}"
        )
    if state.records and not (target.append or is_live):
        raise SettingsError(f"{target.topic} must be empty without --append, was {state.records:,} records")
    if is_live:
        audit(bootstrap, operator, action="topic.written", topic=target.topic, after={"source": source})


def audit(bootstrap: str, operator: Operator, *, action: str, topic: str, after: dict[str, str | int]) -> None:
    """Say on the audit what will be done to a live topic, before it is done: nothing is written that nobody said.

    Raises:
        BrokerError: The broker does not take it.
    """
    producer = RecordProducer(bootstrap=bootstrap, produced_by=PRODUCED_BY)
    producer.send(audit_of(operator, action=action, subject=topic, at_ms=wall_ms(), after=after))
    producer.close()


def _send(bootstrap: str, batches: Iterable[list[Kept]], target: Target) -> Moved:
    forwarder = Forwarder(bootstrap=bootstrap, topic=target.topic, client_id=PRODUCED_BY)
    moved = Moved()
    for batch in batches:
        for record in batch:
            if not 0 <= record.partition < target.partitions:
                raise HcpError(f"partition must be from 0 to {target.partitions - 1}, was {record.partition}")
            forwarder.send(
                key=record.key,
                value=record.value,
                headers=record.headers,
                partition=record.partition,
                timestamp_ms=record.timestamp_ms,
            )
            moved.count(record)
    forwarder.flush()
    return moved


def _steps(records: Iterable[Kept], on_step: Step) -> Iterator[list[Kept]]:
    batch: list[Kept] = []
    for record in records:
        batch.append(record)
        if len(batch) == STEP_RECORDS:
            yield batch
            on_step(len(batch))
            batch = []
    yield batch
    on_step(len(batch))


def _kept(message: Message) -> Kept:
    partition, offset = message.partition(), message.offset()
    assert partition is not None, "a message without an error has an address"
    assert offset is not None, "as partition"
    return Kept(
        partition,
        offset,
        message.timestamp()[1],
        message.key(),
        message.value(),
        tuple(message.headers() or ()),  # type: ignore[arg-type]  # as key
    )


def _state(bootstrap: str, topic: str) -> TopicState:
    return topic_states(bootstrap, [topic], sizes=False)[0]


def _plain(target: Target) -> Topic:
    """Describe a topic of no record class that keeps what it is given: old records would else be gone at once."""
    return Topic(
        name=target.topic,
        record=bytes,
        key="",
        partition_by="",
        partitions=target.partitions,
        cleanup=Cleanup.DELETE,
        retention_ms=-1,
        doc="Imported or copied by hand.",
    )
