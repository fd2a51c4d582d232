"""Send records from an agent: key, partition and headers by the registry, through the app's own producer."""

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import faust
import structlog
from aiokafka.errors import KafkaError
from faust.exceptions import ProducerSendError

from hcp.codecs import encode
from hcp.kafka.dead_letters import dead_letter
from hcp.kafka.records import ConsumedRecord
from hcp.model.ids import id_from_content
from hcp.model.rejections import Rejected
from hcp.telemetry import REJECTED, SENT, traceparent
from hcp.topics import Topic, dead_topic_of, topic_of

RETRY_SECONDS: Final = 0.5
ACKNOWLEDGED_SECONDS: Final = 30.0
"""After so long a record is sent again, with the same id: a table's lock must not wait for a batch that is lost."""
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One encoded record, ready to send."""

    topic: Topic
    key: bytes
    value: bytes
    partition: int
    headers: dict[str, bytes]


class Sender:
    """Puts records on the broker through the app's producer, before the guard writes state or Faust commits."""

    def __init__(self, app: faust.App, *, process: str) -> None:
        """Send as `process`."""
        self._app, self._process = app, process

    def prepare(self, values: Iterable[object], *, trace: tuple[tuple[str, bytes], ...] = ()) -> list[Outgoing]:
        """Encode all records first, so that a record that cannot be encoded leaves nothing half sent.

        Raises:
            OutOfRangeError: A field breaks its documented range.
        """
        return [self._outgoing(topic_of(value), value, trace=dict(trace)) for value in values]

    def _outgoing(self, topic: Topic, value: object, *, trace: dict[str, bytes]) -> Outgoing:
        data = encode(value)
        span_id = id_from_content(topic.name, data.hex())
        headers = {
            "event_type": topic.name.encode(),
            "traceparent": traceparent(trace_id=_trace_id(trace) or span_id, span_id=span_id).encode(),
            "produced_by": self._process.encode(),
        }
        return Outgoing(
            topic=topic, key=topic.key_of(value), value=data, partition=topic.partition_of(value), headers=headers
        )

    async def deliver(self, messages: Sequence[Outgoing]) -> None:
        """Send records and wait until the broker has them all; a broker that is away is waited for.

        Faust itself only logs a send that failed, and would then commit what caused it.
        """
        producer = self._app.producer
        waiting = list(messages)
        while waiting:
            sent = [(message, await self._send(producer, message)) for message in waiting]
            waiting = [message for message, acknowledged in sent if not await _arrived(acknowledged)]
            if waiting:
                _log.warning("delivery_retried", process=self._process, records=len(waiting))
                await asyncio.sleep(RETRY_SECONDS)
        for message in messages:
            SENT.labels(self._process, message.topic.name).inc()

    async def _send(self, producer: Any, message: Outgoing) -> Awaitable[object] | None:  # noqa: ANN401  # Faust's
        """Hand one record to the producer; None when it takes none now."""
        try:
            acknowledged: Awaitable[object] = await producer.send(
                message.topic.name, message.key, message.value, message.partition, None, message.headers
            )
        except ProducerSendError as error:
            _log.warning("send_failed", process=self._process, topic=message.topic.name, error=str(error))
            return None
        return acknowledged

    async def send_dead(self, record: ConsumedRecord, rejected: Rejected, *, topic: Topic) -> None:
        """Put a refused record on its dead-letter topic, whole and with the reason."""
        letter = dead_letter(record, rejected, rejected_by=self._process)
        REJECTED.labels(self._process, topic.name, rejected.reason.value).inc()
        await self.deliver([self._outgoing(dead_topic_of(topic), letter, trace=dict(record.headers))])


async def _arrived(acknowledged: Awaitable[object] | None) -> bool:
    if acknowledged is None:
        return False
    try:
        await asyncio.wait_for(acknowledged, ACKNOWLEDGED_SECONDS)
    except (KafkaError, TimeoutError) as error:
        _log.warning("delivery_failed", error=repr(error))
        return False
    return True


def _trace_id(headers: dict[str, bytes]) -> str | None:
    """Return the trace that came with the input, as a UUID string; None when it brought none that parses."""
    parts = headers.get("traceparent", b"").decode("ascii", errors="replace").split("-")
    try:
        return str(UUID(parts[1]))
    except (IndexError, ValueError):
        return None
