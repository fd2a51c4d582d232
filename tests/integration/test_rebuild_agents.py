"""`hcp rebuild agent`: tables made anew from topics are the agents' own, byte for byte; broken ones are mended."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final
from uuid import uuid4

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from hcp.kafka.admin import group_lag
from hcp.kafka.producer import RecordProducer
from hcp.model.units import EpochMs
from hcp.model.workloads import WorkloadEventType
from hcp.topics import (
    MARKET_PRICE,
    METRICS_ASIC,
    METRICS_GPU,
    OPTIMIZER_RECOMMENDATION,
    RESOURCE_STATE,
    WORKLOAD_EVENTS,
)
from replay.rebuild.tables import FOLDED, tables_of
from tests.agent_process import ROOT, AgentProcesses
from tests.cli_runs import Said, hcp
from tests.examples import AT, EVENT
from tests.fix_services import OwnStack
from tests.sink_process import wait_until

pytestmark = pytest.mark.services
AGENTS: Final = ("optimizer", "fleet_monitor", "orchestrator", "regret", "billing", "router")
INPUTS: Final = (MARKET_PRICE, METRICS_GPU, METRICS_ASIC, OPTIMIZER_RECOMMENDATION, RESOURCE_STATE, WORKLOAD_EVENTS)
TABLES: Final = [(each.agent, each.name) for each in FOLDED]
TELEMETRY_SECONDS: Final = 8.0


@pytest.fixture(scope="module")
def agents(own_stack: OwnStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcesses]:
    """Agents that have worked through a week of prices, telemetry of every device and three workloads."""
    bootstrap = own_stack.addresses.kafka_bootstrap
    found = AgentProcesses(bootstrap=bootstrap, directory=tmp_path_factory.mktemp("agents"))
    try:
        for name in AGENTS:
            found.start(name)
        _simulate(bootstrap, "fleet", seconds_max=TELEMETRY_SECONDS)
        _simulate(bootstrap, "market", "--speed", "0")
        _simulate(bootstrap, "fleet", seconds_max=TELEMETRY_SECONDS)
        producer = RecordProducer(bootstrap=bootstrap, produced_by="test")
        for number in range(3):
            _submit(producer, number)
        producer.send_raw(MARKET_PRICE.name, b"tx-north", b"rubbish", partition=MARKET_PRICE.partitions - 1)
        producer.close()
        _wait_taken(bootstrap)
        yield found
    finally:
        found.stop_all()


def _simulate(bootstrap: str, what: str, *options: str, seconds_max: float | None = None) -> None:
    argv = [sys.executable, "-m", "hcp", "simulate", what, "--fleet", "fleet.demo.toml", *options]
    env = {**os.environ, "HCP_KAFKA_BOOTSTRAP": bootstrap}  # noqa: TID251  # for a child process
    with subprocess.Popen(argv, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            process.wait(seconds_max or 180.0)
        except subprocess.TimeoutExpired:
            process.terminate()
    assert process.returncode == 0


def _submit(producer: RecordProducer, number: int) -> None:
    workload_id = str(uuid4())
    kinds = (
        WorkloadEventType.CREATED,
        WorkloadEventType.PLACED,
        WorkloadEventType.STARTED,
        WorkloadEventType.COMPLETED,
    )
    for place, kind in enumerate(kinds[: 2 + number]):
        producer.send(
            replace(
                EVENT,
                event_id=str(uuid4()),
                workload_id=workload_id,
                event_type=kind,
                run_number=min(place, 1),
                queue_position=None,
                observed_at_ms=EpochMs(AT + place * 60_000),
            )
        )


def _wait_taken(bootstrap: str) -> None:
    for each in FOLDED:
        names = [topic.name for topic in each.topics]
        wait_until(lambda group=each.group, names=names: group_lag(bootstrap, group, names) == 0, f"{each} is fed")  # type: ignore[misc]


def _rebuild(own_stack: OwnStack, *arguments: str) -> Said:
    environment = {"HCP_FLEET_FILE": str(ROOT / "fleet.demo.toml")}
    return hcp(own_stack.addresses, "rebuild", "agent", *arguments, "--json", environment=environment)


def _rows(said: Said) -> dict[str, dict[str, Any]]:
    return {row["table"]: row for row in map(json.loads, said.out.splitlines())}


@pytest.mark.parametrize("name", AGENTS)
def test_tables_made_anew_are_the_agents_own(own_stack: OwnStack, agents: AgentProcesses, name: str) -> None:
    """Every table that follows from topics, while its agent runs: the same keys, the same bytes."""
    assert agents.exit_code(name) is None
    said = _rebuild(own_stack, name)
    assert said.code == 0, said.out + said.err
    rows = _rows(said)
    assert set(rows) == {each.name for each in tables_of(name)}
    for row in rows.values():
        assert row["content anew"] == row["content held"]
        assert row["states"] == row["held"] > 0
        assert row["records"] > 0


def test_what_no_topic_orders_is_said(own_stack: OwnStack, agents: AgentProcesses) -> None:
    """The router's choice of a site follows from three topics; nothing keeps which record came first."""
    assert agents.exit_code("router") is None
    assert "workloads: several topics feed it" in _rebuild(own_stack, "router").err
    assert "allocations: several topics feed it" in _rebuild(own_stack, "resources").err


