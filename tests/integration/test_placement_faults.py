"""A workload's whole way over real topics, and the Resource Manager's death in the middle of a placement."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hcp.clock import wall_ms
from hcp.kafka.admin import ensure_topics
from hcp.kafka.producer import RecordProducer
from hcp.model.commands import ControllerCommand
from hcp.model.devices import DeviceMode
from hcp.model.ids import id_from_content
from hcp.model.ledger import BillingUsage
from hcp.model.markets import PriceSeries
from hcp.model.resources import ResourceState, StateReporter
from hcp.model.units import EpochMs
from hcp.model.workloads import WorkloadEvent, WorkloadEventType
from hcp.stack import StackAddresses
from hcp.topics import BILLING_USAGE, CONTROLLER_COMMAND, RESOURCE_STATE, WORKLOAD_EVENTS
from tests.agent_process import AgentProcesses, Reader
from tests.unit.streams.test_router import created
from tests.unit.streams.world import a_price, a_report, a_result

pytestmark = pytest.mark.services
SITE, GPUS, COUNT = "tx-north", "tx-north.gpu-2/00", 4
"""The A100s of the demo's fleet: no other test's devices."""


class Way:
    """Sends what the gateway, the fleet and controllers would, and reads what comes of it."""

    def __init__(self, services: StackAddresses, directory: Path) -> None:
        """Start with nothing running."""
        ensure_topics(services.kafka_bootstrap)
        self.agents = AgentProcesses(bootstrap=services.kafka_bootstrap, directory=directory)
        names = [CONTROLLER_COMMAND.name, RESOURCE_STATE.name, WORKLOAD_EVENTS.name, BILLING_USAGE.name]
        self.reader = Reader(bootstrap=services.kafka_bootstrap, topics=names)
        self._producer = RecordProducer(bootstrap=services.kafka_bootstrap, produced_by="test")

    def send(self, *values: object) -> None:
        """Put records on their topics."""
        for value in values:
            self._producer.send(value)
        self._producer.flush()

    def event(self, workload_id: str, kind: WorkloadEventType) -> WorkloadEvent:
        """Wait for an event of a workload."""
        found = self.reader.find(
            lambda _, value: (
                isinstance(value, WorkloadEvent) and (value.workload_id, value.event_type) == (workload_id, kind)
            )
        )
        event = found[-1][1]
        assert isinstance(event, WorkloadEvent)
        return event

    def command(self) -> ControllerCommand:
        """Wait for a command to the A100s."""
        found = self.reader.find(lambda _, value: isinstance(value, ControllerCommand) and value.shard_id == GPUS)
        command = found[-1][1]
        assert isinstance(command, ControllerCommand)
        return command

    def owners(self) -> dict[int, str]:
        """Return who holds each A100 by the last report of the Resource Manager."""
        reports = self.reader.present(
            lambda _, value: (
                isinstance(value, ResourceState)
                and (value.shard_id, value.reported_by) == (GPUS, StateReporter.RESOURCES)
            )
        )
        last: Any = reports[-1][1]
        return dict(zip(last.device_indexes, last.owners, strict=True))

    def close(self) -> None:
        """End everything."""
        self.agents.stop_all()
        self.reader.close()
        self._producer.close()


def _submitted(name: str, *, device_count: int, at_ms: int) -> WorkloadEvent:
    workload_id = id_from_content("placement-faults", name, at_ms)
    return created(
        event_id=id_from_content("created", workload_id),
        workload_id=workload_id,
        device_class="a100",
        device_count=device_count,
        facility_id=SITE,
        observed_at_ms=EpochMs(at_ms),
    )


def test_a_placement_survives_kill_9_between_command_and_result(services: StackAddresses, tmp_path: Path) -> None:
    """Mining A100s are switched once, held by one workload, started, billed to the customer's word and given back."""
    way = Way(services, tmp_path)
    now_ms = wall_ms()
    submitted = _submitted("one", device_count=3, at_ms=now_ms)
    workload_id = submitted.workload_id
    try:
        for name in ("resources", "router", "billing"):
            way.agents.start(name)
        way.send(
            a_price(PriceSeries.GPU_RENTAL, "a100", 1.5, at_ms=now_ms, facility_id=SITE),
            a_report(GPUS, modes=(DeviceMode.MINING,) * COUNT, at_ms=now_ms),
        )
        way.reader.find(lambda _, value: isinstance(value, ResourceState) and value.shard_id == GPUS)
        way.reader.find(
            lambda _, value: isinstance(value, ResourceState) and value.reported_by is StateReporter.RESOURCES
        )
        way.send(submitted)
        command = way.command()
        way.agents.kill("resources")
        way.agents.start("resources")
        way.send(submitted, a_result(command))
        started = way.event(workload_id, WorkloadEventType.STARTED)
        assert len(started.device_ids.split()) == submitted.device_count
        assert started.price_usd_micros_per_device_hour == 1_500_000
        assert list(way.owners().values()).count(workload_id) == submitted.device_count
        commands = way.reader.present(lambda _, value: isinstance(value, ControllerCommand) and value.shard_id == GPUS)
        assert {value.command_id for _, value in commands} == {command.command_id}
        cancelled = replace(
            submitted,
            event_id=id_from_content("cancelled", workload_id),
            event_type=WorkloadEventType.CANCELLED,
            observed_at_ms=EpochMs(started.observed_at_ms + 10_000),
        )
        way.send(cancelled)
        ((_, usage),) = way.reader.find(
            lambda _, value: isinstance(value, BillingUsage) and value.workload_id == workload_id
        )
        assert usage.device_seconds == 10 * submitted.device_count
        way.reader.find(lambda _, __: workload_id not in way.owners().values())
    finally:
        way.close()
