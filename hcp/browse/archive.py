"""Records in a file, byte for byte: Parquet, which is small and other tools read, or JSON lines, which pipes take.

Both hold what the broker held: partition, offset, timestamp, key, value and headers, each null where it was null.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, Self

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from hcp.errors import HcpError

FORMAT: Final = 1
STREAM: Final = "-"
"""Standard output or input, as JSON lines."""
GROUP_RECORDS_MAX: Final = 50_000
GROUP_BYTES_MAX: Final = 32 * 1024 * 1024
"""Of keys, values and headers held in memory before a row group is written."""
_META: Final = b"hcp.topic"
_HEADER: Final = pa.struct([pa.field("name", pa.string(), nullable=False), pa.field("value", pa.binary())])
SCHEMA: Final = pa.schema(
    [
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("timestamp_ms", pa.int64(), nullable=False),
        pa.field("key", pa.binary()),
        pa.field("value", pa.binary()),
        pa.field("headers", pa.list_(_HEADER), nullable=False),
    ]
)


class Kept(NamedTuple):
    """One record of a file; a tuple, for millions are made.

    Attributes:
        partition: Where it lay.
        offset: Likewise.
        timestamp_ms: Broker timestamp, ms since the epoch; -1 when it had none.
        key: Raw key, None when it had none.
        value: Raw value, None for a tombstone.
        headers: In the order sent; a value may be null.
    """

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of key, value and headers."""
        size = len(self.key or b"") + len(self.value or b"")
        for name, value in self.headers:
            size += len(name) + len(value or b"")
        return size


