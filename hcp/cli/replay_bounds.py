"""Which offsets `--topic --from --to --offsets --from-event --to-event` mean."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Final

from hcp.codecs import decode
from hcp.errors import SettingsError
from hcp.kafka.ranges import Range, ranges_by_offset, ranges_by_time, read
from hcp.kafka.records import ConsumedRecord, address_in
from hcp.model.rejections import Rejected
from hcp.model.validation import FUTURE_TOLERANCE_MS
from hcp.topics import TOPICS

_OFFSETS: Final = re.compile(r"(?P<topic>[A-Za-z0-9._-]+)\[(?P<partition>\d+)\]@(?P<first>\d+)-(?P<last>\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was asked for.

    Attributes:
        topics: Names on the broker.
        from_ms: ms since the epoch; None for no bound.
        to_ms: Likewise, not included.
        is_event_time: Whether these are event time, not the broker's.
        offsets: TOPIC[PARTITION]@FIRST-LAST.
        from_event: Address or id of the first record.
        to_event: Of the last.
    """

    topics: tuple[str, ...]
    from_ms: int | None
    to_ms: int | None
    is_event_time: bool
    offsets: tuple[str, ...]
    from_event: str | None
    to_event: str | None


def planned_ranges(bootstrap: str, asked: Asked) -> tuple[tuple[Range, ...], dict[str, int]]:
    """Return the ranges that were asked for, and how many partitions each topic has.

    Raises:
        SettingsError: A bound is none, or two of them exclude each other.
        BrokerError: The broker does not answer, or has no such topic.
    """
    by_offset = dict(_offsets(each) for each in asked.offsets)
    topics = tuple(dict.fromkeys((*asked.topics, *(topic for topic, _ in by_offset))))
    if not topics:
        raise SettingsError(f"--topic must be given, such as {TOPICS[0].name}, was not")
    if by_offset and (asked.from_ms is not None or asked.to_ms is not None or asked.from_event or asked.to_event):
        raise SettingsError(
            "--offsets must come without times and events, was given with them: both say where to begin"
        )
    whole = ranges_by_time(bootstrap, topics)
    partitions = {topic: sum(each.topic == topic for each in whole) for topic in topics}
    if by_offset:
        others = [each for each in whole if each.topic not in {topic for topic, _ in by_offset}]
        return (*ranges_by_offset(bootstrap, by_offset), *others), partitions
    from_ms, to_ms = asked.from_ms, asked.to_ms
    if asked.from_event is not None:
        from_ms = _found(bootstrap, asked.from_event, whole).timestamp_ms
    if asked.to_event is not None:
        to_ms = _found(bootstrap, asked.to_event, whole).timestamp_ms + 1
    if asked.is_event_time:  # no record is older by the broker than by its event time, but for what is tolerated
        since_ms = None if from_ms is None else max(from_ms - FUTURE_TOLERANCE_MS, 0)
        return ranges_by_time(bootstrap, topics, from_ms=since_ms), partitions
    return ranges_by_time(bootstrap, topics, from_ms=from_ms, to_ms=to_ms), partitions


def _offsets(words: str) -> tuple[tuple[str, int], tuple[int, int]]:
    found = _OFFSETS.fullmatch(words)
    if found is None or int(found["first"]) > int(found["last"]):
        raise SettingsError(f"--offsets must be TOPIC[PARTITION]@FIRST-LAST, was {words!r}")
    return (found["topic"], int(found["partition"])), (int(found["first"]), int(found["last"]) + 1)


def _found(bootstrap: str, event: str, whole: Iterable[Range]) -> ConsumedRecord:
    """Return the record of an address, or the first whose own id is `event`.

    Raises:
        SettingsError: There is none.
    """
    address = address_in(event)
    if address is not None:
        topic, partition, offset = address
        place = {(topic, partition): (offset, offset + 1)}
        ranges: Iterable[Range] = [each for each in ranges_by_offset(bootstrap, place) if each.start == offset]
    else:
        ranges = whole
    for batch in read(bootstrap, ranges):
        for record in batch:
            if address is not None or _is_named(record, event):
                return record
    raise SettingsError(
        f"an event must be an address such as market.price[3]@42 or the id of a record of these topics, was {event!r}"
    )


def _is_named(record: ConsumedRecord, event: str) -> bool:
    """Whether a record's own id, the first of its ids, is this one."""
    if record.value is None or event.encode() not in record.value:
        return False
    value = decode(record.value)
    if isinstance(value, Rejected):
        return False
    ids = (getattr(value, each.name) for each in fields(value) if each.name.endswith("_id"))
    return next(ids, None) == event
