"""Create, list and describe topics; the only place that makes one."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from hcp.clock import seconds
from hcp.errors import BrokerError
from hcp.topics import Topic, all_topics

ANSWER_MS_MAX: Final = 15_000
ATTEMPTS_MAX: Final = 50
RETRY_MS: Final = 100
_LEADER_CHANGES: Final = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicDescription:
    """What the broker holds of one topic.

    Attributes:
        name: As on the broker.
        partitions: How many; 0 when the topic does not exist.
        records: Sum of end less start offsets; compaction and transaction markers make it an upper bound.
    """

    name: str
    partitions: int
    records: int


def ensure_topics(bootstrap: str, topics: Iterable[Topic] | None = None, *, replication: int = 1) -> tuple[str, ...]:
    """Create what is missing of `topics` (default: the whole registry with its dead-letter topics).

    Returns:
        Names created now; empty when all were there.

    Raises:
        BrokerError: The broker does not answer, refuses, or has a topic with another number of partitions.
    """
    wanted = list(topics if topics is not None else all_topics())
    admin = AdminClient({"bootstrap.servers": bootstrap})
    present = _partition_counts(admin, bootstrap)
    for topic in wanted:
        count = present.get(topic.name)
        if count is not None and count != topic.partitions:
            raise BrokerError(
                f"{topic.name} must have {topic.partitions} partitions, was {count}: delete it or use a fresh stack"
            )
    missing = [topic for topic in wanted if topic.name not in present]
    if missing:
        _create(admin, missing, replication)
        _wait_led(admin, bootstrap, wanted)
    return tuple(topic.name for topic in missing)


def _create(admin: AdminClient, missing: list[Topic], replication: int) -> None:
    new = [
        NewTopic(
            topic.name,
            num_partitions=topic.partitions,
            replication_factor=replication,
            config={
                "cleanup.policy": topic.cleanup.value,
                "retention.ms": str(topic.retention_ms),
                # Offsets and timestamps are what replays are cut by: keep what the producer said.
                "message.timestamp.type": "CreateTime",
            },
        )
        for topic in missing
    ]
    for name, future in admin.create_topics(new, operation_timeout=seconds(ANSWER_MS_MAX)).items():
        try:
            future.result(timeout=seconds(ANSWER_MS_MAX))
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # two processes may start at once
                raise BrokerError(f"topic {name} must be created, was refused: {error.args[0].str()}") from error


def _wait_led(admin: AdminClient, bootstrap: str, wanted: list[Topic]) -> None:
    """Wait until every partition has a leader: a topic just made refuses its first readers for a moment."""
    until = time.monotonic() + seconds(ANSWER_MS_MAX)
    while time.monotonic() < until:
        topics = admin.list_topics(timeout=seconds(ANSWER_MS_MAX)).topics
        led = {name: sum(part.leader >= 0 for part in found.partitions.values()) for name, found in topics.items()}
        if all(led.get(topic.name) == topic.partitions for topic in wanted):
            return
        time.sleep(seconds(RETRY_MS))
    raise BrokerError(f"new topics must get leaders within {ANSWER_MS_MAX} ms, was not so at {bootstrap}")


def _partition_counts(admin: AdminClient, bootstrap: str) -> dict[str, int]:
    try:
        metadata = admin.list_topics(timeout=seconds(ANSWER_MS_MAX))
    except KafkaException as error:
        raise BrokerError(f"Kafka must answer at {bootstrap}, was: {error.args[0].str()}; try `hcp doctor`") from error
    return {name: len(topic.partitions) for name, topic in metadata.topics.items()}


def describe(bootstrap: str, names: Iterable[str]) -> list[TopicDescription]:
    """Describe topics in the order given.

    Raises:
        BrokerError: The broker does not answer.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap})
    present = _partition_counts(admin, bootstrap)
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "hcp-describe", "enable.auto.commit": False})
    try:
        return [
            TopicDescription(
                name=name,
                partitions=present.get(name, 0),
                records=_records(consumer, name, present.get(name, 0)),
            )
            for name in names
        ]
    except KafkaException as error:
        raise BrokerError(f"offsets must be answered by {bootstrap}, was: {error.args[0].str()}") from error
    finally:
        consumer.close()


def _records(consumer: Consumer, name: str, partitions: int) -> int:
    total = 0
    for partition in range(partitions):
        low, high = watermarks(consumer, TopicPartition(name, partition))
        total += high - low
    return total


def watermarks(consumer: Consumer, partition: TopicPartition) -> tuple[int, int]:
    """Return start and end offset; a partition whose leader has just changed is asked again."""
    for attempt in range(1, ATTEMPTS_MAX + 1):
        try:
            low, high = consumer.get_watermark_offsets(partition, timeout=seconds(ANSWER_MS_MAX))
        except KafkaException as error:
            if error.args[0].code() not in _LEADER_CHANGES or attempt == ATTEMPTS_MAX:
                raise
            time.sleep(seconds(RETRY_MS))
        else:
            return low, high
    raise AssertionError("the loop returns or raises")


def group_lag(bootstrap: str, group: str, names: Iterable[str]) -> int:
    """Return how many records a consumer group has yet to commit over `names`; topics never committed count whole.

    Raises:
        BrokerError: The broker does not answer.
    """
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False})
    try:
        metadata = consumer.list_topics(timeout=seconds(ANSWER_MS_MAX)).topics
        wanted = [
            TopicPartition(name, number) for name in names if name in metadata for number in metadata[name].partitions
        ]
        lag = 0
        for position in consumer.committed(wanted, timeout=seconds(ANSWER_MS_MAX)):
            low, high = watermarks(consumer, position)
            lag += high - (position.offset if position.offset >= 0 else low)
    except KafkaException as error:
        raise BrokerError(f"lag of {group} must be answered by {bootstrap}, was: {error.args[0].str()}") from error
    finally:
        consumer.close()
    return lag
