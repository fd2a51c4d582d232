"""The read model of the gateway's database made anew from topics, held to the live one, put in its place if asked.

The sink's own statements run on temporary tables of the same names, which come first in the search path. What the
gateway itself writes (who submitted what) is taken from the live tables: it is the source, and on no topic.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg
from psycopg import sql

from hcp.codecs import decode
from hcp.errors import HcpError
from hcp.kafka.groups import committed
from hcp.kafka.ranges import Place, Range, ranges_by_time, read
from hcp.kafka.records import ConsumedRecord
from hcp.kafka.replays import refused_if_replayed
from hcp.model.ledger import BillingUsage
from hcp.model.workloads import WorkloadEvent
from hcp.topics import BILLING_USAGE, WORKLOAD_EVENTS
from sinks.operational.model import take_event, take_usage
from sinks.timescale.failures import store_error

GROUP: Final = "hcp-sink-operational"
TOPICS: Final = (WORKLOAD_EVENTS.name, BILLING_USAGE.name)
OWNED: Final = (
    "status",
    "status_reason",
    "facility_id",
    "device_ids",
    "queue_position",
    "cost_usd_micros",
    "device_seconds",
    "started_at",
    "finished_at",
    "status_changed_at",
    "kafka_partition",
    "kafka_offset",
)
"""Columns of `workloads` that the sink alone writes."""
COMPARED: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "workloads": (("workload_id",), OWNED),
    "invoices": (("invoice_id",), ("customer_id", "day", "amount_usd_micros")),
    "invoice_lines": (
        ("invoice_id", "usage_id"),
        (
            "workload_id",
            "facility_id",
            "device_class",
            "interval_start",
            "interval_end",
            "device_seconds",
            "price_usd_micros_per_device_hour",
            "amount_usd_micros",
            "kafka_topic",
            "kafka_partition",
            "kafka_offset",
        ),
    ),
}
"""Key and contents. An invoice's `issued_at` is that of whichever usage came first over all partitions: none says."""
_GATEWAYS: Final = (
    "select column_name from information_schema.columns where table_schema = 'public' and table_name = 'workloads' "
    "and column_name <> all(%s) order by ordinal_position"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuiltTable:
    """A table in both shapes.

    Attributes:
        table: Its name.
        rows: Live and made anew.
        content: Sums of the rows' 64-bit hashes, live and made anew.
        wrong: Rows that both have and that differ.
        missing: Rows that the live one lacks.
        unknown: Rows that no record leads to.
    """

    table: str
    rows: tuple[int, int]
    content: tuple[str, str]
    wrong: int
    missing: int
    unknown: int

    @property
    def is_equal(self) -> bool:
        """Whether the live table is what the records lead to."""
        return not (self.wrong or self.missing or self.unknown)


@dataclass(slots=True, kw_only=True)
class RebuiltModel:
    """What was found.

    Attributes:
        tables: One each of COMPARED.
        records: Records read.
        waiting: Of those, the ones that the live sink has not come to yet: they are left out.
        ignored: Records that changed nothing, by why.
        is_written: Whether the live tables were put right.
    """

    tables: tuple[RebuiltTable, ...] = ()
    records: int = 0
    waiting: int = 0
    ignored: dict[str, int] = field(default_factory=dict)
    is_written: bool = False

    @property
    def is_equal(self) -> bool:
        """Whether every table is."""
        return all(each.is_equal for each in self.tables)


def rebuild_model(
    dsn: str, *, bootstrap: str, is_writing: bool = False, on_read: Callable[[int], None] = lambda _: None
) -> RebuiltModel:
    """Fold the topics into the read model and compare; with `is_writing` put the live one right, all or nothing.

    Args:
        dsn: The gateway's database.
        bootstrap: The broker; nothing is committed.
        is_writing: The sink must be stopped.
        on_read: Told how many records were read since it was told last.

    Raises:
        HcpError: Retention has eaten the start of a topic: the rows of then follow from nothing that is left.
        BrokerError: The broker does not answer.
        StoreError: The database refuses, or another wrote the rows meanwhile.
    """
    positions = committed(bootstrap, GROUP, TOPICS)
    ranges = ranges_by_time(bootstrap, TOPICS)
    _refuse_gaps(ranges)
    try:
        with psycopg.connect(dsn, connect_timeout=10) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.execute("set local timezone = 'UTC'")
            found = _Model(connection, positions).result(bootstrap, ranges, on_read)
            if is_writing and not found.is_equal:
                _put_right(connection)
                found.is_written = True
            return found
    except psycopg.Error as error:
        raise store_error("the read model must be made anew", error) from error


def _refuse_gaps(ranges: Sequence[Range]) -> None:
    lost = ", ".join(f"{each.topic}[{each.partition}] before offset {each.start}" for each in ranges if each.is_cut)
    if lost:
        raise HcpError(f"topics must go back to their beginning, retention has eaten {lost}")


class _Model:
    """The read model as temporary tables of one transaction."""

    def __init__(self, connection: psycopg.Connection, positions: dict[Place, int]) -> None:
        """Make them, with what the gateway wrote."""
        self._connection, self._positions = connection, positions
        for table in COMPARED:
            connection.execute(
                sql.SQL(
                    "create temp table {} (like {} including defaults including constraints including indexes) "
                    "on commit drop"
                ).format(sql.Identifier(table), sql.Identifier("public", table))
            )
        kept = [row[0] for row in connection.execute(_GATEWAYS, (list(OWNED),))]
        columns = sql.SQL(", ").join(map(sql.Identifier, kept))
        connection.execute(
            sql.SQL("insert into pg_temp.workloads ({}) select {} from public.workloads").format(columns, columns)
        )
        self._taken: dict[str, int] = dict(
            connection.execute(
                "select workload_id::text, kafka_offset from public.workloads where kafka_offset is not null"
            ).fetchall()
        )
        self._lines: set[tuple[int, int]] = set(
            connection.execute("select kafka_partition, kafka_offset from public.invoice_lines").fetchall()
        )

    def result(self, bootstrap: str, ranges: Sequence[Range], on_read: Callable[[int], None]) -> RebuiltModel:
        found = RebuiltModel()
        for batch in read(bootstrap, ranges):
            for record in batch:
                self._take(record, found)
            on_read(len(batch))
        found.tables = tuple(self._compared(table) for table in COMPARED)
        return found

    def _take(self, record: ConsumedRecord, found: RebuiltModel) -> None:
        found.records += 1
        value: Any = refused_if_replayed(record) or decode(record.value)
        ignored: str | None = None
        if isinstance(value, WorkloadEvent):
            if self._is_before_sink(record, record.offset <= self._taken.get(value.workload_id, -1)):
                ignored = take_event(self._connection, value, record=record)
            else:
                found.waiting += 1
        elif isinstance(value, BillingUsage):
            if self._is_before_sink(record, (record.partition, record.offset) in self._lines):
                ignored = take_usage(self._connection, value, record=record)
            else:
                found.waiting += 1
        else:
            ignored = "no_record"
        if ignored is not None:
            found.ignored[ignored] = found.ignored.get(ignored, 0) + 1

    def _is_before_sink(self, record: ConsumedRecord, is_seen: bool) -> bool:  # noqa: FBT001  # what the row says
        """Whether the sink has passed a record: by its commit, or by what it wrote just before its next one."""
        return is_seen or record.offset < self._positions.get((record.topic, record.partition), 0)

    def _compared(self, table: str) -> RebuiltTable:
        key, contents = COMPARED[table]
        row = self._connection.execute(
            sql.SQL(
                "select count(l.k), count(r.k), coalesce(sum(l.h), 0)::text, coalesce(sum(r.h), 0)::text, "
                "count(*) filter (where l.h <> r.h), count(*) filter (where l.k is null), "
                "count(*) filter (where r.k is null) "
                "from ({live}) l full join ({anew}) r using (k)"
            ).format(live=_hashed("public", table, key, contents), anew=_hashed("pg_temp", table, key, contents))
        ).fetchone()
        assert row is not None, "an aggregate must give a row"
        live, anew, live_content, anew_content, wrong, missing, unknown = row
        return RebuiltTable(
            table=table,
            rows=(live, anew),
            content=(live_content, anew_content),
            wrong=wrong,
            missing=missing,
            unknown=unknown,
        )


def _hashed(schema: str, table: str, key: Sequence[str], contents: Sequence[str]) -> sql.Composed:
    return sql.SQL("select row({})::text as k, hashtextextended(row({})::text, 0)::numeric as h from {}").format(
        _columns(key), _columns([*key, *contents]), sql.Identifier(schema, table)
    )


def _columns(names: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def _put_right(connection: psycopg.Connection) -> None:
    """Make the live tables what the temporary ones are."""
    owned = sql.SQL(", ").join(sql.SQL("{0} = r.{0}").format(sql.Identifier(name)) for name in OWNED)
    both = [
        sql.SQL(", ").join(sql.SQL("{}.{}").format(sql.Identifier(side), sql.Identifier(name)) for name in OWNED)
        for side in ("l", "r")
    ]
    connection.execute(
        sql.SQL(
            "update public.workloads l set {} from pg_temp.workloads r "
            "where l.workload_id = r.workload_id and row({}) is distinct from row({})"
        ).format(owned, *both)
    )
    connection.execute("delete from public.invoice_lines")
    connection.execute(
        "delete from public.invoices l where not exists "
        "(select from pg_temp.invoices r where r.invoice_id = l.invoice_id)"
    )
    connection.execute(
        "insert into public.invoices select * from pg_temp.invoices "
        "on conflict (invoice_id) do update set customer_id = excluded.customer_id, day = excluded.day, "
        "amount_usd_micros = excluded.amount_usd_micros"
    )
    connection.execute("insert into public.invoice_lines select * from pg_temp.invoice_lines")
