"""Where a benchmark of the sink runs, and what it looks at: stored offsets, processor time, freshness."""

import os
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg

from bench.ingest_load import Frame
from hcp.clock import wall_ms
from hcp.kafka.admin import ensure_topics
from hcp.settings import load_settings
from hcp.stack import StackAddresses, default_cache_dir, running_stack
from hcp.stack.supervisor import read_state
from hcp.stack.values import Service
from hcp.topics import METRICS_ASIC, METRICS_GPU
from sinks.timescale.migrations import migrate
from tests.sink_process import Database, SinkProcess, fresh_database, sink_process

TOPICS: Final = (METRICS_ASIC.name, METRICS_ASIC.dead, METRICS_GPU.name, METRICS_GPU.dead)
MB: Final = 1024 * 1024
DATABASE_MEMORY_MB: Final = 4096
"""A sixth of this machine's."""
_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
_POLL_S: Final = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where a benchmark runs: a stack of its own with every topic, and a migrated database."""

    addresses: StackAddresses
    database: Database
    folder: Path

    @property
    def stack(self) -> Path:
        """Return the stack's folder."""
        return self.folder / "stack"

    def pid(self, service: Service) -> int:
        """Return the process of a service now."""
        state = read_state(self.stack / "supervisor.json")
        assert state is not None, "the stack must run"
        return state.services[service.value].pid

    @contextmanager
    def sink(self, *options: str, instance: str = "bench") -> Iterator[SinkProcess]:
        """Run the sink on both telemetry topics."""
        with sink_process(
            self.addresses, self.database, self.folder, *TOPICS, options=options, instance=instance
        ) as sink:
            yield sink


@contextmanager
def stage(*, database_memory_mb: int = DATABASE_MEMORY_MB) -> Iterator[Bench]:
    """Give a stack that is gone afterwards; its data lie on disk, not in memory."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:  # a random name within
        folder = Path(place)
        folder.chmod(0o755)
        cache_dir = default_cache_dir(load_settings().cache_dir)
        with (
            running_stack(folder / "stack", cache_dir, keep=False, database_memory_mb=database_memory_mb) as addresses,
            fresh_database(addresses) as database,
        ):
            ensure_topics(addresses.kafka_bootstrap)
            migrate(database.dsn)
            yield Bench(addresses=addresses, database=database, folder=folder)


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process so far, its ended children's not; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


def _children(pid: int) -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()]
    except OSError:
        return []


class Used:
    """Processor time by part since the beginning: sink, broker, database server with its backends."""

    def __init__(self, bench: Bench, sink_pid: int) -> None:
        """Begin to count."""
        self._bench, self._sink_pid = bench, sink_pid
        self._begun_s, self._first = time.monotonic(), self._now()

    def _now(self) -> dict[str, float]:
        postgres = self._bench.pid(Service.TIMESCALEDB)
        return {
            "sink": cpu_seconds(self._sink_pid),
            "broker": cpu_seconds(self._bench.pid(Service.KAFKA)),
            "database": cpu_seconds(postgres) + sum(cpu_seconds(child) for child in _children(postgres)),
        }

    def words(self) -> str:
        """Say the share of one core that each took."""
        took_s = time.monotonic() - self._begun_s
        shares = {name: (now - self._first[name]) / took_s for name, now in self._now().items()}
        return "of one core: " + ", ".join(f"{name} {share:.0%}" for name, share in shares.items())


def stored_offsets(connection: psycopg.Connection) -> dict[tuple[str, int], int]:
    """Return the next offset of each partition; none before the sink has made its tables."""
    try:
        rows = connection.execute("select topic, partition, next_offset from ingest_offsets").fetchall()
    except psycopg.errors.UndefinedTable:
        return {}
    return {(topic, partition): offset for topic, partition, offset in rows}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A record that was seen stored.

    Attributes:
        at_ms: Its event time.
        fresh_ms: From then until it was seen, at most 20 ms after it was there.
        rows: How many rows.
        partition: Topic and partition.
    """

    at_ms: int
    fresh_ms: int
    rows: int
    partition: tuple[str, int]


class Freshness:
    """Looks at the stored offsets all the time and notes when each record's rows are there for everybody."""

    def __init__(self, dsn: str) -> None:
        """Prepare; `begin` looks."""
        self.seen: list[Seen] = []
        self._dsn = dsn
        self._waiting: dict[tuple[str, int], deque[tuple[int, int, int]]] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def begin(self) -> None:
        """Start to look."""
        self._thread.start()

    def sent(self, frame: Frame, at_ms: int, offset: int) -> None:
        """Take note of a record that the broker has."""
        with self._lock:
            self._waiting.setdefault((frame.topic, frame.partition), deque()).append((offset, at_ms, frame.rows))

    def waiting(self) -> int:
        """Return how many records are not stored yet."""
        with self._lock:
            return sum(map(len, self._waiting.values()))

    def end(self) -> None:
        """Stop looking."""
        self._stop.set()
        self._thread.join(timeout=10)

    def _look(self) -> None:
        connection: psycopg.Connection | None = None
        while not self._stop.wait(_POLL_S):
            try:
                if connection is None:
                    connection = psycopg.connect(self._dsn, autocommit=True, connect_timeout=2)
                self._note(stored_offsets(connection))
            except psycopg.OperationalError:  # the database is being killed: that is what is measured
                connection = None

    def _note(self, stored: dict[tuple[str, int], int]) -> None:
        now_ms = wall_ms()
        with self._lock:
            for partition, offset in stored.items():
                waiting = self._waiting.get(partition)
                while waiting and waiting[0][0] < offset:
                    _, at_ms, rows = waiting.popleft()
                    self.seen.append(Seen(at_ms=at_ms, fresh_ms=now_ms - at_ms, rows=rows, partition=partition))


def wait_for(is_so: Callable[[], bool], seconds: float, what: str) -> float:
    """Poll a callable until it is true; return the seconds that took."""
    begun_s = time.monotonic()
    while not is_so():
        assert time.monotonic() - begun_s < seconds, f"within {seconds:.0f} s, must be: {what}"
        time.sleep(_POLL_S)
    return time.monotonic() - begun_s
