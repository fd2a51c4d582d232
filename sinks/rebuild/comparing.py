"""Hold two analytics databases to each other: rows and content of each table, over the records that both have taken."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import psycopg
from psycopg import sql

from hcp.errors import StoreError
from hcp.kafka.ranges import Place, Range
from hcp.topics import AUDIT_EVENTS, DEAD_SUFFIX, topic_named
from sinks.rebuild.analytics import SINK
from sinks.timescale.failures import store_error
from sinks.timescale.tables import TABLES, Table

LETTERS: Final = "dead_letters"
LINKS: Final = "audit_chain"
_COLUMNS: Final = (
    "select column_name from information_schema.columns "
    "where table_schema = 'public' and table_name = %s order by ordinal_position"
)
_OLDEST_CHUNK: Final = "select min(range_start) from timescaledb_information.chunks where hypertable_name = %s"
_CONTENT: Final = """
select count(*), coalesce(sum(hashtextextended(row({columns})::text, 0)::numeric), 0)::text
from {table} t
join unnest(%(topics)s::text[], %(partitions)s::int[], %(firsts)s::bigint[], %(ends)s::bigint[])
     as b(topic, partition, first, until)
  on t.kafka_partition = b.partition and t.kafka_offset >= b.first and t.kafka_offset < b.until{letters}
where {since}
"""
_OLDER: Final = """
select count(*) from {table} t
join unnest(%(topics)s::text[], %(partitions)s::int[], %(firsts)s::bigint[]) as b(topic, partition, first)
  on t.kafka_partition = b.partition and t.kafka_offset < b.first{letters}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Rows of a table, and the sum of their 64-bit hashes: it does not depend on their order."""

    rows: int
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedTable:
    """A table in both databases.

    Attributes:
        table: Its name.
        live: What the live one has of the records compared.
        anew: What the one made anew has of them.
        older: Rows of the live one whose records the topics hold no more.
    """

    table: str
    live: Content
    anew: Content
    older: int

    @property
    def is_equal(self) -> bool:
        """Whether both have the same rows."""
        return self.live == self.anew


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bound:
    topic: str
    partition: int
    first: int
    end: int


def compare(
    live_dsn: str, anew_dsn: str, *, ranges: Iterable[Range], on_table: Callable[[str], None] = lambda _: None
) -> tuple[ComparedTable, ...]:
    """Compare every table over the offsets that the topics hold and both sinks have passed.

    Raises:
        StoreUnavailableError: One of them does not answer.
        StoreError: Their tables are not the same.
    """
    try:
        with (
            psycopg.connect(live_dsn, autocommit=True, connect_timeout=10, options="-c timezone=UTC") as live,
            psycopg.connect(anew_dsn, autocommit=True, connect_timeout=10, options="-c timezone=UTC") as anew,
        ):
            bounds = _bounds(ranges, _positions(live), _positions(anew))
            return tuple(_compared(live, anew, bounds, on_table))
    except psycopg.Error as error:
        raise store_error("both databases must be read", error) from error


def _compared(
    live: psycopg.Connection, anew: psycopg.Connection, bounds: Sequence[_Bound], on_table: Callable[[str], None]
) -> Iterable[ComparedTable]:
    for table in TABLES:
        own = [each for each in bounds if _holds(table, each.topic)]
        if not own:
            continue
        on_table(table.name)
        since = max(filter(None, (_oldest_chunk(live, table.name), _oldest_chunk(anew, table.name))), default=None)
        condition = sql.SQL("true") if since is None else sql.SQL("t.{} >= %(since)s").format(_name(table.time_column))
        yield _table(live, anew, table.name, own, condition=condition, since=since)
        if table.record is AUDIT_EVENTS.record and not any(each.first for each in own):
            on_table(LINKS)
            yield _table(live, anew, LINKS, own, condition=sql.SQL("true"), since=None)


def _table(
    live: psycopg.Connection,
    anew: psycopg.Connection,
    name: str,
    bounds: Sequence[_Bound],
    *,
    condition: sql.Composable,
    since: datetime | None,
) -> ComparedTable:
    columns = _columns(live, name)
    if set(columns) != set(_columns(anew, name)):
        raise StoreError(f"{name} must have the same columns in both databases, had not: `hcp db migrate` the live one")
    values = {
        "topics": [each.topic.removesuffix(DEAD_SUFFIX) for each in bounds],
        "partitions": [each.partition for each in bounds],
        "firsts": [each.first for each in bounds],
        "ends": [each.end for each in bounds],
        "since": since,
    }
    parts = {
        "table": _name(name),
        "columns": sql.SQL(", ").join(sql.SQL("t.{}").format(_name(each)) for each in columns),
        "letters": sql.SQL(" and t.source_topic = b.topic" if name == LETTERS else ""),
        "since": condition,
    }
    question = sql.SQL(_CONTENT).format(**parts)
    older = live.execute(sql.SQL(_OLDER).format(table=parts["table"], letters=parts["letters"]), values).fetchone()
    return ComparedTable(
        table=name,
        live=_content(live, question, values),
        anew=_content(anew, question, values),
        older=0 if older is None else older[0],
    )


def _content(connection: psycopg.Connection, question: sql.Composed, values: dict[str, object]) -> Content:
    row = connection.execute(question, values).fetchone()
    assert row is not None, "an aggregate must give a row"
    return Content(rows=row[0], content=row[1])


def _holds(table: Table, topic: str) -> bool:
    if topic.endswith(DEAD_SUFFIX):
        return table.name == LETTERS
    known = topic_named(topic)
    return known is not None and known.record is table.record


def _bounds(ranges: Iterable[Range], live: dict[Place, int], anew: dict[Place, int]) -> tuple[_Bound, ...]:
    return tuple(
        _Bound(
            topic=each.topic,
            partition=each.partition,
            first=each.start,
            end=min(live.get(each.place, 0), anew.get(each.place, 0)),
        )
        for each in ranges
    )


def _positions(connection: psycopg.Connection) -> dict[Place, int]:
    found = connection.execute("select topic, partition, next_offset from ingest_offsets where sink = %s", (SINK,))
    return {(topic, partition): offset for topic, partition, offset in found}


def _columns(connection: psycopg.Connection, table: str) -> tuple[str, ...]:
    return tuple(row[0] for row in connection.execute(_COLUMNS, (table,)))


def _oldest_chunk(connection: psycopg.Connection, table: str) -> datetime | None:
    row = connection.execute(_OLDEST_CHUNK, (table,)).fetchone()
    return None if row is None else row[0]


def _name(name: str) -> sql.Identifier:
    return sql.Identifier(name)
