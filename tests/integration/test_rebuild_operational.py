"""`hcp rebuild operational`: status, cost and invoices follow from topics; what was broken is found and put right."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import psycopg
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from gateway.migrations import prepare
from hcp.kafka.producer import RecordProducer
from hcp.model.ids import id_from_content
from hcp.model.units import EpochMs
from hcp.model.workloads import WorkloadEventType
from hcp.topics import BILLING_USAGE, WORKLOAD_EVENTS
from tests.cli_runs import Said, hcp
from tests.examples import AT, CUSTOMER, EVENT, USAGE
from tests.fix_services import OwnStack
from tests.sink_process import Database, fresh_database, sink_process, wait_until
from tests.unit.streams.world import DEMO_FLEET

pytestmark = pytest.mark.services
KINDS: Final = WorkloadEventType
WORKLOADS: Final = 40
USAGES: Final = 3
LIFE: Final = (KINDS.CREATED, KINDS.QUEUED, KINDS.PLACED, KINDS.STARTED, KINDS.METERED, KINDS.COMPLETED)
OWNED: Final = (
    "status, status_reason, facility_id, device_ids, queue_position, cost_usd_micros, device_seconds, kafka_offset"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A gateway's database that its sink has filled, and the topics that it was filled from."""

    own_stack: OwnStack
    database: Database
    producer: RecordProducer
    folder: Path

    def rebuild(self, *arguments: str) -> Said:
        """Run the command."""
        environment = {"HCP_POSTGRES_DSN": self.database.dsn}
        return hcp(self.own_stack.addresses, "rebuild", "operational", "--json", *arguments, environment=environment)

    def change(self, statement: str) -> None:
        """Do what nobody should."""
        with psycopg.connect(self.database.dsn) as connection:
            connection.execute(statement.encode())

    def contents(self) -> list[list[dict[str, Any]]]:
        """Every row that the sink wrote."""
        return [
            self.database.ask(f"select workload_id, {OWNED} from workloads order by 1"),  # noqa: S608  # ours
            self.database.ask("select * from invoices order by 1"),
            self.database.ask("select * from invoice_lines order by 1, 2"),
        ]

    def sink(self) -> None:
        """Run the sink until it has everything."""
        environment = {"HCP_POSTGRES_DSN": self.database.dsn}
        services = self.own_stack.addresses
        with sink_process(services, None, self.folder, sink="operational", environment=environment):
            wait_until(lambda: self.database.count("invoice_lines") == WORKLOADS * USAGES, "all usage is billed")
            wait_until(self.is_settled, "it has taken and committed all")

    def is_settled(self) -> bool:
        """Whether nothing waits, by what the command says."""
        return "wait for the sink" not in self.rebuild().err


def rows(said: Said) -> dict[str, dict[str, Any]]:
    """The printed rows by table."""
    return {row["table"]: row for row in map(json.loads, said.out.splitlines())}


