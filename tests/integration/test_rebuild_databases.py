"""`hcp rebuild analytics|operational`: databases made anew from topics alone are equal to the live ones, row by row."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import psycopg
import pytest

from hcp.codecs import encode
from hcp.kafka.producer import RecordProducer
from hcp.kafka.ranges import NEVER, ranges_by_offset, read
from hcp.model.rejections import DeadLetter
from hcp.model.units import EpochMs
from hcp.stack import StackAddresses
from hcp.topics import AUDIT_EVENTS, METRICS_ASIC, TOPICS
from sinks.rebuild.analytics import database_beside
from sinks.timescale.tables import TABLES
from tests.agent_process import ROOT
from tests.cli_runs import Said
from tests.examples import ASIC_TELEMETRY, AT, AUDIT, EXAMPLES, LETTER
from tests.fix_services import OwnStack
from tests.sink_process import Database, fresh_database, sink_process, wait_until

pytestmark = pytest.mark.services
AUDITS: Final = 12_000
TICKS: Final = 400


def _send_history(producer: RecordProducer) -> None:
    """A record of every topic, some twice; telemetry in columns; rubbish, and what the database refuses."""
    for value in EXAMPLES:
        if isinstance(value, DeadLetter):
            producer.send_raw(f"{LETTER.source_topic}.dead", b"test", encode(value), partition=0)
        else:
            producer.send(value)
            producer.send(value)
    for number in range(TICKS):
        producer.send(replace(ASIC_TELEMETRY, observed_at_ms=EpochMs(AT + 5_000 * (1 + number // 2))))
    for _ in range(AUDITS):
        producer.send(replace(AUDIT, audit_id=str(uuid4())))
    producer.send_raw(METRICS_ASIC.name, b"x", b"rubbish", partition=0)
    producer.send(replace(AUDIT, audit_id=str(uuid4()), before="a\x00b"))
    producer.flush(timeout_ms=60_000)


@pytest.fixture(scope="module")
def live(own_stack: OwnStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A database that the sink has filled."""
    producer = RecordProducer(bootstrap=own_stack.addresses.kafka_bootstrap, produced_by="test")
    _send_history(producer)
    with fresh_database(own_stack.addresses) as database:
        with sink_process(own_stack.addresses, database, tmp_path_factory.mktemp("sink")) as sink:
            sink.wait_said("sink_ready")
            wait_until(lambda: database.count("dead_letters where reason = 'store_refused'") == 1, "letters are rows")
            wait_until(lambda: _is_all_read(own_stack.addresses, database), "all is stored")
        yield database
        Database(dsn=database_beside(database.dsn, None), name=f"{database.name}_rebuilt").drop()


def _is_all_read(services: StackAddresses, database: Database) -> bool:
    rows = database.ask("select topic, partition, next_offset from ingest_offsets")
    left = {(row["topic"], row["partition"]): (row["next_offset"], NEVER) for row in rows}
    return len(rows) > len(TOPICS) and not any(
        read(services.kafka_bootstrap, ranges_by_offset(services.kafka_bootstrap, left))
    )


def _anew(live: Database) -> Database:
    return Database(dsn=database_beside(live.dsn, None), name=f"{live.name}_rebuilt")


def _argv(own_stack: OwnStack, live: Database, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """The command and its environment: a process of its own, since it sets up the log of the process."""
    environment = {
        "PATH": "/usr/bin:/bin",
        "HCP_KAFKA_BOOTSTRAP": own_stack.addresses.kafka_bootstrap,
        "HCP_TIMESCALE_DSN": live.dsn,
    }
    return [sys.executable, "-m", "hcp", "rebuild", "analytics", "--json", *arguments], environment


def _rebuild(own_stack: OwnStack, live: Database, *arguments: str) -> Said:
    argv, env = _argv(own_stack, live, *arguments)
    done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False)
    return Said(code=done.returncode, out=done.stdout, err=done.stderr)


def _rows(said: Said) -> dict[str, dict[str, Any]]:
    return {row["table"]: row for row in map(json.loads, said.out.splitlines())}


