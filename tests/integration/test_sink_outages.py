"""The sink under load while what it leans on goes away: database, broker, its own processes; each row stands once."""

import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from hcp.kafka.producer import RecordProducer
from hcp.model.telemetry import AsicTelemetry
from hcp.model.units import EpochMs
from hcp.stack.values import Service
from hcp.topics import METRICS_ASIC
from tests.examples import ASIC_TELEMETRY, AT
from tests.fix_services import OwnStack
from tests.sink_process import Database, SinkProcess, fresh_database, sink_process, wait_until

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]
GROUP: Final = "hcp-sink-timescale"
TOPICS: Final = (METRICS_ASIC.name, METRICS_ASIC.dead)
CLUSTERS: Final = 24
DEVICES: Final = 512
MEMORY_BYTES_MAX: Final = 512 * 1024 * 1024
SESSION_MS: Final = 10_000
_never = threading.Event()


@pytest.fixture
def database(own_stack: OwnStack) -> Iterator[Database]:
    """A fresh database on this module's own stack."""
    with fresh_database(own_stack.addresses) as found:
        yield found


class Load:
    """Sends telemetry of 24 clusters in the background; every record has `devices` rows of its own."""

    def __init__(self, bootstrap: str, *, records: int, devices: int, every_ms: int = 0) -> None:
        """Prepare; `start` sends."""
        self.tag = f"t-{uuid4().hex[:12]}"
        self.rows = records * devices
        self._records, self._every_ms = records, every_ms
        self._producer = RecordProducer(bootstrap=bootstrap, produced_by="test", linger_ms=5)
        self._thread = threading.Thread(target=self._send)
        cells: dict[str, Any] = {field.name: getattr(ASIC_TELEMETRY, field.name) for field in fields(ASIC_TELEMETRY)}
        wide: dict[str, Any] = {
            name: cell[:1] * devices if isinstance(cell, tuple) else cell for name, cell in cells.items()
        }
        wide |= {"facility_id": self.tag, "device_indexes": tuple(range(devices))}
        self._wide = AsicTelemetry(**wide)

    def _record(self, place: int) -> AsicTelemetry:
        cluster = f"{self.tag}.c{place % CLUSTERS}"
        at_ms = EpochMs(AT + place // CLUSTERS * 5_000)
        return replace(self._wide, cluster_id=cluster, shard_id=f"{cluster}/00", observed_at_ms=at_ms)

    def _send(self) -> None:
        for place in range(self._records):
            self._producer.send(self._record(place))
            if self._every_ms:
                _never.wait(self._every_ms / 1_000)
        self._producer.flush(timeout_ms=120_000)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Send beside the `with` block, and see that all was sent at its end."""
        self._thread.start()
        try:
            yield
        finally:
            self._thread.join(timeout=150)
        assert not self._thread.is_alive()

    def send_all(self) -> None:
        """Send, here and now."""
        self._send()

    def stored(self, database: Database) -> int:
        """Count the rows of this load."""
        return database.count("asic_telemetry where facility_id = %s", self.tag)

    def assert_each_row_once(self, database: Database) -> None:
        """See that nothing is missing, nothing doubled and nothing was refused."""
        own = "select count(*) as n, count(distinct (device_id, observed_at)) as keys from asic_telemetry"
        assert database.ask(f"{own} where facility_id = %s", self.tag) == [{"n": self.rows, "keys": self.rows}]
        assert database.count("dead_letters") == 0


def _members(bootstrap: str) -> set[str]:
    """Return the ids of the group's members; none while it has no coordinator yet."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    try:
        found = admin.describe_consumer_groups([GROUP], request_timeout=2)[GROUP].result(timeout=90)
    except KafkaException:
        return set()
    return {member.member_id for member in found.members if member.assignment.topic_partitions}


def _wait_stored(load: Load, database: Database, rows: int) -> None:
    wait_until(lambda: load.stored(database) >= rows, f"{rows} rows")


def _started(entered: ExitStack, own_stack: OwnStack, database: Database, folder: Path, *options: str) -> SinkProcess:
    sink = entered.enter_context(sink_process(own_stack.addresses, database, folder, *TOPICS, options=options))
    sink.wait_said("sink_ready")
    return sink


def test_an_outage_longer_than_a_session_costs_neither_membership_nor_memory(
    own_stack: OwnStack, database: Database, tmp_path: Path
) -> None:
    """Database away, 50 MB arrive: said once, members stay, and after it all is stored within 512 MB of memory."""
    bootstrap = own_stack.addresses.kafka_bootstrap
    first, backlog = Load(bootstrap, records=48, devices=8), Load(bootstrap, records=1_600, devices=DEVICES)
    with ExitStack() as entered:
        sink = _started(entered, own_stack, database, tmp_path, "--connections", "2")
        first.send_all()
        _wait_stored(first, database, first.rows)
        wait_until(lambda: len(_members(bootstrap)) == 2, "both connections with partitions")
        members = _members(bootstrap)
        database.close_doors()
        backlog.send_all()
        sink.wait_said("store_unavailable")
        _never.wait(SESSION_MS * 1.5 / 1_000)
        assert _members(bootstrap) == members
        database.open_doors()
        _wait_stored(backlog, database, backlog.rows)
        assert _members(bootstrap) == members
        assert sink.memory_peak_bytes() < MEMORY_BYTES_MAX
        wait_until(lambda: sink.times_said("store_available_again") == sink.times_said("store_unavailable"), "the end")
        assert sink.times_said("store_unavailable") <= 2  # once by each connection
    backlog.assert_each_row_once(database)


def test_broker_and_database_that_die_are_waited_for(own_stack: OwnStack, database: Database, tmp_path: Path) -> None:
    """Each killed by -9 under load and started again: the sink lives on, says it once, and each row stands once."""
    load = Load(own_stack.addresses.kafka_bootstrap, records=2_400, devices=16, every_ms=2)
    with ExitStack() as entered:
        sink = _started(entered, own_stack, database, tmp_path)
        with load.running():
            _wait_stored(load, database, load.rows // 20)
            own_stack.kill(Service.KAFKA)
            _never.wait(1.0)
            own_stack.kill(Service.TIMESCALEDB)
            wait_until(lambda: sink.said("store_unavailable"), "the database's end noticed")
            wait_until(database.answers, "the database back")
        _wait_stored(load, database, load.rows)
        assert sink.process.poll() is None
        assert sink.times_said("store_unavailable") == 1
        assert sink.times_said("broker_unavailable") <= 1
    load.assert_each_row_once(database)


def test_members_that_come_and_go_under_load_leave_each_row_once(
    own_stack: OwnStack, database: Database, tmp_path: Path
) -> None:
    """Two members, then four, then two others, then one killed: five rebalances, and no row lost or doubled."""
    load = Load(own_stack.addresses.kafka_bootstrap, records=9_600, devices=64, every_ms=1)
    with ExitStack() as entered:
        first = _started(entered, own_stack, database, tmp_path, "--connections", "2")
        with load.running():
            _wait_stored(load, database, load.rows // 20)
            second = _started(entered, own_stack, database, tmp_path, "--connections", "2")
            wait_until(lambda: len(_members(own_stack.addresses.kafka_bootstrap)) == 4, "four that share")
            first.process.terminate()
            assert first.process.wait(timeout=90) == 0
            third = _started(entered, own_stack, database, tmp_path)
            wait_until(lambda: len(_members(own_stack.addresses.kafka_bootstrap)) == 3, "three that share")
            second.process.kill()
        _wait_stored(load, database, load.rows)
        assert third.process.poll() is None
    load.assert_each_row_once(database)


def test_a_sink_killed_again_and_again_leaves_each_row_once(
    own_stack: OwnStack, database: Database, tmp_path: Path
) -> None:
    """Killed by -9 at eight moments of its life, from the first rows on; the ninth stores the rest."""
    load = Load(own_stack.addresses.kafka_bootstrap, records=1_200, devices=DEVICES)
    load.send_all()
    dice = random.Random(11)
    for _ in range(8):
        with sink_process(own_stack.addresses, database, tmp_path, *TOPICS, instance="1") as sink:
            before = load.stored(database)
            wait_until(lambda b=before: load.stored(database) > b, "more rows")  # type: ignore[misc]
            _never.wait(dice.uniform(0.0, 0.1))
            sink.process.kill()
            sink.process.wait(timeout=90)
        if load.stored(database) == load.rows:
            break
    with sink_process(own_stack.addresses, database, tmp_path, *TOPICS, instance="1"):
        _wait_stored(load, database, load.rows)
    load.assert_each_row_once(database)
