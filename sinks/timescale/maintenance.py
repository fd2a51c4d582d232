"""Keep the database in shape where TimescaleDB does not by itself: settle minutes, drop what is past its retention.

The community edition has policies for both, so there this only looks. Whoever runs it, one at a time does.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import psycopg
import structlog
from psycopg import sql

from hcp.clock import seconds
from hcp.errors import StoreError
from hcp.model.units import MS_PER_HOUR, MS_PER_MINUTE
from sinks.timescale.failures import store_error
from sinks.timescale.migrations import Edition, edition_of

RETENTION_DAYS: Final = 180
SETTLE_EVERY_MS: Final = MS_PER_MINUTE
SETTLE_LAG_MINUTES: Final = 2
"""Minutes this close to the newest reading are left to be aggregated on reading: most of what is late comes in it."""
SETTLE_MINUTES_MAX: Final = 60
"""Settled in one transaction: a long backlog must not become one long one."""
LATE_MINUTES_MAX: Final = 1_000
"""Late minutes settled again in one turn."""
RETIRE_EVERY_MS: Final = MS_PER_HOUR
LOCK_KEY: Final = 4_811_003
"""Advisory lock: of several sinks, one maintains."""
ROLLUPS: Final = ("gpu", "asic")
STOP_MS_MAX: Final = 5_000
"""A sink that ends waits so long for the thread; what it settles then is rolled back and settled the next time."""
_OPEN_MINUTES: Final = """
select min(m.time), max(m.time) - %(lag)s
from shards_1min m
where m.shard_id in (select shard_id from devices where kind = %(name)s)
  and m.time >= (select until from rollup_watermarks where name = %(name)s)
"""
"""The first minute that is not settled, and the first to stay open."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintained:
    """What one turn did.

    Attributes:
        edition: Of the database; COMMUNITY leaves everything to its policies.
        settled_rows: Device-minutes written.
        late_minutes: Minutes settled again, because readings came late.
        retired_chunks: Chunks dropped, by hypertable.
        is_skipped: Whether somebody else was at it.
    """

    edition: Edition
    settled_rows: int = 0
    late_minutes: int = 0
    retired_chunks: tuple[tuple[str, int], ...] = ()
    is_skipped: bool = False


def maintain(dsn: str, *, with_retention: bool = True, retention_days: int = RETENTION_DAYS) -> Maintained:
    """Settle the minutes that are over and drop chunks past the retention.

    Args:
        dsn: The database.
        with_retention: Whether to drop chunks at all.
        retention_days: Days kept, counted from the newest chunk of each table (or from now, if that is earlier).

    Raises:
        ValueError: `retention_days` is less than 1.
        StoreUnavailableError: The database does not answer.
        StoreError: It is not migrated.
    """
    if retention_days < 1:
        raise ValueError(f"retention_days must be 1 or more, was {retention_days}")
    try:
        with psycopg.connect(dsn, connect_timeout=10, autocommit=True) as connection:
            edition = edition_of(connection)
            if edition is Edition.COMMUNITY:
                return Maintained(edition=edition)
            taken = connection.execute("select pg_try_advisory_lock(%s)", (LOCK_KEY,)).fetchone()
            if taken is None or not taken[0]:
                return Maintained(edition=edition, is_skipped=True)
            settled, late = 0, 0
            for name in ROLLUPS:
                settled += _settle(connection, name)
                late += _settle_late(connection, name)
            retired = _retire(connection, retention_days) if with_retention else ()
            return Maintained(edition=edition, settled_rows=settled, late_minutes=late, retired_chunks=retired)
    except psycopg.Error as error:
        raise store_error("the database must be maintained", error) from error


@contextmanager
def maintenance(dsn: str, *, every_ms: int = SETTLE_EVERY_MS) -> Iterator[None]:
    """Maintain beside the work of a `with` block, on a thread and a connection of its own; failures are logged once."""
    stop = threading.Event()
    thread = threading.Thread(
        target=_keep, kwargs={"dsn": dsn, "stop": stop, "every_ms": every_ms}, name="maintenance", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=seconds(STOP_MS_MAX))


def _keep(*, dsn: str, stop: threading.Event, every_ms: int) -> None:
    turns_per_retirement = max(1, RETIRE_EVERY_MS // every_ms)
    turn, is_failing = 0, False
    while not stop.wait(seconds(every_ms)):
        try:
            done = maintain(dsn, with_retention=turn % turns_per_retirement == 0)
        except StoreError as error:
            if not is_failing:
                _log.warning("maintenance_failed", error=str(error))
            is_failing = True
        else:
            is_failing = False
            turn += 1
            for hypertable, chunk_count in done.retired_chunks:
                _log.info("chunks_retired", hypertable=hypertable, chunk_count=chunk_count)


def _settle(connection: psycopg.Connection, name: str) -> int:
    """Settle from the watermark to shortly before the newest reading; return the rows written.

    First `closing` moves, which waits for every writer that has not committed: from then on readings before it are
    noted as late. Then the minutes are settled and `until` follows, in one transaction, so that
    readers never miss a minute.
    """
    rows = 0
    while True:
        span = connection.execute(_OPEN_MINUTES, {"name": name, "lag": timedelta(minutes=SETTLE_LAG_MINUTES - 1)})
        since, end = span.fetchone() or (None, None)
        if since is None or since >= end:
            return rows
        before = min(end, since + timedelta(minutes=SETTLE_MINUTES_MAX))
        connection.execute(
            "update rollup_watermarks set closing = greatest(closing, %s) where name = %s", (before, name)
        )
        with connection.transaction():
            rows += _settled(connection, name, since=since, before=before)
            connection.execute("update rollup_watermarks set until = %s where name = %s", (before, name))


def _settle_late(connection: psycopg.Connection, name: str) -> int:
    with connection.transaction():
        late = connection.execute(
            "delete from rollup_late where (name, time) in "
            "(select name, time from rollup_late where name = %s order by time limit %s) returning time",
            (name, LATE_MINUTES_MAX),
        ).fetchall()
        for (minute,) in late:
            _settled(connection, name, since=minute, before=minute + timedelta(minutes=1))
    return len(late)


def _settled(connection: psycopg.Connection, name: str, *, since: datetime, before: datetime) -> int:
    function = sql.Identifier(f"settle_{name}_telemetry")
    row = connection.execute(sql.SQL("select {}(%s, %s)").format(function), (since, before)).fetchone()
    assert row is not None, "a function of one row must give one"
    return int(row[0])


def _retire(connection: psycopg.Connection, retention_days: int) -> tuple[tuple[str, int], ...]:
    kept = timedelta(days=retention_days)
    return tuple(connection.execute("select hypertable, chunk_count from retire_chunks(%s)", (kept,)).fetchall())
