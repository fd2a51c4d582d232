"""Real health checks: each speaks the service's own protocol, in bounded time."""

import contextlib
import socket
from functools import partial
from typing import assert_never

import psycopg
import redis
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from psycopg import sql

from hcp.errors import StackError
from hcp.stack.values import Health, Healthy, Service, StackAddresses, Unhealthy

CHECK_SECONDS_MAX = 3
SETUP_SECONDS_MAX = 30
EXTENSION_VERSIONS = (
    "select extversion, default_version, current_setting('timescaledb.license', true) "
    "from pg_extension join pg_available_extensions on name = extname where extname = 'timescaledb'"
)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def accepts_connections(host: str, port: int) -> bool:
    """Return whether something listens there; a cheap question to ask often."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=CHECK_SECONDS_MAX):
        return True
    return False


def check_kafka(bootstrap: str) -> Health:
    """Ask for the cluster's metadata."""
    # log_level 0: librdkafka writes each refused connection to stderr, and a check expects refusal.
    client = AdminClient(
        {"bootstrap.servers": bootstrap, "log_level": 0, "socket.timeout.ms": CHECK_SECONDS_MAX * 1000}
    )
    try:
        metadata = client.list_topics(timeout=CHECK_SECONDS_MAX)
    except KafkaException as error:
        return Unhealthy(reason=str(error.args[0].str()) if error.args else str(error))
    if not metadata.brokers:
        return Unhealthy(reason="the cluster has no broker")
    topics = sum(1 for name in metadata.topics if not name.startswith("__"))
    return Healthy(detail=f"brokers: {len(metadata.brokers)}, topics: {topics}")


def check_postgres(dsn: str) -> Health:
    """Ask whether the server takes connections at all; it listens a while before it does."""
    try:
        with psycopg.connect(dsn, dbname="postgres", connect_timeout=CHECK_SECONDS_MAX) as connection:
            server = connection.info.server_version
    except psycopg.Error as error:
        return Unhealthy(reason=_first_line(error))
    return Healthy(detail=f"PostgreSQL {server // 10_000}.{server % 10_000}")


def check_timescale(dsn: str) -> Health:
    """Ask for the extension's version and edition."""
    try:
        with psycopg.connect(dsn, connect_timeout=CHECK_SECONDS_MAX, autocommit=True) as connection:
            row = connection.execute(EXTENSION_VERSIONS).fetchone()
            server = connection.info.server_version
    except psycopg.Error as error:
        return Unhealthy(reason=_first_line(error))
    if row is None:
        return Unhealthy(reason="the database lacks the extension timescaledb (create extension timescaledb)")
    return Healthy(detail=f"PostgreSQL {server // 10_000}.{server % 10_000}, TimescaleDB {row[0]}, {row[2]} edition")


def check_redis(url: str) -> Health:
    """PING, and ask for the version."""
    try:
        with redis.Redis.from_url(
            url, socket_timeout=CHECK_SECONDS_MAX, socket_connect_timeout=CHECK_SECONDS_MAX
        ) as client:
            client.ping()
            version = client.info("server")["redis_version"]
    except (redis.RedisError, OSError, ValueError) as error:
        return Unhealthy(reason=_first_line(error))
    return Healthy(detail=f"Redis {version}")


def create_analytics_database(dsn: str) -> None:
    """Create the database of `dsn` and its extension; bring the extension to the installed version.

    Raises:
        StackError: PostgreSQL refused.
    """
    try:
        name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
        connect = partial(psycopg.connect, dsn, connect_timeout=SETUP_SECONDS_MAX, autocommit=True)
        with connect(dbname="postgres") as connection:
            if connection.execute("select from pg_database where datname = %s", [name]).fetchone() is None:
                connection.execute(sql.SQL("create database {}").format(sql.Identifier(str(name))))
        with connect() as connection:
            row = connection.execute(EXTENSION_VERSIONS).fetchone()
            if row is None:
                connection.execute("create extension timescaledb")
        if row is not None and row[0] != row[1]:
            # Must be the first statement of its session (TimescaleDB's manual, "Upgrade TimescaleDB").
            with connect() as connection:
                connection.execute("alter extension timescaledb update")
    except psycopg.Error as error:
        raise StackError(f"PostgreSQL did not let us create hcp_analytics: {_first_line(error)}") from error


def check(service: Service, addresses: StackAddresses) -> Health:
    """Ask one service, in its own protocol, whether it is well."""
    match service:
        case Service.KAFKA:
            return check_kafka(addresses.kafka_bootstrap)
        case Service.TIMESCALEDB:
            return check_timescale(addresses.timescale_dsn)
        case Service.REDIS:
            return check_redis(addresses.redis_url)
        case _ as never:
            assert_never(never)


def first_check(service: Service, addresses: StackAddresses) -> Health:
    """Ask one service as `check`, creating the analytics database as soon as PostgreSQL takes us."""
    if service is Service.TIMESCALEDB:
        server = check_postgres(addresses.timescale_dsn)
        if isinstance(server, Unhealthy):
            return server
        create_analytics_database(addresses.timescale_dsn)
    return check(service, addresses)
