"""What `hcp db status` shows: each hypertable's size, span and policies."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import psycopg

from sinks.timescale.failures import store_error

_TABLES: Final = """
select h.hypertable_name, h.num_chunks,
       hypertable_size(format('%I.%I', h.hypertable_schema, h.hypertable_name)::regclass),
       (select min(range_start) from timescaledb_information.chunks c
        where c.hypertable_schema = h.hypertable_schema and c.hypertable_name = h.hypertable_name),
       (select max(range_end) from timescaledb_information.chunks c
        where c.hypertable_schema = h.hypertable_schema and c.hypertable_name = h.hypertable_name),
       (select count(*) from timescaledb_information.jobs j
        where j.hypertable_schema = h.hypertable_schema and j.hypertable_name = h.hypertable_name)
from timescaledb_information.hypertables h
where h.hypertable_schema = 'public'
order by 3 desc, 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class HypertableSize:
    """One hypertable.

    Attributes:
        name: In SQL.
        chunk_count: Chunks it has.
        size_bytes: With its indexes.
        since: Start of its first chunk; None without chunks.
        until: End of its last chunk.
        policy_count: Jobs that TimescaleDB runs on it; 0 on the Apache edition.
    """

    name: str
    chunk_count: int
    size_bytes: int
    since: datetime | None
    until: datetime | None
    policy_count: int


def hypertable_sizes(dsn: str) -> tuple[HypertableSize, ...]:
    """Return every hypertable, the largest first.

    Raises:
        StoreUnavailableError: The database does not answer.
        StoreError: It has no TimescaleDB.
    """
    try:
        with psycopg.connect(dsn, connect_timeout=10, autocommit=True) as connection:
            rows = connection.execute(_TABLES).fetchall()
    except psycopg.Error as error:
        raise store_error("hypertables must be listed", error) from error
    return tuple(
        HypertableSize(
            name=name, chunk_count=chunks, size_bytes=size or 0, since=since, until=until, policy_count=policies
        )
        for name, chunks, size, since, until, policies in rows
    )
