"""Send records of the past once more, onto topics of the replay's own and nowhere else."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from hcp.browse.archive import Kept
from hcp.browse.moving import kept
from hcp.kafka.forwarding import LINGER_MS, Forwarder
from hcp.kafka.ranges import QUEUE_BYTES_MAX, Range
from hcp.kafka.records import address_words
from hcp.kafka.replays import HEADER, SOURCE_HEADER, topic_in
from replay.run.order import Due, merged
from replay.run.pace import Pace
from replay.run.plan import RunPlan

BATCH_RECORDS: Final = 100
"""Of one partition in hand; there are as many readers as partitions, and none is to wait for more than is fetched."""
QUEUE_BYTES_MIN: Final = 1024 * 1024
PACED_LINGER_MS: Final = 0
STEP_RECORDS: Final = 200


@dataclass(slots=True, kw_only=True)
class Progress:
    """What has been done; grows record by record.

    Attributes:
        records: Sent.
        size_bytes: Of their keys, values and headers.
        unreadable: Of those, how many have no event time: sent as they are, when their neighbours are.
        first_ms: Event time of the first; None before it.
        last_ms: Of the last.
        late_s_max: The most that a record was sent after its time.
    """

    records: int = 0
    size_bytes: int = 0
    unreadable: int = 0
    first_ms: int | None = None
    last_ms: int | None = None
    late_s_max: float = 0.0

    def count(self, due: Due) -> None:
        """Take one record in."""
        self.records += 1
        self.size_bytes += due.record.size_bytes
        self.unreadable += not due.is_timed
        if self.first_ms is None:
            self.first_ms = due.at_ms
        self.last_ms = due.at_ms


def selected(
    bootstrap: str, plan: RunPlan, ranges: Sequence[Range], *, on_read: Callable[[int], None]
) -> Iterator[Due]:
    """Yield what a plan sends, in its order.

    Raises:
        BrokerError: The broker does not answer.
    """
    filled = [each for each in ranges if each.count]
    queue_bytes = max(QUEUE_BYTES_MIN, QUEUE_BYTES_MAX // max(len(filled), 1))
    keys = frozenset(key.encode() for key in plan.keys)

    def wanted(batches: Iterator[list[Kept]]) -> Iterator[list[Kept]]:
        for batch in batches:
            yield [record for record in batch if record.key in keys] if keys else batch

    reading = [
        (each.place, kept(bootstrap, [each], on_step=on_read, records_max=BATCH_RECORDS, queue_bytes_max=queue_bytes))
        for each in filled
    ]
    for due in merged((place, wanted(batches)) for place, batches in reading):
        if (plan.from_ms is None or due.at_ms >= plan.from_ms) and (plan.to_ms is None or due.at_ms < plan.to_ms):
            yield due


def measure(bootstrap: str, plan: RunPlan, *, on_read: Callable[[int], None]) -> Progress:
    """Return what a run would send, without sending.

    Raises:
        BrokerError: The broker does not answer.
    """
    progress = Progress()
    for due in selected(bootstrap, plan, plan.ranges, on_read=on_read):
        progress.count(due)
    return progress


def run(
    bootstrap: str,
    plan: RunPlan,
    ranges: Sequence[Range],
    *,
    progress: Progress,
    on_read: Callable[[int], None] = lambda _: None,
    on_late: Callable[[float], None] = lambda _: None,
) -> None:
    """Send the records of `ranges`; whatever ends it, what was sent has been delivered or the error says it was not.

    Args:
        bootstrap: The broker.
        plan: What is wanted.
        ranges: What is left of it.
        progress: Grows with what is sent.
        on_read: Told how many records were read since it was told last.
        on_late: Told of every record how many seconds after its time it was sent, where there is a speed.

    Raises:
        BrokerError: The broker does not answer, or a record was not delivered.
    """
    linger_ms = LINGER_MS if plan.speed is None else PACED_LINGER_MS
    marked = (HEADER, plan.into.encode())
    pace = Pace(speed=plan.speed)
    with ExitStack() as flushed:
        targets = {}
        for topic in plan.partitions:
            name = topic_in(plan.into, topic)
            targets[topic] = Forwarder(bootstrap=bootstrap, topic=name, client_id=plan.into, linger_ms=linger_ms)
            flushed.callback(targets[topic].flush)
        for due in selected(bootstrap, plan, ranges, on_read=on_read):
            late_s = pace.wait(due.at_ms)
            record = due.record
            source = address_words(due.topic, record.partition, record.offset).encode()
            targets[due.topic].send(
                key=record.key,
                value=record.value,
                headers=(*record.headers, marked, (SOURCE_HEADER, source)),
                partition=record.partition,
                timestamp_ms=record.timestamp_ms,
            )
            progress.count(due)
            if plan.speed is not None:
                progress.late_s_max = max(progress.late_s_max, late_s)
                on_late(late_s)