def test_analytics_made_anew_is_the_live_database(own_stack: OwnStack, live: Database) -> None:
    """Every table has the same rows, none twice; what was refused is refused again and sends no second letter."""
    letters_before = live.count("dead_letters")
    said = _rebuild(own_stack, live, "--connections", "3")
    assert said.code == 0, said.out + said.err
    rows = _rows(said)
    assert set(rows) == {*(each.name for each in TABLES), "audit_chain"}
    for row in rows.values():
        assert row["equal"] == "yes"
        assert row["rows anew"] == row["rows live"] == live.count(row["table"]) > 0
        assert row["older than the topics"] == 0
    assert rows["audit_events"]["rows anew"] == AUDITS + 1
    assert "1 not_a_record, 1 store_refused" in said.err
    assert live.count("dead_letters") == letters_before
    again = _rebuild(own_stack, live)
    assert (again.code, again.err.splitlines()[-1]) == (0, "0 records read now; 0 rows")


def test_killed_in_the_middle_it_goes_on(own_stack: OwnStack, live: Database) -> None:
    """Kill -9 as soon as something is stored; called again it ends equal."""
    name = f"{live.name}_killed"
    killed = Database(dsn=database_beside(live.dsn, name), name=name)
    argv, env = _argv(own_stack, live, "--into", name)
    try:
        with subprocess.Popen(argv, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            wait_until(lambda: _count(killed, "ingest_offsets") > 0, "it stores")
            process.send_signal(signal.SIGKILL)
        said = _rebuild(own_stack, live, "--into", name)
        assert said.code == 0, said.out + said.err
        assert {row["equal"] for row in _rows(said).values()} == {"yes"}
    finally:
        killed.drop()


def _count(database: Database, source: str) -> int:
    try:
        return database.count(source)
    except psycopg.OperationalError:
        return 0


def test_the_live_sink_goes_on_from_it(own_stack: OwnStack, live: Database, tmp_path: Path) -> None:
    """What comes after is stored once, by the sink of the same name."""
    assert _rebuild(own_stack, live, "--into", f"{live.name}_next").code == 0
    following = Database(dsn=database_beside(live.dsn, f"{live.name}_next"), name=f"{live.name}_next")
    try:
        producer = RecordProducer(bootstrap=own_stack.addresses.kafka_bootstrap, produced_by="test")
        mark = replace(AUDIT, audit_id=str(uuid4()), actor="later")
        producer.send(mark)
        producer.close()
        with sink_process(own_stack.addresses, following, tmp_path):
            wait_until(lambda: following.count("audit_events where actor = 'later'") == 1, "it is stored")
        assert following.count("audit_events") == AUDITS + 2
        assert following.count("audit_chain") == AUDITS + 2
    finally:
        following.drop()


def test_a_row_that_differs_is_told_by_its_table(own_stack: OwnStack, live: Database) -> None:
    """One cell of one row of the live database: its table is named, no other."""
    assert _rebuild(own_stack, live).code == 0
    with psycopg.connect(live.dsn) as connection:
        connection.execute("update market_prices set value = value + 0.01")
        connection.execute("delete from alerts")
    said = _rebuild(own_stack, live)
    assert said.code == 3
    unequal = {name: (row["rows anew"], row["rows live"]) for name, row in _rows(said).items() if row["equal"] == "NO"}
    assert unequal == {"market_prices": (1, 1), "alerts": (1, 0)}


def test_a_new_database_is_never_the_live_one(own_stack: OwnStack, live: Database) -> None:
    """Neither by name nor by an empty one; and a topic must be one."""
    assert "must be another than" in _rebuild(own_stack, live, "--into", live.name).err
    assert "must be another than" in _rebuild(own_stack, live, "--into", "x" * 64).err
    assert "topic must be one of the registry" in _rebuild(own_stack, live, "--topic", "nothing").err


def test_one_topic_alone(own_stack: OwnStack, live: Database) -> None:
    """Only what it holds is stored and compared."""
    name = f"{live.name}_audit"
    try:
        said = _rebuild(own_stack, live, "--into", name, "--topic", AUDIT_EVENTS.name)
        assert (said.code, set(_rows(said))) == (0, {"audit_events", "audit_chain"})
    finally:
        Database(dsn=database_beside(live.dsn, name), name=name).drop()
