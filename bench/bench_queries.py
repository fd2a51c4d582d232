"""The four questions analysts ask most, over a month of the full fleet, beside the same from raw readings.

Run: `.venv/bin/python bench/bench_queries.py [--rows 100000000]` (a stack of its own; say how much disk with `df`). The
last hour holds every device at a steady pace, up to one reading in 5 s; of the 29 days and 23 hours before, each
minute holds some devices of every shard, so rollups of shards are as many as in production, whatever the rows. Rows are
made by the server through the triggers that a sink's rows pass; device-minutes are settled for the last two days. Each
question is asked of another device, cluster or site each time, on one connection, with the cache as the load left it.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count, cycle
from pathlib import Path
from statistics import median
from typing import Final

import psycopg

from bench.report import machine, p50_p99, show, table
from hcp.fleet import load_fleet
from hcp.model.devices import DeviceKind
from hcp.model.facilities import Fleet
from hcp.model.ids import device_id
from hcp.settings import load_settings
from hcp.stack import default_cache_dir, running_stack
from sinks.timescale.maintenance import maintain
from sinks.timescale.migrations import migrate
from tests.sink_process import fresh_database

ROOT: Final = Path(__file__).resolve().parents[1]
END: Final = datetime(2026, 6, 1, tzinfo=UTC)
HOUR: Final = timedelta(hours=1)
HOURS: Final = 30 * 24
MINUTES: Final = HOURS * 60
LAST_HOUR_SHARE: Final = 0.3
TICKS_MAX: Final = 720
EVERY_MAX: Final = 256
"""Of a shard's devices, one in so many reports in a minute: nearly each minute of each shard has a row."""
SETTLED: Final = timedelta(hours=48)
ROUNDS: Final = 200
WARM_UP: Final = 10
RAW_ROUNDS: Final = 5
RAW_MS_MAX: Final = 60_000
BATCH_ROWS: Final = 20_000
BATCHES: Final = 6
TURNS: Final = 5
TRIGGERS: Final = {"rolled_up": "asic_telemetry_rolled_up", "late": "asic_telemetry_late"}
VALUES: Final = {
    DeviceKind.GPU: "case mod(d.device_index, 4) when 0 then 'mining' else 'ai_inference' end, "
    "600 + mod(d.device_index, 100), 60 + mod(d.device_index, 17), 70, 0.9, 110, 1500",
    DeviceKind.ASIC: "case mod(d.device_index, 9) when 0 then 'sleep' else 'mining' end, "
    "3480 + mod(d.device_index, 80), 66 + mod(d.device_index, 11), 31, 199 + mod(d.device_index, 3), 5200, 0.002",
}


_INSERT: Final = """
insert into {kind}_telemetry
select d.facility_id, d.cluster_id, d.shard_id, d.device_class, s.t, d.device_index, {values}, d.device_id, s.t, 0, 0
from bench_devices d
join generate_series(%(since)s::timestamptz, %(until)s, %(pace)s) with ordinality as s (t, n)
  on mod(d.device_index, %(every)s) = mod(s.n, %(every)s)
where d.kind = %(kind)s
order by d.device_id, s.t
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A question, what it is beside, and whom to ask about.

    Attributes:
        name: In the table.
        goal_ms: To beat.
        words: Of the views, with `%(since)s` and `%(of)s`.
        raw: Of the readings, the same.
        of: What `of` may be.
        length: Back from the end.
    """

    name: str
    goal_ms: float
    words: str
    raw: str
    of: tuple[str, ...]
    length: timedelta


def fill_devices(connection: psycopg.Connection, fleet: Fleet) -> int:
    """List the fleet's devices in a table for the rows to be made of; return how many."""
    connection.execute(
        "create table bench_devices (facility_id text, cluster_id text, shard_id text, device_class text, kind text, "
        "device_index bigint, device_id text)"
    )
    kinds = {each.device_class: each.kind.value for each in fleet.device_classes}
    with connection.cursor() as cursor, cursor.copy("copy bench_devices from stdin") as copy:
        for shard in fleet.shards():
            of = (shard.facility_id, shard.cluster_id, shard.shard_id, shard.device_class, kinds[shard.device_class])
            for index in range(shard.device_count):
                copy.write_row((*of, index, device_id(shard_id=shard.shard_id, device_index=index)))
    row = connection.execute("select count(*) from bench_devices").fetchone()
    assert row is not None
    return int(row[0])


