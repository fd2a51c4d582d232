"""Database `hcp`: made when missing; numbered SQL, forward only, applied once each under a lock."""

import hashlib
from importlib.resources import files
from typing import Final

import psycopg
import structlog
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from gateway.failures import store_error
from hcp.errors import StoreError
from hcp.model.facilities import Fleet

LOCK_KEY: Final = 4_811_007
"""Advisory lock of all migrations of this database: processes that start at once take turns."""
CONNECT_SECONDS: Final = 10

_log = structlog.get_logger(__name__)


def shipped() -> dict[str, str]:
    """Return the text of every migration by its name, by number."""
    folder = files("gateway").joinpath("sql")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return {name: folder.joinpath(name).read_text(encoding="utf-8") for name in names}


def prepare(dsn: str, fleet: Fleet) -> tuple[str, ...]:
    """Make the database when it is missing, apply what is missing in it, and write the fleet as configured.

    Returns:
        The names of the migrations applied now.

    Raises:
        StoreUnavailableError: The server does not answer.
        StoreError: It refuses, or a shipped migration was edited.
    """
    try:
        _create_database(dsn)
        with psycopg.connect(dsn, connect_timeout=CONNECT_SECONDS) as connection:
            applied = _apply(connection)
            _write_fleet(connection, fleet)
    except psycopg.Error as error:
        raise store_error("database hcp must be prepared", error) from error
    if applied:
        _log.info("migrated", applied=applied)
    return applied


def _create_database(dsn: str) -> None:
    name = str(conninfo_to_dict(dsn).get("dbname") or "hcp")
    try:
        psycopg.connect(dsn, connect_timeout=CONNECT_SECONDS).close()
    except psycopg.OperationalError as error:
        if f'database "{name}" does not exist' not in str(error):  # a failed connection carries no SQLSTATE
            raise
    else:
        return
    with psycopg.connect(dsn, dbname="postgres", autocommit=True, connect_timeout=CONNECT_SECONDS) as server:
        try:
            server.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
            return  # another process was quicker


def _apply(connection: psycopg.Connection) -> tuple[str, ...]:
    connection.execute("select pg_advisory_xact_lock(%s)", (LOCK_KEY,))
    connection.execute(
        "create table if not exists schema_migrations "
        "(name text primary key, checksum text not null, applied_at timestamptz not null default now())"
    )
    known: dict[str, str] = dict(connection.execute("select name, checksum from schema_migrations").fetchall())
    applied = []
    for name, text in shipped().items():
        checksum = hashlib.sha256(text.encode()).hexdigest()
        if name not in known:
            connection.execute(text.encode())
            connection.execute("insert into schema_migrations (name, checksum) values (%s, %s)", (name, checksum))
            applied.append(name)
        elif known[name] != checksum:
            raise StoreError(f"{name} must stay as it was shipped, was edited: write a new migration")
    return tuple(applied)


def _write_fleet(connection: psycopg.Connection, fleet: Fleet) -> None:
    """Write what fleet.toml says; a site that left it keeps its row, since workloads may name it."""
    kinds = {each.device_class: each.kind for each in fleet.device_classes}
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into facilities values (%s, %s, %s, %s) on conflict (facility_id) do update set "
            "name = excluded.name, energy_market = excluded.energy_market, power_cap_mw = excluded.power_cap_mw",
            [(site.facility_id, site.name, site.energy_market, site.power_cap_mw) for site in fleet.facilities],
        )
        cursor.executemany(
            "insert into resources values (%s, %s, %s, %s, %s) on conflict (cluster_id) do update set "
            "device_class = excluded.device_class, device_kind = excluded.device_kind, "
            "device_count = excluded.device_count",
            [
                (each.cluster_id, each.facility_id, each.device_class, kinds[each.device_class], each.device_count)
                for site in fleet.facilities
                for each in site.clusters
            ],
        )
