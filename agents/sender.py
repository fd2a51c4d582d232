"""Send records from an agent: key, partition and headers by the registry, through the app's own producer."""

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

import faust

from hcp.codecs import encode
from hcp.kafka.dead_letters import dead_letter
from hcp.kafka.records import ConsumedRecord
from hcp.model.ids import id_from_content
from hcp.model.rejections import Rejected
from hcp.telemetry import REJECTED, SENT, traceparent
from hcp.topics import Topic, dead_topic_of, topic_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One encoded record, ready to send."""

    topic: Topic
    key: bytes
    value: bytes
    partition: int
    headers: dict[str, bytes]


class Sender:
    """Queues records on the app's producer; Faust flushes it before it commits what caused them."""

    def __init__(self, app: faust.App, *, process: str) -> None:
        """Send as `process`."""
        self._app, self._process = app, process
        self._topics: dict[str, faust.TopicT] = {}

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

    async def send(self, message: Outgoing) -> None:
        """Queue one record."""
        name = message.topic.name
        known = self._topics.get(name)
        if known is None:
            known = self._app.topic(
                name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
            )
            self._topics[name] = known
        await known.send(key=message.key, value=message.value, partition=message.partition, headers=message.headers)
        SENT.labels(self._process, name).inc()

    async def send_dead(self, record: ConsumedRecord, rejected: Rejected, *, topic: Topic) -> None:
        """Queue a refused record on its dead-letter topic, whole and with the reason."""
        letter = dead_letter(record, rejected, rejected_by=self._process)
        REJECTED.labels(self._process, topic.name, rejected.reason.value).inc()
        await self.send(self._outgoing(dead_topic_of(topic), letter, trace=dict(record.headers)))


def _trace_id(headers: dict[str, bytes]) -> str | None:
    """Return the trace that came with the input, as a UUID string; None when it brought none that parses."""
    parts = headers.get("traceparent", b"").decode("ascii", errors="replace").split("-")
    try:
        return str(UUID(parts[1]))
    except (IndexError, ValueError):
        return None
