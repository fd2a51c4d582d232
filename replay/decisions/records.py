"""Records of the past as a replay takes them, judged as the agents' guard judged them, in memory or in a file."""

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec

from hcp.codecs import decode, encode
from hcp.errors import HcpError, OutOfRangeError
from hcp.kafka.records import ConsumedRecord
from hcp.model.rejections import Rejected, RejectReason
from hcp.model.steps import Cause, State, Step
from hcp.model.validation import check_event_time

_LENGTH: Final = struct.Struct("<I")


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What is replayed; each is read anew whenever it is asked for, a site's records in the order of their topic.

    Attributes:
        recommendations: Records of `optimizer.recommendation`.
        prices: Records of `market.price`; asked for only where they are scored again.
    """

    recommendations: Callable[[], Iterable[ConsumedRecord]]
    prices: Callable[[], Iterable[ConsumedRecord]]


def value_of(record: ConsumedRecord, kind: type) -> Any | Rejected:  # noqa: ANN401  # of that kind
    """Return the record's value, or why an agent would have dead-lettered it."""
    value: Any = decode(record.value)
    if isinstance(value, Rejected):
        return value
    is_expected = isinstance(value, kind)
    if not is_expected:
        detail = f"a record of {record.topic} must be a {kind.__name__}, was {type(value).__name__}"
        return Rejected(reason=RejectReason.WRONG_TYPE, detail=detail)
    late = check_event_time(observed_at_ms=value.observed_at_ms, record_timestamp_ms=record.timestamp_ms)
    return value if late is None else late


def cause_of(record: ConsumedRecord) -> Cause:
    """Return the record's address."""
    return Cause(topic=record.topic, partition=record.partition, offset=record.offset, timestamp_ms=record.timestamp_ms)


def guarded(transform: Callable[[], Step[State] | Rejected]) -> Step[State] | Rejected:
    """Run a transformation as an agent does: one that fails, or whose outputs break a range, changes no state."""
    try:
        step = transform()
        if isinstance(step, Step):
            for output in step.outputs:
                encode(output)
    except OutOfRangeError as error:
        return Rejected(reason=RejectReason.TRANSFORM_FAILED, detail=str(error))
    except Exception as error:  # noqa: BLE001  # as the agents' guard: the record was dead-lettered and the flow went on
        return Rejected(reason=RejectReason.TRANSFORM_FAILED, detail=f"{type(error).__name__}: {error}")
    return step


def write_records(path: Path, records: Iterable[ConsumedRecord]) -> int:
    """Write records to a file, without keys and headers, which decide nothing; return how many.

    Raises:
        OSError: It cannot be written.
    """
    encoder, count = msgspec.msgpack.Encoder(), 0
    with path.open("wb") as out:
        for record in records:
            raw = encoder.encode(replace(record, key=None, headers=()))
            out.write(_LENGTH.pack(len(raw)) + raw)
            count += 1
    return count


def read_records(path: Path) -> Iterator[ConsumedRecord]:
    """Yield the records of a file that `write_records` made.

    Raises:
        HcpError: It ends in the middle of a record.
        OSError: It cannot be read.
    """
    decoder = msgspec.msgpack.Decoder(ConsumedRecord)
    with path.open("rb") as source:
        while head := source.read(_LENGTH.size):
            raw = source.read(_LENGTH.unpack(head)[0]) if len(head) == _LENGTH.size else b""
            if not raw or len(raw) != _LENGTH.unpack(head)[0]:
                raise HcpError(f"{path} must end with a whole record, was cut off")
            yield decoder.decode(raw)
