"""Which table holds which record: columns derived from the record's own fields, so names can never drift apart.

One systematic rename: an epoch field `observed_at_ms` is the timestamptz column `observed_at`; durations keep `_ms`.
A columnar record gives one row per device, its columns in the singular (`modes` -> `mode`) and `device_id` added.
"""

from dataclasses import dataclass, fields
from enum import Enum
from functools import cache
from typing import Any, Final, get_args, get_origin, get_type_hints

from hcp.model.commands import ControllerCommand, ControllerResult, OrchestratorCommand
from hcp.model.ledger import Alert, AuditEvent, BillingUsage
from hcp.model.markets import MarketPrice
from hcp.model.orders import OperatorOrder
from hcp.model.outlook import Outlook
from hcp.model.recommendations import (
    ClassDevices,
    ClassRecommendation,
    MarketSnapshot,
    ModeDevices,
    ModeScore,
    Recommendation,
)
from hcp.model.regret import Regret
from hcp.model.rejections import DeadLetter
from hcp.model.resources import ResourceState
from hcp.model.telemetry import AsicTelemetry, GpuTelemetry
from hcp.model.types import UUID_PATTERN
from hcp.model.validation import plain, unwrap, without_none
from hcp.model.workloads import AllocationRequest, WorkloadEvent

EPOCH_UNIT: Final = "ms since epoch"
SINGULAR: Final = {
    "device_indexes": "device_index",
    "modes": "mode",
    "states": "state",
    "epochs": "epoch",
    "owners": "owner",
    "outcomes": "outcome",
    "details": "detail",
}
PROVENANCE: Final = (("recorded_at", "timestamptz"), ("kafka_partition", "integer"), ("kafka_offset", "bigint"))
RENAMED: Final = {("ClassRecommendation", "confidence"): "runner_up_confidence"}
"""Where two classes of one table have a field of the same name."""
SAID_BEFORE: Final = {("ClassDevices", "device_class"), ("ModeDevices", "mode")}
"""Fields that only say which row of another class they belong to."""
_SQL_TYPES: Final[dict[type, str]] = {
    int: "bigint",
    float: "double precision",
    str: "text",
    bool: "boolean",
    bytes: "bytea",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column and the field it comes from.

    Attributes:
        name: In SQL.
        field: Attribute of the record.
        sql_type: PostgreSQL type.
        is_null: Whether it may be null.
        is_time: Whether milliseconds become a timestamptz.
        symbols: Values of its enum; empty for none.
    """

    name: str
    field: str
    sql_type: str
    is_null: bool
    is_time: bool
    symbols: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table.

    Attributes:
        name: In SQL.
        record: Class of the records it holds.
        parts: Classes whose fields make its columns; more than one for nested records.
        unique: Columns that tell one event from another, time included.
        chunk_hours: Length of a hypertable chunk.
        time_column: Of the hypertable.
    """

    name: str
    record: type
    parts: tuple[type, ...]
    unique: tuple[str, ...]
    chunk_hours: int
    time_column: str = "observed_at"

    @property
    def is_columnar(self) -> bool:
        """Whether a record gives one row per device."""
        return any(field.name == "device_indexes" for field in fields(self.record))

    def columns(self) -> tuple[Column, ...]:
        """Return the columns from the record's fields, without device_id and provenance."""
        return tuple(column for part in self.parts for column in columns_of(part))

    def column_names(self) -> tuple[str, ...]:
        """Return all columns in the order rows are written."""
        own = tuple(column.name for column in self.columns())
        device = ("device_id",) if self.is_columnar else ()
        return (*own, *device, *(name for name, _ in PROVENANCE))


@cache
def columns_of(part: type) -> tuple[Column, ...]:
    """Return the columns made of one class's fields; nested lists have classes, and so columns, of their own."""
    hints = get_type_hints(part, include_extras=True)
    found = []
    for field in fields(part):
        if (part.__name__, field.name) in SAID_BEFORE:
            continue
        spec, kind = unwrap(hints[field.name])
        kind, is_null = without_none(kind)
        if get_origin(kind) is tuple:
            kind, is_null = without_none(get_args(kind)[0])
            if spec is None or not spec.column:
                continue  # a nested list has parts of its own
        builtin = plain(kind)
        is_enum = isinstance(builtin, type) and issubclass(builtin, Enum)
        if not is_enum and builtin not in _SQL_TYPES:
            continue  # as above
        is_time = spec is not None and spec.unit == EPOCH_UNIT
        found.append(
            Column(
                name=RENAMED.get((part.__name__, field.name)) or _name(field.name, is_time=is_time),
                field=field.name,
                sql_type=_sql_type(builtin, is_enum=is_enum, is_time=is_time, pattern=spec.pattern if spec else None),
                is_null=is_null or (spec is not None and spec.minimum == -1 and is_time),
                is_time=is_time,
                symbols=tuple(member.value for member in builtin) if is_enum else (),
            )
        )
    return tuple(found)


def _name(field: str, *, is_time: bool) -> str:
    return field.removesuffix("_ms") if is_time else SINGULAR.get(field, field)


def _sql_type(builtin: Any, *, is_enum: bool, is_time: bool, pattern: str | None) -> str:  # noqa: ANN401  # a type
    if is_time:
        return "timestamptz"
    if is_enum:
        return "text"
    return "uuid" if pattern == UUID_PATTERN else _SQL_TYPES[builtin]


def _table(name: str, record: type, *unique: str, parts: tuple[type, ...] = (), chunk_hours: int = 168) -> Table:
    return Table(
        name=name,
        record=record,
        parts=parts or (record,),
        unique=(*unique, "observed_at"),
        chunk_hours=chunk_hours,
    )


TABLES: Final[tuple[Table, ...]] = (
    _table("market_prices", MarketPrice, "facility_id", "series", "instrument"),
    _table("gpu_telemetry", GpuTelemetry, "device_id", chunk_hours=1),
    _table("asic_telemetry", AsicTelemetry, "device_id", chunk_hours=1),
    _table(
        "recommendations",
        Recommendation,
        "recommendation_id",
        "device_class",
        "mode",
        parts=(Recommendation, MarketSnapshot, ClassRecommendation, ModeScore, ClassDevices, ModeDevices),
        chunk_hours=24,
    ),
    _table("regrets", Regret, "regret_id"),
    _table("decisions", OrchestratorCommand, "command_id"),
    _table("outlooks", Outlook, "outlook_id"),
    _table("controller_commands", ControllerCommand, "command_id", "device_id", chunk_hours=24),
    _table("switches", ControllerResult, "command_id", "device_id", chunk_hours=24),
    _table("operator_orders", OperatorOrder, "order_id", "device_id"),
    _table(
        "resource_states", ResourceState, "device_id", "reported_by", "kafka_partition", "kafka_offset", chunk_hours=24
    ),
    _table("workload_events", WorkloadEvent, "event_id"),
    _table("allocation_requests", AllocationRequest, "allocation_id"),
    _table("billing_usage", BillingUsage, "usage_id"),
    _table("alerts", Alert, "alert_id"),
    _table("audit_events", AuditEvent, "audit_id"),
    Table(
        name="dead_letters",
        record=DeadLetter,
        parts=(DeadLetter,),
        unique=("source_topic", "source_partition", "source_offset", "rejected_by", "recorded_at"),
        chunk_hours=168,
        time_column="recorded_at",
    ),
)


def table_of(record: type) -> Table:
    """Return the table of a record class.

    Raises:
        KeyError: No table holds it.
    """
    for table in TABLES:
        if table.record is record:
            return table
    raise KeyError(f"record must have a table, was {record.__name__}")
