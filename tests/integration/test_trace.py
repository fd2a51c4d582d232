"""`hcp trace`: the same chain from the database and from the topics, from any record of it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import pytest

from hcp.codecs import decode
from hcp.kafka.admin import ensure_topics
from hcp.kafka.producer import RecordProducer
from hcp.kafka.ranges import ranges_by_time, read
from hcp.kafka.records import ConsumedRecord, address_words
from hcp.model.ids import device_id
from hcp.stack import StackAddresses
from hcp.topics import topic_of
from sinks.timescale.migrations import migrate
from sinks.timescale.writer import Decoded, Writer
from streams.tickets import placement_id
from tests.cli_runs import Said, hcp
from tests.examples import ALERT, AUDIT, COMMAND, DECISION, EVENT, ORDER, OUTLOOK, PRICE, RECOMMENDATION, RESULT, USAGE
from tests.sink_process import Database, fresh_database

pytestmark = pytest.mark.services


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Records by name as they lie on the broker, and a database that has them."""

    services: StackAddresses
    database: Database
    records: dict[str, Decoded]

    def address(self, name: str) -> str:
        """Where a record lies."""
        record = self.records[name].record
        return address_words(record.topic, record.partition, record.offset)

    def value(self, name: str) -> Any:
        """A record."""
        return self.records[name].value

    def id(self, name: str, field: str) -> str:
        """An id of a record."""
        return str(getattr(self.value(name), field))

    def trace(self, name: str, *arguments: str) -> Said:
        """Run `hcp trace`."""
        return hcp(self.services, "trace", name, *arguments, environment={"HCP_TIMESCALE_DSN": self.database.dsn})

    def chain(self, name: str, *arguments: str) -> list[dict[str, Any]]:
        """Return the rows of a chain."""
        said = self.trace(name, "--json", *arguments)
        assert said.code == 0, said.err
        return [json.loads(line) for line in said.out.splitlines()]

    def names(self, name: str, *arguments: str) -> set[str]:
        """Return the names of the records in a chain; an unknown record fails."""
        by_address = {self.address(each): each for each in self.records}
        return {by_address[row["record"]] for row in self.chain(name, *arguments)}


def _sent(producer: RecordProducer, bootstrap: str, name: str, value: Any, records: dict[str, Decoded]) -> None:
    """Send a record and find where it lies."""
    topic = topic_of(value)
    producer.send(value)
    producer.flush(timeout_ms=120_000)
    place = topic.partition_of(value)
    found: ConsumedRecord | None = None
    for batch in read(bootstrap, [each for each in ranges_by_time(bootstrap, [topic.name]) if each.partition == place]):
        found = next((each for each in reversed(batch) if decode(each.value) == value), found)
    assert found is not None
    records[name] = Decoded(record=found, value=value)


@pytest.fixture(scope="module")
def world(services: StackAddresses) -> Iterator[World]:
    """A price that led to a switch, a workload that led to another, an order by hand; ids of this run's own."""
    bootstrap = services.kafka_bootstrap
    ensure_topics(bootstrap)
    producer = RecordProducer(bootstrap=bootstrap, produced_by="test")
    records: dict[str, Decoded] = {}

    def send(name: str, value: Any) -> None:
        _sent(producer, bootstrap, name, value, records)

    def value(name: str) -> Any:
        return records[name].value

    def new() -> str:
        return str(uuid4())

    tag = f"t-{uuid4().hex[:8]}"
    send("price", replace(PRICE, facility_id=tag))
    price = records["price"].record
    cause: dict[str, Any] = {
        "cause_topic": price.topic,
        "cause_partition": price.partition,
        "cause_offset": price.offset,
    }
    send("recommendation", replace(RECOMMENDATION, recommendation_id=new(), **cause))
    recommendation_id = value("recommendation").recommendation_id
    send("decision", replace(DECISION, command_id=new(), recommendation_id=recommendation_id, **cause))
    send("sibling", replace(DECISION, command_id=new(), recommendation_id=recommendation_id, **cause))
    send("outlook", replace(OUTLOOK, outlook_id=new(), recommendation_id=recommendation_id))
    decision_id = value("decision").command_id
    shard = f"{tag}.c/00"
    of_shard: dict[str, Any] = {"shard_id": shard, "cluster_id": f"{tag}.c", "facility_id": tag}
    send("command", replace(COMMAND, command_id=new(), decision_id=decision_id, **of_shard))
    command_id = value("command").command_id
    send("result", replace(RESULT, command_id=command_id, decision_id=decision_id, **of_shard))
    workload_id = new()
    send("created", replace(EVENT, event_id=new(), workload_id=workload_id, run_number=0))
    send("placed", replace(EVENT, event_id=new(), workload_id=workload_id, run_number=1))
    placed = placement_id(workload_id, run_number=1)
    send("start", replace(COMMAND, command_id=new(), decision_id=placed, **of_shard))
    send("usage", replace(USAGE, usage_id=new(), workload_id=workload_id))
    send("audit", replace(AUDIT, audit_id=new(), subject=workload_id))
    send("order", replace(ORDER, order_id=new(), **of_shard))
    send("alert", replace(ALERT, alert_id=new(), subject=value("order").order_id))
    producer.close()
    with fresh_database(services) as database:
        migrate(database.dsn)
        writer = Writer(database.dsn, sink="t")
        writer.write(
            list(records.values()),
            expected={},
            following={("t", 0): 1},
            on_refused=lambda refused: pytest.fail(str(refused)),
        )
        writer.close()
        yield World(services=services, database=database, records=records)


