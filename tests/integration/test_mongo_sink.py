"""`hcp sink mongo`: the exam of the audit log on a server that speaks MongoDB's protocol."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from hcp.codecs import encode
from hcp.errors import SettingsError, StoreUnavailableError
from hcp.kafka.admin import ensure_topics
from hcp.kafka.producer import RecordProducer
from hcp.kafka.ranges import ranges_by_time, read
from hcp.kafka.records import ConsumedRecord
from hcp.model.ledger import AuditEvent
from hcp.model.units import EpochMs
from hcp.stack import StackAddresses
from hcp.topics import AUDIT_EVENTS
from sinks.loop import Told
from sinks.mongo.service import AuditDocuments
from tests.examples import AT, AUDIT
from tests.mongo import Mongo, built, mongo_server
from tests.sink_process import ROOT, sink_process, wait_until

pytestmark = pytest.mark.services
EVENTS = 400


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server, built once."""
    return built(tmp_path_factory.mktemp("mongo"))


@pytest.fixture
def mongo(program: Path, tmp_path: Path) -> Iterator[Mongo]:
    """A server without documents."""
    with mongo_server(program, tmp_path / "documents") as found:
        yield found


def event(number: int, *, actor: str = "tester") -> AuditEvent:
    """An event of its own."""
    return replace(AUDIT, audit_id=str(uuid4()), actor=actor, observed_at_ms=EpochMs(AT + number))


def told(value: AuditEvent, offset: int) -> Told:
    """As the sink has it in hand."""
    record = ConsumedRecord(
        topic=AUDIT_EVENTS.name, partition=3, offset=offset, timestamp_ms=AT + 7, key=None, value=encode(value)
    )
    return record, value


def _at(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1_000, tz=UTC)


def test_a_document_is_the_event_and_where_it_lies(mongo: Mongo) -> None:
    """Every field, and null where there is none; sent twice it is one document, the first."""
    whole, bare = event(0), replace(event(1), before=None, after=None)
    documents = AuditDocuments(mongo.url)
    documents.take([told(whole, 10), told(bare, 11)])
    documents.take([told(bare, 12), told(whole, 13), told(event(2), 14)])
    documents.close()
    first, second, _third = mongo.find({})
    assert first == {
        "_id": whole.audit_id,
        "actor": whole.actor,
        "action": whole.action,
        "subject": whole.subject,
        "origin": whole.origin,
        "before": whole.before,
        "after": whole.after,
        "observed_at": _at(AT),
        "recorded_at": _at(AT + 7),
        "kafka_partition": 3,
        "kafka_offset": 10,
    }
    assert (second["_id"], second["before"], second["kafka_offset"]) == (bare.audit_id, None, 11)


def test_a_server_that_is_away_is_told_apart_from_a_url_that_is_none(mongo: Mongo) -> None:
    """The one is waited for, the other ends the sink with a line."""
    documents = AuditDocuments(f"{mongo.url}?serverSelectionTimeoutMS=300")
    mongo.down()
    with pytest.raises(StoreUnavailableError, match="MongoDB must take audit events"):
        documents.take([told(event(0), 0)])
    documents.close()
    for url in ("postgresql://127.0.0.1/x", "mongodb://127.0.0.1:27017/", "mongodb://:::/x"):
        with pytest.raises(SettingsError, match="HCP_MONGO_URL must be"):
            AuditDocuments(url)


def test_one_document_an_event_whatever_dies(services: StackAddresses, mongo: Mongo, tmp_path: Path) -> None:
    """Kill -9 of the sink, then of the server, rubbish between: each event is one document, rubbish a letter."""
    ensure_topics(services.kafka_bootstrap)
    actor = f"t-{uuid4().hex[:8]}"
    producer = RecordProducer(bootstrap=services.kafka_bootstrap, produced_by="test")
    events = [event(number, actor=actor) for number in range(EVENTS)]

    def send(part: list[AuditEvent]) -> None:
        for each in part:
            producer.send(each)
        producer.flush(timeout_ms=60_000)

    def stored() -> int:
        return len(mongo.find({"actor": actor}))

    environment = {"HCP_MONGO_URL": mongo.url}
    third = EVENTS // 4
    send(events[:third])
    with sink_process(services, None, tmp_path, sink="mongo", environment=environment) as sink:
        wait_until(lambda: stored() > 0, "it stores")
        sink.process.kill()
        sink.process.wait(timeout=90)
    send(events[third : 2 * third])
    rubbish = f"rubbish of {actor}".encode()
    producer.send_raw(AUDIT_EVENTS.name, actor.encode(), rubbish, partition=0)
    with sink_process(services, None, tmp_path, sink="mongo", environment=environment) as sink:
        wait_until(lambda: stored() == 2 * third, "what came meanwhile is stored, too")
        mongo.down(signal.SIGKILL)
        send(events[2 * third :] + events[:third])
        wait_until(lambda: sink.said("store_unavailable"), "it says that it waits")
        mongo.up()
        wait_until(lambda: stored() >= EVENTS, "it goes on")
    assert sorted(each["_id"] for each in mongo.find({"actor": actor})) == sorted(each.audit_id for each in events)
    letters = [
        record.value or b""
        for batch in read(services.kafka_bootstrap, ranges_by_time(services.kafka_bootstrap, [AUDIT_EVENTS.dead]))
        for record in batch
    ]
    assert sum(rubbish in each and b"sink.mongo" in each for each in letters) == 1


def test_the_command_names_what_is_wrong_with_its_url() -> None:
    """Before it joins a group, in one line."""
    environment = {"PATH": "/usr/bin:/bin", "HCP_MONGO_URL": "mongodb://127.0.0.1:27017"}
    argv = [sys.executable, "-m", "hcp", "sink", "mongo"]
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: HCP_MONGO_URL must be mongodb://HOST:PORT/DATABASE")
