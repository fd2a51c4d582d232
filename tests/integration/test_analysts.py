"""The queries of docs/analysts.md and of the live picture run on every example record and give what it holds."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hcp.kafka.records import ConsumedRecord
from hcp.model.rejections import DeadLetter
from hcp.model.units import EpochMs
from hcp.stack import StackAddresses
from hcp.topics import topic_of
from sinks.timescale.migrations import migrate
from sinks.timescale.queries import Analytics
from sinks.timescale.tables import TABLES
from sinks.timescale.writer import Decoded, Refused, Writer
from tests.examples import ASIC_TELEMETRY, AT, EXAMPLES, LETTER, PRICE
from tests.sink_process import Database, fresh_database

pytestmark = pytest.mark.services
PAGE = (Path(__file__).parents[2] / "docs" / "analysts.md").read_text(encoding="utf-8")
PICTURES = Path(__file__).parents[2] / "docs" / "analysts"
QUERIES = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
LATER_MS = 150


@pytest.fixture(scope="module")
def database(services: StackAddresses) -> Iterator[Database]:
    """A database that holds every example record, and telemetry of the interval that the example price is for."""
    with fresh_database(services) as found:
        migrate(found.dsn)
        writer = Writer(found.dsn, sink="t")
        refused: list[Refused] = []
        before = replace(ASIC_TELEMETRY, observed_at_ms=EpochMs(AT - PRICE.interval_ms))
        batch = [_in_hand(value) for value in (*EXAMPLES, before)]
        writer.write(batch, expected={}, following={("t", 0): 1}, on_refused=refused.extend)
        writer.close()
        assert refused == []
        yield found


def _in_hand(value: Any) -> Decoded:
    topic = f"{LETTER.source_topic}.dead" if isinstance(value, DeadLetter) else topic_of(value).name
    at_ms = EpochMs(AT + LATER_MS)
    record = ConsumedRecord(topic=topic, partition=0, offset=0, timestamp_ms=at_ms, key=None, value=b"")
    return Decoded(record=record, value=value)


@pytest.fixture
def analytics(database: Database) -> Iterator[Analytics]:
    """The live picture's questions."""
    found = Analytics(database.dsn)
    yield found
    found.close()


@pytest.mark.parametrize("query", QUERIES, ids=range(len(QUERIES)))
def test_each_query_of_the_page_gives_rows(database: Database, query: str) -> None:
    """What the page shows works as it stands, on the views and columns there are."""
    assert database.ask(query)


def test_the_page_has_twenty_queries_and_names_every_table_and_view(database: Database) -> None:
    """A new table or view is no secret."""
    assert len(QUERIES) == 20
    views = database.ask("select table_name from information_schema.views where table_schema = 'public'")
    for name in [table.name for table in TABLES] + [row["table_name"] for row in views]:
        assert f"`{name}`" in PAGE


def test_each_question_of_the_page_has_its_answer_and_each_picture_is_there() -> None:
    """The page is whole: an answer under every question, and no picture missing or left over."""
    answers = re.findall(r"<!-- answer.*?-->\n(.+?)<!-- end -->", PAGE, re.DOTALL)
    assert len(answers) == len(QUERIES)
    named = set(re.findall(r"\]\(analysts/(\d\d\.svg)\)", PAGE))
    assert named == {path.name for path in PICTURES.iterdir()}
    assert len(named) == len(re.findall(r"<!-- answer: plot: ", PAGE))


def test_the_page_says_the_chunk_lengths_there_are(database: Database) -> None:
    """Telemetry has chunks of an hour; every table is a hypertable, as are the rollups."""
    found = database.ask(
        "select hypertable_name, time_interval from timescaledb_information.dimensions "
        "where hypertable_schema = 'public'"
    )
    hours = {row["hypertable_name"]: row["time_interval"].total_seconds() / 3_600 for row in found}
    rollups = {"shards_1min", "shards_1h", "gpu_telemetry_1min_settled", "asic_telemetry_1min_settled"}
    assert {name: of for name, of in hours.items() if name not in rollups} == {
        table.name: table.chunk_hours for table in TABLES
    }
    assert hours["gpu_telemetry"] == hours["asic_telemetry"] == 1


def test_telemetry_has_one_index(database: Database) -> None:
    """Each further index costs ingest: the unique key is all there is."""
    found = database.ask("select indexname from pg_indexes where tablename in ('gpu_telemetry', 'asic_telemetry')")
    assert sorted(row["indexname"] for row in found) == ["asic_telemetry_event", "gpu_telemetry_event"]


def test_metrics_leave_out_what_was_not_measured(database: Database) -> None:
    """A null reading is no row of the narrow view, least of all a zero."""
    found = database.ask("select resource_id, metric_name, value from metrics where resource_id like %s", "%gpu%")
    assert all(row["value"] is not None for row in found)
    mining = {row["metric_name"]: row["value"] for row in found if row["resource_id"].endswith("/001")}
    assert mining == {"hash_rate_mh_per_s": 110.0}


def test_the_live_picture_reads_what_the_examples_hold(analytics: Analytics) -> None:
    """Counts, prices, modes, switches and letters are those of the example records."""
    assert set(analytics.row_counts().values()) >= {1, 2}
    assert min(analytics.row_counts().values()) == 1
    assert [price for _, price in analytics.energy_prices().values()] == [-12.5]
    assert {row[4] for row in analytics.profits()} <= {"mining", "sleep", "ai_inference", "idle"}
    assert sum(row[4] for row in analytics.modes()) == analytics.row_counts()["resource_states"]
    assert analytics.outcomes() == {"committed": 1, "rolled_back": 1}
    assert sum(analytics.decisions().values()) == 1
    assert sum(analytics.hold_reasons().values()) == analytics.decisions().get("hold", 0)
    assert analytics.dead_letters() == {LETTER.reason.value: 1}
    (switch,) = analytics.last_switches(5)
    assert (switch.device_count, switch.committed_count) == (2, 1)
    assert switch.total_ms == pytest.approx((35.25 + 165.25) / 2)


def test_latencies_are_of_wall_clocks_and_committed_switches_only(analytics: Analytics) -> None:
    """Price to command is between two broker timestamps; a switch rolled back has no say; no rows, no number."""
    latency = analytics.price_to_command()
    assert (latency.count, latency.p50_ms, latency.p99_ms) == (1, LATER_MS, LATER_MS)
    asic = analytics.switch_latency("asic")
    assert (asic.count, asic.p50_ms, asic.p99_ms) == (1, 35.25, 35.25)
    gpu = analytics.switch_latency("gpu")
    assert (gpu.count, gpu.p50_ms, gpu.p99_ms) == (0, None, None)
