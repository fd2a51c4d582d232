"""A pool of connections to one database; a store that is away is one error, whatever the driver says."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import set_json_loads
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from gateway.failures import store_error
from hcp.errors import StoreUnavailableError

POOL_WAIT_SECONDS: Final = 2.0
STATEMENT_MS_MAX: Final = 5_000
CONNECTIONS_MAX: Final = 12
CONNECTIONS_MIN: Final = 2

Row = dict[str, Any]
Connection = psycopg.AsyncConnection[Row]
Cursor = psycopg.AsyncCursor[Row]
Pool = AsyncConnectionPool[Connection]


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """One database."""

    pool: Pool
    name: str

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Lend a connection; what is done with it commits together when the block ends well.

        What is executed is sent without waiting for answers, BEGIN and COMMIT too, until a row is fetched: an error may
        come only then, or at the end of the block.

        Raises:
            StoreUnavailableError: The database is away or too slow.
            StoreError: It refuses.
        """
        async with self.connection() as connection, connection.pipeline(), connection.transaction():
            yield connection

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection of which each statement commits by itself. Raises as `transaction`."""
        try:
            async with self.pool.connection(timeout=POOL_WAIT_SECONDS) as connection:
                yield connection
        except PoolTimeout as error:
            raise StoreUnavailableError(f"{self.name} must lend a connection, was busy or away") from error
        except psycopg.Error as error:
            raise store_error(f"{self.name} must answer", error) from error

    async def rows(self, question: str, *values: object) -> list[Row]:
        """Ask once; return the rows. Raises as `transaction`."""
        async with self.connection() as connection:
            return await (await connection.execute(question.encode(), values or None)).fetchall()

    async def row(self, question: str, *values: object) -> Row | None:
        """Ask once; return the first row, or None. Raises as `transaction`."""
        found = await self.rows(question, *values)
        return found[0] if found else None


def make_pool(dsn: str, *, statement_ms_max: int = STATEMENT_MS_MAX, connections_max: int = CONNECTIONS_MAX) -> Pool:
    """Return a pool, not yet open; it connects again by itself."""
    return AsyncConnectionPool(
        dsn,
        configure=_configure,
        min_size=min(CONNECTIONS_MIN, connections_max),
        max_size=connections_max,
        open=False,
        timeout=POOL_WAIT_SECONDS,
        kwargs={
            "autocommit": True,
            "row_factory": dict_row,
            "connect_timeout": 3,
            "options": f"-c statement_timeout={statement_ms_max} -c timezone=UTC",
            "prepare_threshold": 2,
        },
    )


async def _configure(connection: Connection) -> None:
    """Let msgspec read JSON: a list of workloads holds one document a row."""
    set_json_loads(msgspec.json.decode, connection)
