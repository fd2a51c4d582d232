"""A producer of bytes as they were: key, value, headers, partition and timestamp go on unchanged, and fast."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from hcp.clock import seconds
from hcp.errors import BrokerError
from hcp.kafka.producer import FLUSH_MS

QUEUE_ATTEMPTS_MAX: Final = 600
"""Times a full queue is waited for, 100 ms each, before the broker counts as gone."""
QUEUE_WAIT_MS: Final = 100
QUEUE_RECORDS_MAX: Final = 200_000
QUEUE_KIB_MAX: Final = 128 * 1024
BATCH_BYTES_MAX: Final = 900_000
"""Of one request to a partition: the broker refuses batches above 1 MiB."""
LINGER_MS: Final = 20

CONNECT_MS_MAX: Final = 1_000

RawHeaders = Sequence[tuple[str, bytes | None]]


class Forwarder:
    """Idempotent, acks=all, each partition in the order given; `flush` raises when anything was not delivered."""

    def __init__(self, *, bootstrap: str, topic: str, client_id: str, linger_ms: int = LINGER_MS) -> None:
        """Connect, to write to `topic`; a broker that is away is waited for when records are sent."""
        self._topic = topic
        self._failed: list[str] = []
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "client.id": client_id,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": linger_ms,
                "batch.size": BATCH_BYTES_MAX,
                "batch.num.messages": 100_000,
                "queue.buffering.max.messages": QUEUE_RECORDS_MAX,
                "queue.buffering.max.kbytes": QUEUE_KIB_MAX,
                "compression.type": "lz4",
                "delivery.timeout.ms": 60_000,
                "delivery.report.only.error": True,
                "on_delivery": self._delivered,
            }
        )
        connect(self._producer, topic)

    def send(
        self, *, key: bytes | None, value: bytes | None, headers: RawHeaders, partition: int, timestamp_ms: int
    ) -> None:
        """Queue a record; a `timestamp_ms` of 0 or less means now, for that is how the protocol's clients have it.

        Raises:
            BrokerError: The broker refused a record sent before, or takes none.
        """
        for _ in range(QUEUE_ATTEMPTS_MAX):
            try:
                self._producer.produce(
                    self._topic,
                    value=value,
                    key=key,
                    headers=list(headers),
                    partition=partition,
                    timestamp=max(timestamp_ms, 0),
                )
            except BufferError:
                self._producer.poll(seconds(QUEUE_WAIT_MS))
                self._raise_failed(0)
            except KafkaException as error:
                raise BrokerError(f"{self._topic} must take records, was: {error.args[0].str()}") from error
            else:
                return
        raise BrokerError(f"the producer's queue must drain, was full for {QUEUE_ATTEMPTS_MAX * QUEUE_WAIT_MS} ms")

    def flush(self, *, timeout_ms: int = FLUSH_MS) -> None:
        """Wait until every record sent is acknowledged.

        Raises:
            BrokerError: Some were not delivered, or not in time; says how many and the first reason.
        """
        self._raise_failed(self._producer.flush(seconds(timeout_ms)))

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failed.append(f"{message.topic()}[{message.partition()}]: {error.str()}")

    def _raise_failed(self, waiting: int) -> None:
        failed, self._failed = self._failed, []
        if waiting or failed:
            reason = failed[0] if failed else "no acknowledgement in time"
            raise BrokerError(f"all records must be delivered, was {waiting + len(failed)} undelivered: {reason}")


def connect(producer: Producer, topic: str) -> None:
    """Wait for the first connection, CONNECT_MS_MAX at most.

    librdkafka asks for its producer id at once and, without a connection, only half a second later again; until then
    nothing is sent. A connection that is there already makes the first delivery 60 ms instead of 510 ms late.
    """
    with suppress(KafkaException):
        producer.list_topics(topic, timeout=seconds(CONNECT_MS_MAX))
