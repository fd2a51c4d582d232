"""Rollups are what the readings make them: at once, whatever is replayed, late, refused, settled or retired."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from hcp.stack import StackAddresses
from sinks.timescale import maintenance
from sinks.timescale.maintenance import maintain
from sinks.timescale.migrations import Migration, migrate, schema_status, shipped
from sinks.timescale.overview import hypertable_sizes
from tests.sink_process import Database, fresh_database, wait_until
from tests.telemetry_rows import Tick, every, insert_ticks

pytestmark = pytest.mark.services
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
POWER = "select time, resource_id, value, value_min, value_max, reading_count from {} where metric_name = 'power_watts'"


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


def minutes(database: Database, source: str = "metrics_1min") -> dict[tuple[str, str], tuple[float, float, float, int]]:
    """Return power by minute (or hour) and device: mean, least, most, readings."""
    rows = database.ask(POWER.format(source))
    return {
        (f"{row['time']:%H:%M}", row["resource_id"][-3:]): (
            row["value"],
            row["value_min"],
            row["value_max"],
            row["reading_count"],
        )
        for row in rows
    }


def clusters(database: Database, source: str = "clusters_1min") -> dict[str, tuple[float, float | None]]:
    """Return devices and watts of the one cluster, by minute (or hour)."""
    rows = database.ask(f"select time, device_count, power_watts from {source}")  # noqa: S608  # a test's word
    return {f"{row['time']:%H:%M}": (row["device_count"], row["power_watts"]) for row in rows}


def test_a_minute_is_known_as_soon_as_its_readings_are(database: Database, writer: psycopg.Connection) -> None:
    """Mean, extremes and count of what was measured; what was not counts in none of them."""
    insert_ticks(writer, Tick(at=NOON, powers=(3_000.0, 100.0)), Tick(at=NOON + 30 * SECOND, powers=(3_400.0, None)))
    assert minutes(database) == {
        ("12:00", "000"): (3_200.0, 3_000.0, 3_400.0, 2),
        ("12:00", "001"): (100.0, 100.0, 100.0, 1),
    }
    assert minutes(database, "metrics_1h") == minutes(database)
    absent = database.ask("select from metrics_1min where metric_name = 'reject_ratio'")
    assert absent == []


def test_a_cluster_draws_what_its_devices_draw_on_average(database: Database, writer: psycopg.Connection) -> None:
    """Two shards of different pace add up; a device whose power is not measured counts as the mean of its shard."""
    insert_ticks(writer, *every(20 * SECOND, count=3, since=NOON, powers=(3_000.0, 1_000.0)))
    insert_ticks(
        writer,
        Tick(at=NOON, powers=(500.0, None), shard="tx-north.asic-1/01", mode="sleep"),
        Tick(at=NOON + HOUR, powers=(None,)),
    )
    assert clusters(database) == {"12:00": (4.0, 5_000.0), "13:00": (1.0, None)}
    assert clusters(database, "clusters_1h") == clusters(database)
    (row,) = database.ask("select * from clusters_1h where time = %s", NOON)
    assert (row["mining_device_count"], row["sleep_device_count"], row["idle_device_count"]) == (2.0, 2.0, 0.0)
    assert (row["hash_rate_th_per_s"], row["hash_rate_mh_per_s"]) == (800.0, None)
    assert (row["temperature_celsius_max"], row["reading_count"]) == (61.0, 8)


def test_a_replay_is_counted_once(database: Database, writer: psycopg.Connection) -> None:
    """Rows that are there already change no rollup, with COPY's detour by a stage or without."""
    ticks = every(5 * SECOND, count=12, since=NOON, powers=(3_000.0, 1_000.0))
    insert_ticks(writer, *ticks)
    before = (minutes(database), clusters(database), clusters(database, "clusters_1h"))
    insert_ticks(writer, *ticks)
    assert (minutes(database), clusters(database), clusters(database, "clusters_1h")) == before


def test_what_is_rolled_back_is_in_no_rollup(database: Database) -> None:
    """Rollups are of the transaction that stores the readings."""
    with psycopg.connect(database.dsn) as connection:
        insert_ticks(connection, Tick(at=NOON, powers=(3_000.0,)))
        connection.rollback()
    assert minutes(database) == {}
    assert clusters(database) == {}
    assert database.count("devices") == 0


def test_settling_changes_no_answer(database: Database, writer: psycopg.Connection) -> None:
    """Minutes read from readings and minutes settled are the same; the newest stay open, and a second turn is idle."""
    insert_ticks(writer, *every(15 * SECOND, count=40, since=NOON, powers=(3_000.0, None)))
    before = (minutes(database), minutes(database, "metrics_1h"))
    assert maintain(database.dsn).settled_rows == 8 * 2
    assert (minutes(database), minutes(database, "metrics_1h")) == before
    assert database.count("asic_telemetry_1min_settled") == 8 * 2
    assert maintain(database.dsn).settled_rows == 0


def test_settling_leaps_over_time_without_readings(database: Database, writer: psycopg.Connection) -> None:
    """A replayed week and then today: what lies between costs no turns."""
    insert_ticks(writer, Tick(at=NOON - 900 * 24 * HOUR, powers=(1.0,)), Tick(at=NOON, powers=(2.0,)))
    insert_ticks(writer, Tick(at=NOON + 5 * MINUTE, powers=(3.0,)))
    before = database.ask("select * from metrics_1min order by 1, 2, 3")
    assert maintain(database.dsn, with_retention=False).settled_rows == 2
    assert database.ask("select * from metrics_1min order by 1, 2, 3") == before


