"""The Resource Manager as a process: a decision moves devices once, also across kill -9, and results settle it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hcp.kafka.admin import ensure_topics
from hcp.kafka.producer import RecordProducer
from hcp.model.commands import ControllerCommand, ControllerResult, DeviceOutcome, OrchestratorCommand
from hcp.model.devices import DeviceMode, DeviceState
from hcp.model.ids import id_from_content
from hcp.model.resources import ResourceState, StateReporter, state_key
from hcp.model.units import EpochMs
from hcp.stack import StackAddresses
from hcp.topics import CONTROLLER_COMMAND, RESOURCE_STATE
from tests.agent_process import AgentProcesses, Reader
from tests.examples import AT, DECISION, RESULT, STATE

pytestmark = pytest.mark.services
SITE, SHARD, COUNT = "tx-south", "tx-south.asic-1/00", 12
INDEXES = tuple(range(COUNT))


def _observed() -> ResourceState:
    return replace(
        STATE,
        state_key=state_key(shard_id=SHARD, reported_by=StateReporter.FLEET_MONITOR),
        facility_id=SITE,
        cluster_id="tx-south.asic-1",
        shard_id=SHARD,
        reported_by=StateReporter.FLEET_MONITOR,
        device_indexes=INDEXES,
        modes=(DeviceMode.MINING,) * COUNT,
        states=(DeviceState.ACTIVE,) * COUNT,
        epochs=(0,) * COUNT,
        owners=("",) * COUNT,
    )


def _decision(name: str, *, from_mode: DeviceMode, to_mode: DeviceMode, after_ms: int) -> OrchestratorCommand:
    return replace(
        DECISION,
        command_id=id_from_content("resources-agent", name),
        facility_id=SITE,
        from_mode=from_mode,
        to_mode=to_mode,
        device_count=COUNT,
        observed_at_ms=EpochMs(AT + after_ms),
    )


def _committed(command: ControllerCommand) -> ControllerResult:
    phases: dict[str, Any] = {
        name: (1.0,) * COUNT for name in ControllerResult.__slots__ if name.endswith("_ms") and "at_ms" not in name
    }
    return replace(
        RESULT,
        **{name: getattr(command, name) for name in ControllerCommand.__slots__},
        **phases,
        outcomes=(DeviceOutcome.COMMITTED,) * COUNT,
        modes=(command.to_mode,) * COUNT,
        details=("",) * COUNT,
    )


def test_a_decision_moves_devices_once_across_kill_9(services: StackAddresses, tmp_path: Path) -> None:
    """After kill -9 a decision sent again moves nothing, its result still settles, and the next decision moves on."""
    ensure_topics(services.kafka_bootstrap)
    agents = AgentProcesses(bootstrap=services.kafka_bootstrap, directory=tmp_path)
    reader = Reader(bootstrap=services.kafka_bootstrap, topics=[CONTROLLER_COMMAND.name, RESOURCE_STATE.name])
    producer = RecordProducer(bootstrap=services.kafka_bootstrap, produced_by="test")

    def commands_of(decision: OrchestratorCommand) -> list[ControllerCommand]:
        found = reader.present(
            lambda _, value: isinstance(value, ControllerCommand) and value.decision_id == decision.command_id
        )
        return [value for _, value in found]

    def wait_reported(mode: DeviceMode, state: DeviceState) -> None:
        reader.find(
            lambda _, value: (
                isinstance(value, ResourceState)
                and value.state_key == state_key(shard_id=SHARD, reported_by=StateReporter.RESOURCES)
                and (set(value.modes), set(value.states)) == ({mode}, {state})
            )
        )

    def send(value: object) -> None:
        producer.send(value)
        producer.flush()

    try:
        agents.start("resources")
        send(_observed())
        wait_reported(DeviceMode.MINING, DeviceState.ACTIVE)
        down = _decision("down", from_mode=DeviceMode.MINING, to_mode=DeviceMode.SLEEP, after_ms=1_000)
        send(down)
        reader.find(lambda _, value: value in commands_of(down))
        wait_reported(DeviceMode.MINING, DeviceState.SWITCHING)
        agents.kill("resources")
        agents.start("resources")
        send(down)
        send(_committed(commands_of(down)[0]))
        wait_reported(DeviceMode.SLEEP, DeviceState.ACTIVE)
        up = _decision("up", from_mode=DeviceMode.SLEEP, to_mode=DeviceMode.MINING, after_ms=2_000)
        send(up)
        reader.find(lambda _, value: value in commands_of(up))
        assert {command.command_id for command in commands_of(down)} == {commands_of(down)[0].command_id}
        assert commands_of(down)[0].device_indexes == INDEXES
        assert min(commands_of(up)[0].epochs) > max(commands_of(down)[0].epochs)
    finally:
        agents.stop_all()
        reader.close()
        producer.close()
