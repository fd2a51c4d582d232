"""The guard around every agent's loop body, with hand-written stand-ins for Faust."""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
from aiokafka.errors import KafkaTimeoutError
from faust.exceptions import ProducerSendError

from agents.guard import Guard, Transform, record_of
from agents.sender import Sender
from agents.states import States
from hcp.codecs import decode, encode
from hcp.model.ids import id_from_content
from hcp.model.rejections import DeadLetter, Rejected, RejectReason
from hcp.model.steps import Cause, Step
from hcp.model.units import EpochMs
from hcp.telemetry import traceparent
from hcp.topics import MARKET_PRICE, METRICS_GPU
from tests.examples import AUDIT, PRICE, RECOMMENDATION

TRACE = id_from_content("trace")
HEADERS = {"traceparent": traceparent(trace_id=TRACE, span_id=id_from_content("span")).encode()}


@dataclass
class _Message:
    topic: str
    partition: int
    offset: int
    timestamp: float
    key: bytes | None
    value: bytes | None
    headers: Any


@dataclass
class _Event:
    message: _Message


@dataclass
class _Producer:
    """Keeps what is sent, in order; `refusals` sends fail at first, half when handed over and half when awaited."""

    sent: list[dict[str, Any]] = field(default_factory=list)
    refusals: int = 0
    states: "_States | None" = None
    kept_at_ack: list[dict[str, object]] = field(default_factory=list)
    silent_count: int = 0

    async def send(self, topic: str, key: bytes, value: bytes, partition: int, _: None, headers: Any) -> Any:
        """Take a message and return its acknowledgement to come."""
        self.refusals -= 1
        if self.refusals >= 0 and self.refusals % 2:
            raise ProducerSendError("the broker is away")
        return self._acknowledge(
            {"topic": topic, "key": key, "value": value, "partition": partition, "headers": headers},
            is_refused=self.refusals >= 0,
        )

    async def _acknowledge(self, message: dict[str, Any], *, is_refused: bool) -> None:
        await asyncio.sleep(0)
        if is_refused:
            raise KafkaTimeoutError
        self.silent_count -= 1
        if self.silent_count >= 0:
            await asyncio.Event().wait()
        self.sent.append(message)
        if self.states is not None:
            self.kept_at_ack.append(dict(self.states.kept))


@dataclass
class _App:
    producer: _Producer = field(default_factory=_Producer)


@dataclass
class _States:
    kept: dict[str, object] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def set(self, key: str, state: object) -> None:
        """Keep the state."""
        self.kept[key] = state


def _handle(
    value: bytes | None, transform: Transform, *, headers: object = HEADERS, producer: _Producer | None = None
) -> tuple[list[dict[str, Any]], dict[str, object]]:
    app, states = _App(producer or _Producer()), _States()
    app.producer.states = states
    guard = Guard(
        topic=MARKET_PRICE,
        process="agent.test",
        sender=Sender(cast("Any", app), process="agent.test"),
        states=cast("States[Any]", states),
    )
    message = _Message(MARKET_PRICE.name, 3, 42, PRICE.observed_at_ms / 1_000, b"tx-north", value, headers)
    asyncio.run(guard.handle(cast("Any", _Event(message)), transform))
    return app.producer.sent, states.kept


def _fail(_value: object, _cause: Cause) -> Step[Any]:
    raise ZeroDivisionError("a defect")


def _letter(sent: list[dict[str, Any]]) -> DeadLetter:
    assert [message["topic"] for message in sent] == ["market.price.dead"]
    letter = decode(sent[0]["value"])
    assert isinstance(letter, DeadLetter)
    return letter


def test_a_defect_becomes_a_dead_letter() -> None:
    """A transformation that raises stops nothing: the record is kept whole, with the error."""
    sent, kept = _handle(encode(PRICE), _fail)
    letter = _letter(sent)
    assert (letter.reason, letter.detail) == (RejectReason.TRANSFORM_FAILED, "ZeroDivisionError: a defect")
    assert letter.record_value == encode(PRICE)
    assert (letter.source_partition, letter.source_offset, letter.rejected_by) == (3, 42, "agent.test")
    assert letter.source_timestamp_ms == PRICE.observed_at_ms
    assert kept == {}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, RejectReason.NOT_A_RECORD),
        (b"junk", RejectReason.NOT_A_RECORD),
        (encode(AUDIT), RejectReason.WRONG_TYPE),
        (encode(replace(PRICE, observed_at_ms=EpochMs(PRICE.observed_at_ms + 60_001))), RejectReason.FROM_THE_FUTURE),
    ],
)
def test_bad_input_never_reaches_the_transformation(value: bytes | None, reason: RejectReason) -> None:
    """What does not decode, is of another type or from the future is refused before any of our logic."""
    sent, _ = _handle(value, _fail)
    assert _letter(sent).reason is reason


def test_a_minute_of_clock_skew_is_accepted() -> None:
    """The tolerance is inclusive."""
    ahead = replace(PRICE, observed_at_ms=EpochMs(PRICE.observed_at_ms + 60_000))
    sent, _ = _handle(encode(ahead), lambda _value, _cause: Step())
    assert sent == []


