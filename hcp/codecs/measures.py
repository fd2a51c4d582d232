"""How long Avro's shortest encoding of decoded records is: longer bytes hold something the decoder passed over."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Ints = np.typing.NDArray[np.int64]
ENUM_SYMBOLS_MAX: Final = 64
"""The number of a symbol is one byte up to here."""
_DOUBLE_BYTES: Final = 8
_VARINT_BITS: Final = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A field: lists are told by their column.

    Attributes:
        name: Of the column.
        is_null: Whether its cells are a union with null, null first.
        is_enum: Whether its strings are symbols, at most ENUM_SYMBOLS_MAX of them.
    """

    name: str
    is_null: bool
    is_enum: bool


def canonical_lengths(batch: pa.RecordBatch, measured: Sequence[Measured]) -> Ints:
    """Return the length of each record in bytes, encoded with every list as one block.

    No encoding of the same values is shorter, so a body of just this length was read to its end.

    Args:
        batch: A row a record; columns of int64, float64 and string, or lists of them.
        measured: Its fields.
    """
    total = np.zeros(batch.num_rows, dtype=np.int64)
    for each in measured:
        column = batch.column(each.name)
        if not pa.types.is_list(column.type):
            total += _cell_lengths(column, each)
            continue
        offsets = column.offsets.to_numpy().astype(np.int64)
        ends = np.concatenate(([0], np.cumsum(_cell_lengths(column.flatten(), each))))
        counts = np.diff(offsets)
        total += np.diff(ends[offsets - offsets[:1]])
        total += np.where(counts == 0, 1, _varint_lengths(counts) + 1)
    return total


def _cell_lengths(cells: pa.Array, each: Measured) -> Ints:
    if pa.types.is_string(cells.type):
        lengths = np.ones(len(cells), dtype=np.int64) if each.is_enum else _string_lengths(cells)
    elif pa.types.is_float64(cells.type):
        lengths = np.full(len(cells), _DOUBLE_BYTES, dtype=np.int64)
    else:
        lengths = _varint_lengths(cells.fill_null(0).to_numpy())
    if not each.is_null:
        return lengths
    if cells.null_count:
        lengths = np.where(cells.is_valid().to_numpy(zero_copy_only=False), lengths, 0)
    return lengths + 1


def _string_lengths(cells: pa.Array) -> Ints:
    lengths: Ints = pc.binary_length(cells).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    return lengths + _varint_lengths(lengths)


def _varint_lengths(values: Ints) -> Ints:
    """Return how many bytes each number takes: seven bits a byte, after the sign went to the lowest bit."""
    zigzag = ((values << 1) ^ (values >> 63)).view(np.uint64)
    lengths = np.ones(len(values), dtype=np.int64)
    largest = int(zigzag.max(initial=np.uint64(0)))
    for bits in range(_VARINT_BITS, max(largest.bit_length(), 1), _VARINT_BITS):
        lengths += zigzag >= np.uint64(1 << bits)
    return lengths
