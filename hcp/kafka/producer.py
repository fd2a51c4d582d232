"""A producer of records: key and partition by the registry, headers on each, and no delivery taken on trust."""

from typing import Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from hcp.clock import seconds
from hcp.codecs import encode
from hcp.errors import BrokerError
from hcp.kafka.dead_letters import dead_letter
from hcp.kafka.records import ConsumedRecord
from hcp.model.ids import id_from_content
from hcp.model.rejections import Rejected
from hcp.telemetry import REJECTED, SENT, traceparent
from hcp.topics import dead_topic_of, topic_named, topic_of

FLUSH_MS: Final = 30_000
QUEUE_ATTEMPTS_MAX: Final = 300
"""Times a full queue is waited for, 100 ms each, before the broker counts as gone."""
_QUEUE_WAIT_MS: Final = 100
_ANY_PARTITION: Final = -1
_NOW: Final = 0

Headers = list[tuple[str, str | bytes | None]]


def headers_of(topic: str, data: bytes, *, produced_by: str, trace_id: str | None = None) -> Headers:
    """Return the headers that every record of the registry bears; without a trace it begins one of its own."""
    span_id = id_from_content(topic, data.hex())
    return [
        ("event_type", topic),
        ("traceparent", traceparent(trace_id=trace_id or span_id, span_id=span_id)),
        ("produced_by", produced_by),
    ]


class RecordProducer:
    """Idempotent, acks=all; `flush` raises when any record sent since the last one was not delivered."""

    def __init__(self, *, bootstrap: str, produced_by: str, linger_ms: int = 0) -> None:
        """Connect lazily; `produced_by` goes into every record's headers."""
        self._produced_by = produced_by
        self._failed: list[str] = []
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "client.id": produced_by,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": linger_ms,
                "compression.type": "lz4",
                "delivery.timeout.ms": 60_000,
            }
        )

    def send(self, value: object, *, trace_id: str | None = None, timestamp_ms: int | None = None) -> None:
        """Queue one record on its topic.

        Args:
            value: A record of hcp.model.
            trace_id: UUID of the record that began it all; default: this record's own content.
            timestamp_ms: Broker timestamp; default: now.

        Raises:
            OutOfRangeError: A field breaks its documented range.
            BrokerError: The queue stayed full.
        """
        topic = topic_of(value)
        data = encode(value)
        self._produce(
            topic=topic.name,
            key=topic.key_of(value),
            value=data,
            partition=topic.partition_of(value),
            headers=headers_of(topic.name, data, produced_by=self._produced_by, trace_id=trace_id),
            timestamp_ms=timestamp_ms,
        )

    def send_dead(self, record: ConsumedRecord, rejected: Rejected) -> None:
        """Queue a refused record on its dead-letter topic, whole and with the reason."""
        topic = topic_named(record.topic)
        assert topic is not None, f"only topics of the registry are consumed, was {record.topic}"
        letter = dead_letter(record, rejected, rejected_by=self._produced_by)
        dead = dead_topic_of(topic)
        REJECTED.labels(self._produced_by, topic.name, rejected.reason.value).inc()
        self._produce(
            topic=dead.name,
            key=dead.key_of(letter),
            value=encode(letter),
            partition=dead.partition_of(letter),
            headers=[("event_type", dead.name), ("produced_by", self._produced_by)],
            timestamp_ms=None,
        )

    def send_raw(self, topic: str, key: bytes | None, value: bytes | None, partition: int | None = None) -> None:
        """Queue bytes as they are: for redriving dead letters and for tests of bad input."""
        headers: Headers = [("produced_by", self._produced_by)]
        self._produce(topic=topic, key=key, value=value, partition=partition, headers=headers, timestamp_ms=None)

    def _produce(
        self,
        *,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None,
        headers: Headers,
        timestamp_ms: int | None,
    ) -> None:
        for _ in range(QUEUE_ATTEMPTS_MAX):
            try:
                self._producer.produce(
                    topic,
                    value=value,
                    key=key,
                    headers=headers,
                    partition=_ANY_PARTITION if partition is None else partition,
                    timestamp=_NOW if timestamp_ms is None else timestamp_ms,
                    on_delivery=self._delivered,
                )
            except BufferError:
                self._producer.poll(seconds(_QUEUE_WAIT_MS))
            except KafkaException as error:
                raise BrokerError(f"{topic} must take records, was: {error.args[0].str()}") from error
            else:
                self._producer.poll(0)
                return
        raise BrokerError(f"the producer's queue must drain, was full for {QUEUE_ATTEMPTS_MAX * _QUEUE_WAIT_MS} ms")

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failed.append(f"{message.topic()}: {error.str()}")
        else:
            SENT.labels(self._produced_by, message.topic()).inc()

    def flush(self, *, timeout_ms: int = FLUSH_MS) -> None:
        """Wait until every record sent is acknowledged.

        Raises:
            BrokerError: Some were not delivered, or not in time; says how many and the first reason.
        """
        waiting = self._producer.flush(seconds(timeout_ms))
        failed, self._failed = self._failed, []
        if waiting or failed:
            reason = failed[0] if failed else f"no acknowledgement in {timeout_ms} ms"
            raise BrokerError(f"all records must be delivered, was {waiting + len(failed)} undelivered: {reason}")

    def close(self) -> None:
        """Flush what is left; call it on the way out."""
        self.flush()
