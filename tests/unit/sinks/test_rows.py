"""Rows are pure: each example record gives exactly the golden rows, by column name, whatever the database."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hcp.kafka.records import ConsumedRecord
from hcp.model.rejections import DeadLetter
from hcp.topics import all_topics, topic_of
from sinks.timescale.rows import row_count, rows_of, timestamp
from sinks.timescale.tables import TABLES, table_of
from tests.examples import AT, EXAMPLES, GPU_TELEMETRY, LETTER, PRICE

GOLDEN = Path(__file__).parents[2] / "golden" / "rows"


def _record(value: object) -> ConsumedRecord:
    topic = f"{LETTER.source_topic}.dead" if isinstance(value, DeadLetter) else topic_of(value).name
    return ConsumedRecord(topic=topic, partition=3, offset=41, timestamp_ms=AT + 1_234, key=b"k", value=b"")


def _plain(cell: Any) -> Any:
    if isinstance(cell, datetime):
        return cell.isoformat(timespec="milliseconds")
    return cell.hex() if isinstance(cell, bytes) else cell


def golden_rows(value: object) -> str:
    """Say the rows of a record as the golden files do: `print` it to make the file of a new record."""
    table, rows = rows_of(value, _record(value))
    named = [dict(zip(table.column_names(), map(_plain, row), strict=True)) for row in rows]
    return json.dumps(named, indent=1) + "\n"


@pytest.mark.parametrize("value", EXAMPLES, ids=lambda value: type(value).__name__)
def test_rows_are_the_golden_ones(value: object) -> None:
    """A record's rows never change unseen: names, order, times, nulls and provenance are all in the file."""
    golden = GOLDEN / f"{table_of(type(value)).name}.json"
    assert golden_rows(value) == golden.read_text(encoding="utf-8")


def test_every_table_has_golden_rows() -> None:
    """No table is left out, and no file of a table that is gone is left over."""
    assert {path.stem for path in GOLDEN.glob("*.json")} == {table.name for table in TABLES}
    assert {topic.record for topic in all_topics()} == {type(value) for value in EXAMPLES}


@pytest.mark.parametrize("value", EXAMPLES, ids=lambda value: type(value).__name__)
def test_rows_are_counted_without_making_them(value: object) -> None:
    """The bound of a transaction counts what will be written."""
    assert row_count(value) == len(rows_of(value, _record(value))[1])


def test_a_batch_without_devices_gives_no_row() -> None:
    """An empty shard is a valid record: nothing to store, nothing wrong."""
    columns = {name: () for name in GPU_TELEMETRY.__slots__ if isinstance(getattr(GPU_TELEMETRY, name), tuple)}
    empty = replace(GPU_TELEMETRY, **columns)  # type: ignore[arg-type]  # each is a column
    assert rows_of(empty, _record(empty))[1] == []
    assert row_count(empty) == 0


def test_the_same_record_gives_the_same_rows_wherever_it_lies_but_for_its_address() -> None:
    """Only provenance tells a redelivered record from its first: its event columns are equal, so it is one row."""
    _, first = rows_of(PRICE, _record(PRICE))
    _, again = rows_of(PRICE, replace(_record(PRICE), offset=99, timestamp_ms=AT + 9_999))
    assert [row[:-3] for row in first] == [row[:-3] for row in again]
    assert first != again


def test_times_keep_their_milliseconds_and_a_missing_one_is_none() -> None:
    """Epoch milliseconds become UTC exactly; -1 (a record without a timestamp) is no time, not 1969."""
    assert timestamp(1_692_493_200_123) == datetime(2023, 8, 20, 1, 0, 0, 123_000, tzinfo=UTC)
    assert timestamp(-1) is None
