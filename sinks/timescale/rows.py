"""Pure: a record and its address in, rows of its table out."""

from collections.abc import Iterator
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from hcp.kafka.records import ConsumedRecord
from hcp.model.ids import device_id
from hcp.model.recommendations import ClassDevices, ModeDevices, Recommendation
from hcp.model.units import MS_PER_SECOND
from sinks.timescale.tables import Column, Table, columns_of, table_of

Row = tuple[Any, ...]


def rows_of(value: object, record: ConsumedRecord) -> tuple[Table, list[Row]]:
    """Return the table and the rows of one decoded record; columns in the order of `Table.column_names`."""
    table = table_of(type(value))
    origin = (timestamp(record.timestamp_ms), record.partition, record.offset)
    if isinstance(value, Recommendation):
        return table, [(*row, *origin) for row in _recommendation_rows(value)]
    if table.is_columnar:
        return table, [(*row, *origin) for row in _device_rows(value, table)]
    return table, [(*(_scalar(getattr(value, column.field), column) for column in table.columns()), *origin)]


def row_count(value: object) -> int:
    """Return how many rows a record gives, without making them."""
    if isinstance(value, Recommendation):
        return sum(len(scored.scores) for scored in value.classes)
    return len(value.device_indexes) if hasattr(value, "device_indexes") else 1


def timestamp(at_ms: int) -> datetime | None:
    """Turn epoch milliseconds into a timestamptz value; negative means none."""
    return None if at_ms < 0 else datetime.fromtimestamp(at_ms / MS_PER_SECOND, tz=UTC)


def _scalar(value: Any, column: Column) -> Any:  # noqa: ANN401  # a cell
    if value is None:
        return None
    if column.is_time:
        return timestamp(value)
    return value.value if isinstance(value, Enum) else value


def _device_rows(value: Any, table: Table) -> Iterator[Row]:  # noqa: ANN401  # any columnar record
    cells: list[Any] = []
    for column in table.columns():
        raw = getattr(value, column.field)
        if isinstance(raw, tuple):
            cells.append([_scalar(each, column) for each in raw])
        else:
            cells.append([_scalar(raw, column)] * len(value.device_indexes))
    names = [device_id(shard_id=value.shard_id, device_index=index) for index in value.device_indexes]
    yield from zip(*cells, names, strict=True)


def _recommendation_rows(value: Recommendation) -> Iterator[Row]:
    counted = {devices.device_class: devices for devices in value.devices}
    for scored in value.classes:
        devices = counted.get(scored.device_class) or ClassDevices(
            device_class=scored.device_class, modes=(), stale_count=0, epoch_sum=0
        )
        by_mode = {count.mode: count for count in devices.modes}
        for score in scored.scores:
            here = by_mode.get(score.mode) or ModeDevices(mode=score.mode, movable_count=0, switching_count=0)
            parts = (value, value.market, scored, score, devices, here)
            yield tuple(cell for part in parts for cell in _part(part))


def _part(part: object) -> list[Any]:
    kind: type = type(part)
    return [_scalar(getattr(part, column.field), column) for column in columns_of(kind)]
