"""The one guard around every agent's loop body: decode, check, transform, send; what fails is dead-lettered whole."""

import time
from collections.abc import Callable
from typing import Any, Final

import faust
import structlog

from agents.sender import Sender
from agents.states import Keeper
from hcp.codecs import decode
from hcp.errors import OutOfRangeError
from hcp.kafka.records import ConsumedRecord
from hcp.kafka.replays import refused_if_replayed
from hcp.model.rejections import Rejected, RejectReason
from hcp.model.steps import Cause, Step
from hcp.model.validation import check_event_time
from hcp.telemetry import IGNORED, RECORDS, TRANSFORM_SECONDS
from hcp.topics import Topic

MS_PER_SECOND: Final = 1_000
Transform = Callable[[Any, Cause], Step[Any] | Rejected]
"""(decoded record, cause) -> step: closed over the table, the fleet and the policy."""

_log = structlog.get_logger(__name__)


class Guard:
    """Runs a transform on each event of one topic; nothing but a broken process gets past it."""

    def __init__(self, *, topic: Topic, process: str, sender: Sender, states: Keeper) -> None:
        """Guard the loop of `topic`; updates go to `states`, outputs and dead letters to `sender`."""
        self._topic, self._process, self._sender, self._states = topic, process, sender, states

    async def handle(self, event: "faust.EventT[bytes]", transform: Transform) -> None:
        """Handle one event to the end: outputs on the broker, then state written; or a dead letter on the broker.

        In this order a process that dies in between does the whole event again, and its outputs have the same ids; the
        other way round the state would call the event a duplicate, and its outputs would be lost. The lock keeps the
        other agents of this table out while the broker is waited for.
        """
        record = record_of(event)
        RECORDS.labels(self._process, record.topic).inc()
        async with self._states.lock:
            await self._handle(record, transform)

    async def _handle(self, record: ConsumedRecord, transform: Transform) -> None:
        step = self._step(record, transform)
        try:
            if not isinstance(step, Rejected):
                await self._effect(step, record)
                return
        except OutOfRangeError as error:  # an output broke its range: the input that led there is kept for the reader
            step = Rejected(reason=RejectReason.TRANSFORM_FAILED, detail=str(error))
            _log.exception("output_out_of_range", topic=record.topic, offset=record.offset)
        await self._sender.send_dead(record, step, topic=self._topic)

    def _step(self, record: ConsumedRecord, transform: Transform) -> Step[Any] | Rejected:
        replayed = refused_if_replayed(record)
        if replayed is not None:
            return replayed
        value: Any = decode(record.value)
        if isinstance(value, Rejected):
            return value
        is_expected = isinstance(value, self._topic.record)
        if not is_expected:
            detail = f"a record of {record.topic} must be a {self._topic.record.__name__}, was {type(value).__name__}"
            return Rejected(reason=RejectReason.WRONG_TYPE, detail=detail)
        late = check_event_time(observed_at_ms=value.observed_at_ms, record_timestamp_ms=record.timestamp_ms)
        if late is not None:
            return late
        cause = Cause(
            topic=record.topic, partition=record.partition, offset=record.offset, timestamp_ms=record.timestamp_ms
        )
        began = time.perf_counter()
        try:
            return transform(value, cause)
        except Exception as error:  # noqa: BLE001  # the flow must go on past a defect; the record is kept to reproduce it
            _log.exception("transform_failed", topic=record.topic, partition=record.partition, offset=record.offset)
            return Rejected(reason=RejectReason.TRANSFORM_FAILED, detail=f"{type(error).__name__}: {error}"[:2000])
        finally:
            TRANSFORM_SECONDS.labels(self._process).observe(time.perf_counter() - began)

    async def _effect(self, step: Step[Any], record: ConsumedRecord) -> None:
        if step.ignored is not None:
            IGNORED.labels(self._process, record.topic, step.ignored).inc()
        outgoing = self._sender.prepare(step.outputs, trace=record.headers)  # all encode, or none is sent
        await self._sender.deliver(outgoing)
        for key, state in step.updates:
            self._states.set(key, state)


def record_of(event: "faust.EventT[bytes]") -> ConsumedRecord:
    """Return the raw record behind a Faust event whose value was left as bytes."""
    message = event.message
    headers = message.headers or ()
    pairs = headers.items() if isinstance(headers, dict) else headers
    return ConsumedRecord(
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        timestamp_ms=round(message.timestamp * MS_PER_SECOND) if message.timestamp else -1,
        key=message.key,
        value=message.value,
        headers=tuple((str(pair[0]), _raw(pair[1])) for pair in pairs),
    )


def _raw(value: bytes | str | None) -> bytes:
    return value.encode() if isinstance(value, str) else value or b""
