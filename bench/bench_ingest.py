"""Telemetry of the full fleet from Kafka into TimescaleDB, beside the server's own COPY of the same rows.

    python bench/bench_ingest.py                    5 minutes, two connections
    python bench/bench_ingest.py --by-record        the same with fastavro alone
    python bench/bench_ingest.py --single           records of one device each
    python bench/bench_ingest.py --rows 100000000   a table that grows to 100 million rows (40 GB of disk, `df` first)

A stack of its own; real broker, unique index, all triggers, offsets in the same transaction. The backlog is on the
broker before the sink starts, and time counts from the first stored row, for joining the group is no throughput.
"""

import argparse
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import psycopg
from confluent_kafka import Consumer

from bench.ingest_load import READING, TICK_MS, Feeder, backlog
from bench.ingest_watch import DATABASE_MEMORY_MB, MB, Bench, Used, stage, stored_offsets, wait_for
from bench.report import machine, show, table
from hcp.topics import METRICS_ASIC, METRICS_GPU
from tests.sink_process import Database

GOAL_READINGS_PER_S: Final = 1_000_000
GOAL_SHARE: Final = 0.8
GOAL_MEMORY_MB: Final = 512
SECONDS: Final = 300.0
CONNECTIONS: Final = 2
ROWS_PER_S_ASSUMED: Final = 250_000
"""Backlog made for each second wanted: faster than the sink should be, so that it never runs dry."""
SAMPLE_TICKS: Final = 40
WINDOWS: Final = 10
BARE_S_MAX: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """So many records were stored at a time of the monotonic clock."""

    at_s: float
    records: int


def watched(bench: Bench, *, records: int, seconds: float) -> list[Point]:
    """Note each second how many records are stored, from the first on, until all are or the time is over."""
    points: list[Point] = []
    with psycopg.connect(bench.database.dsn, autocommit=True) as connection:
        wait_for(lambda: bool(stored_offsets(connection)), 60, "the first rows stored")
        while not points or (points[-1].records < records and points[-1].at_s - points[0].at_s < seconds):
            points.append(Point(at_s=time.monotonic(), records=sum(stored_offsets(connection).values())))
            time.sleep(0.1 if len(points) < WINDOWS else 1.0)
    return points


def sustained(bench: Bench, arguments: argparse.Namespace) -> None:
    """Store a backlog; print the rates, whole and by tenths, beside COPY and consumers that do nothing else."""
    rows = arguments.rows or int(arguments.seconds * ROWS_PER_S_ASSUMED)
    made = backlog(bench.addresses.kafka_bootstrap, rows=rows, is_single=arguments.single)
    per_record, per_row = made.rows / made.records, made.readings / made.rows
    seconds = float("inf") if arguments.rows else arguments.seconds
    options = ("--connections", str(arguments.connections), *(("--by-record",) if arguments.by_record else ()))
    with bench.sink(*options) as sink:
        used = Used(bench, sink.process.pid)
        points = watched(bench, records=made.records, seconds=seconds)
        used_words, memory_mb = used.words(), sink.memory_peak_bytes() / MB
    found = table("Kafka into TimescaleDB", "what", "rows", "seconds", "krows/s", "readings/s", "share of COPY")
    first, last = points[0], points[-1]
    taken_s, stored = last.at_s - first.at_s, (last.records - first.records) * per_record
    limits = copied(bench.database, bench.folder)
    best = max(count / seconds for count, seconds in limits.values())

    def row(what: str, count: float, seconds: float) -> None:
        speed = count / seconds
        cells = (f"{count:,.0f}", f"{seconds:.1f}", f"{speed / 1e3:.0f}", f"{speed * per_row:,.0f}")
        found.add_row(what, *cells, f"{speed / best:.2f}")

    row("sink, all of it", stored, taken_s)
    for begin, end in tenths(points):
        row(f"  from {begin.records * per_record / 1e6:.1f} million rows on", *_between(begin, end, per_record))
    for what, (count, seconds) in limits.items():
        row(what, count, seconds)
    row("bare consumer, decodes nothing", *consumed(bench, per_record))
    if arguments.kafka_tools:
        row("the broker's consumer perf", *perf(bench, arguments.kafka_tools, made, per_record))
    goals = f"goals: {GOAL_READINGS_PER_S:,} readings/s, {GOAL_SHARE:.2f} of COPY, {GOAL_MEMORY_MB} MB"
    words = (
        f"{made.records:,} records of {per_record:.0f} rows, {per_row:.2f} readings a row; sink's peak memory "
        f"{memory_mb:.0f} MB; {used_words}"
    )
    show(machine(), found, words, READING, goals)


def _between(begin: Point, end: Point, per_record: float) -> tuple[float, float]:
    return (end.records - begin.records) * per_record, end.at_s - begin.at_s


