"""Forward-only numbered SQL, applied once each, in order, under a lock; a shipped file that was edited is refused."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from importlib.resources import files
from typing import Final

import psycopg
import structlog

from hcp.errors import StoreError
from sinks.timescale.failures import store_error

LOCK_KEY: Final = 4_811_002
"""Advisory lock of all migrations: two sinks that start at once take turns."""

_log = structlog.get_logger(__name__)


class Edition(StrEnum):
    """Which TimescaleDB this is."""

    APACHE = "apache"
    COMMUNITY = "timescale"


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One file: `0001_tables.sql`, or `0002_policies.community.sql` for one edition only."""

    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    def fits(self, edition: Edition) -> bool:
        """Whether it is for this edition."""
        marks = {"apache": Edition.APACHE, "community": Edition.COMMUNITY}
        parts = self.name.split(".")
        return len(parts) == 2 or marks.get(parts[1]) is edition  # noqa: PLR2004  # name.sql or name.edition.sql


def shipped() -> tuple[Migration, ...]:
    """Return all migrations, by number."""
    folder = files("sinks.timescale").joinpath("sql")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return tuple(Migration(name=name, sql=folder.joinpath(name).read_text(encoding="utf-8")) for name in names)


def migrate(dsn: str, migrations: tuple[Migration, ...] | None = None) -> tuple[str, ...]:
    """Apply what is missing; return the names applied now.

    Raises:
        StoreUnavailableError: The database does not answer.
        StoreError: It has no TimescaleDB, or a shipped migration was edited.
    """
    wanted = migrations if migrations is not None else shipped()
    try:
        with psycopg.connect(dsn, connect_timeout=10) as connection:
            return _apply(connection, wanted)
    except psycopg.Error as error:
        raise store_error("migrations must apply", error) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaStatus:
    """What a database has of the shipped migrations.

    Attributes:
        edition: Of its TimescaleDB.
        applied: Name and time of each that was applied, in order.
        missing: Names to apply.
        edited: Names that were applied with another text than is shipped now.
    """

    edition: Edition
    applied: tuple[tuple[str, datetime], ...]
    missing: tuple[str, ...]
    edited: tuple[str, ...]


def schema_status(dsn: str) -> SchemaStatus:
    """Compare the database with what is shipped; changes nothing.

    Raises:
        StoreUnavailableError: The database does not answer.
        StoreError: It has no TimescaleDB.
    """
    try:
        with psycopg.connect(dsn, connect_timeout=10, autocommit=True) as connection:
            edition = edition_of(connection)
            rows = (
                connection.execute("select name, applied_at, checksum from schema_migrations order by name").fetchall()
                if _is_begun(connection)
                else []
            )
    except psycopg.Error as error:
        raise store_error("migrations must be read", error) from error
    wanted = {each.name: each for each in shipped() if each.fits(edition)}
    known = {name: checksum for name, _, checksum in rows}
    return SchemaStatus(
        edition=edition,
        applied=tuple((name, applied_at) for name, applied_at, _ in rows),
        missing=tuple(name for name in wanted if name not in known),
        edited=tuple(name for name, each in wanted.items() if known.get(name, each.checksum) != each.checksum),
    )


def _is_begun(connection: psycopg.Connection) -> bool:
    row = connection.execute("select to_regclass('schema_migrations') is not null").fetchone()
    return row is not None and bool(row[0])


def edition_of(connection: psycopg.Connection) -> Edition:
    """Return the edition.

    Raises:
        StoreError: TimescaleDB is not preloaded.
    """
    row = connection.execute("select current_setting('timescaledb.license', true)").fetchone()
    licence = row[0] if row else None
    if licence not in set(Edition):
        raise StoreError(
            f"timescaledb.license must be apache or timescale, was {licence}: "
            "set shared_preload_libraries = 'timescaledb' and restart PostgreSQL"
        )
    return Edition(licence)


def _apply(connection: psycopg.Connection, wanted: tuple[Migration, ...]) -> tuple[str, ...]:
    connection.execute("select pg_advisory_xact_lock(%s)", (LOCK_KEY,))
    edition = edition_of(connection)
    if not _is_begun(connection):  # asked first: hcp_writer, who has nothing to apply, may create nothing
        connection.execute(
            "create table schema_migrations "
            "(name text primary key, checksum text not null, applied_at timestamptz not null default now())"
        )
    known: dict[str, str] = dict(connection.execute("select name, checksum from schema_migrations").fetchall())
    applied = []
    for migration in wanted:
        if migration.name in known:
            if known[migration.name] != migration.checksum:
                raise StoreError(f"{migration.name} must stay as it was shipped, was edited: write a new migration")
        elif migration.fits(edition):
            connection.execute(migration.sql.encode())
            connection.execute(
                "insert into schema_migrations (name, checksum) values (%s, %s)", (migration.name, migration.checksum)
            )
            applied.append(migration.name)
    if applied:
        _log.info("migrated", applied=applied, edition=edition.value)
    return tuple(applied)
