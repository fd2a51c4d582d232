"""A consumer that stands still, or a group that has committed what the database lacks: everything is stored."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest

from hcp.kafka.admin import group_lag
from hcp.kafka.producer import RecordProducer
from hcp.kafka.records import ConsumedRecord
from hcp.settings import load_settings
from hcp.topics import AUDIT_EVENTS
from sinks import service
from sinks.intake import Intake
from sinks.service import Sink
from sinks.timescale.migrations import migrate
from tests.examples import AUDIT
from tests.fix_services import OwnStack
from tests.sink_process import Database, fresh_database, sink_process, wait_until

pytestmark = pytest.mark.services
TOPICS: Final = (AUDIT_EVENTS.name, AUDIT_EVENTS.dead)
EVENTS: Final = 200


@pytest.fixture
def database(own_stack: OwnStack) -> Iterator[Database]:
    """A migrated database on this module's own stack."""
    with fresh_database(own_stack.addresses) as found:
        migrate(found.dsn)
        yield found


def send(own_stack: OwnStack, count: int) -> str:
    """Send events over all partitions; return their actor."""
    actor = f"t-{uuid4().hex[:8]}"
    producer = RecordProducer(bootstrap=own_stack.addresses.kafka_bootstrap, produced_by="test")
    for number in range(count):
        producer.send(replace(AUDIT, audit_id=str(uuid4()), actor=actor, subject=f"subject-{number}"))
    producer.close()
    return actor


def test_a_partition_that_stands_still_is_read_anew(
    own_stack: OwnStack, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paused behind the sink's back, as a client library with a fault would: it notices and goes on."""
    monkeypatch.setattr(service, "LOOK_EVERY_MS", 500)
    stop = threading.Event()
    settings = load_settings(kafka_bootstrap=own_stack.addresses.kafka_bootstrap)
    sink = Sink(
        name="timescale", place=0, settings=settings, dsn=database.dsn, topics=TOPICS, stop=stop, intake=Intake()
    )
    consumer, to_pause = sink._consumer, threading.Event()  # noqa: SLF001  # nobody else could do this to it
    polled = consumer.poll

    def poll(*, records_max: int, timeout_ms: int, is_prompt: bool = False) -> list[ConsumedRecord]:
        if to_pause.is_set():
            consumer._consumer.pause(consumer._consumer.assignment())  # noqa: SLF001  # as above
            to_pause.clear()
        return polled(records_max=records_max, timeout_ms=timeout_ms, is_prompt=is_prompt)

    monkeypatch.setattr(consumer, "poll", poll)
    thread = threading.Thread(target=sink.run)
    thread.start()
    try:
        before = send(own_stack, EVENTS)
        wait_until(lambda: database.count("audit_events where actor = %s", before) == EVENTS, "it stores")
        to_pause.set()
        wait_until(lambda: not to_pause.is_set(), "it is paused")
        after = send(own_stack, EVENTS)
        wait_until(lambda: database.count("audit_events where actor = %s", after) == EVENTS, "it goes on")
        assert database.count("audit_events where actor = %s", before) == EVENTS
    finally:
        stop.set()
        thread.join()


def test_what_the_group_has_committed_and_the_database_lacks_is_read(
    own_stack: OwnStack, database: Database, tmp_path: Path
) -> None:
    """A database restored from a copy, or made anew: its own positions count, not the group's."""
    actor = send(own_stack, EVENTS)
    with sink_process(own_stack.addresses, database, tmp_path, *TOPICS, options=("--connections", "2"), instance="a"):
        wait_until(lambda: database.count("audit_events where actor = %s", actor) == EVENTS, "it stores")
        bootstrap = own_stack.addresses.kafka_bootstrap
        wait_until(lambda: group_lag(bootstrap, "hcp-sink-timescale", [AUDIT_EVENTS.name]) == 0, "the group is told")
    for round_ in range(3):
        with fresh_database(own_stack.addresses) as other:
            options = ("--connections", str(1 + round_))
            with sink_process(own_stack.addresses, other, tmp_path, *TOPICS, options=options, instance="a"):
                wait_until(lambda other=other: other.count("audit_events where actor = %s", actor) == EVENTS, "all")  # type: ignore[misc]
