"""Bounded reading of the past: which offsets a stretch of time is, and every record of them, outside any group.

Nothing here commits, subscribes or creates: partitions are assigned, and positions are forgotten with the reader.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from hcp.clock import seconds
from hcp.errors import BrokerError
from hcp.kafka.admin import watermarks
from hcp.kafka.consumer import record_of
from hcp.kafka.records import ConsumedRecord

ANSWER_MS_MAX: Final = 15_000
POLL_MS: Final = 100
SILENCE_MS_MAX: Final = 60_000
"""How long a broker may send nothing of a range that has more before reading gives up."""
RECORDS_MAX: Final = 10_000
QUEUE_BYTES_MAX: Final = 64 * 1024 * 1024
FETCH_WAIT_MS: Final = 50
"""How long the broker may hold a fetch for more: an end behind a transaction's marker is known by an empty answer."""
GROUP: Final = "hcp-range"
"""librdkafka wants a name; nothing is ever committed under it."""
NEVER: Final = 2**63 - 1
"""An end that no offset reaches."""
_BYTES_PER_KIB: Final = 1_024
Place = tuple[str, int]
"""Topic and partition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Offsets of one partition, start included, end not.

    Attributes:
        topic: Its topic.
        partition: Its partition.
        start: First offset wanted.
        end: The offset after the last one wanted; `start` when there is nothing.
        is_cut: Whether the broker no longer holds everything from where the range was to begin: retention has eaten
            into it, so that what is read may lack records at its start.
    """

    topic: str
    partition: int
    start: int
    end: int
    is_cut: bool = False

    @property
    def place(self) -> Place:
        """Topic and partition."""
        return self.topic, self.partition

    @property
    def count(self) -> int:
        """Offsets in it: an upper bound of its records (compaction and transaction markers leave holes)."""
        return max(self.end - self.start, 0)


def ranges_by_time(
    bootstrap: str, topics: Iterable[str], *, from_ms: int | None = None, to_ms: int | None = None
) -> tuple[Range, ...]:
    """Return the range of every partition of `topics` from the first record at or after `from_ms` to before `to_ms`.

    Args:
        bootstrap: The broker.
        topics: Names on the broker.
        from_ms: Broker timestamp, ms since the epoch; None for the oldest record.
        to_ms: Likewise, not included; None for the end as it is now.

    Raises:
        BrokerError: The broker does not answer or has no such topic.
    """
    consumer = _reader(bootstrap)
    try:
        return tuple(
            _range_of(consumer, place, from_ms, to_ms)
            for topic in topics
            for place in _partitions(consumer, topic, bootstrap)
        )
    except KafkaException as error:
        raise _unanswered(bootstrap, error) from error
    finally:
        consumer.close()


def ranges_by_offset(bootstrap: str, wanted: Mapping[Place, tuple[int, int]]) -> tuple[Range, ...]:
    """Return the ranges between two offsets, end not included, cut to what the broker holds.

    Raises:
        BrokerError: The broker does not answer or has no such topic.
    """
    consumer = _reader(bootstrap)
    try:
        found = []
        for (topic, partition), (start, end) in wanted.items():
            if not any(place.partition == partition for place in _partitions(consumer, topic, bootstrap)):
                raise BrokerError(f"{topic} must have the partition, was {partition}")
            low, high = watermarks(consumer, TopicPartition(topic, partition))
            kept = max(low, start)
            found.append(
                Range(topic=topic, partition=partition, start=kept, end=max(kept, min(high, end)), is_cut=start < low)
            )
        return tuple(found)
    except KafkaException as error:
        raise _unanswered(bootstrap, error) from error
    finally:
        consumer.close()


def read(
    bootstrap: str, ranges: Iterable[Range], *, records_max: int = RECORDS_MAX, queue_bytes_max: int = QUEUE_BYTES_MAX
) -> Iterator[list[ConsumedRecord]]:
    """Yield every record of `ranges` in batches, in offset order within a partition, and end.

    Memory is bound by `records_max` and by `queue_bytes_max`, what librdkafka may have fetched ahead.

    Raises:
        BrokerError: A topic has gone, or the broker sent nothing for SILENCE_MS_MAX (it is waited for until then).
    """
    for batch in read_messages(bootstrap, ranges, records_max=records_max, queue_bytes_max=queue_bytes_max):
        yield [record_of(message) for message in batch]


def read_messages(
    bootstrap: str, ranges: Iterable[Range], *, records_max: int = RECORDS_MAX, queue_bytes_max: int = QUEUE_BYTES_MAX
) -> Iterator[list[Message]]:
    """Yield what `read` does as librdkafka's own messages: for bytes that go on as they are, headers of null too.

    Fetching begins with the call, so that whoever reads many ranges apart waits for all brokers at once.

    Raises:
        BrokerError: As `read` does.
    """
    filled = [each for each in ranges if each.count]
    if not filled:
        return iter(())
    consumer = _reader(bootstrap, queue_bytes_max)
    consumer.assign([TopicPartition(*each.place, each.start) for each in filled])
    return _messages(consumer, filled, bootstrap=bootstrap, records_max=records_max)