def test_a_refusal_of_the_transformation_keeps_its_reason() -> None:
    """`Rejected` is a value: its reason and words reach the dead letter."""
    rejected = Rejected(reason=RejectReason.UNKNOWN_FACILITY, detail="must be known, was nowhere")
    sent, _ = _handle(encode(PRICE), lambda _value, _cause: rejected)
    letter = _letter(sent)
    assert (letter.reason, letter.detail) == (rejected.reason, rejected.detail)


def test_effects_are_kept_and_sent_in_the_trace() -> None:
    """States are written, outputs carry the input's trace, their own span, key and partition of the registry."""
    causes = []

    def transform(_value: object, cause: Cause) -> Step[Any]:
        causes.append(cause)
        return Step(updates=(("tx-north", PRICE),), outputs=(RECOMMENDATION,))

    sent, kept = _handle(encode(PRICE), transform)
    assert causes == [Cause(topic="market.price", partition=3, offset=42, timestamp_ms=PRICE.observed_at_ms)]
    assert kept == {"tx-north": PRICE}
    assert [(each["topic"], each["key"], each["value"]) for each in sent] == [
        ("optimizer.recommendation", b"tx-north", encode(RECOMMENDATION))
    ]
    version, trace, span, flags = sent[0]["headers"]["traceparent"].decode().split("-")
    assert (version, trace, flags) == ("00", TRACE.replace("-", ""), "01")
    assert span != HEADERS["traceparent"].decode().split("-")[2]


def test_state_is_written_only_when_the_broker_has_the_outputs() -> None:
    """A process that dies in between does the event again; state first would call it a duplicate and lose them."""
    producer = _Producer()
    step: Step[Any] = Step(updates=(("tx-north", PRICE),), outputs=(RECOMMENDATION, AUDIT))
    sent, kept = _handle(encode(PRICE), lambda _value, _cause: step, producer=producer)
    assert len(sent) == 2
    assert producer.kept_at_ack == [{}, {}]
    assert kept == {"tx-north": PRICE}


def test_a_broker_that_is_away_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every output arrives once, whichever way its first sends failed, and only then the state is written."""
    monkeypatch.setattr("agents.sender.RETRY_SECONDS", 0.0)
    producer = _Producer(refusals=5)
    step: Step[Any] = Step(updates=(("tx-north", PRICE),), outputs=(RECOMMENDATION, AUDIT))
    sent, kept = _handle(encode(PRICE), lambda _value, _cause: step, producer=producer)
    assert sorted(message["topic"] for message in sent) == ["audit.events", "optimizer.recommendation"]
    assert kept == {"tx-north": PRICE}


def test_an_acknowledgement_that_never_comes_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that is lost holds the table's lock for a bounded time; then the record is sent again."""
    monkeypatch.setattr("agents.sender.RETRY_SECONDS", 0.0)
    monkeypatch.setattr("agents.sender.ACKNOWLEDGED_SECONDS", 0.01)
    producer = _Producer(silent_count=2)
    step: Step[Any] = Step(updates=(("tx-north", PRICE),), outputs=(RECOMMENDATION,))
    sent, kept = _handle(encode(PRICE), lambda _value, _cause: step, producer=producer)
    assert len(sent) == 1
    assert kept == {"tx-north": PRICE}


@pytest.mark.parametrize("raw", [b"", b"junk", b"00-zz-zz-01", b"\xff"])
def test_a_broken_trace_header_starts_a_new_trace(raw: bytes) -> None:
    """Headers are input too: what does not parse must not stop a record."""
    sent, _ = _handle(
        encode(PRICE), lambda _value, _cause: Step(outputs=(RECOMMENDATION,)), headers={"traceparent": raw}
    )
    _, trace, span, _ = sent[0]["headers"]["traceparent"].decode().split("-")
    assert trace[:16] == span


def test_an_output_out_of_range_leaves_nothing_half_done() -> None:
    """One output that cannot be encoded: no state, no other output, the input is dead-lettered."""
    wrong = replace(RECOMMENDATION, facility_id="NOT A NAME")
    step: Step[Any] = Step(updates=(("tx-north", PRICE),), outputs=(RECOMMENDATION, wrong))
    sent, kept = _handle(encode(PRICE), lambda _value, _cause: step)
    assert _letter(sent).reason is RejectReason.TRANSFORM_FAILED
    assert kept == {}


@pytest.mark.parametrize("headers", [None, [], [("a", "x")], {"a": None}])
def test_headers_of_every_shape_are_read(headers: object) -> None:
    """Faust hands headers over as a mapping, a list or nothing; values may be missing."""
    message = _Message(METRICS_GPU.name, 0, 1, 0.0, None, b"", headers)
    record = record_of(cast("Any", _Event(message)))
    assert record.timestamp_ms == -1
    assert all(isinstance(value, bytes) for _, value in record.headers)
