"""Make of a poll what can be stored: parts of about ROWS_MAX rows, decoded in columns where it is safe.

Parts keep the order of every partition, so each can be stored with its offsets before the next is looked at.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from hcp.codecs import decode
from hcp.codecs.columns import BatchDecoder, Columns, decode_columns, plans_of, pyruhvro_batch, rows_per_record
from hcp.kafka.consumer import Partition
from hcp.kafka.records import ConsumedRecord
from hcp.kafka.replays import refused_if_replayed
from hcp.model.rejections import Rejected, RejectReason
from hcp.model.validation import FUTURE_TOLERANCE_MS, check_event_time
from hcp.topics import all_topics
from sinks.timescale.columns import Block, is_for_columns
from sinks.timescale.rows import row_count
from sinks.timescale.writer import Decoded

ROWS_MAX: Final = 20_000
"""A transaction's, and the last record's more: a backlog of columnar records must not fill the memory."""
TIMESTAMP_MS_MAX: Final = 253_402_300_799_999
"""The end of the year 9999, which Python's own times end with; what is beyond is judged by record."""
_BY_RECORD: Final = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What is stored in one transaction.

    Attributes:
        following: Next offset of each partition once it is stored.
        counts: Records by topic, refused ones among them.
        rows: How many rows it has.
        good: Records decoded one by one.
        blocks: Records decoded together.
        refused: Records that are none, and why.
    """

    following: dict[Partition, int]
    counts: dict[str, int]
    rows: int
    good: tuple[Decoded, ...]
    blocks: tuple[Block, ...]
    refused: tuple[tuple[ConsumedRecord, Rejected], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _InColumns:
    """Columns of a poll; `places` are positions in the poll."""

    columns: Columns
    places: tuple[int, ...]


class Intake:
    """Decodes polls; knows the topics' classes and which of them come in columns."""

    def __init__(
        self, *, is_by_record: bool = False, is_replay: bool = False, decoder: BatchDecoder = pyruhvro_batch
    ) -> None:
        """Look at the schemas once.

        Args:
            is_by_record: Decode everything with fastavro, record by record.
            is_replay: Take records of a replay, which are refused otherwise.
            decoder: What decodes columns.
        """
        self._records = {topic.name: topic.record for topic in all_topics()}
        self._decoder, self._is_replay = decoder, is_replay
        classes = set() if is_by_record else set(self._records.values())
        self._in_columns = {record for record in classes if is_for_columns(record) and plans_of(record)}

    def parts(self, records: Sequence[ConsumedRecord]) -> Iterator[Part]:
        """Yield the parts of a poll, in order."""
        found = list(self._columns(records))
        sizes = np.full(len(records), _BY_RECORD, dtype=np.int64)
        for each in found:
            sizes[list(each.places)] = rows_per_record(each.columns)
        good: list[Decoded] = []
        refused: list[tuple[ConsumedRecord, Rejected]] = []
        start, rows = 0, 0
        for place, size in enumerate(sizes.tolist()):
            if size == _BY_RECORD:
                record = records[place]
                value = self._checked(record)
                if isinstance(value, Rejected):
                    refused.append((record, value))
                else:
                    good.append(Decoded(record=record, value=value))
                    rows += row_count(value)
            else:
                rows += size
            if rows >= ROWS_MAX or place + 1 == len(records):
                blocks = _blocks(found, records, start=start, end=place + 1)
                taken = records[start : place + 1]
                yield _part(taken, rows=rows, good=good, blocks=blocks, refused=refused)
                start, rows, good, refused = place + 1, 0, [], []

    def _columns(self, records: Sequence[ConsumedRecord]) -> Iterator[_InColumns]:
        by_class: dict[type, list[int]] = {}
        for place, record in enumerate(records):
            kind = self._records[record.topic]
            is_sane = 0 <= record.timestamp_ms <= TIMESTAMP_MS_MAX and self._replayed(record) is None
            if kind in self._in_columns and is_sane:
                by_class.setdefault(kind, []).append(place)
        for kind, places in by_class.items():
            found, _ = decode_columns([records[place].value for place in places], kind, decoder=self._decoder)
            for columns in found:
                own = tuple([places[place] for place in columns.places])
                yield from _not_of_the_future(columns, own, records)

    def _replayed(self, record: ConsumedRecord) -> Rejected | None:
        return None if self._is_replay else refused_if_replayed(record)

    def _checked(self, record: ConsumedRecord) -> object:
        """Return the value of a record, or why it is none for its topic."""
        replayed = self._replayed(record)
        if replayed is not None:
            return replayed
        value = decode(record.value)
        if isinstance(value, Rejected):
            return value
        wanted = self._records[record.topic]
        if type(value) is not wanted:
            detail = f"a record of {record.topic} must be a {wanted.__name__}, was a {type(value).__name__}"
            return Rejected(reason=RejectReason.WRONG_TYPE, detail=detail)
        at_ms = getattr(value, "observed_at_ms", None)
        if at_ms is None:
            return value
        return check_event_time(observed_at_ms=at_ms, record_timestamp_ms=record.timestamp_ms) or value


def _not_of_the_future(
    columns: Columns, places: tuple[int, ...], records: Sequence[ConsumedRecord]
) -> Iterator[_InColumns]:
    """Leave records from the future to be judged by record; there are hardly ever any."""
    stamps = np.array([records[place].timestamp_ms for place in places], dtype=np.int64)
    is_past = columns.batch.column("observed_at_ms").to_numpy() <= stamps + FUTURE_TOLERANCE_MS
    if is_past.all():
        yield _InColumns(columns=columns, places=places)
    elif is_past.any():
        kept = np.flatnonzero(is_past).tolist()
        own = Columns(
            record=columns.record, batch=columns.batch.take(kept), places=tuple([columns.places[row] for row in kept])
        )
        yield _InColumns(columns=own, places=tuple([places[row] for row in kept]))


def _blocks(
    found: Sequence[_InColumns], records: Sequence[ConsumedRecord], *, start: int, end: int
) -> tuple[Block, ...]:
    """Return what lies between two places of the poll."""
    blocks = []
    for each in found:
        first, last = bisect_left(each.places, start), bisect_left(each.places, end)
        if first < last:
            own = tuple([records[place] for place in each.places[first:last]])
            batch = each.columns.batch.slice(first, last - first)
            blocks.append(Block(record=each.columns.record, records=own, batch=batch))
    return tuple(blocks)


def _part(
    taken: Sequence[ConsumedRecord],
    *,
    rows: int,
    good: list[Decoded],
    blocks: tuple[Block, ...],
    refused: list[tuple[ConsumedRecord, Rejected]],
) -> Part:
    following: dict[Partition, int] = {}
    for record in taken:
        at = (record.topic, record.partition)
        following[at] = max(following.get(at, 0), record.offset + 1)
    return Part(
        following=following,
        counts=dict(Counter(record.topic for record in taken)),
        rows=rows,
        good=tuple(good),
        blocks=blocks,
        refused=tuple(refused),
    )