@pytest.fixture(scope="module")
def world(own_stack: OwnStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Workloads at every stage of their lives, each billed thrice, some of it sent twice."""
    producer = RecordProducer(bootstrap=own_stack.addresses.kafka_bootstrap, produced_by="test")
    with fresh_database(own_stack.addresses) as database:
        prepare(database.dsn, DEMO_FLEET)
        found = World(
            own_stack=own_stack, database=database, producer=producer, folder=tmp_path_factory.mktemp("operational")
        )
        for number in range(WORKLOADS):
            _live(found, number)
        producer.send_raw(WORKLOAD_EVENTS.name, b"x", b"rubbish", partition=0)
        producer.flush()
        found.sink()
        yield found
    producer.close()


def _live(world: World, number: int) -> None:
    workload_id, user_id = str(uuid4()), id_from_content("user")
    with psycopg.connect(world.database.dsn) as connection:
        connection.execute(
            "insert into customers (customer_id, name) values (%s, 'acme') on conflict do nothing", (CUSTOMER,)
        )
        connection.execute(
            "insert into users (user_id, customer_id, email, kind, role, password_hash) "
            "values (%s, %s, 'a@example.com', 'person', 'customer', 'x') on conflict do nothing",
            (user_id, CUSTOMER),
        )
        connection.execute(
            "insert into workloads (workload_id, customer_id, submitted_by, name, workload_type, priority, "
            "device_class, device_count, requirements, reserved_usd_micros, created_at) "
            "values (%s, %s, %s, 'w', 'batch', 5, 'h100', 2, '{}', 0, now())",
            (workload_id, CUSTOMER, user_id),
        )
    for place, kind in enumerate(LIFE[: 1 + number % len(LIFE)]):
        event = replace(
            EVENT,
            event_id=str(uuid4()),
            workload_id=workload_id,
            event_type=kind,
            run_number=0 if kind in {KINDS.CREATED, KINDS.QUEUED} else 1,
            queue_position=number if kind is KINDS.QUEUED else None,
            observed_at_ms=EpochMs(AT + place * 1_000),
        )
        world.producer.send(event)
        if number % 3 == 0:
            world.producer.send(event)
    for place in range(USAGES):
        usage = replace(USAGE, usage_id=str(uuid4()), workload_id=workload_id, customer_id=CUSTOMER)
        world.producer.send(replace(usage, amount_usd_micros=1_000 * number + place))
        if number % 4 == 0:
            world.producer.send(replace(usage, amount_usd_micros=1_000 * number + place))
    world.producer.flush()


def test_the_model_made_anew_is_the_live_one(world: World) -> None:
    """Every row of three tables, and nothing of it is written."""
    before = world.contents()
    said = world.rebuild()
    assert said.code == 0, said.out + said.err
    found = rows(said)
    assert [row["rows anew"] for row in found.values()] == [WORKLOADS, 1, WORKLOADS * USAGES]
    for row in found.values():
        assert row["rows anew"] == row["rows live"]
        assert row["content anew"] == row["content live"]
    assert "1 no_record" in said.err
    assert world.contents() == before


def test_what_was_broken_is_found_and_put_right(world: World) -> None:
    """A status, a cost, a line, an invoice changed by hand: each is told; written anew, all is as it was."""
    before = world.contents()
    world.change(
        "update workloads set status = 'failed' "  # of one: the greatest offset may be that of several partitions
        "where workload_id = (select workload_id from workloads order by kafka_offset desc, workload_id limit 1)"
    )
    world.change(
        "update workloads set cost_usd_micros = 0 "
        "where workload_id = (select min(workload_id::text)::uuid from workloads)"
    )
    world.change("delete from invoice_lines where usage_id = (select min(usage_id::text)::uuid from invoice_lines)")
    world.change("update invoices set amount_usd_micros = amount_usd_micros + 1")
    said = world.rebuild()
    assert said.code == 3
    found = rows(said)
    assert 1 <= found["workloads"]["wrong"] <= 2
    assert (found["invoice_lines"]["missing"], found["invoices"]["wrong"]) == (1, 1)
    assert world.contents() != before
    said = world.rebuild("--write", "--why", "a test broke it")
    assert (said.code, said.err.splitlines()[-1]) == (0, "the live tables were put right")
    assert world.contents() == before
    assert world.rebuild().code == 0


def test_what_the_sink_has_not_come_to_is_left_out(world: World) -> None:
    """The sink is down: what comes meanwhile waits, and is no fault of the model."""
    (first, *_) = world.database.ask(
        "select workload_id::text as id from workloads where status = 'running' order by 1"
    )
    late = replace(
        EVENT,
        event_id=str(uuid4()),
        workload_id=first["id"],
        event_type=KINDS.COMPLETED,
        run_number=1,
        queue_position=None,
        observed_at_ms=EpochMs(AT + 60_000),
    )
    world.producer.send(late)
    world.producer.flush()
    said = world.rebuild()
    assert said.code == 0, said.out
    assert ", 1 wait for the sink" in said.err
    world.sink()
    assert world.rebuild().code == 0
    assert world.database.count("workloads where status = 'completed' and workload_id::text = %s", first["id"]) == 1


def test_a_running_sinks_tables_are_not_written(world: World) -> None:
    """Two writers would undo each other."""
    environment = {"HCP_POSTGRES_DSN": world.database.dsn}
    with sink_process(
        world.own_stack.addresses, None, world.folder, sink="operational", environment=environment
    ) as sink:
        sink.wait_said("sink_ready")
        said = world.rebuild("--write")
    assert said.code == 1
    assert "the sink operational must be stopped while its tables are written, was: 1 at work" in said.err


def test_a_topic_that_lost_its_start_is_refused(world: World) -> None:
    """Rows of then follow from nothing that is left."""
    (line,) = world.database.ask(
        "select kafka_partition as p, max(kafka_offset) as o from invoice_lines group by 1 order by 2 desc limit 1"
    )
    admin = AdminClient({"bootstrap.servers": world.own_stack.addresses.kafka_bootstrap})
    for done in admin.delete_records([TopicPartition(BILLING_USAGE.name, line["p"], line["o"])]).values():
        done.result(timeout=60)
    said = world.rebuild()
    assert said.code == 1
    assert f"retention has eaten billing.usage[{line['p']}] before offset {line['o']}" in said.err
