"""Each view gives what known rows make it give, nothing on empty tables, and to analysts no more than to read."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import psycopg
import pytest
from psycopg import sql

from hcp.stack import StackAddresses
from sinks.timescale.asking import Question
from sinks.timescale.maintenance import maintain
from sinks.timescale.migrations import migrate
from tests.sink_process import Database, fresh_database
from tests.telemetry_rows import Tick, insert_ticks

pytestmark = pytest.mark.services
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
SPACE = UUID(int=6)
VIEWS = (
    "metrics", "metrics_1min", "metrics_1h", "clusters_1min", "clusters_1h", "facilities_1min", "facilities_1h",
    "device_latest", "fleet_state_now",
    "profitability_by_class", "switch_events", "switch_latency_1h", "revenue_by_facility_1h", "workload_timeline",
)  # fmt: skip
DEFAULTS: dict[str, dict[str, Any]] = {
    "switches": {
        "facility_id": "tx-north", "cluster_id": "c", "shard_id": "s", "device_class": "s21", "from_mode": "sleep",
        "to_mode": "mining", "attempt": 1, "controller_id": "k", "device_index": 0, "epoch": 1, "mode": "mining",
        "detail": "", "started_at": NOON, "finished_at": NOON,
    },
    "recommendations": {
        "facility_id": "tx-north", "cause_topic": "t", "cause_partition": 0, "cause_offset": 0,
        "cause_timestamp": NOON, "device_class": "s21", "best_mode": "mining", "runner_up_mode": "sleep",
        "delta_usd_per_hour": 0, "runner_up_confidence": 1, "energy_cost_usd_per_hour": 0.25,
        "demand_cost_usd_per_hour": 0.125, "wear_usd_per_hour": 0.0625, "profit_usd_per_hour": 0, "power_watts": 3_500,
        "gain_usd_per_hour": 0, "switch_cost_usd": 0, "confidence": 1,
    },
    "regrets": {
        "facility_id": "tx-north", "device_class": "s21", "since": NOON, "covered_ms": 1, "device_count": 1,
        "counted_ratio": 1, "realised_so_far_usd_micros": 0, "hindsight_so_far_usd_micros": 0,
        "best_fixed_so_far_usd_micros": 0, "best_fixed_mode": "mining",
    },
    "billing_usage": {
        "customer_id": SPACE, "facility_id": "tx-north", "device_class": "h100", "interval_end": NOON,
        "price_usd_micros_per_device_hour": 1,
    },
    "workload_events": {
        "customer_id": SPACE, "workload_type": "batch", "priority": 5, "device_class": "h100", "device_count": 2,
        "reason": "",
    },
}  # fmt: skip


@pytest.fixture
def database(services: StackAddresses) -> Iterator[Database]:
    """A migrated database without rows."""
    with fresh_database(services) as found:
        migrate(found.dsn)
        yield found


@pytest.fixture
def writer(database: Database) -> Iterator[psycopg.Connection]:
    """A connection that commits each statement."""
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        yield connection


def insert(connection: psycopg.Connection, table: str, **values: object) -> None:
    """Insert a row; what is not said has a default of the test's."""
    row = {
        **DEFAULTS[table],
        "observed_at": NOON,
        "recorded_at": NOON,
        "kafka_partition": 0,
        "kafka_offset": 0,
        **values,
    }
    names = sql.SQL(", ").join(map(sql.Identifier, row))
    marks = sql.SQL(", ").join([sql.Placeholder()] * len(row))
    statement = sql.SQL("insert into {} ({}) values ({})").format(sql.Identifier(table), names, marks)
    connection.execute(statement, list(row.values()))


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_of_nothing_is_empty(database: Database, view: str) -> None:
    """No rows, no row: not even one of nulls."""
    assert database.ask(f"select * from {view}") == []  # noqa: S608  # the names above


def test_there_are_the_views_that_are_tested(database: Database) -> None:
    """A new view comes with its test; the telemetry behind the metrics is tested by them."""
    found = database.ask("select table_name from information_schema.views where table_schema = 'public'")
    assert {row["table_name"] for row in found} == {
        *VIEWS, "gpu_telemetry_1min", "gpu_telemetry_1h", "asic_telemetry_1min", "asic_telemetry_1h"
    }  # fmt: skip


