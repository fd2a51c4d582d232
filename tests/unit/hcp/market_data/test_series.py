"""hcp.market_data.series: documented shapes, gaps that stay gaps, and errors that say where."""

from datetime import UTC, datetime
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcp.errors import MarketDataError
from hcp.market_data.series import SAMPLE_FILES, SAMPLE_PACKAGE, read_file, read_sample, read_source
from hcp.model.markets import PriceSeries
from simulators.market import sample_start_ms

QUARTER_MS = 900_000
ENERGY = "interval_start_utc,location,price_usd_per_mwh\n"
LONG = "time,series,instrument,value\n"


def _file(folder: Path, text: str, name: str = "series.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_sample_is_shipped_and_complete() -> None:
    """The week lies in the package, without a gap: 673 intervals a hub, 169 hours, 2 epochs."""
    assert all((files(SAMPLE_PACKAGE) / name).is_file() for name in (*SAMPLE_FILES, "README.md"))
    recording = read_sample()
    counts = {
        series: sum(point.series is series for point in recording.points)
        for series in (PriceSeries.ENERGY_REAL_TIME, PriceSeries.BTC, PriceSeries.DIFFICULTY)
    }
    assert list(counts.values()) == [2 * 673, 169, 2]
    assert (recording.empty_rows, recording.repeated_rows) == (0, 0)
    energy = [point for point in recording.points if point.instrument == "HB_WEST"]
    assert energy[0].observed_at_ms == sample_start_ms()
    steps = {b.observed_at_ms - a.observed_at_ms for a, b in pairwise(energy)}
    assert steps == {QUARTER_MS}


def test_a_price_is_known_at_the_end_of_its_interval(tmp_path: Path) -> None:
    """Nobody decides on a price before the interval it is for is over."""
    path = _file(tmp_path, ENERGY + "2023-08-20T00:00:00Z,HB_WEST,12.5\n2023-08-20T00:15:00Z,HB_WEST,-3\n")
    first, second = read_file(path).points
    assert first.observed_at_ms == first.interval_start_ms + QUARTER_MS
    assert (first.value, second.value, first.interval_ms) == (12.5, -3.0, QUARTER_MS)


def test_interval_length_comes_from_the_file(tmp_path: Path) -> None:
    """A 5-minute market is read as one of 5 minutes, even with a gap in it."""
    rows = [f"2024-04-01T05:{minute:02d}:00Z,SPP,1\n" for minute in (0, 5, 20)]
    assert {point.interval_ms for point in read_file(_file(tmp_path, ENERGY + "".join(rows))).points} == {300_000}


def test_gaps_stay_gaps(tmp_path: Path) -> None:
    """Empty and NaN cells are counted and passed over; absent rows are not invented."""
    text = ENERGY + (
        "2023-08-20T00:00:00Z,A,1\n2023-08-20T00:15:00Z,A,\n2023-08-20T00:30:00Z,A,NaN\n"
        "\n2023-08-20T02:00:00Z,A,4\n2023-08-20T02:00:00Z,A,5\n"
    )
    recording = read_file(_file(tmp_path, text))
    assert [point.value for point in recording.points] == [1.0, 4.0]
    assert (recording.empty_rows, recording.repeated_rows) == (2, 1)


def test_summer_time_shifts_nothing(tmp_path: Path) -> None:
    """Offsets are honoured: the night that is 25 local hours long has no double and no hole."""
    text = ENERGY + (
        "2023-11-05T00:45:00-05:00,A,1\n2023-11-05T01:00:00-05:00,A,2\n"
        "2023-11-05T01:45:00-05:00,A,3\n2023-11-05T01:00:00-06:00,A,4\n"
    )
    points = read_file(_file(tmp_path, text)).points
    starts = [point.interval_start_ms for point in points]
    assert [start - starts[0] for start in starts] == [0, QUARTER_MS, 4 * QUARTER_MS, 5 * QUARTER_MS]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ENERGY + "2023-08-20T00:00:00Z,A,x\n", "line 2, price_usd_per_mwh: must be a number, was 'x'"),
        (ENERGY + "2023-08-20T00:00:00Z,A,-inf\n", "line 2, price_usd_per_mwh: must be from"),
        (ENERGY + "2023-08-20T00:00:00Z,A,1e12\n", "line 2, price_usd_per_mwh: must be from"),
        (ENERGY + "1970-01-01T00:00:00Z,A,1\n", "line 2, interval_start_utc: must be from 2009"),
        (ENERGY + "2100-08-20T00:00:00Z,A,1\n", "line 2, interval_start_utc: must be from 2009"),
        (ENERGY + "2023-08-20T00:00:00,A,1\n", "line 2, interval_start_utc: must say its time zone"),
        (ENERGY + "yesterday,A,1\n", "line 2, interval_start_utc: must be ISO 8601"),
        (ENERGY + "2023-08-20T00:00:00Z,A,1\n2023-08-20T00:15:00Z,A\n", "line 3: must have 3 columns, was 2"),
        (ENERGY + "2023-08-20T00:00:00Z,,1\n", "line 2, location: must name an instrument"),
        (LONG + "2023-08-20T00:00:00Z,gold,A,1\n", "line 2, series: must be one of"),
        ("when,what\n1,2\n", "line 1: columns must include"),
        ("", "line 1: columns must include .*, was empty"),
    ],
)
def test_errors_name_file_line_and_column(tmp_path: Path, text: str, said: str) -> None:
    """Whoever sees the error finds the cell."""
    path = _file(tmp_path, text)
    with pytest.raises(MarketDataError, match=said) as error:
        read_file(path)
    assert str(path) in str(error.value)


