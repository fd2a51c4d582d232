"""Fill a new analytics database from the topics, by the live sink's own code and with its positions; join no group."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from threading import Event
from typing import Final

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from hcp.errors import SettingsError
from hcp.kafka.ranges import Range, ranges_by_time, read
from hcp.kafka.records import ConsumedRecord
from hcp.stack.health import create_analytics_database
from sinks.intake import ROWS_MAX, Intake, Part
from sinks.timescale.maintenance import maintain
from sinks.timescale.migrations import migrate
from sinks.timescale.writer import Refused, Writer

SINK: Final = "timescale"
"""Whose positions these become: the live sink goes on from them."""
NAME_CHARACTERS_MAX: Final = 63
PIECE_RECORDS_MIN: Final = 32
OnStored = Callable[[int], None]


@dataclass(slots=True, kw_only=True)
class Refilled:
    """What was read.

    Attributes:
        ranges: Offsets of each partition, from the oldest that the broker holds.
        records: Read now; what an earlier run stored was not read again.
        rows: Stored, those that were there already among them.
        refused: Records that are none, by why; their letters are on their dead-letter topics, and are rows too.
    """

    ranges: tuple[Range, ...]
    records: int = 0
    rows: int = 0
    refused: Counter[str] = field(default_factory=Counter)


def database_beside(dsn: str, name: str | None) -> str:
    """Return the DSN of another database on the same server: `name`, or the live one's with `_rebuilt` behind it.

    Raises:
        SettingsError: It would be the live one, or its name too long for PostgreSQL.
    """
    live = str(conninfo_to_dict(dsn).get("dbname", ""))
    wanted = name or f"{live}_rebuilt"
    if wanted == live or not 0 < len(wanted) <= NAME_CHARACTERS_MAX:
        raise SettingsError(f"a database made anew must be another than {live}, at most 63 characters, was {wanted}")
    return make_conninfo(dsn, dbname=wanted)


def refill(
    dsn: str,
    *,
    bootstrap: str,
    topics: Sequence[str],
    connections: int = 1,
    on_ranges: Callable[[int], None] = lambda _: None,
    on_stored: OnStored = lambda _: None,
) -> Refilled:
    """Make the database where it is missing and store every record that the topics hold now; again, it goes on.

    Args:
        dsn: Of the new database.
        bootstrap: The broker; nothing is committed, and nothing is written there.
        topics: Names, dead-letter topics among them.
        connections: Threads, each with partitions and a connection of its own.
        on_ranges: Told how many records there may be.
        on_stored: Told how many were stored since it was told last.

    Raises:
        StackError: PostgreSQL refuses to make it.
        BrokerError: A topic is missing, or the broker was silent for long.
        StoreError: The database refuses, or went away: call again.
    """
    create_analytics_database(dsn)
    migrate(dsn)
    ranges = ranges_by_time(bootstrap, topics)
    done = Refilled(ranges=ranges)
    on_ranges(sum(each.count for each in ranges))
    stop = Event()
    shares = [share for share in _shares(ranges, connections) if share]
    with ThreadPoolExecutor(max_workers=max(len(shares), 1)) as pool:
        working = [pool.submit(_fill, dsn, bootstrap, share, on_stored, stop) for share in shares]
        try:
            for each in working:
                part = each.result()
                done.records += part.records
                done.rows += part.rows
                done.refused += part.refused
        except BaseException:
            stop.set()
            raise
    maintain(dsn, with_retention=False)
    return done


def _shares(ranges: Sequence[Range], count: int) -> list[list[Range]]:
    """Deal partitions out, the largest first."""
    ordered = sorted(ranges, key=lambda each: each.count, reverse=True)
    return [ordered[place::count] for place in range(count)]


def _fill(dsn: str, bootstrap: str, ranges: Sequence[Range], on_stored: OnStored, stop: Event) -> Refilled:
    done = Refilled(ranges=tuple(ranges))
    writer = Writer(dsn, sink=SINK)
    try:
        expected = writer.positions([each.place for each in ranges])
        left = [replace(each, start=max(each.start, expected.get(each.place, 0))) for each in ranges]
        intake = Intake()
        for part in _parts(intake, read(bootstrap, left), done):
            if stop.is_set():
                break
            writer.write(
                part.good,
                blocks=part.blocks,
                expected=expected,
                following=part.following,
                on_refused=lambda refused: _count(refused, done),
            )
            expected.update(part.following)
            done.rows += part.rows
            done.records += sum(part.counts.values())
            on_stored(sum(part.counts.values()))
    finally:
        writer.close()
    return done


def _parts(intake: Intake, batches: Iterator[list[ConsumedRecord]], done: Refilled) -> Iterator[Part]:
    """Decode about ROWS_MAX rows at once, judged by what came before: a record has one row, or hundreds."""
    piece = PIECE_RECORDS_MIN
    for batch in batches:
        start = 0
        while start < len(batch):
            taken, rows = batch[start : start + piece], 0
            start += len(taken)
            for part in intake.parts(taken):
                done.refused.update(rejected.reason.value for _, rejected in part.refused)
                rows += part.rows
                yield part
            piece = max(PIECE_RECORDS_MIN, min(ROWS_MAX, ROWS_MAX * len(taken) // max(rows, 1)))


def _count(refused: Sequence[Refused], done: Refilled) -> None:
    done.refused["store_refused"] += len(refused)
