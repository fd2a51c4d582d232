"""On the community edition the same names give the same columns, kept by TimescaleDB's own aggregates and policies."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from hcp.stack import StackAddresses
from sinks.timescale.maintenance import RETENTION_DAYS, maintain
from sinks.timescale.migrations import Edition, Migration, migrate, schema_status, shipped
from sinks.timescale.overview import hypertable_sizes
from tests.community import community_database, installed
from tests.sink_process import Database, fresh_database
from tests.telemetry_rows import every, insert_ticks

pytestmark = pytest.mark.services
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
AGGREGATES = {"gpu_telemetry_1min", "gpu_telemetry_1h", "asic_telemetry_1min", "asic_telemetry_1h"}
COLUMNS = """
select c.table_name, c.column_name, c.data_type from information_schema.columns c
join information_schema.views v using (table_schema, table_name)
where c.table_schema = 'public' order by 1, c.ordinal_position
"""
ANSWERS = (
    "select * from metrics_1min order by 1, 2, 3",
    "select * from metrics_1h order by 1, 2, 3",
    "select * from clusters_1h order by 1",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server, installed once."""
    return installed(tmp_path_factory.mktemp("community"))


@pytest.fixture
def database(folder: Path) -> Iterator[Database]:
    """A migrated database without rows."""
    with community_database(folder) as found:
        assert "0012_rollups.community.sql" in migrate(found.dsn)
        yield found


@contextmanager
def connected(database: Database) -> Iterator[psycopg.Connection]:
    """Connect without prepared statements: the one session behind the socket outlives its connections."""
    with psycopg.connect(database.dsn, autocommit=True, prepare_threshold=None) as connection:
        yield connection


def run_jobs(database: Database, procedure: str) -> int:
    """Run every policy of a kind, in the order they were made, as the scheduler would; return how many."""
    jobs = database.ask("select job_id from timescaledb_information.jobs where proc_name = %s order by 1", procedure)
    with connected(database) as connection:
        for job in jobs:
            connection.execute("call run_job(%s)", (job["job_id"],))
    return len(jobs)


def fill(database: Database, *, days_ago: float) -> datetime:
    """Store four hours of two devices at a pace of 20 s, beginning at a full hour; return the beginning."""
    now = datetime.now(tz=UTC).replace(minute=0, second=0, microsecond=0)
    since = now - timedelta(days=days_ago)
    with connected(database) as connection:
        insert_ticks(connection, *every(2 * MINUTE, count=120, since=since, powers=(3_000.0, None)))
    return since


def test_migrations_apply_once_and_say_so(database: Database) -> None:
    """Twice changes nothing; the Apache edition's file is not for it, and maintenance has nothing to do."""
    assert migrate(database.dsn) == ()
    told = schema_status(database.dsn)
    assert (told.edition, told.missing, told.edited) == (Edition.COMMUNITY, (), ())
    assert not any(".apache." in name for name, _ in told.applied)
    assert maintain(database.dsn).edition is Edition.COMMUNITY


def test_every_view_has_the_columns_it_has_on_the_apache_edition(database: Database, services: StackAddresses) -> None:
    """Names, order and types; only behind them the editions differ."""
    with fresh_database(services) as apache:
        migrate(apache.dsn)
        assert database.ask(COLUMNS) == apache.ask(COLUMNS)
    found = database.ask("select view_name, materialized_only from timescaledb_information.continuous_aggregates")
    assert {row["view_name"]: row["materialized_only"] for row in found} == dict.fromkeys(AGGREGATES, False)


def test_aggregates_answer_alike_before_and_after_they_are_filled(database: Database) -> None:
    """Real-time: what is not materialised is aggregated on reading; what comes late counts at the next run."""
    since = fill(database, days_ago=1)
    before = [database.ask(question) for question in ANSWERS]
    assert [len(rows) for rows in before] == [
        120 * 9,
        4 * 9,
        4,
    ]  # 5 metrics of one device, 4 of the other: power is not measured
    assert run_jobs(database, "policy_refresh_continuous_aggregate") == len(AGGREGATES)
    assert [database.ask(question) for question in ANSWERS] == before
    with connected(database) as connection:
        insert_ticks(connection, *every(MINUTE, count=1, since=since + timedelta(seconds=7), powers=(6_000.0,)))
    run_jobs(database, "policy_refresh_continuous_aggregate")
    (row,) = database.ask(
        "select value, value_max, reading_count from metrics_1min where time = %s and metric_name = 'power_watts'",
        since,
    )
    assert tuple(row.values()) == (4_500.0, 6_000.0, 2)


def test_telemetry_is_compressed_after_a_day_and_answers_alike(database: Database) -> None:
    """Chunks over a day old become columnar, younger ones stay; a late row still gets in."""
    old = fill(database, days_ago=3)
    fill(database, days_ago=0.25)
    before = [database.ask(question) for question in ANSWERS]
    assert run_jobs(database, "policy_compression") == 2
    chunks = database.ask(
        "select is_compressed, count(*) as n from timescaledb_information.chunks "
        "where hypertable_name = 'asic_telemetry' group by 1 order by 1"
    )
    assert [(row["is_compressed"], row["n"]) for row in chunks] == [(False, 4), (True, 4)]
    assert [database.ask(question) for question in ANSWERS] == before
    with connected(database) as connection:
        insert_ticks(connection, *every(MINUTE, count=2, since=old, powers=(1.0,)))
    assert database.count("asic_telemetry where observed_at < %s", old + 2 * MINUTE) == 3


def test_retention_drops_what_is_over_180_days_old(database: Database) -> None:
    """Every hypertable and aggregate has the policy; it drops old chunks and keeps young ones."""
    fill(database, days_ago=RETENTION_DAYS + 3)
    since = fill(database, days_ago=1)
    policies = database.ask(
        "select hypertable_name, config ->> 'drop_after' as after from timescaledb_information.jobs "
        "where proc_name = 'policy_retention'"
    )
    plain = {each.name for each in hypertable_sizes(database.dsn)}
    assert {row["hypertable_name"]: row["after"] for row in policies} == dict.fromkeys(
        plain | AGGREGATES, f"{RETENTION_DAYS} days"
    )
    assert run_jobs(database, "policy_retention") == len(policies)
    (row,) = database.ask("select min(observed_at) as first, count(*) as n from asic_telemetry")
    assert (row["first"], row["n"]) == (since, 240)


def test_a_database_of_the_apache_edition_can_move_over(folder: Path) -> None:
    """What stood in for the aggregates goes, the readings stay, and the same questions get the same answers."""
    files = [each for each in shipped() if ".community." not in each.name]
    unmarked = tuple(Migration(name=each.name.replace(".apache", ""), sql=each.sql) for each in files)
    with community_database(folder) as found:
        migrate(found.dsn, unmarked)
        fill(found, days_ago=1)
        before = [found.ask(question) for question in ANSWERS]
        assert migrate(found.dsn) == ("0012_rollups.community.sql",)
        assert [found.ask(question) for question in ANSWERS] == before
