"""An analytics database made anew from the topics, beside the live sink on the same backlog in the same run.

    python -m bench.bench_rebuild                  5 million rows, three rounds

A stack of its own; both store the same records by two connections into a database of their own, one after the other.
Time counts from the first stored row. Then the two are held to each other, every row.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from statistics import median
from typing import Final

import psycopg

from bench.ingest_load import backlog
from bench.ingest_watch import TOPICS, Bench, stage, stored_offsets, wait_for
from bench.report import against, machine, show, table
from hcp.kafka.ranges import ranges_by_time
from sinks.rebuild.analytics import refill
from sinks.rebuild.comparing import compare
from sinks.timescale.migrations import migrate
from tests.sink_process import Database, fresh_database

ROWS: Final = 5_000_000
CONNECTIONS: Final = 2
GOAL: Final = 0.9


@contextmanager
def emptied(bench: Bench) -> Iterator[Database]:
    """Give a migrated database without rows."""
    with fresh_database(bench.addresses) as database:
        migrate(database.dsn)
        yield database


def live(bench: Bench, database: Database, *, records: int) -> float:
    """Store the backlog by the sink's process; return seconds from the first stored row to the last."""
    with (
        replace(bench, database=database).sink("--connections", str(CONNECTIONS)),
        psycopg.connect(database.dsn, autocommit=True) as connection,
    ):
        return _seconds(connection, records)


def _seconds(connection: psycopg.Connection, records: int) -> float:
    wait_for(lambda: bool(stored_offsets(connection)), 60, "the first rows stored")
    begun_s, before = time.monotonic(), sum(stored_offsets(connection).values())
    wait_for(lambda: sum(stored_offsets(connection).values()) >= records, 600, "all rows stored")
    return (time.monotonic() - begun_s) * records / (records - before)


def anew(bench: Bench, database: Database, *, records: int) -> float:
    """Store it by `hcp rebuild analytics`; return seconds likewise, without the settling of minutes at the end."""
    stored: list[tuple[float, int]] = []
    refill(
        database.dsn,
        bootstrap=bench.addresses.kafka_bootstrap,
        topics=TOPICS,
        connections=CONNECTIONS,
        on_stored=lambda count: stored.append((time.monotonic(), count)),
    )
    (begun_s, before), (ended_s, _) = stored[0], stored[-1]
    return (ended_s - begun_s) * records / (records - before)


def measure(bench: Bench, *, rows: int, rounds: int) -> None:
    """Print rates, and how long it takes to compare."""
    made = backlog(bench.addresses.kafka_bootstrap, rows=rows)
    works: dict[str, Callable[..., float]] = {"live sink": live, "hcp rebuild analytics": anew}
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds):
        with emptied(bench) as one, emptied(bench) as other:
            for (name, work), database in zip(works.items(), (one, other), strict=True):
                seconds[name].append(work(bench, database, records=made.records))
            if number + 1 == rounds:
                _hold(bench, one, other)
    limit = made.rows / median(seconds["live sink"])
    found = table(f"{made.rows:,} rows of telemetry", "what", "rows/s", "readings/s", "limit", "ratio", "goal")
    for name, taken in seconds.items():
        rate = made.rows / median(taken)
        goal = "" if name == "live sink" else f"{GOAL:.2f}"
        found.add_row(name, f"{rate:,.0f}", f"{rate * made.readings / made.rows:,.0f}", *against(rate, limit), goal)
    show(machine(), found)


def _hold(bench: Bench, one: Database, other: Database) -> None:
    begun_s = time.monotonic()
    found = compare(one.dsn, other.dsn, ranges=ranges_by_time(bench.addresses.kafka_bootstrap, TOPICS))
    took_s = time.monotonic() - begun_s
    rows = sum(each.live.rows for each in found)
    assert rows, "there must be rows"
    assert all(each.is_equal for each in found), found
    show(f"held to each other: {rows:,} rows equal, {took_s:.1f} s, {2 * rows / took_s:,.0f} rows/s")


def parser() -> argparse.ArgumentParser:
    """Return what the command line takes."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rows", type=int, default=ROWS)
    made.add_argument("--rounds", type=int, default=3)
    return made


def main() -> None:
    """Measure and print."""
    arguments = parser().parse_args()
    with stage() as bench:
        measure(bench, rows=arguments.rows, rounds=arguments.rounds)


if __name__ == "__main__":
    main()
