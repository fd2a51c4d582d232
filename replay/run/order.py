"""Several partitions as one stream: by event time, each partition in its own order, the same every time."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from hcp.browse.archive import Kept
from hcp.codecs.event_time import event_time_ms
from hcp.kafka.ranges import Place


class Due(NamedTuple):
    """A record and when it is due; a tuple, for millions are made, and ordered as records are sent.

    Attributes:
        at_ms: Its event time (its broker timestamp where it has none), or that of one before it in its partition where
            that is later: a partition keeps its order.
        topic: Where it lay.
        record: As it was; begins with partition and offset, so that no two compare further.
        is_timed: Whether it has an event time of its own; what does not decode has none.
    """

    at_ms: int
    topic: str
    record: Kept
    is_timed: bool


def due(topic: str, batches: Iterable[Sequence[Kept]]) -> Iterator[list[Due]]:
    """Yield the records of one partition with the times they are due, batch by batch, none empty."""
    at_ms = 0
    for records in batches:
        found = []
        for record in records:
            known_ms = event_time_ms(record.value)
            at_ms = max(at_ms, record.timestamp_ms if known_ms is None else known_ms)
            found.append(Due(at_ms, topic, record, known_ms is not None))
        if found:
            yield found


def merged(partitions: Iterable[tuple[Place, Iterable[Sequence[Kept]]]]) -> Iterator[Due]:
    """Yield the records of all partitions by the time they are due; of equal times by topic, partition and offset.

    Of every partition a batch is in hand. What is due up to the end of the batch that ends first can be sorted and
    sent: whatever any partition still has comes after it.
    """
    reading = [due(topic, batches) for (topic, _), batches in partitions]
    waiting = [(own, batch) for own in reading if (batch := next(own, None)) is not None]
    while waiting:
        horizon = min(batch[-1] for _, batch in waiting)
        ready: list[Due] = []
        left = []
        for own, batch in waiting:
            cut = bisect_right(batch, horizon)
            ready += batch[:cut]
            rest: list[Due] | None = batch[cut:] or next(own, None)
            if rest is not None:
                left.append((own, rest))
        waiting = left
        ready.sort()
        yield from ready