def test_late_readings_are_settled_again(database: Database, writer: psycopg.Connection) -> None:
    """A reading after its minute was settled is in its cluster's minute at once, in the device's a turn later."""
    insert_ticks(writer, *every(30 * SECOND, count=20, since=NOON, powers=(3_000.0,)))
    maintain(database.dsn)
    insert_ticks(writer, Tick(at=NOON + SECOND, powers=(6_000.0,)))
    assert clusters(database)["12:00"] == (1.0, 4_000.0)
    assert minutes(database)[("12:00", "000")] == (3_000.0, 3_000.0, 3_000.0, 2)
    assert maintain(database.dsn).late_minutes == 1
    assert minutes(database)[("12:00", "000")] == (4_000.0, 3_000.0, 6_000.0, 3)
    assert database.count("rollup_late") == 0


def test_settling_waits_for_readings_not_yet_committed(database: Database, writer: psycopg.Connection) -> None:
    """A writer in the middle of its transaction is neither overlooked nor counted twice."""
    insert_ticks(writer, *every(30 * SECOND, count=20, since=NOON, powers=(3_000.0,)))
    done: list[int] = []
    with psycopg.connect(database.dsn) as slow:
        insert_ticks(slow, Tick(at=NOON + SECOND, powers=(6_000.0,)))
        settler = threading.Thread(target=lambda: done.append(maintain(database.dsn).settled_rows))
        settler.start()
        wait_until(lambda: database.count("pg_locks where not granted") > 0, "settling waits for the writer")
        assert done == []
        slow.commit()
        settler.join(timeout=90)
    assert done == [8]
    assert minutes(database)[("12:00", "000")] == (4_000.0, 3_000.0, 6_000.0, 3)


def test_one_at_a_time_maintains(database: Database, writer: psycopg.Connection) -> None:
    """Of several sinks one settles; the others leave it at once."""
    writer.execute("select pg_advisory_lock(%s)", (maintenance.LOCK_KEY,))
    assert maintain(database.dsn).is_skipped
    writer.execute("select pg_advisory_unlock(%s)", (maintenance.LOCK_KEY,))
    assert not maintain(database.dsn).is_skipped


def test_the_timer_settles_while_the_sink_works(database: Database, writer: psycopg.Connection) -> None:
    """Nobody has to call it."""
    insert_ticks(writer, *every(30 * SECOND, count=20, since=NOON, powers=(3_000.0,)))
    with maintenance.maintenance(database.dsn, every_ms=50):
        wait_until(lambda: database.count("asic_telemetry_1min_settled") == 8, "minutes are settled by the timer")


def test_retention_drops_whole_chunks_by_the_data_s_own_time(database: Database, writer: psycopg.Connection) -> None:
    """180 days before the newest chunk, not before today: a replay of 2023 keeps what it stores."""
    old = datetime(2023, 1, 1, tzinfo=UTC)
    insert_ticks(writer, Tick(at=old, powers=(1.0,)), Tick(at=old + 179 * 24 * HOUR, powers=(2.0,)))
    assert maintain(database.dsn).retired_chunks == ()
    insert_ticks(writer, Tick(at=old + 182 * 24 * HOUR, powers=(3.0,)))
    retired = dict(maintain(database.dsn).retired_chunks)
    assert retired["asic_telemetry"] == 1
    assert retired["shards_1min"] == 1
    assert database.count("asic_telemetry") == 2
    with pytest.raises(ValueError, match="retention_days must be 1 or more, was 0"):
        maintain(database.dsn, retention_days=0)


def test_readings_from_before_the_migration_are_taken_in(services: StackAddresses) -> None:
    """A database that had telemetry already has its shards and devices afterwards."""
    early = tuple(each for each in shipped() if each.name < "0011")
    with fresh_database(services) as found:
        migrate(found.dsn, early)
        with psycopg.connect(found.dsn, autocommit=True) as connection:
            insert_ticks(connection, *every(30 * SECOND, count=4, since=NOON, powers=(3_000.0, 1_000.0)))
        assert migrate(found.dsn)[0].startswith("0011")
        assert clusters(found) == {"12:00": (2.0, 4_000.0), "12:01": (2.0, 4_000.0)}
        assert found.count("devices") == 2


def test_status_says_what_is_missing_and_what_was_edited(services: StackAddresses) -> None:
    """Before, between and after; an edited file is named."""
    with fresh_database(services) as found:
        assert schema_status(found.dsn).applied == ()
        first, *rest = (each for each in shipped() if ".community." not in each.name)
        migrate(found.dsn, (Migration(name=first.name, sql="select 1"),))
        told = schema_status(found.dsn)
        assert [name for name, _ in told.applied] == [first.name] == list(told.edited)
        assert told.missing == tuple(each.name for each in rest)


def test_sizes_are_of_every_hypertable(database: Database, writer: psycopg.Connection) -> None:
    """The overview has chunks, bytes and spans; without rows a table has none."""
    insert_ticks(writer, Tick(at=NOON, powers=(1.0,)))
    sizes = {each.name: each for each in hypertable_sizes(database.dsn)}
    assert (sizes["asic_telemetry"].chunk_count, sizes["asic_telemetry"].since) == (1, NOON)
    assert sizes["asic_telemetry"].size_bytes > 0
    assert (sizes["gpu_telemetry"].chunk_count, sizes["gpu_telemetry"].since) == (0, None)