@pytest.mark.parametrize("where", [(), ("--scan",)])
def test_a_switch_leads_back_to_its_price_and_on_to_its_result(world: World, where: tuple[str, ...]) -> None:
    """From decision, command or result; what else followed from the price is another chain."""
    wanted = {"price", "recommendation", "decision", "command", "result"}
    assert world.names(world.id("decision", "command_id"), *where) == wanted
    assert world.names(world.id("command", "command_id"), *where) == wanted
    assert world.names(world.address("result"), *where) == wanted


@pytest.mark.parametrize("where", [(), ("--scan",)])
def test_a_price_leads_to_all_that_followed(world: World, where: tuple[str, ...]) -> None:
    """Both decisions, the outlook, and what became of the switch."""
    wanted = {"price", "recommendation", "decision", "sibling", "outlook", "command", "result"}
    assert world.names(world.address("price"), *where) == wanted


@pytest.mark.parametrize("where", [(), ("--scan",)])
def test_a_workload_a_device_and_an_invoice_line_have_chains(world: World, where: tuple[str, ...]) -> None:
    """By workload id, by device, and by the address of a usage that an invoice line names."""
    workload = world.id("created", "workload_id")
    assert world.names(workload, *where) == {"created", "placed", "start", "usage", "audit"}
    assert world.names(world.address("usage"), *where) == {"usage"}
    device = device_id(
        shard_id=world.id("result", "shard_id"),
        device_index=world.value("result").device_indexes[0],
    )
    assert {"result", "command", "decision", "recommendation", "price"} <= world.names(device, *where)
    assert world.names(world.id("order", "order_id"), *where) == {"order", "alert"}


def test_database_and_topics_say_the_same(world: World) -> None:
    """Row by row: addresses, times, gaps, causes and words."""
    name = world.id("decision", "command_id")
    stored, scanned = world.chain(name), world.chain(name, "--scan")
    for row in (*stored, *scanned):
        row["what"] = row["what"].replace(".0 ", " ")
    assert stored == scanned
    assert [row["after"] is None for row in stored] == [True, False, False, False, False]
    assert [row["asked for"] for row in stored] == ["", "", "yes", "", ""]


def test_the_tree_hangs_each_record_under_its_cause(world: World) -> None:
    """A root, and everything else indented under it; what is unknown is one line."""
    said = world.trace(world.id("decision", "command_id"))
    assert said.code == 0, said.err
    lines = said.out.splitlines()
    assert [
        world.address(name) in line
        for name, line in zip(("price", "recommendation", "decision", "command", "result"), lines, strict=True)
    ] == [True] * 5
    assert len({len(line) - len(line.lstrip(" └─│├")) for line in lines}) == 5
    unknown = world.trace(str(uuid4()))
    assert (unknown.code, "must be known, was not" in unknown.err) == (1, True)