def test_files_that_are_no_series_are_refused(tmp_path: Path) -> None:
    """A missing file, an empty folder, a suffix we do not read and a broken Parquet are one-line errors."""
    for path in (
        tmp_path / "none.csv",
        tmp_path,
        _file(tmp_path, "", "a.txt"),
        _file(tmp_path, "no parquet", "b.parquet"),
    ):
        with pytest.raises(MarketDataError, match=path.name):
            read_source(path)


def test_parquet_reads_as_csv_does(tmp_path: Path) -> None:
    """Format changes nothing: null is a gap, times are UTC, only the hubs wanted are taken."""
    times = [datetime(2023, 8, 20, 0, minute, tzinfo=UTC) for minute in (0, 15, 30)]
    table = pa.table(
        {
            "interval_start_utc": pa.array(times, pa.timestamp("ms", tz="UTC")),
            "location": ["A", "B", "A"],
            "price_usd_per_mwh": [1.0, 2.0, None],
        }
    )
    pq.write_table(table, tmp_path / "e.parquet")
    recording = read_source(tmp_path, frozenset({"A"}))
    assert [(point.instrument, point.value) for point in recording.points] == [("A", 1.0)]
    assert recording.empty_rows == 1


def test_naive_parquet_times_are_refused(tmp_path: Path) -> None:
    """A Parquet time without zone is as ambiguous as a naive text."""
    table = pa.table({"start_time_utc": [datetime(2023, 8, 20)], "difficulty": [1.0]})  # noqa: DTZ001  # the subject
    pq.write_table(table, tmp_path / "d.parquet")
    with pytest.raises(MarketDataError, match="line 1, start_time_utc: must say its time zone"):
        read_source(tmp_path)


@given(rows=st.lists(st.tuples(st.integers(0, 500), st.floats(0.01, 1e6)), max_size=30))
def test_reading_orders_by_event_time(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, float]]) -> None:
    """However rows lie in the file, points come in event-time order, each time once."""
    text = LONG + "".join(
        f"{datetime.fromtimestamp(1_692_489_600 + 60 * at, UTC).isoformat()},btc,BTC/USD,{value!r}\n"
        for at, value in rows
    )
    recording = read_file(_file(tmp_path_factory.mktemp("series"), text))
    times = [point.observed_at_ms for point in recording.points]
    assert times == sorted(set(times))
    assert len(times) + recording.repeated_rows == len(rows)