def test_a_table_that_was_broken_is_mended(own_stack: OwnStack, agents: AgentProcesses) -> None:
    """One state lost, one overwritten, one put in: each is told; written back with the agent stopped, it goes on."""
    bootstrap = own_stack.addresses.kafka_bootstrap
    (table,) = tables_of("regret")
    said = _rebuild(own_stack, "regret")
    assert agents.stop("regret") == 0
    producer = RecordProducer(bootstrap=bootstrap, produced_by="test")
    partition = {site: OPTIMIZER_RECOMMENDATION.partition_of(_Site(site)) for site in ("tx-north", "tx-south")}
    producer.send_raw(table.changelog, b"tx-north", None, partition["tx-north"])
    producer.send_raw(table.changelog, b"tx-south", b"\x01\xc0", partition["tx-south"])
    producer.send_raw(table.changelog, b"nowhere", b"\x01\xc0", 0)
    producer.flush()
    broken = _rebuild(own_stack, "regret")
    assert broken.code == 3
    row = _rows(broken)["regrets"]
    assert (row["wrong"], row["missing"], row["unknown"]) == (1, 1, 1)
    assert "wrong: tx-south" in broken.err
    assert "missing: tx-north" in broken.err
    assert "unknown: nowhere" in broken.err
    mended = _rebuild(own_stack, "regret", "--write", "--why", "a test broke it")
    assert mended.code == 0, mended.err
    assert "3 states written" in mended.err
    whole = _rebuild(own_stack, "regret")
    assert (whole.code, _rows(whole)["regrets"]["content held"]) == (0, _rows(said)["regrets"]["content held"])
    agents.start("regret")
    _simulate(bootstrap, "market", "--speed", "0")
    _wait_taken(bootstrap)
    assert _rebuild(own_stack, "regret").code == 0


def test_a_running_agents_tables_are_not_written(own_stack: OwnStack, agents: AgentProcesses) -> None:
    """It would go on with what it has in memory."""
    (table,) = tables_of("billing")
    producer = RecordProducer(bootstrap=own_stack.addresses.kafka_bootstrap, produced_by="test")
    producer.send_raw(table.changelog, b"nobody", b"\x01\xc0", 0)
    producer.close()
    said = _rebuild(own_stack, "billing", "--write")
    assert said.code == 1
    assert "agent billing must be stopped while its tables are written, was: 1 at work" in said.err
    assert agents.stop("billing") == 0
    assert _rebuild(own_stack, "billing", "--write").code == 0
    agents.start("billing")
    assert _rebuild(own_stack, "billing").code == 0


def test_a_wrong_name_is_told(own_stack: OwnStack) -> None:
    """An agent or a table that is none, before anything is read."""
    assert "agent must be one of optimizer, " in _rebuild(own_stack, "nobody").err
    assert "table of billing must be one of meters, was sites" in _rebuild(own_stack, "billing", "--table", "sites").err


def test_a_topic_that_lost_its_start_is_refused(own_stack: OwnStack, agents: AgentProcesses) -> None:
    """What retention has eaten is said; only who wants to goes on."""
    assert agents.exit_code("orchestrator") is None
    bootstrap = own_stack.addresses.kafka_bootstrap
    partition = OPTIMIZER_RECOMMENDATION.partition_of(_Site("tx-north"))
    _delete_before(bootstrap, OPTIMIZER_RECOMMENDATION.name, partition, 10)
    said = _rebuild(own_stack, "orchestrator")
    assert said.code == 1
    assert f"retention has eaten optimizer.recommendation[{partition}] before offset 10" in said.err
    assert _rebuild(own_stack, "orchestrator", "--allow-gaps").code in {0, 3}


class _Site:
    """What a topic asks of a record to know its partition."""

    def __init__(self, facility_id: str) -> None:
        self.facility_id = facility_id


def _delete_before(bootstrap: str, topic: str, partition: int, offset: int) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for done in admin.delete_records([TopicPartition(topic, partition, offset)]).values():
        done.result(timeout=60)
