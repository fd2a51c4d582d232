"""Read recorded series (CSV or Parquet) into points in event-time order; what is not recorded stays a gap."""

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import as_file, files
from itertools import pairwise
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from hcp.errors import MarketDataError
from hcp.market_data.publication import ERCOT_LOCATIONS, ercot_day_ahead_published_ms
from hcp.model.markets import SERIES_RULES, PriceSeries, day_ahead_instrument
from hcp.model.types import EARLIEST_EVENT_MS, LATEST_EVENT_MS
from hcp.model.units import MS_PER_HOUR, MS_PER_MINUTE, MS_PER_SECOND

BTC_INSTRUMENT: Final = "BTC/USD"
DIFFICULTY_INSTRUMENT: Final = "bitcoin"
SUFFIXES: Final = (".csv", ".parquet")
SAMPLE_PACKAGE: Final = "hcp.market_data.sample"
SAMPLE_FILES: Final = ("ercot_real_time_15min.csv", "btc_usd_hourly.csv", "btc_difficulty_epochs.csv")

Cell = str | float | datetime | None
Row = tuple[int, tuple[Cell, ...]]
_Parsed = tuple[PriceSeries, str, int, float, int | None]
"""Series, instrument, start, value, and of a day-ahead price when it was published."""
_ENERGY: Final = frozenset({PriceSeries.ENERGY_REAL_TIME, PriceSeries.ENERGY_DAY_AHEAD})


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One recorded value.

    Attributes:
        observed_at_ms: When it became known: a price at the end of its interval, an epoch at its start, a day-ahead
            price when it was published.
        series: What is priced.
        instrument: Hub, device class, algorithm or pair; hub and hour of a day-ahead price.
        value: In the one unit of the series.
        interval_start_ms: Start of the interval it is for.
        interval_ms: Length of that interval; 0 for an instant.
        source: `recorded:<file name>`.
    """

    observed_at_ms: int
    series: PriceSeries
    instrument: str
    value: float
    interval_start_ms: int
    interval_ms: int
    source: str

    @property
    def market(self) -> str:
        """Return the energy market of an energy price, "" of any other."""
        if self.series is PriceSeries.ENERGY_DAY_AHEAD:
            return self.instrument.rpartition("/")[0]
        return self.instrument if self.series is PriceSeries.ENERGY_REAL_TIME else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """Points in event-time order, how many rows had no value, and how many said a thing twice."""

    points: tuple[Point, ...]
    empty_rows: int
    repeated_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """One documented set of columns; further columns are ignored. `interval_ms` is used when one row alone is there."""

    time: str
    value: str
    instrument: str | None = None
    series_column: str | None = None
    published: str | None = None
    series: PriceSeries | None = None
    fixed_instrument: str = ""
    interval_ms: int = 0

    def columns(self) -> tuple[str, ...]:
        """Return the columns read: time, value, and where the shape has them, instrument, series and publication."""
        names = (self.time, self.value, self.instrument, self.series_column, self.published)
        return tuple(name for name in names if name is not None)


_SHAPES: Final = (
    _Shape(time="time", value="value", instrument="instrument", series_column="series"),
    _Shape(
        time="interval_start_utc",
        value="price_usd_per_mwh",
        instrument="location",
        series=PriceSeries.ENERGY_REAL_TIME,
        interval_ms=15 * MS_PER_MINUTE,
    ),
    *(
        _Shape(
            time="interval_start_utc",
            value="dam_price_usd_per_mwh",
            instrument="location",
            published=published,
            series=PriceSeries.ENERGY_DAY_AHEAD,
            interval_ms=MS_PER_HOUR,
        )
        for published in ("published_at_utc", None)
    ),
    *(
        _Shape(
            time="open_time_utc",
            value=value,
            series=PriceSeries.BTC,
            fixed_instrument=BTC_INSTRUMENT,
            interval_ms=MS_PER_HOUR,
        )
        for value in ("close_usd", "close_usdt")
    ),
    _Shape(
        time="start_time_utc",
        value="difficulty",
        series=PriceSeries.DIFFICULTY,
        fixed_instrument=DIFFICULTY_INSTRUMENT,
    ),
)


def read_sample(instruments: frozenset[str] | None = None) -> Recording:
    """Read the week that is shipped inside the package."""
    recordings = []
    for name in SAMPLE_FILES:
        with as_file(files(SAMPLE_PACKAGE) / name) as path:
            recordings.append(read_file(path, instruments=instruments))
    return merged(recordings)


def read_source(
    source: Path, instruments: frozenset[str] | None = None, *, passed_over: list[Path] | None = None
) -> Recording:
    """Read a file, or every CSV and Parquet file of a folder.

    Args:
        source: The file or folder.
        instruments: Energy hubs wanted; rows of others are passed over. None takes all.
        passed_over: Is given the folder's files whose columns are no documented shape; None refuses them.

    Raises:
        MarketDataError: Nothing to read, or a file, line and column that breaks the documented shape.
    """
    if source.is_dir():
        paths = sorted(path for path in source.iterdir() if path.suffix in SUFFIXES)
        if not paths:
            raise MarketDataError(f"{source} must hold {' or '.join(SUFFIXES)} files, was without")
        if passed_over is not None:
            passed_over.extend(path for path in paths if not _has_known_shape(path))
            paths = [path for path in paths if path not in passed_over]
        return merged([read_file(path, instruments=instruments) for path in paths])
    return merged([read_file(source, instruments=instruments)])


def read_file(path: Path, *, instruments: frozenset[str] | None = None) -> Recording:
    """Read one file whose columns tell its shape.

    Raises:
        MarketDataError: Names file, line (row for Parquet, both counted from 1, a CSV header being line 1) and column.
    """
    if path.suffix not in SUFFIXES:
        raise MarketDataError(f"{path} must end in {' or '.join(SUFFIXES)}, was {path.suffix or 'without suffix'}")
    try:
        shape, rows = _open_csv(path) if path.suffix == ".csv" else _open_parquet(path)
        return _parse(rows, shape=shape, path=path, instruments=instruments)
    except (OSError, csv.Error, UnicodeDecodeError, pa.ArrowException) as error:
        raise MarketDataError(f"{path} must be a readable {path.suffix} file, was: {error}") from error


def merged(recordings: Iterable[Recording]) -> Recording:
    """Put recordings into one order; of a value said twice the first stays."""
    recordings = list(recordings)
    points: dict[tuple[PriceSeries, str, int], Point] = {}
    total = 0
    for recording in recordings:
        total += len(recording.points)
        for point in recording.points:
            points.setdefault((point.series, point.instrument, point.observed_at_ms), point)
    ordered = sorted(points.values(), key=lambda point: (point.observed_at_ms, point.series, point.instrument))
    return Recording(
        points=tuple(ordered),
        empty_rows=sum(recording.empty_rows for recording in recordings),
        repeated_rows=total - len(points) + sum(recording.repeated_rows for recording in recordings),
    )


def _has_known_shape(path: Path) -> bool:
    """Say whether a file's columns are documented; what cannot be opened is left for the reading to refuse."""
    try:
        if path.suffix == ".csv":
            with path.open(encoding="utf-8-sig", newline="") as file:
                names = next(csv.reader(file), [])
        else:
            names = pq.read_schema(path).names
    except (OSError, csv.Error, UnicodeDecodeError, pa.ArrowException):
        return True
    return any(set(shape.columns()) <= set(names) for shape in _SHAPES)


