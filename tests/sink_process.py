"""A database of a test's own, and the sink as the process that it is."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from hcp.stack import StackAddresses
from hcp.stack.health import create_analytics_database

ROOT = Path(__file__).parents[1]
POLL_SECONDS = 0.1
WAIT_SECONDS_MAX = 180.0
"""Generous: a busy machine stalls for tens of seconds, and only a failure waits so long."""
_never = threading.Event()


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    """Poll until `is_so`; fail after WAIT_SECONDS_MAX with `what` was awaited."""
    for _ in range(int(WAIT_SECONDS_MAX / POLL_SECONDS)):
        if is_so():
            return
        _never.wait(POLL_SECONDS)
    raise AssertionError(f"within {WAIT_SECONDS_MAX:.0f} s, must be: {what}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """A database and its administration."""

    dsn: str
    name: str

    def ask(self, question: str, *values: object) -> list[dict[str, Any]]:
        """Return rows as dictionaries."""
        with psycopg.connect(self.dsn, row_factory=dict_row) as connection:
            return connection.execute(question.encode(), values or None).fetchall()

    def count(self, source: str, *values: object) -> int:
        """Count the rows of a source (table and condition); 0 while its table is not there yet."""
        try:
            return int(self.ask(f"select count(*) as n from {source}", *values)[0]["n"])  # noqa: S608  # tests' words
        except psycopg.errors.UndefinedTable:
            return 0

    def answers(self) -> bool:
        """Whether it lets us in."""
        try:
            return self.ask("select 1 as n") == [{"n": 1}]
        except psycopg.OperationalError:
            return False

    def close_doors(self) -> None:
        """Let no one in and throw everyone out: to its clients the database is down."""
        self._administer(sql.SQL("alter database {} with allow_connections false"))
        with psycopg.connect(self.dsn, dbname="postgres", autocommit=True) as connection:
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (self.name,)
            )

    def open_doors(self) -> None:
        """Let clients in again."""
        self._administer(sql.SQL("alter database {} with allow_connections true"))

    def drop(self) -> None:
        """Remove it, whoever is connected."""
        self._administer(sql.SQL("drop database if exists {} with (force)"))

    def _administer(self, statement: sql.SQL) -> None:
        with psycopg.connect(self.dsn, dbname="postgres", autocommit=True) as connection:
            connection.execute(statement.format(sql.Identifier(self.name)))


@contextmanager
def fresh_database(services: StackAddresses) -> Iterator[Database]:
    """Give a new database with the extension and nothing else; drop it afterwards."""
    name = f"t_{uuid4().hex}"
    dsn = f"{services.timescale_dsn.rpartition('/')[0]}/{name}"
    create_analytics_database(dsn)
    database = Database(dsn=dsn, name=name)
    try:
        yield database
    finally:
        database.drop()


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkProcess:
    """`hcp sink timescale`, running."""

    process: "subprocess.Popen[bytes]"
    log: Path

    def said(self, words: str) -> bool:
        """Whether its log has these words."""
        return words in self.log.read_text(encoding="utf-8")

    def times_said(self, words: str) -> int:
        """Count the lines of its log that have these words."""
        return sum(words in line for line in self.log.read_text(encoding="utf-8").splitlines())

    def memory_peak_bytes(self) -> int:
        """Return the most memory it has had resident so far."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1_024 for line in lines if line.startswith("VmHWM:"))

    def wait_said(self, words: str) -> None:
        """Wait for these words; fail at once when the process has ended."""

        def is_said() -> bool:
            assert self.process.poll() is None, self.log.read_text(encoding="utf-8")
            return self.said(words)

        wait_until(is_said, f"{words} in the sink's log")


@contextmanager
def sink_process(
    services: StackAddresses,
    database: Database | None,
    folder: Path,
    *topics: str,
    options: tuple[str, ...] = (),
    instance: str | None = None,
    sink: str = "timescale",
    environment: dict[str, str] | None = None,
) -> Iterator[SinkProcess]:
    """Run the sink for the length of a `with` block; SIGTERM must end it with 0 unless the test killed it."""
    log = folder / f"sink-{uuid4().hex}.log"
    argv = [sys.executable, "-m", "hcp", "sink", sink]
    for topic in topics:
        argv += ["--topic", topic]
    argv += options
    env = {
        "PATH": "/usr/bin:/bin",
        "HCP_KAFKA_BOOTSTRAP": services.kafka_bootstrap,
        "HCP_LOG_FORMAT": "json",
    }
    if database is not None:
        env["HCP_TIMESCALE_DSN"] = database.dsn
    if instance is not None:
        env["HCP_INSTANCE"] = instance
    env.update(environment or {})
    with log.open("wb") as stream:
        process = subprocess.Popen(argv, env=env, cwd=ROOT, stdout=stream, stderr=stream)
    try:
        yield SinkProcess(process=process, log=log)
        if process.poll() is None:
            process.terminate()
            assert process.wait(timeout=90) == 0, log.read_text(encoding="utf-8")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(timeout=90)