def tenths(points: list[Point]) -> Iterator[tuple[Point, Point]]:
    """Cut a run into tenths of what it stored, each at a second that was looked at."""
    first, last = points[0], points[-1]
    step = (last.records - first.records) / WINDOWS
    begin = first
    for number in range(1, WINDOWS + 1):
        end = next((point for point in points if point.records >= first.records + step * number), last)
        if end.at_s > begin.at_s:
            yield begin, end
            begin = end


def copied(database: Database, folder: Path) -> dict[str, tuple[float, float]]:
    """Return rows and seconds of the server's COPY from files, by format: same rows, same table, emptied before.

    Each file is what the sink stores at a time, half a tick of the fleet sorted by device.
    """
    found = {}
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        connection.execute(
            "create temp table sample as select * from asic_telemetry where observed_at < "
            "(select min(observed_at) from asic_telemetry) + %s * interval '1 millisecond'",
            (SAMPLE_TICKS * TICK_MS,),
        )
        times = [time for (time,) in connection.execute("select distinct observed_at from sample order by 1")]
        for kind in ("text", "binary"):
            place = folder / kind
            place.mkdir()
            place.chmod(0o777)  # the server runs as another user when we are root
            count = _exported(connection, times, place, kind)
            connection.execute("truncate asic_telemetry")
            connection.execute("checkpoint")
            begun_s = time.perf_counter()
            for file in sorted(place.iterdir()):
                connection.execute(f"copy asic_telemetry from '{file}' (format {kind})".encode())
            found[f"server-side COPY, {kind}"] = (float(count), time.perf_counter() - begun_s)
    return found


def _exported(connection: psycopg.Connection, times: list[datetime], place: Path, kind: str) -> int:
    count = 0
    for number, at in enumerate(times):
        for half in (0, 1):
            done = connection.execute(
                f"copy (select * from sample where observed_at = '{at}' and hashtext(shard_id) & 1 = {half} "  # noqa: S608
                f"order by device_id) to '{place}/{number:05d}-{half}' (format {kind})".encode()
            )
            count += done.rowcount
    return count


def consumed(bench: Bench, per_record: float) -> tuple[float, float]:
    """Return rows and seconds of a consumer that only takes the records."""
    consumer = Consumer(
        {
            "bootstrap.servers": bench.addresses.kafka_bootstrap,
            "group.id": "bench-bare",
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe([METRICS_ASIC.name, METRICS_GPU.name])
    taken, begun_s, last_s = 0, 0.0, 0.0
    wait_for(lambda: bool(consumer.consume(1, 1.0)), 60, "a first record")
    begun_s = last_s = time.perf_counter()
    while last_s - begun_s < BARE_S_MAX:
        got = len(consumer.consume(500, 1.0))
        if not got:
            break
        taken, last_s = taken + got, time.perf_counter()
    consumer.close()
    return taken * per_record, last_s - begun_s


def perf(bench: Bench, tools: Path, made: Feeder, per_record: float) -> tuple[float, float]:
    """Return rows and seconds of Kafka's own ConsumerPerformance, its joining of the group left out."""
    argv = ["java", "-cp", f"{tools}/*", "org.apache.kafka.tools.ConsumerPerformance", "--topic", METRICS_ASIC.name]
    argv += ["--bootstrap-server", bench.addresses.kafka_bootstrap, "--messages", str(made.records // 2)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    names, values = [line.split(", ") for line in done.stdout.strip().splitlines()[-2:]]
    read = dict(zip([name.strip() for name in names], values, strict=True))
    return float(read["data.consumed.in.nMsg"]) * per_record, float(read["fetch.time.ms"]) / 1_000


def parser() -> argparse.ArgumentParser:
    """Return what the command line takes."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--seconds", type=float, default=SECONDS, help=f"how long it is watched; default {SECONDS:.0f}")
    made.add_argument("--rows", type=int, help="a backlog of so many rows, watched to its end, instead")
    made.add_argument("--connections", type=int, default=CONNECTIONS, help=f"of the sink; default {CONNECTIONS}")
    made.add_argument("--by-record", action="store_true", help="decode with fastavro alone")
    made.add_argument("--single", action="store_true", help="records of one device each")
    made.add_argument(
        "--database-memory-mb", type=int, default=DATABASE_MEMORY_MB, help="shared memory of the database"
    )
    made.add_argument(
        "--kafka-tools", type=Path, help="folder of the jars of org.apache.kafka:kafka-tools, for its consumer perf"
    )
    return made


def main() -> None:
    """Measure and print one table."""
    arguments = parser().parse_args()
    with stage(database_memory_mb=arguments.database_memory_mb) as bench:
        sustained(bench, arguments)


if __name__ == "__main__":
    main()