class _Line(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A record as a JSON line has it: bytes are base64."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


class _First(msgspec.Struct, frozen=True):
    """The first line of a file of lines."""

    hcp_topic: str
    partitions: int
    format: int


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(_Line)
_FIRST_DECODER: Final = msgspec.json.Decoder(_First)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Which topic a file was exported from.

    Attributes:
        topic: Its name.
        partitions: How many it had, those without records too.
    """

    topic: str
    partitions: int


class ArchiveWriter:
    """An open file to which records are added."""

    def __init__(self, path: str, origin: Origin) -> None:
        """Create `path` beside its final name, which it gets when it is whole; `-` is standard output.

        Raises:
            HcpError: It cannot be written, or its ending is neither .parquet nor .jsonl.
        """
        _check_ending(path)
        self._final = None if path == STREAM else Path(path)
        self._part = None if self._final is None else self._final.with_name(self._final.name + ".part")
        self._held: list[Kept] = []
        self._held_bytes = 0
        self._lines: IO[bytes] | None = None
        self._table: Any = None  # pyarrow has no types
        try:
            if self._part is not None and self._part.suffixes[-2] == ".parquet":
                meta = json.dumps({"format": FORMAT, "topic": origin.topic, "partitions": origin.partitions})
                self._table = pq.ParquetWriter(self._part, SCHEMA.with_metadata({_META: meta}), compression="zstd")
            else:
                self._lines = sys.stdout.buffer if self._part is None else self._part.open("wb")
                first = _First(hcp_topic=origin.topic, partitions=origin.partitions, format=FORMAT)
                self._lines.write(_ENCODER.encode_lines([first]))
        except OSError as error:
            raise HcpError(f"{path} must be writable, was: {error.strerror}") from error

    def add(self, records: Iterable[Kept]) -> None:
        """Take in records."""
        if self._lines is not None:
            self._lines.write(_ENCODER.encode_lines([_Line(*record) for record in records]))
            return
        for record in records:
            self._held.append(record)
            self._held_bytes += record.size_bytes
            if len(self._held) >= GROUP_RECORDS_MAX or self._held_bytes >= GROUP_BYTES_MAX:
                self._write_group()

    def finish(self) -> None:
        """Write what is left and give the file its name."""
        if self._table is not None:
            self._write_group()
        self._close()
        if self._part is not None and self._final is not None:
            self._part.replace(self._final)

    def discard(self) -> None:
        """Leave nothing behind: half a file is none."""
        self._close()
        if self._part is not None:
            self._part.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._table is not None:
            self._table.close()
        elif self._lines is not None and self._part is not None:
            self._lines.close()
        elif self._lines is not None:
            self._lines.flush()

    def _write_group(self) -> None:
        if not self._held:
            return
        partition, offset, timestamp_ms, key, value, headers = zip(*self._held, strict=True)
        arrays = [
            pa.array(column, field.type)
            for column, field in zip((partition, offset, timestamp_ms, key, value), SCHEMA, strict=False)
        ]
        self._table.write_table(pa.Table.from_arrays([*arrays, _header_lists(headers)], schema=self._table.schema))
        self._held, self._held_bytes = [], 0


class ArchiveReader:
    """An open file whose records can be read once, in the order written."""

    def __init__(self, path: str) -> None:
        """Open `path`; `-` is standard input.

        Raises:
            HcpError: It cannot be read or is no such file.
        """
        _check_ending(path)
        self._path = path
        self._opened = ExitStack()
        self._lines: IO[bytes] | None = None
        self._table: Any = None  # pyarrow has no types
        self.count: int | None = None
        """Records in it, where the file says; None for JSON lines."""
        try:
            if path.endswith(".parquet"):
                self._table = self._opened.enter_context(pq.ParquetFile(path))
                self.count = self._table.metadata.num_rows
                self.origin = self._table_origin()
            else:
                self._lines = sys.stdin.buffer
                if path != STREAM:
                    self._lines = Path(path).open("rb")  # noqa: SIM115  # __exit__ closes it
                    self._opened.enter_context(self._lines)
                self.origin = self._line_origin()
        except (OSError, pa.ArrowException) as error:
            raise self._unreadable(error) from error

    def __enter__(self) -> Self:
        """Return the reader."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._opened.close()

    def records(self) -> Iterator[Kept]:
        """Yield every record.

        Raises:
            HcpError: The file is cut or damaged; says where.
        """
        try:
            yield from self._from_lines() if self._lines is not None else self._from_table()
        except (OSError, pa.ArrowException) as error:
            raise self._unreadable(error) from error

    def _from_table(self) -> Iterator[Kept]:
        for batch in self._table.iter_batches(columns=SCHEMA.names):
            plain = [batch.column(name).to_pylist() for name in SCHEMA.names[:-1]]
            yield from map(Kept, *plain, _header_tuples(batch.column("headers")))

    def _from_lines(self) -> Iterator[Kept]:
        assert self._lines is not None, "asked by the caller"
        for number, line in enumerate(self._lines, start=2):
            try:
                found = _DECODER.decode(line)
            except msgspec.DecodeError as error:
                was = f"{line[:60].strip().decode(errors='replace')!r}: {error}"
                raise HcpError(f"line {number} of {self._path} must be an exported record, was {was}") from error
            yield Kept(*(getattr(found, name) for name in Kept._fields))

    def _table_origin(self) -> Origin:
        schema = self._table.schema_arrow
        if not schema.equals(SCHEMA) or _META not in (schema.metadata or {}):
            raise HcpError(f"{self._path} must have been written by `hcp topics export`, was another Parquet file")
        return _origin(self._path, json.loads(schema.metadata[_META]))

    def _line_origin(self) -> Origin:
        assert self._lines is not None, "asked by the caller"
        line = self._lines.readline()
        try:
            first = _FIRST_DECODER.decode(line)
        except msgspec.DecodeError as error:
            must = "must begin with the line that `hcp topics export` writes first"
            was = repr(line[:60].strip().decode(errors="replace"))
            raise HcpError(f"{self._path} {must}, was {was}") from error
        return _origin(self._path, {"format": first.format, "topic": first.hcp_topic, "partitions": first.partitions})

    def _unreadable(self, error: Exception) -> HcpError:
        return HcpError(f"{self._path} must be readable, was: {' '.join(str(error).split())[:300]}")


def _check_ending(path: str) -> None:
    if path != STREAM and not path.endswith((".parquet", ".jsonl")):
        raise HcpError(f"the file must end in .parquet or .jsonl, or be -, was {path}")


def _origin(path: str, told: dict[str, Any]) -> Origin:
    if told.get("format") != FORMAT:
        raise HcpError(f"{path} must be of format {FORMAT}, was {told.get('format')}")
    return Origin(topic=str(told["topic"]), partitions=int(told["partitions"]))


def _header_lists(headers: Iterable[tuple[tuple[str, bytes | None], ...]]) -> Any:  # noqa: ANN401  # pyarrow has no types
    """Return them as Arrow has lists: all pairs one after the other, and where each record's begin."""
    begins = [0]
    pairs: list[tuple[str, bytes | None]] = []
    for each in headers:
        pairs.extend(each)
        begins.append(len(pairs))
    names = pa.array([name for name, _ in pairs], pa.string())
    values = pa.array([value for _, value in pairs], pa.binary())
    structs = pa.StructArray.from_arrays([names, values], fields=list(_HEADER))
    return pa.ListArray.from_arrays(pa.array(begins, pa.int32()), structs, type=SCHEMA.field("headers").type)


def _header_tuples(column: Any) -> Iterator[tuple[tuple[str, bytes | None], ...]]:  # noqa: ANN401  # as above
    begins = column.offsets.to_pylist()
    structs = column.values
    pairs = list(zip(structs.field("name").to_pylist(), structs.field("value").to_pylist(), strict=True))
    for begin, end in pairwise(begins):
        yield tuple(pairs[begin:end])