def test_the_latest_reading_of_each_device_stays_when_it_falls_silent(
    database: Database, writer: psycopg.Connection
) -> None:
    """The last one by event time, whenever it came; a device that was never measured in full is there too."""
    insert_ticks(
        writer,
        Tick(at=NOON + HOUR, powers=(3_000.0,)),
        Tick(at=NOON, powers=(1.0, None), mode="sleep"),
        Tick(at=NOON - HOUR, powers=(2.0,)),
    )
    rows = database.ask("select device_id, observed_at, mode, power_watts, kind from device_latest order by 1")
    assert [tuple(row.values()) for row in rows] == [
        ("tx-north.asic-1/00/000", NOON + HOUR, "mining", 3_000.0, "asic"),
        ("tx-north.asic-1/00/001", NOON, "sleep", None, "asic"),
    ]


@pytest.mark.parametrize("length", ["1min", "1h"])
def test_a_facility_is_the_sum_of_its_clusters(database: Database, writer: psycopg.Connection, length: str) -> None:
    """In every column that adds up; clusters and shards of different pace included."""
    insert_ticks(
        writer,
        Tick(at=NOON, powers=(3_000.0, None)),
        Tick(at=NOON + MINUTE / 2, powers=(1_000.0,)),
        Tick(at=NOON, powers=(500.0,), shard="tx-north.asic-2/00", mode="sleep"),
        Tick(at=NOON, powers=(None,), shard="tx-north.asic-2/01", mode="idle"),
    )
    names = (
        "device_count", "mining_device_count", "mining_eco_device_count", "ai_inference_device_count",
        "idle_device_count", "sleep_device_count", "power_watts", "hash_rate_th_per_s", "hash_rate_mh_per_s",
        "tokens_per_s", "reading_count",
    )  # fmt: skip
    sums = ", ".join(f"sum({name})::double precision as {name}" for name in names)
    (added,) = database.ask(f"select time, facility_id, {sums} from clusters_{length} group by 1, 2")  # noqa: S608
    (row,) = database.ask(f"select * from facilities_{length}")  # noqa: S608  # the names above
    assert row == added
    assert (row["device_count"], row["power_watts"], row["tokens_per_s"]) == (3.5, 3_500.0, None)


def test_switch_latency_is_of_committed_switches_by_hour(database: Database, writer: psycopg.Connection) -> None:
    """Percentiles interpolate; a switch rolled back has no say; the next hour is another row."""
    for number in range(101):
        insert(
            writer, "switches", command_id=uuid5(SPACE, str(number)), decision_id=SPACE, outcome="committed",
            total_ms=float(number), device_id="d", observed_at=NOON + number * timedelta(seconds=1),
        )  # fmt: skip
    late = {"decision_id": SPACE, "device_id": "d", "total_ms": 9_000.0}
    insert(writer, "switches", command_id=uuid5(SPACE, "r"), outcome="rolled_back", **late)
    insert(writer, "switches", command_id=uuid5(SPACE, "h"), outcome="committed", observed_at=NOON + HOUR, **late)
    rows = database.ask("select time, switch_count, total_ms_p50, total_ms_p95, total_ms_p99 from switch_latency_1h")
    assert sorted(tuple(row.values()) for row in rows) == [
        (NOON, 101, 50.0, 95.0, 99.0),
        (NOON + HOUR, 1, 9_000.0, 9_000.0, 9_000.0),
    ]


def test_revenue_is_devices_times_the_rates_of_their_mode(database: Database, writer: psycopg.Connection) -> None:
    """Two rates of an hour are averaged; a mode nobody was in earns nothing; what was billed stands beside it."""
    insert_ticks(writer, Tick(at=NOON, powers=(3_000.0, 3_000.0)), Tick(at=NOON + 30 * MINUTE, powers=(3_000.0,)))
    for number, (mode, revenue) in enumerate((("mining", 1.0), ("mining", 2.0), ("sleep", 0.0))):
        at = NOON + number * MINUTE
        insert(
            writer, "recommendations", recommendation_id=uuid5(SPACE, str(number)), mode=mode, observed_at=at,
            revenue_usd_per_hour=revenue,
        )  # fmt: skip
    for micros, hour in ((1_500_000, NOON), (-250_000, NOON + HOUR)):
        insert(
            writer, "regrets", regret_id=uuid5(SPACE, str(micros)), hour_start=hour, realised_usd_micros=micros,
            switch_cost_usd_micros=10_000,
        )  # fmt: skip
    insert(
        writer, "billing_usage", usage_id=SPACE, workload_id=SPACE, interval_start=NOON + MINUTE, device_seconds=60,
        amount_usd_micros=2_000_000,
    )  # fmt: skip
    first, second = database.ask("select * from revenue_by_facility_1h order by time")
    assert first["revenue_usd"] == pytest.approx(1.5 * 1.5)
    assert first["energy_cost_usd"] == pytest.approx(1.5 * 0.25)
    assert first["profit_usd"] == pytest.approx(1.5 * (1.5 - 0.25 - 0.125 - 0.0625))
    assert (first["realised_usd"], first["switch_cost_usd"], first["billed_usd"]) == (1.5, 0.01, 2.0)
    assert (second["time"], second["revenue_usd"], second["realised_usd"]) == (NOON + HOUR, None, -0.25)


