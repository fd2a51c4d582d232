"""`hcp report` and `hcp db`: a page that stands alone and says what the rows say; clear words where there are none."""

import csv
import io
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from hcp.errors import StoreError
from hcp.stack import StackAddresses
from sinks.report.facts import facts_of, period_ending
from sinks.report.page import write_page
from sinks.timescale.asking import Question
from sinks.timescale.migrations import migrate
from tests.sink_process import ROOT, Database, fresh_database
from tests.telemetry_rows import Tick, every, insert_ticks

pytestmark = pytest.mark.services
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
SECONDS_MAX = 180


@pytest.fixture
def database(services: StackAddresses) -> Iterator[Database]:
    """A migrated database without rows."""
    with fresh_database(services) as found:
        migrate(found.dsn)
        yield found


@pytest.fixture
def question(database: Database) -> Iterator[Question]:
    """A read-only connection."""
    asked = Question(database.dsn)
    yield asked
    asked.close()


def fill(database: Database) -> None:
    """Store two hours of a site that draws 4 kW, and a price."""
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        insert_ticks(connection, *every(timedelta(minutes=10), count=12, since=NOON, powers=(3_000.0, 1_000.0)))
        connection.execute(
            "insert into market_prices values ('tx-north', 'energy_real_time', 'HB_WEST', 40, 'usd_per_mwh', %s, "
            "900000, %s, 't', %s, 0, 0)",
            (NOON, NOON, NOON),
        )
        connection.execute(
            "insert into alerts values (gen_random_uuid(), 'tx-north', 'warning', 'price_stale', 's', %s, "
            "%s, %s, 0, 0)",
            ("<script>alert(1)</script>", NOON, NOON),
        )


def hcp(database: Database, *argv: str, folder: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    """Run the command as a user would."""
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HCP_TIMESCALE_DSN": database.dsn}
    return subprocess.run(
        [sys.executable, "-m", "hcp", *argv],
        env=env, cwd=folder, capture_output=True, text=True, timeout=SECONDS_MAX, check=False,
    )  # fmt: skip


def test_a_report_stands_alone_and_says_what_the_rows_say(
    database: Database, question: Question, tmp_path: Path
) -> None:
    """Energy, price and devices of the period; the plot library is in the page; what people wrote is escaped."""
    fill(database)
    period = period_ending(question, length=DAY, until=None)
    assert (period.since, period.until) == (NOON + 2 * HOUR - DAY, NOON + 2 * HOUR)
    facts = facts_of(question, period)
    assert facts.facilities == ("tx-north",)
    assert facts.column("power", "power_mw") == [0.004, 0.004]
    assert facts.column("modes", "device_count", mode="mining") == [2.0, 2.0]
    write_page(tmp_path / "one.html", facts, title="The fleet")
    write_page(tmp_path / "two.html", facts, title="The fleet")
    page = (tmp_path / "one.html").read_text(encoding="utf-8")
    assert page == (tmp_path / "two.html").read_text(encoding="utf-8")
    assert "2025-12-31 14:00 to 2026-01-01 14:00 UTC" in page
    assert '<td class="words">tx-north</td><td>0.01</td><td>40.00</td>' in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert re.search(r"<(script|link|img)[^>]+(src|href)=", page) is None
    assert page.count("Plotly.newPlot(") == 1


def test_a_period_leaves_out_what_was_before_and_after(database: Database, question: Question) -> None:
    """The first instant belongs to it, the last does not."""
    fill(database)
    facts = facts_of(question, period_ending(question, length=DAY, until=NOON + HOUR))
    assert facts.column("power", "time") == [NOON]
    facts = facts_of(question, period_ending(question, length=DAY, until=NOON + DAY + HOUR))
    assert facts.column("power", "time") == [NOON + HOUR]
    assert facts.column("prices", "time") == []


def test_nothing_to_report_is_said(database: Database, question: Question, tmp_path: Path) -> None:
    """An empty database, an empty period and a database without tables each get their words, and no page."""
    empty = hcp(database, "report", "day", folder=tmp_path)
    assert empty.returncode == 1
    assert "the database must hold prices or telemetry, was empty" in empty.stderr
    with pytest.raises(StoreError, match="the period 2025-12-31 12:00 to 2026-01-01 12:00 UTC must hold rows"):
        facts_of(question, period_ending(question, length=DAY, until=NOON))
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_a_page_where_it_says(database: Database, tmp_path: Path) -> None:
    """By default under reports/, named by length and end; an end may be given."""
    fill(database)
    made = hcp(database, "report", "week", folder=tmp_path)
    assert (made.returncode, made.stdout.strip()) == (0, "reports/week-2026-01-01T14.html"), made.stderr
    assert (tmp_path / "reports" / "week-2026-01-01T14.html").stat().st_size > 0
    made = hcp(database, "report", "day", "--until", "2026-01-01T13:00:00", "--out", "day.html", folder=tmp_path)
    assert (made.returncode, made.stdout.strip()) == (0, "day.html"), made.stderr


def test_hcp_db_migrates_tells_maintains_and_asks(services: StackAddresses) -> None:
    """Status is 1 until it is migrated; a second migrate does nothing; a question has a limit and cannot write."""
    with fresh_database(services) as found:
        told = hcp(found, "db", "status")
        assert told.returncode == 1
        assert "missing: 0001_tables.sql" in told.stdout
        assert "0014_roles.sql" in hcp(found, "db", "migrate").stdout
        assert hcp(found, "db", "migrate").stdout == "nothing to apply\n"
        with psycopg.connect(found.dsn, autocommit=True) as connection:
            insert_ticks(connection, *[Tick(at=NOON + number * HOUR, powers=(1.0,)) for number in range(3)])
        told = hcp(found, "db", "status")
        assert told.returncode == 0
        assert re.search(r"asic_telemetry +3 ", told.stdout)
        assert "2 device-minutes settled" in hcp(found, "db", "maintain").stdout
        asked = hcp(found, "db", "query", "select mode, power_watts from asic_telemetry;", "--limit", "2", "--csv")
        assert list(csv.reader(io.StringIO(asked.stdout))) == [["mode", "power_watts"], *[["mining", "1.0"]] * 2]
        assert "more than 2 rows" in asked.stderr
        refused = hcp(found, "db", "query", "select * from drop_chunks('asic_telemetry', older_than => now())")
        assert refused.returncode == 1
        assert found.count("asic_telemetry") == 3


def test_a_question_has_limits(database: Database) -> None:
    """Of time, of rows, and of rights; a zone that nobody knows is refused."""
    asked = Question(database.dsn, timeout_ms=50)
    with pytest.raises(StoreError, match="statement timeout"):
        asked.ask("select pg_sleep(10)")
    assert asked.ask("select generate_series(1, 5) as n", rows_max=2).rows == ((1,), (2,))
    assert not asked.ask("select generate_series(1, 5) as n", rows_max=5).is_cut
    with pytest.raises(StoreError, match="syntax error"):
        asked.ask("delete from asic_telemetry")
    with pytest.raises(ValueError, match="rows_max must be 1 or more, was 0"):
        asked.ask("select 1", rows_max=0)
    asked.close()
    with pytest.raises(StoreError, match="TimeZone"):
        Question(database.dsn, zone="Mars/Olympus")
