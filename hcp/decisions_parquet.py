"""Decisions as one Parquet file, written as they come and read as what they were: of a backtest, of a replay."""

from collections.abc import Iterator
from dataclasses import fields
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, get_type_hints

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from hcp.errors import HcpError
from hcp.model.commands import OrchestratorCommand
from hcp.model.validation import plain, unwrap, without_none

ROWS_PER_GROUP: Final = 50_000
"""Decisions held in memory at most."""
_TIME_COLUMN: Final = "observed_at_ms"


def decision_schema() -> pa.Schema:
    """Return one column a field of `OrchestratorCommand`, named as there; `observed_at_ms` is a UTC timestamp too."""
    hints = get_type_hints(OrchestratorCommand, include_extras=True)
    columns = [_column(each.name, hints[each.name]) for each in fields(OrchestratorCommand)]
    return pa.schema([pa.field("observed_at_utc", pa.timestamp("ms", tz="UTC"), nullable=False), *columns])


class DecisionFile:
    """An open Parquet file; rows are in the order they were decided."""

    def __init__(self, path: Path) -> None:
        """Create `path`.

        Raises:
            OSError: It cannot be written.
        """
        self.path = path
        self.row_count = 0
        self._schema = decision_schema()
        self._names = [each.name for each in fields(OrchestratorCommand)]
        self._rows: list[OrchestratorCommand] = []
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")

    def __enter__(self) -> Self:
        """Return the file."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what is left and close."""
        self._flush()
        self._writer.close()

    def add(self, decision: OrchestratorCommand) -> None:
        """Take in one decision."""
        self._rows.append(decision)
        self.row_count += 1
        if len(self._rows) >= ROWS_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        if not self._rows:
            return
        columns: dict[str, list[Any]] = {
            name: [_cell(getattr(row, name)) for row in self._rows] for name in self._names
        }
        columns["observed_at_utc"] = columns[_TIME_COLUMN]
        self._writer.write_table(pa.table(columns, schema=self._schema))
        self._rows = []


def read_decisions(path: Path) -> Iterator[OrchestratorCommand]:
    """Yield the decisions of a file in its order; each is equal to the one written.

    Raises:
        HcpError: It cannot be read, or its columns are not those of decisions.
    """
    names = [each.name for each in fields(OrchestratorCommand)]
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=names):
                yield from msgspec.convert(batch.to_pylist(), list[OrchestratorCommand])
    except (OSError, pa.ArrowException) as error:
        raise HcpError(f"decisions must be a Parquet file, was {path}: {error}") from error
    except msgspec.ValidationError as error:
        raise HcpError(f"{path} must hold decisions, was: {error}") from error


def _column(name: str, hint: Any) -> pa.Field:  # noqa: ANN401  # a type hint has no narrower type
    _, kind = unwrap(hint)
    kind, is_optional = without_none(kind)
    kind = plain(unwrap(kind)[1])
    kinds = {int: pa.int64(), float: pa.float64()}
    return pa.field(name, kinds.get(kind, pa.string()), nullable=is_optional)


def _cell(value: object) -> object:
    return value.value if isinstance(value, Enum) else value
