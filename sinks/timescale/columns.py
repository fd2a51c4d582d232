"""Pure: columns decoded together in, rows of their table out as Arrow, sorted, and as the bytes of a binary COPY."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pgpq import ArrowToPostgresBinaryEncoder

from hcp.codecs.columns import INDEXES
from hcp.kafka.records import ConsumedRecord
from hcp.model.ids import device_id
from sinks.timescale.tables import Table, table_of

DEVICES_MAX: Final = 512
"""Of a shard."""
_US_PER_MS: Final = 1_000
_TIME: Final = pa.timestamp("us", "UTC")
_TYPES: Final = frozenset({"text", "bigint", "double precision", "timestamptz"})
_SUFFIXES: Final = pa.array([device_id(shard_id="", device_index=index) for index in range(DEVICES_MAX)])
Ints = np.typing.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Records that were decoded together, and where each lay.

    Attributes:
        record: Their class.
        records: As consumed.
        batch: A row a record; its columnar fields are lists.
    """

    record: type
    records: tuple[ConsumedRecord, ...]
    batch: pa.RecordBatch


def is_for_columns(record: type) -> bool:
    """Whether the table of a class takes rows made here: one a device and time, of numbers, texts and times."""
    try:
        table = table_of(record)
    except KeyError:
        return False
    return (
        table.is_columnar
        and table.unique == ("device_id", "observed_at")
        and all(column.sql_type in _TYPES and not (column.is_time and column.is_null) for column in table.columns())
    )


def rows_of_block(block: Block) -> pa.RecordBatch:
    """Return the rows of a block, columns in the order of `Table.column_names`, sorted by device and time.

    Raises:
        KeyError: No table holds the records.
    """
    table = table_of(block.record)
    indexes = block.batch.column(INDEXES)
    owners = np.repeat(np.arange(len(block.records)), np.diff(indexes.offsets.to_numpy()))
    order = _order(block.batch, owners, indexes.flatten().to_numpy())
    rows, own = pa.array(order), pa.array(owners[order])
    cells = dict(zip(table.column_names(), _cells(table, block, rows=rows, owners=own), strict=True))
    return pa.record_batch(cells)


def copy_bytes(rows: pa.RecordBatch) -> Iterator[bytes]:
    """Yield the binary COPY of rows, head to trailer."""
    encoder = ArrowToPostgresBinaryEncoder(rows.schema)
    yield encoder.write_header()
    yield encoder.write_batch(rows)
    yield encoder.finish()


def _order(batch: pa.RecordBatch, owners: Ints, indexes: Ints) -> Ints:
    """Return the rows' order by shard, device and time, so that the index is filled in order."""
    shards = batch.column("shard_id").dictionary_encode()
    names = np.array(shards.dictionary.to_pylist())
    rank = np.argsort(np.argsort(names))[shards.indices.to_numpy()]
    return np.lexsort((batch.column("observed_at_ms").to_numpy()[owners], indexes, rank[owners]))


def _cells(table: Table, block: Block, *, rows: pa.Array, owners: pa.Array) -> Iterator[pa.Array]:
    """Yield the columns: those by device in the order of `rows`, those of the whole record repeated."""
    for column in table.columns():
        cells = block.batch.column(column.field)
        if pa.types.is_list(cells.type):
            yield cells.flatten().take(rows)
        elif column.is_time:
            yield _times(cells.to_numpy()).take(owners)
        else:
            yield cells.take(owners)
    suffixes = _SUFFIXES.take(block.batch.column(INDEXES).flatten().take(rows))
    yield pc.binary_join_element_wise(block.batch.column("shard_id").take(owners), suffixes, "")
    for provenance in (
        _times(np.array([record.timestamp_ms for record in block.records], dtype=np.int64)),
        pa.array([record.partition for record in block.records], pa.int32()),
        pa.array([record.offset for record in block.records], pa.int64()),
    ):
        yield provenance.take(owners)


def _times(at_ms: Ints) -> pa.Array:
    return pa.array(at_ms * _US_PER_MS, _TIME)
