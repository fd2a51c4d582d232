"""Read the end of a topic without joining a group: for eyes, never for work."""

from collections.abc import Iterator
from typing import Final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from hcp.clock import seconds
from hcp.errors import BrokerError
from hcp.kafka.admin import watermarks
from hcp.kafka.consumer import record_of
from hcp.kafka.records import ConsumedRecord

ANSWER_MS_MAX: Final = 10_000
POLL_MS: Final = 500


def tail(bootstrap: str, topic: str, *, last: int, follow: bool) -> Iterator[ConsumedRecord]:
    """Yield the last `last` records of each partition, oldest first within one; with `follow`, for ever after.

    Raises:
        BrokerError: The broker does not answer or has no such topic.
    """
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "hcp-tail", "enable.auto.commit": False})
    try:
        ends = _assign(consumer, bootstrap, topic, last)
        while ends or follow:
            message = consumer.poll(seconds(POLL_MS))
            if message is None or message.error() is not None:
                continue
            record = record_of(message)
            if record.offset + 1 >= ends.get(record.partition, record.offset + 2):
                ends.pop(record.partition)
            yield record
    finally:
        consumer.close()


def _assign(consumer: Consumer, bootstrap: str, topic: str, last: int) -> dict[int, int]:
    """Assign every partition at its start; return the end offset of those that have something to show."""
    try:
        found = consumer.list_topics(topic, timeout=seconds(ANSWER_MS_MAX)).topics[topic]
        if found.error is not None or not found.partitions:
            raise BrokerError(f"topic must exist, was not on the broker: {topic}; run `hcp topics create`")
        starts, ends = [], {}
        for number in found.partitions:
            low, high = watermarks(consumer, TopicPartition(topic, number))
            start = max(low, high - last)
            starts.append(TopicPartition(topic, number, start))
            if start < high:
                ends[number] = high
    except KafkaException as error:
        raise BrokerError(f"Kafka must answer at {bootstrap}, was: {error.args[0].str()}; try `hcp doctor`") from error
    consumer.assign(starts)
    return ends
