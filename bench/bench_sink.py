"""Telemetry from Kafka into TimescaleDB by the sink as a process, against the server's own COPY of the same rows.

Run: `.venv/bin/python bench/bench_sink.py [ticks]` (starts a stack of its own; 39,000 ASICs, columnar records). The
sink's time begins when the first rows are stored (joining the group is no throughput) and ends with the last. COPY from
a file on the server, with the same unique index, is what this machine's database can do at most.
"""

import argparse
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

import psycopg

from bench.report import machine, show, table
from hcp.clock import wall_ms
from hcp.fleet import load_fleet
from hcp.kafka.admin import ensure_topics
from hcp.kafka.producer import RecordProducer
from hcp.model.telemetry import AsicTelemetry
from hcp.model.units import EpochMs
from hcp.settings import load_settings
from hcp.stack import StackAddresses, default_cache_dir, running_stack
from hcp.topics import METRICS_ASIC
from simulators.telemetry import fleet_physics, tick
from tests.sink_process import Database, fresh_database, sink_process, wait_until

TICKS: Final = 10
TICK_MS: Final = 5_000
READINGS: Final = (
    "power_watts, chip_temperature_celsius, inlet_temperature_celsius, hash_rate_th_per_s, fan_speed_rpm, reject_ratio"
)
READINGS_PER_ROW: Final = 6
GOAL_READINGS_PER_SECOND: Final = 1_000_000
ROOT: Final = Path(__file__).resolve().parents[1]


def publish(addresses: StackAddresses, ticks: int) -> tuple[int, int]:
    """Put the backlog of every ASIC of the full fleet on the broker; return its records and rows."""
    producer = RecordProducer(bootstrap=addresses.kafka_bootstrap, produced_by="bench", linger_ms=5)
    shards = fleet_physics(load_fleet(ROOT / "fleet.toml"), seed=7)
    start, records, rows = EpochMs(wall_ms() - ticks * TICK_MS), 0, 0
    for number in range(ticks):
        for batch in tick(shards, passed_ms=TICK_MS, at_ms=EpochMs(start + number * TICK_MS), seed=7):
            if isinstance(batch, AsicTelemetry):
                producer.send(batch)
                records += 1
                rows += len(batch.device_indexes)
    producer.close()
    return records, rows


def stored(database: Database) -> int:
    """Return how many records the sink has stored; cheaper than counting rows while it works."""
    if database.count("information_schema.tables where table_name = 'ingest_offsets'") == 0:
        return 0
    return int(database.ask("select coalesce(sum(next_offset), 0) as n from ingest_offsets")[0]["n"])


def copy_again(dsn: str, folder: Path, rows: int) -> float:
    """Return the seconds of the server's COPY, 20,000 rows a commit, of what the sink stored, into the same table."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        parts = range((rows + 19_999) // 20_000)
        for part in parts:
            connection.execute(
                f"copy (select * from asic_telemetry order by observed_at, device_id offset {part * 20_000} "  # noqa: S608
                f"limit 20000) to program 'cat > {folder}/{part}'".encode()
            )
        connection.execute("truncate asic_telemetry")
        began = time.perf_counter()
        for part in parts:
            connection.execute(f"copy asic_telemetry from '{folder}/{part}'".encode())
        return time.perf_counter() - began


def parser() -> argparse.ArgumentParser:
    """Return what the command line takes."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("ticks", type=int, nargs="?", default=TICKS, help=f"ticks of the fleet; default {TICKS}")
    return made


def main() -> None:
    """Measure both and print one table."""
    ticks = parser().parse_args().ticks
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        cache_dir = default_cache_dir(load_settings().cache_dir)
        with (
            running_stack(folder / "stack", cache_dir, keep=False) as addresses,
            fresh_database(addresses) as database,
        ):
            ensure_topics(addresses.kafka_bootstrap)
            records, rows = publish(addresses, ticks)
            with sink_process(addresses, database, folder, METRICS_ASIC.name) as sink:
                sink.wait_said("sink_ready")
                wait_until(lambda: stored(database) > 0, "the first rows")
                began, before = time.perf_counter(), stored(database)
                wait_until(lambda: stored(database) >= records, f"{records} records")
                through = (time.perf_counter() - began) * records / (records - before)
            assert database.count("asic_telemetry") == rows, "each row once"
            server = folder / "server"
            server.mkdir(mode=0o777)
            subprocess.run(
                ["chmod", "-R", "a+rwx", place], check=True
            )  # the server runs as another user when we are root
            copied = copy_again(database.dsn, server, rows)
    columns = ("what", "rows", "s for all", "krows/s", "readings/s", "share of COPY")
    found = table("telemetry into TimescaleDB", *columns)
    for name, taken in (("Kafka -> sink -> table", through), ("server-side COPY", copied)):
        speed = rows / taken
        cells = (f"{rows:,}", f"{taken:.2f}", f"{speed / 1e3:.0f}", f"{speed * READINGS_PER_ROW:,.0f}")
        found.add_row(name, *cells, f"{copied / taken:.2f}")
    goal = f"goal: {GOAL_READINGS_PER_SECOND:,} readings/s; {READINGS_PER_ROW} a row: {READINGS}"
    show(machine(), found, goal)


if __name__ == "__main__":
    main()
