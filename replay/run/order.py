"""Several partitions as one stream: by event time, each partition in its own order, the same every time."""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hcp.browse.archive import Kept
from hcp.codecs.event_time import event_time_ms
from hcp.kafka.ranges import Place


@dataclass(frozen=True, slots=True)
class Due:
    """A record and when it is due.

    Attributes:
        at_ms: Its event time (its broker timestamp where it has none), or that of one before it in its partition where
            that is later: a partition keeps its order.
        topic: Where it lay.
        record: As it was.
        is_timed: Whether it has an event time of its own; what does not decode has none.
    """

    at_ms: int
    topic: str
    record: Kept
    is_timed: bool


def due(topic: str, records: Iterable[Kept]) -> Iterator[Due]:
    """Yield the records of one partition with the times they are due."""
    at_ms = 0
    for record in records:
        known_ms = event_time_ms(record.value)
        at_ms = max(at_ms, record.timestamp_ms if known_ms is None else known_ms)
        yield Due(at_ms, topic, record, known_ms is not None)


def merged(partitions: Iterable[tuple[Place, Iterable[Kept]]]) -> Iterator[Due]:
    """Yield the records of all partitions by the time they are due; of equal times by topic, partition and offset."""
    return heapq.merge(
        *(due(topic, records) for (topic, _), records in partitions),
        key=lambda each: (each.at_ms, each.topic, each.record.partition, each.record.offset),
    )