def test_a_workload_s_life_is_one_row(database: Database, writer: psycopg.Connection) -> None:
    """Times of its steps, waits in ms and what was billed; what has not happened yet is null."""
    steps = ("created", "queued", "placed", "started", "preempted", "started", "completed")
    done, waiting = uuid5(SPACE, "done"), uuid5(SPACE, "waiting")
    for number, step in enumerate(steps):
        insert(
            writer, "workload_events", event_id=uuid5(SPACE, str(number)), workload_id=done, reason=step,
            event_type=f"workload.{step}", observed_at=NOON + number * MINUTE,
            facility_id=None if step == "created" else "tx-north",
        )  # fmt: skip
    insert(
        writer, "workload_events", event_id=uuid5(SPACE, "w"), workload_id=waiting, event_type="workload.created",
    )  # fmt: skip
    for number in range(2):
        insert(
            writer, "billing_usage", usage_id=uuid5(SPACE, str(number)), workload_id=done, interval_start=NOON,
            device_seconds=60, amount_usd_micros=1_000,
        )  # fmt: skip
    rows = {row["workload_id"]: row for row in database.ask("select * from workload_timeline")}
    assert rows[done]["started_at"] == NOON + 3 * MINUTE
    assert (rows[done]["waited_ms"], rows[done]["ran_ms"]) == (180_000, 180_000)
    assert (rows[done]["preempted_count"], rows[done]["last_event_type"]) == (1, "workload.completed")
    assert (rows[done]["facility_id"], rows[done]["last_reason"]) == ("tx-north", "completed")
    assert (rows[done]["device_seconds"], rows[done]["amount_usd_micros"]) == (120, 2_000)
    assert rows[waiting]["started_at"] is rows[waiting]["waited_ms"] is rows[waiting]["amount_usd_micros"] is None


@pytest.mark.parametrize("zone", ["UTC", "America/Chicago", "Asia/Kolkata"])
def test_hours_are_the_same_instants_in_every_zone(database: Database, writer: psycopg.Connection, zone: str) -> None:
    """A session's time zone changes how a time is written, not which readings are one hour."""
    insert_ticks(writer, Tick(at=NOON + 10 * MINUTE, powers=(1.0,)), Tick(at=NOON + 50 * MINUTE, powers=(3.0,)))
    question = Question(database.dsn, zone=zone)
    (row,) = question.ask("select time, power_watts from clusters_1h").rows
    (device,) = question.ask("select time, value from metrics_1h where metric_name = 'power_watts'").rows
    question.close()
    assert row == device == (NOON, 2.0)


def test_an_analyst_reads_everything_and_changes_nothing(database: Database, writer: psycopg.Connection) -> None:
    """Read-only by default and by right; a statement has 30 s; later tables are readable too."""
    insert_ticks(writer, Tick(at=NOON, powers=(1.0,)))
    writer.execute("create table later (a integer)")
    with psycopg.connect(database.dsn, user="hcp_analyst", autocommit=True) as analyst:
        for view in (*VIEWS, "asic_telemetry", "decisions", "market_prices", "later"):
            analyst.execute(sql.SQL("select * from {}").format(sql.Identifier(view)))
        assert analyst.execute("show statement_timeout").fetchone() == ("30s",)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            analyst.execute("delete from asic_telemetry")
        analyst.execute("set default_transaction_read_only = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            analyst.execute("delete from asic_telemetry")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            analyst.execute("select * from retire_chunks('1 day')")


def test_a_writer_stores_and_maintains_but_owns_nothing(database: Database) -> None:
    """The sink needs no more: rows, rollups, offsets, stages, retention; and to see that nothing is to migrate."""
    dsn = psycopg.conninfo.make_conninfo(database.dsn, user="hcp_writer")
    assert migrate(dsn) == ()
    with psycopg.connect(dsn, autocommit=True) as writer:
        insert_ticks(writer, Tick(at=NOON, powers=(1.0,)), Tick(at=NOON, powers=(1.0,)))
        writer.execute("create temporary table stage (like asic_telemetry)")
        insert_ticks(writer, Tick(at=NOON + 5 * MINUTE, powers=(1.0,)))
        assert maintain(dsn).settled_rows == 1
        insert_ticks(writer, Tick(at=NOON + timedelta(seconds=1), powers=(3.0,)))
        assert maintain(dsn).late_minutes == 1
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            writer.execute("drop table asic_telemetry")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            writer.execute("delete from schema_migrations")
