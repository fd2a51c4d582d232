"""What a replay writes: a folder of decisions, recommendations and what was run, or decisions alone in one file."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from hcp.codecs import decode, encode
from hcp.decisions_parquet import DecisionFile
from hcp.errors import HcpError
from hcp.model.recommendations import Recommendation
from replay.decisions.engine import Decided
from replay.decisions.plan import Plan

DECISIONS: Final = "decisions.parquet"
RECOMMENDATIONS: Final = "recommendations.parquet"
WHAT_RAN: Final = "replay.json"
ROWS_PER_GROUP: Final = 5_000
"""Recommendations held in memory at most."""
_FILE_SUFFIX: Final = ".parquet"
_SCHEMA: Final = pa.schema(
    [
        pa.field("observed_at_utc", pa.timestamp("ms", tz="UTC"), nullable=False),
        pa.field("observed_at_ms", pa.int64(), nullable=False),
        pa.field("facility_id", pa.string(), nullable=False),
        pa.field("recommendation_id", pa.string(), nullable=False),
        pa.field("energy_price_usd_per_mwh", pa.float64()),
        pa.field("record", pa.binary(), nullable=False),
    ]
)
"""`record` is the whole recommendation as it would lie on its topic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatRan:
    """What a replay was, written when it has ended: a folder without it was not finished.

    Attributes:
        plan: Its rules.
        code: Commit whose streams decided; empty for those of the program itself.
        fingerprint: Of its rules with their fleet.
        sites: Sorted.
        from_ms: First event time of what was written; 0 for the first there was.
        to_ms: Event time before which all of it lies.
        recommendations: How many were decided on.
        switches: How many decisions move devices.
        holds: How many do not.
        passed_over: Records that led to nothing, by why, sorted.
    """

    plan: Plan
    code: str
    fingerprint: str
    sites: tuple[str, ...]
    from_ms: int
    to_ms: int
    recommendations: int
    switches: int
    holds: int
    passed_over: dict[str, int]


class Output:
    """An open folder, or a file whose name ends in `.parquet` and which takes decisions alone."""

    def __init__(self, path: Path) -> None:
        """Create what is needed; what an earlier replay left there is replaced.

        Raises:
            HcpError: It cannot be written.
        """
        self.is_folder = path.suffix != _FILE_SUFFIX
        self._path = path
        self._waiting: list[Recommendation] = []
        try:
            (path if self.is_folder else path.parent).mkdir(parents=True, exist_ok=True)
            if self.is_folder:
                (path / WHAT_RAN).unlink(missing_ok=True)
            self._recommendations = pq.ParquetWriter(path / RECOMMENDATIONS, _SCHEMA) if self.is_folder else None
            self._decisions = DecisionFile(path / DECISIONS if self.is_folder else path)
        except OSError as error:
            raise HcpError(f"--out must be a folder or a .parquet file that can be written, was {error}") from error

    def __enter__(self) -> Self:
        """Return the output."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what is left and close."""
        self._flush()
        if self._recommendations is not None:
            self._recommendations.close()
        self._decisions.__exit__(kind, error, trace)

    def add(self, decided: Decided) -> None:
        """Take in what one recommendation led to."""
        for decision in decided.decisions:
            self._decisions.add(decision)
        if self._recommendations is not None:
            self._waiting.append(decided.recommendation)
            if len(self._waiting) >= ROWS_PER_GROUP:
                self._flush()

    def _flush(self) -> None:
        if self._recommendations is None or not self._waiting:
            return
        rows = [
            {
                "observed_at_utc": each.observed_at_ms,
                "observed_at_ms": each.observed_at_ms,
                "facility_id": each.facility_id,
                "recommendation_id": each.recommendation_id,
                "energy_price_usd_per_mwh": each.market.energy_price_usd_per_mwh,
                "record": encode(each),
            }
            for each in self._waiting
        ]
        self._recommendations.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA))
        self._waiting.clear()


def finish(path: Path, what: WhatRan) -> None:
    """Say beside the files of a folder, once they are closed, what they are; a file alone says nothing.

    Raises:
        HcpError: It cannot be written.
    """
    if path.suffix == _FILE_SUFFIX:
        return
    try:
        (path / WHAT_RAN).write_bytes(msgspec.json.format(msgspec.json.encode(what)) + b"\n")
    except OSError as error:
        raise HcpError(f"--out must be a folder that can be written, was {error}") from error


def what_ran(folder: Path) -> WhatRan:
    """Read what a folder holds.

    Raises:
        HcpError: It holds no finished replay.
    """
    try:
        return msgspec.json.decode((folder / WHAT_RAN).read_bytes(), type=WhatRan)
    except (OSError, msgspec.DecodeError) as error:
        raise HcpError(f"{folder} must be the folder of a finished `hcp replay decisions`, was: {error}") from error


def read_recommendations(path: Path) -> Iterator[Recommendation]:
    """Yield the recommendations of a file in its order.

    Raises:
        HcpError: It cannot be read, or a record in it is none.
    """
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=["record"]):
                for raw in batch.column(0).to_pylist():
                    value = decode(raw)
                    if not isinstance(value, Recommendation):
                        raise HcpError(f"{path} must hold recommendations that this code reads, was {value}")
                    yield value
    except (OSError, pa.ArrowException) as error:
        raise HcpError(f"recommendations must be a Parquet file, was {path}: {error}") from error