def fill(connection: psycopg.Connection, *, devices: int, rows: int) -> float:
    """Make the rows, hour by hour; return the seconds."""
    ticks = min(TICKS_MAX, max(60, round(rows * LAST_HOUR_SHARE / devices)))
    wanted = max(1, rows - ticks * devices)
    every = min(EVERY_MAX, max(1, round(devices * (MINUTES - 60) / wanted)))
    began = time.perf_counter()
    for number in range(HOURS):
        since = END - (HOURS - number) * HOUR
        is_last = number == HOURS - 1
        pace = HOUR / ticks if is_last else timedelta(minutes=1)
        for kind, values in VALUES.items():
            of = {"since": since, "until": since + HOUR - pace, "pace": pace, "kind": kind.value}
            words = _INSERT.format(kind=kind.value, values=values)
            connection.execute(words.encode(), {**of, "every": 1 if is_last else every})
    return time.perf_counter() - began


def questions(fleet: Fleet) -> tuple[Ask, ...]:
    """Return what is asked."""
    shards = list(fleet.shards())
    devices = tuple(device_id(shard_id=shard.shard_id, device_index=shard.device_count // 2) for shard in shards)
    clusters = tuple(dict.fromkeys(shard.cluster_id for shard in shards))
    sites = tuple(each.facility_id for each in fleet.facilities)
    return (
        Ask(
            name="last hour by minute, one device",
            goal_ms=15,
            words="select time, value from metrics_1min where resource_id = %(of)s and metric_name = 'power_watts' "
            "and time >= %(since)s order by 1",
            raw="select time_bucket('1 minute', time), avg(value) from metrics where resource_id = %(of)s "
            "and metric_name = 'power_watts' and time >= %(since)s group by 1 order by 1",
            of=devices,
            length=HOUR,
        ),
        Ask(
            name="last hour by minute, one cluster",
            goal_ms=15,
            words="select time, device_count, power_watts from clusters_1min where cluster_id = %(of)s "
            "and time >= %(since)s order by 1",
            raw="select minute, sum(watts) from raw_minutes where cluster_id = %(of)s "
            "and minute >= %(since)s group by 1",
            of=clusters,
            length=HOUR,
        ),
        Ask(
            name="last 24 h by minute, one facility",
            goal_ms=45,
            words="select time, device_count, power_watts from facilities_1min where facility_id = %(of)s "
            "and time >= %(since)s order by 1",
            raw="select minute, sum(watts) from raw_minutes where facility_id = %(of)s "
            "and minute >= %(since)s group by 1",
            of=sites,
            length=24 * HOUR,
        ),
        Ask(
            name="30 days by hour, one facility",
            goal_ms=180,
            words="select time, device_count, power_watts from facilities_1h where facility_id = %(of)s "
            "and time >= %(since)s order by 1",
            raw="select time_bucket('1 hour', minute), sum(watts) from raw_minutes where facility_id = %(of)s "
            "and minute >= %(since)s group by 1",
            of=sites,
            length=HOURS * HOUR,
        ),
    )


RAW_MINUTES: Final = """
create view raw_minutes as
select facility_id, cluster_id, time_bucket('1 minute', observed_at) as minute, device_id, avg(power_watts) as watts
from gpu_telemetry group by 1, 2, 3, 4
union all
select facility_id, cluster_id, time_bucket('1 minute', observed_at), device_id, avg(power_watts)
from asic_telemetry group by 1, 2, 3, 4
"""


def asked_ms(connection: psycopg.Connection, words: str, each: Ask, *, rounds: int) -> tuple[list[float], int]:
    """Return the milliseconds of each round, rows fetched, and the rows of the last; cut if one takes too long."""
    taken: list[float] = []
    rows = 0
    for _, of in zip(range(rounds), cycle(each.of), strict=False):
        began = time.perf_counter_ns()
        try:
            rows = len(connection.execute(words.encode(), {"of": of, "since": END - each.length}).fetchall())
        except psycopg.errors.QueryCanceled:
            return [float(RAW_MS_MAX)] * 2, 0
        taken.append((time.perf_counter_ns() - began) / 1e6)
    return taken, rows


def copied_rows_per_second(connection: psycopg.Connection, *, with_rollups: bool, batches: Iterator[bytes]) -> float:
    """Return the rate of COPY, a commit a batch, with or without what the triggers add to it."""
    for trigger, function in TRIGGERS.items():
        connection.execute(f"drop trigger if exists {trigger} on asic_telemetry".encode())
        if with_rollups:
            connection.execute(
                f"create trigger {trigger} after insert on asic_telemetry referencing new table as fresh "
                f"for each statement execute function {function}()".encode()
            )
    taken = 0.0
    for _ in range(BATCHES):
        batch = next(batches)
        began = time.perf_counter()
        with connection.transaction(), connection.cursor().copy("copy asic_telemetry from stdin") as copy:
            copy.write(batch)
        taken += time.perf_counter() - began
    return BATCHES * BATCH_ROWS / taken


def ticks_of_a_site() -> Iterator[bytes]:
    """Yield ticks of 20,000 devices after the end, as COPY reads them, 5 s apart."""
    for number in count():
        at = END + number * timedelta(seconds=5)
        yield "".join(
            f"s\ts.asic-1\ts.asic-1/{index // 512:02}\ts21\t{at}\t{index % 512}\tmining\t{3480 + index % 80}\t68\t31\t"
            f"200\t5200\t0.002\ts.asic-1/{index // 512:02}/{index % 512:03}\t{at}\t0\t{number}\n"
            for index in range(BATCH_ROWS)
        ).encode()


def report_queries(connection: psycopg.Connection, fleet: Fleet, rows: int) -> None:
    """Ask and print."""
    shown = table(f"queries over 30 days, {rows:,} readings of devices", "what", "rows", "p50 ms", "p99 ms", "goal ms",
                  "p99 / goal", "raw readings p50 ms", "ratio")  # fmt: skip
    connection.execute(RAW_MINUTES.encode())
    for each in questions(fleet):
        asked_ms(connection, each.words, each, rounds=WARM_UP)
        taken, found = asked_ms(connection, each.words, each, rounds=ROUNDS)
        connection.execute(f"set statement_timeout = {RAW_MS_MAX}".encode())
        raw, _ = asked_ms(connection, each.raw, each, rounds=RAW_ROUNDS)
        connection.execute("reset statement_timeout")
        p50, p99 = p50_p99(taken)
        raw_p50 = p50_p99(raw)[0]
        is_over = raw_p50 >= RAW_MS_MAX
        limit = f"{'over ' * is_over}{raw_p50:,.1f}"
        shown.add_row(each.name, f"{found:,}", f"{p50:.1f}", f"{p99:.1f}", f"{each.goal_ms:.0f}",
                      f"{p99 / each.goal_ms:.2f}", limit, f"{p50 / raw_p50:.3f}")  # fmt: skip
    show(shown)


def report_cost(connection: psycopg.Connection) -> None:
    """Store with and without rollups in turn, and print what they cost."""
    batches = ticks_of_a_site()
    copied_rows_per_second(
        connection, with_rollups=True, batches=batches
    )  # the first chunk is made, devices are listed
    rates: dict[bool, list[float]] = {True: [], False: []}
    for number in range(2 * TURNS):
        with_rollups = number % 2 == 0
        rates[with_rollups].append(copied_rows_per_second(connection, with_rollups=with_rollups, batches=batches))
    rate, limit = (median(rates[each]) for each in (True, False))
    shown = table("rollups in the transaction: COPY, 20,000 rows a commit, one connection", "", "rows/s")
    shown.add_row("with rollups of shards, devices, late minutes", f"{rate:,.0f}")
    shown.add_row("without (limit)", f"{limit:,.0f}")
    shown.add_row("ratio", f"{rate / limit:.2f}")
    show(shown)


def parser() -> argparse.ArgumentParser:
    """Return what the command line may say."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rows", type=int, default=10_000_000, help="readings of devices; 100,000,000 for the record")
    return made


def main() -> None:
    """Fill, settle, ask, print."""
    rows = parser().parse_args().rows
    fleet = load_fleet(ROOT / "fleet.toml")
    folder = ROOT / ".hcp" / "stacks" / "bench-queries"
    show(machine())
    with (
        running_stack(folder, default_cache_dir(load_settings().cache_dir), keep=False) as services,
        fresh_database(services) as database,
    ):
        migrate(database.dsn)
        with psycopg.connect(database.dsn, autocommit=True) as connection:
            devices = fill_devices(connection, fleet)
            seconds = fill(connection, devices=devices, rows=rows)
            stored = sum(database.count(f"{kind.value}_telemetry") for kind in VALUES)
            show(f"{stored:,} readings of {devices:,} devices stored in {seconds:,.0f} s, {stored / seconds:,.0f}/s")
            connection.execute("update rollup_watermarks set closing = %(at)s, until = %(at)s", {"at": END - SETTLED})
            began = time.perf_counter()
            settled = maintain(database.dsn, with_retention=False).settled_rows
            show(f"{settled:,} device-minutes settled in {time.perf_counter() - began:,.0f} s")
            connection.execute("vacuum analyze")
            report_queries(connection, fleet, stored)
            report_cost(connection)


if __name__ == "__main__":
    main()
