"""Write batches: COPY, optimistic, with the offsets in the same transaction and fenced against another writer.

A row that the database refuses is found by halving the batch and given back: one bad record never stops the rest.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from operator import itemgetter
from typing import Final

import psycopg
from psycopg import postgres, sql
from psycopg.adapt import Dumper

from hcp.codecs import decode
from hcp.errors import FencedError
from hcp.kafka.records import ConsumedRecord
from sinks.timescale.columns import Block, copy_bytes, rows_of_block
from sinks.timescale.failures import store_error
from sinks.timescale.rows import Row, rows_of
from sinks.timescale.tables import Table, table_of

Feed = Callable[[psycopg.Copy], None]
TIMES_KEPT_MAX: Final = 65_536
IDLE_MS_MAX: Final = 10_000
"""Between two statements of a transaction: a writer frozen there holds its offsets' rows, and would block its rival."""
TRANSACTION_MS_MAX: Final = 60_000
"""A transaction's, also in the middle of a COPY; PostgreSQL 17 and later know it."""
_REFUSALS: Final = (
    psycopg.errors.DataError,
    psycopg.errors.IntegrityError,
    psycopg.errors.ProgramLimitExceeded,  # an OperationalError by class, but waiting mends no value that is too long
    ValueError,
    OverflowError,
)
"""The database's, and Python's own: a time beyond the year 9999 makes no row."""
_LIMITS_MS: Final = {
    "idle_in_transaction_session_timeout": IDLE_MS_MAX,
    "transaction_timeout": TRANSACTION_MS_MAX,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """A consumed record and the value it holds."""

    record: ConsumedRecord
    value: object


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A record whose rows the database would not take, and its words."""

    record: ConsumedRecord
    words: str


class _TimeDumper(Dumper):
    """Writes a time once and remembers it: a batch's rows share a few, and psycopg's own takes half of the row."""

    oid = postgres.types["timestamptz"].oid

    def dump(self, obj: datetime) -> bytes:
        """Return it as PostgreSQL reads it."""
        return _written(obj)


@lru_cache(maxsize=TIMES_KEPT_MAX)
def _written(at: datetime) -> bytes:
    return at.isoformat().encode()


class Writer:
    """One connection of one sink; not safe for use by two threads."""

    def __init__(self, dsn: str, *, sink: str) -> None:
        """Connect.

        Raises:
            StoreUnavailableError: The database does not answer.
        """
        self._sink = sink
        try:
            self._connection = psycopg.connect(dsn, connect_timeout=10, autocommit=True)
            for name, limit_ms in _LIMITS_MS.items():
                self._connection.execute(
                    "select set_config(name, %s, false) from pg_settings where name = %s", (str(limit_ms), name)
                )
        except psycopg.Error as error:
            raise store_error("TimescaleDB must answer", error) from error
        self._connection.adapters.register_dumper(datetime, _TimeDumper)

    def positions(self, partitions: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Return where to go on, by partition; what was never stored is absent.

        Raises:
            StoreUnavailableError: The database went away.
        """
        try:
            found = self._connection.execute(
                "select topic, partition, next_offset from ingest_offsets where sink = %s", (self._sink,)
            ).fetchall()
        except psycopg.Error as error:
            raise store_error("offsets must be read", error) from error
        wanted = set(partitions)
        return {(topic, number): offset for topic, number, offset in found if (topic, number) in wanted}

    def write(
        self,
        batch: Sequence[Decoded],
        *,
        blocks: Sequence[Block] = (),
        expected: dict[tuple[str, int], int],
        following: dict[tuple[str, int], int],
        on_refused: Callable[[list[Refused]], None],
    ) -> None:
        """Store a batch and move the offsets from `expected` to `following`, all or nothing.

        Args:
            batch: Records to store; bad ones were taken out before, yet count in `following`.
            blocks: Records to store that were decoded together.
            expected: Next offset of each partition as this writer knows it; absent when it has none stored.
            following: Next offset of each partition afterwards.
            on_refused: Given the records whose rows were refused, before the rest is committed: a crash in between
                must not lose them.

        Raises:
            FencedError: Another writer has moved an offset; nothing was stored.
            StoreUnavailableError: The database went away; nothing was stored, or the answer to the commit was lost.
            StoreError: The tables are not what they should be; nothing was stored.
        """
        try:
            with self._connection.transaction():
                self._move(expected, following)
                refused = self._store_all(batch, blocks)
                if refused:
                    on_refused(refused)
        except psycopg.Error as error:
            raise store_error("the batch must be stored", error) from error

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _move(self, expected: dict[tuple[str, int], int], following: dict[tuple[str, int], int]) -> None:
        for (topic, partition), offset in sorted(following.items()):
            before = expected.get((topic, partition))
            if before is None:
                moved = self._connection.execute(
                    "insert into ingest_offsets (sink, topic, partition, next_offset) values (%s, %s, %s, %s) "
                    "on conflict do nothing",
                    (self._sink, topic, partition, offset),
                )
            else:
                moved = self._connection.execute(
                    "update ingest_offsets set next_offset = %s, updated_at = now() "
                    "where sink = %s and topic = %s and partition = %s and next_offset = %s",
                    (offset, self._sink, topic, partition, before),
                )
            if moved.rowcount != 1:
                raise FencedError(
                    f"{topic}/{partition} must be at offset {before}, was moved by another {self._sink} sink"
                )

    def _store_all(self, batch: Sequence[Decoded], blocks: Sequence[Block]) -> list[Refused]:
        """Store both; blocks of which a row is refused are taken apart, so that only its record is."""
        try:
            with self._connection.transaction():
                for block in blocks:
                    self._copy_block(block)
        except _REFUSALS:
            apart = [Decoded(record=record, value=decode(record.value)) for block in blocks for record in block.records]
            return self._store([*batch, *apart])
        return self._store(batch)

    def _store(self, batch: Sequence[Decoded]) -> list[Refused]:
        try:
            with self._connection.transaction():
                for table, rows in _by_table(batch).items():
                    self._copy_rows(table, rows)
        except _REFUSALS as error:
            if len(batch) == 1:
                return [Refused(record=batch[0].record, words=str(error).strip())]
            half = len(batch) // 2
            return [*self._store(batch[:half]), *self._store(batch[half:])]
        else:
            return []

    def _copy_block(self, block: Block) -> None:
        rows = rows_of_block(block)

        def feed(copy: psycopg.Copy) -> None:
            for data in copy_bytes(rows):
                copy.write(data)

        self._copy(table_of(block.record), feed, options=sql.SQL(" (format binary)"))

    def _copy_rows(self, table: Table, rows: list[Row]) -> None:
        def feed(copy: psycopg.Copy) -> None:
            for row in rows:
                copy.write_row(row)

        self._copy(table, feed, options=sql.SQL(""))

    def _copy(self, table: Table, feed: Feed, *, options: sql.SQL) -> None:
        """COPY straight in; only when a row is there already, stage and skip what is."""
        target = sql.Identifier(table.name)
        try:
            with self._connection.transaction():
                self._copy_into(target, table, feed, options=options)
        except psycopg.errors.UniqueViolation:
            stage = sql.Identifier(f"stage_{table.name}")
            self._connection.execute(
                sql.SQL("create temp table if not exists {} (like {} including defaults) on commit delete rows").format(
                    stage, target
                )
            )
            self._copy_into(stage, table, feed, options=options)
            self._connection.execute(
                sql.SQL("insert into {} select * from {} on conflict do nothing").format(target, stage)
            )
            self._connection.execute(sql.SQL("delete from {}").format(stage))

    def _copy_into(self, target: sql.Identifier, table: Table, feed: Feed, *, options: sql.SQL) -> None:
        names = sql.SQL(", ").join(map(sql.Identifier, table.column_names()))
        statement = sql.SQL("copy {} ({}) from stdin{}").format(target, names, options)
        with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            feed(copy)


def _by_table(batch: Sequence[Decoded]) -> dict[Table, list[Row]]:
    """Return rows by table, sorted by the unique key, so that an index is filled in order."""
    rows: dict[Table, list[Row]] = defaultdict(list)
    for decoded in batch:
        table, own = rows_of(decoded.value, decoded.record)
        rows[table].extend(own)
    for table, own in rows.items():
        own.sort(key=itemgetter(*(table.column_names().index(name) for name in table.unique)))
    return rows