def _messages(
    consumer: Consumer, ranges: Iterable[Range], *, bootstrap: str, records_max: int
) -> Iterator[list[Message]]:
    open_ends = {each.place: each.end for each in ranges}
    starts = {each.place: each.start for each in ranges}
    try:
        heard_at = time.monotonic()
        while open_ends:
            # No more than is left: for the rest of a batch that never comes librdkafka would wait all its time.
            left = sum(end - starts[place] for place, end in open_ends.items())
            found = _sift(consumer, consumer.consume(min(records_max, left), timeout=seconds(POLL_MS)), open_ends)
            if found:
                for message in found:
                    starts[str(message.topic()), int(message.partition() or 0)] = int(message.offset() or 0) + 1
                yield found
                heard_at = time.monotonic()  # whoever reads may take its time
            elif time.monotonic() - heard_at > seconds(SILENCE_MS_MAX):
                raise BrokerError(f"{bootstrap} must send what it holds, was silent for {SILENCE_MS_MAX} ms")
    except KafkaException as error:
        raise _unanswered(bootstrap, error) from error
    finally:
        consumer.close()


def follow(bootstrap: str, starts: Mapping[Place, int]) -> Iterator[list[ConsumedRecord]]:
    """Yield what comes from those offsets on, for ever; an empty batch each POLL_MS in which nothing came.

    Raises:
        BrokerError: A topic has gone; a broker that is away is waited for.
    """
    consumer = _reader(bootstrap)
    try:
        consumer.assign([TopicPartition(*place, start) for place, start in starts.items()])
        ends = dict.fromkeys(starts, NEVER)
        while True:
            yield [
                record_of(each)
                for each in _sift(consumer, consumer.consume(RECORDS_MAX, timeout=seconds(POLL_MS)), ends)
            ]
    finally:
        consumer.close()


def _sift(consumer: Consumer, messages: list[Message], open_ends: dict[Place, int]) -> list[Message]:
    """Return the records that lie within their ranges; take ranges that have been read to their end out of work."""
    records = []
    for message in messages:
        place = str(message.topic()), int(message.partition() or 0)
        if (error := message.error()) is None:
            offset = int(message.offset() or 0)
            if offset < open_ends.get(place, 0):
                records.append(message)
            _close(consumer, open_ends, place, offset + 1)
        elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  # librdkafka's own public name
            _close(consumer, open_ends, place, int(message.offset() or 0))
        elif error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART or error.fatal():
            raise BrokerError(f"{place[0]} must be readable, was: {error.str()}")
    return records


def _close(consumer: Consumer, open_ends: dict[Place, int], place: Place, position: int) -> None:
    """Stop fetching a partition whose range has been read: a topic that is written to would else never end."""
    if place in open_ends and position >= open_ends[place]:
        del open_ends[place]
        consumer.incremental_unassign([TopicPartition(*place)])


def _reader(bootstrap: str, queue_bytes_max: int = QUEUE_BYTES_MAX) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": GROUP,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "allow.auto.create.topics": False,
            "queued.max.messages.kbytes": queue_bytes_max // _BYTES_PER_KIB,
            "fetch.wait.max.ms": FETCH_WAIT_MS,
        }
    )


def _partitions(consumer: Consumer, topic: str, bootstrap: str) -> list[TopicPartition]:
    found = consumer.list_topics(topic, timeout=seconds(ANSWER_MS_MAX)).topics[topic]
    if found.error is not None or not found.partitions:
        raise BrokerError(f"topic must exist on {bootstrap}, was not there: {topic}; see `hcp topics list`")
    return [TopicPartition(topic, number) for number in sorted(found.partitions)]


def _range_of(consumer: Consumer, place: TopicPartition, from_ms: int | None, to_ms: int | None) -> Range:
    low, high = watermarks(consumer, place)
    start = low if from_ms is None else _offset_at(consumer, place, from_ms, high)
    end = high if to_ms is None else _offset_at(consumer, place, to_ms, high)
    return Range(
        topic=place.topic,
        partition=place.partition,
        start=start,
        end=max(start, end),
        is_cut=low > 0 and start == low and end > low,
    )


def _offset_at(consumer: Consumer, place: TopicPartition, at_ms: int, high: int) -> int:
    """Return the first offset at or after a time; the end where there is none."""
    asked = TopicPartition(place.topic, place.partition, at_ms)
    (found,) = consumer.offsets_for_times([asked], timeout=seconds(ANSWER_MS_MAX))
    if found.error is not None:
        raise KafkaException(found.error)
    return found.offset if found.offset >= 0 else high


def _unanswered(bootstrap: str, error: KafkaException) -> BrokerError:
    return BrokerError(f"Kafka must answer at {bootstrap}, was: {error.args[0].str()}; try `hcp doctor`")