def _shape_of(names: Sequence[str], path: Path) -> _Shape:
    for shape in _SHAPES:
        if set(shape.columns()) <= set(names):
            return shape
    known = "; ".join(",".join(shape.columns()) for shape in _SHAPES)
    raise MarketDataError(f"{path} line 1: columns must include one of [{known}], was {','.join(names) or 'empty'}")


def _open_csv(path: Path) -> tuple[_Shape, Iterator[Row]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        names = next(csv.reader(file), [])
    shape = _shape_of(names, path)
    return shape, _csv_rows(path, width=len(names), at=[names.index(name) for name in shape.columns()])


def _csv_rows(path: Path, *, width: int, at: list[int]) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        next(reader)
        for row in reader:
            if not row:
                continue
            if len(row) != width:
                raise MarketDataError(f"{path} line {reader.line_num}: must have {width} columns, was {len(row)}")
            yield reader.line_num, tuple(row[index] for index in at)


def _open_parquet(path: Path) -> tuple[_Shape, Iterator[Row]]:
    shape = _shape_of(pq.read_schema(path).names, path)
    table = pq.read_table(path, columns=list(shape.columns()))
    columns = [table.column(name).to_pylist() for name in shape.columns()]
    return shape, enumerate(zip(*columns, strict=True), start=1)


def _parse(rows: Iterable[Row], *, shape: _Shape, path: Path, instruments: frozenset[str] | None) -> Recording:
    parsed: list[_Parsed] = []
    starts: set[int] = set()
    empty = 0
    for line, cells in rows:
        at = f"{path} line {line}"
        instrument = shape.fixed_instrument if shape.instrument is None else str(cells[2] or "")
        series = shape.series or _series(cells[3], at=at, column=shape.series_column or "")
        if cells[0] in {None, ""}:
            empty += 1
            continue
        start_ms = _time(cells[0], at=at, column=shape.time)
        starts.add(start_ms)
        if not instrument:
            raise MarketDataError(f"{at}, {shape.instrument}: must name an instrument, was empty")
        if instruments is not None and series in _ENERGY and instrument not in instruments:
            continue
        value = _value(cells[1], series=series, at=at, column=shape.value)
        if value is None:
            empty += 1
        else:
            parsed.append((series, instrument, start_ms, value, _published_ms(cells, start_ms, shape=shape, at=at)))
    interval_ms = _interval_ms(starts, shape)
    points = [_point(row, interval_ms=interval_ms, source=f"recorded:{path.name}") for row in parsed]
    return merged([Recording(points=tuple(points), empty_rows=empty, repeated_rows=0)])


def _interval_ms(starts: set[int], shape: _Shape) -> int:
    """Return the smallest distance between two starts: 5 minutes at SPP, 15 at ERCOT, an hour at MISO."""
    if not shape.interval_ms or len(starts) < 2:  # noqa: PLR2004  # a distance takes two
        return shape.interval_ms
    ordered = sorted(starts)
    return min(after - before for before, after in pairwise(ordered))


def _published_ms(cells: tuple[Cell, ...], start_ms: int, *, shape: _Shape, at: str) -> int | None:
    """Return when a day-ahead price was published: as its row says, or by ERCOT's rule; None for any other price."""
    if shape.series is not PriceSeries.ENERGY_DAY_AHEAD:
        return None
    if shape.published is not None:
        return _time(cells[3], at=at, column=shape.published)
    if not str(cells[2]).startswith(ERCOT_LOCATIONS):
        known = " or ".join(ERCOT_LOCATIONS)
        raise MarketDataError(
            f"{at}, {shape.instrument}: must begin with {known} without a column published_at_utc, was {cells[2]!r}"
        )
    return ercot_day_ahead_published_ms(start_ms)


def _point(row: _Parsed, *, interval_ms: int, source: str) -> Point:
    series, instrument, start_ms, value, published_ms = row
    return Point(
        observed_at_ms=start_ms + interval_ms if published_ms is None else published_ms,
        series=series,
        instrument=instrument if published_ms is None else day_ahead_instrument(instrument, start_ms),
        value=value,
        interval_start_ms=start_ms,
        interval_ms=interval_ms,
        source=source,
    )


def _series(cell: Cell, *, at: str, column: str) -> PriceSeries:
    try:
        return PriceSeries(str(cell))
    except ValueError as error:
        known = ", ".join(PriceSeries)
        raise MarketDataError(f"{at}, {column}: must be one of {known}, was {cell!r}") from error


def _time(cell: Cell, *, at: str, column: str) -> int:
    try:
        when = cell if isinstance(cell, datetime) else datetime.fromisoformat(str(cell))
    except ValueError as error:
        raise MarketDataError(f"{at}, {column}: must be ISO 8601 with Z, was {cell!r}") from error
    if when.tzinfo is None:
        raise MarketDataError(f"{at}, {column}: must say its time zone (Z), was {cell!r}")
    time_ms = round(when.astimezone(UTC).timestamp() * MS_PER_SECOND)
    if not EARLIEST_EVENT_MS <= time_ms <= LATEST_EVENT_MS:
        raise MarketDataError(f"{at}, {column}: must be from 2009-01-03 to 2100-01-01, was {cell!r}")
    return time_ms


def _value(cell: Cell, *, series: PriceSeries, at: str, column: str) -> float | None:
    """Return the number, or None for one that is not there (empty, null, NaN)."""
    if cell is None or cell == "":
        return None
    try:
        value = float(cell)  # type: ignore[arg-type]  # a datetime is refused by float itself
    except (TypeError, ValueError) as error:
        raise MarketDataError(f"{at}, {column}: must be a number, was {cell!r}") from error
    if math.isnan(value):
        return None
    rule = SERIES_RULES[series]
    if not rule.minimum <= value <= rule.maximum:
        raise MarketDataError(f"{at}, {column}: must be from {rule.minimum} to {rule.maximum}, was {value}")
    return value
