"""People's orders through all that obeys them: the command line, the Resource Manager, the controller, the hardware."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from controllers.drivers.hardware import Fault
from hcp.kafka.admin import ensure_topics
from hcp.kafka.producer import RecordProducer
from hcp.model.commands import ControllerResult, DeviceOutcome
from hcp.model.devices import DeviceMode, DeviceState
from hcp.model.rejections import DeadLetter
from hcp.model.resources import ResourceState, StateReporter, state_key
from hcp.topics import AUDIT_EVENTS, CONTROLLER_RESULT, OPERATOR_ORDER, RESOURCE_STATE
from tests.agent_process import ROOT, AgentProcesses, Reader
from tests.examples import ORDER, STATE
from tests.fix_services import OwnStack
from tests.integration.test_controllers import Controller
from tests.unit.controllers.world import ASIC, SHARDS, command

pytestmark = pytest.mark.services
COUNT: Final = SHARDS[ASIC].device_count
SITE: Final = "tx-north"


class Floor:
    """A Resource Manager, a controller with its hardware, and the command line, on this module's own services."""

    def __init__(self, own_stack: OwnStack, directory: Path) -> None:
        """Start both and open the books of the ASICs."""
        addresses = own_stack.addresses
        self.bootstrap = addresses.kafka_bootstrap
        ensure_topics(self.bootstrap)
        self.agents = AgentProcesses(bootstrap=self.bootstrap, directory=directory)
        self.controller = Controller(addresses, directory, addresses.redis_url.rsplit("/", 1)[0] + "/6")
        topics = (RESOURCE_STATE.name, AUDIT_EVENTS.name, CONTROLLER_RESULT.name, OPERATOR_ORDER.dead)
        self.reader = Reader(bootstrap=self.bootstrap, topics=topics)
        self.producer = RecordProducer(bootstrap=self.bootstrap, produced_by="test")
        self.agents.start("resources")
        self.controller.start()
        self.producer.send(_observed())
        self.producer.flush()
        self.wait_state(0, DeviceState.ACTIVE)

    def hcp(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command line as a person would."""
        env = {
            **os.environ,  # noqa: TID251  # for a child process
            "HCP_KAFKA_BOOTSTRAP": self.bootstrap,
            "HCP_FLEET_FILE": str(ROOT / "fleet.demo.toml"),
            "COLUMNS": "200",
        }
        return subprocess.run(  # noqa: PLW1510  # the exit code is what some tests look at
            [sys.executable, "-m", "hcp", "device", *arguments], cwd=ROOT, env=env, capture_output=True, text=True
        )

    def ordered(self, *arguments: str) -> str:
        """Run an order that must be taken; return what it printed."""
        done = self.hcp(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def wait_state(self, index: int, state: DeviceState) -> ResourceState:
        """Wait until the books' newest report says so."""
        key = state_key(shard_id=ASIC, reported_by=StateReporter.RESOURCES)
        until = time.monotonic() + 180.0
        while True:
            self.reader.poll()
            reports = [value for _, value in self.reader.seen if getattr(value, "state_key", None) == key]
            if reports and reports[-1].states[index] is state:
                report: ResourceState = reports[-1]
                return report
            assert time.monotonic() < until, reports[-1:]

    def running(self, index: int) -> list[DeviceMode]:
        """Return what a device itself runs."""
        row = self.controller.machines.hardware.shard(ASIC).read(index)
        return [mode for mode in DeviceMode if row.is_running(mode)]

    def wait_running(self, index: int, *modes: DeviceMode) -> None:
        """Wait until the hardware runs exactly these."""
        self.controller.eventually(lambda: self.running(index) == list(modes))

    def command(self, index: int, to_mode: DeviceMode, epoch: int) -> DeviceOutcome:
        """Command a device past the books, as a stray sender would; return how it ended."""
        order = command(ASIC, to_mode=to_mode, devices=(index,), epoch=epoch)
        self.controller.send(order)
        return self.controller.result(order.command_id).outcomes[0]


def _observed() -> ResourceState:
    return replace(
        STATE,
        state_key=state_key(shard_id=ASIC, reported_by=StateReporter.FLEET_MONITOR),
        shard_id=ASIC,
        reported_by=StateReporter.FLEET_MONITOR,
        device_indexes=tuple(range(COUNT)),
        modes=(DeviceMode.MINING,) * COUNT,
        states=(DeviceState.ACTIVE,) * COUNT,
        epochs=(0,) * COUNT,
        owners=("",) * COUNT,
    )


@pytest.fixture(scope="module")
def floor(own_stack: OwnStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Floor]:
    """Give the floor; end what it started."""
    opened = Floor(own_stack, tmp_path_factory.mktemp("floor"))
    try:
        yield opened
    finally:
        opened.agents.stop_all()
        if opened.controller.process is not None and opened.controller.process.poll() is None:
            opened.controller.process.kill()
            opened.controller.process.wait()
        opened.controller.producer.close()
        opened.controller.consumer.close()
        opened.reader.close()
        opened.producer.close()


def test_a_device_in_maintenance_runs_on_and_is_not_switched(floor: Floor) -> None:
    """The command line shows what was and is; a command that goes past the books is refused by the controller."""
    said = floor.ordered("maintenance", f"{ASIC}/1", "--why", "fan noise", "--by", "j.diaz")
    assert '"1": ["active", "mining"]' in said
    assert '"1": ["maintenance", "mining"]' in said
    floor.wait_state(1, DeviceState.MAINTENANCE)
    floor.controller.eventually(lambda: floor.controller.said("order_obeyed") > 0)
    assert floor.running(1) == [DeviceMode.MINING]
    assert floor.command(1, DeviceMode.SLEEP, epoch=50) is DeviceOutcome.HELD
    floor.ordered("release", f"{ASIC}/1", "--why", "fan changed", "--by", "k.ono")
    floor.wait_state(1, DeviceState.ACTIVE)


def test_a_lock_out_stops_the_hardware_and_survives_both_processes(floor: Floor) -> None:
    """After kill -9 of controller and Resource Manager it still binds; nobody but its owner ends it."""
    floor.ordered("lock-out", f"{ASIC}/2-3", "--why", "hands inside", "--by", "j.diaz")
    for index in (2, 3):
        floor.wait_running(index)
    (_, result), *_ = floor.reader.find(
        lambda _, value: isinstance(value, ControllerResult) and value.device_indexes == (2, 3)
    )
    assert result.outcomes == (DeviceOutcome.COMMITTED,) * 2
    assert floor.controller.process is not None
    floor.controller.process.kill()
    floor.controller.process.wait()
    floor.agents.kill("resources")
    floor.agents.start("resources")
    floor.controller.start()
    floor.ordered("release", f"{ASIC}/2-3", "--why", "looks done", "--by", "somebody.else")
    assert floor.command(2, DeviceMode.MINING, epoch=60) is DeviceOutcome.HELD
    assert floor.running(2) == []
    shown = floor.ordered("list", "--state", "locked_out")
    assert [line.split()[0] for line in shown.splitlines()[1:]] == [f"{ASIC}/002", f"{ASIC}/003"]
    said = floor.ordered("release", f"{ASIC}/2-3", "--why", "done", "--by", "j.diaz")
    assert '"2": ["active", "sleep"]' in said
    floor.wait_state(2, DeviceState.ACTIVE)


def test_a_switch_by_hand_goes_the_whole_way(floor: Floor) -> None:
    """The order becomes a command, the hardware switches, and the books follow."""
    floor.ordered("switch", f"{ASIC}/5", "--to", "sleep", "--why", "noise complaint")
    floor.wait_running(5, DeviceMode.SLEEP)
    until = time.monotonic() + 180.0
    while floor.wait_state(5, DeviceState.ACTIVE).modes[5] is not DeviceMode.SLEEP:
        assert time.monotonic() < until


def test_a_stop_that_the_device_does_not_take_is_said(floor: Floor) -> None:
    """A pause of a device that nobody can stop ends with its name and why, and the device is held all the same."""
    floor.controller.machines.hardware.shard(ASIC).ask_fault(7, Fault.HANG)
    floor.ordered("pause", f"{ASIC}/7", "--why", "smoke", "--by", "j.diaz")
    floor.wait_state(7, DeviceState.PAUSED)
    floor.reader.find(lambda _, value: isinstance(value, ControllerResult) and value.device_indexes == (7,))
    assert floor.running(7) == []  # as a power relay would, whatever the device answers
    assert floor.command(7, DeviceMode.MINING, epoch=70) is DeviceOutcome.HELD


def test_rubbish_orders_are_dead_lettered_by_both_and_nothing_stops(floor: Floor) -> None:
    """Bytes that are no order, an order of another type, and one for a device that is not there."""
    key = SITE.encode()
    partition = OPERATOR_ORDER.partition_of(replace(ORDER, facility_id=SITE))
    floor.producer.send_raw(OPERATOR_ORDER.name, key, b"junk", partition)
    floor.producer.send(replace(ORDER, shard_id="tx-north.asic-9/00", cluster_id="tx-north.asic-9"))
    floor.producer.flush()
    letters = floor.reader.find(lambda _, value: isinstance(value, DeadLetter), count=4)
    assert {letter.rejected_by.split("-")[0] for _, letter in letters} == {"agent.resources", "controller"}
    floor.ordered("maintenance", f"{ASIC}/9", "--why", "after the rubbish")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("pause", "tx-north.asic-1/00/99", "--why", "x"), "must be from 0 to 11, was tx-north.asic-1/00/99"),
        (("pause", "nonsense", "--why", "x"), "target must be a device"),
        (("list", "nonsense"), "target must be a shard that has reported, was nonsense"),
    ],
)
def test_a_target_that_is_not_there_is_one_line(floor: Floor, arguments: tuple[str, ...], words: str) -> None:
    """What must be and what was, on standard error, exit code 1."""
    done = floor.hcp(*arguments)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_every_order_is_in_the_audit(floor: Floor) -> None:
    """Who, what, from where, before and after."""
    while floor.reader.poll():
        pass
    events = [value for record, value in floor.reader.seen if record.topic == AUDIT_EVENTS.name]
    actions = [event.action for event in events]
    assert {"device.maintenance", "device.lock_out", "device.release", "device.switch", "device.pause"} <= set(actions)
    for event in events:
        assert json.loads(event.before)["devices"].keys() == json.loads(event.after)["devices"].keys()
        assert event.origin
