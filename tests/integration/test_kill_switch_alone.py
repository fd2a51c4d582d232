"""The kill switch without Kafka and Redis: a file alone brings every device of the fleet to a safe stop."""

import getpass
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest

from controllers.drivers.hardware import Fault, Step
from controllers.kill_switch import kill_switch_file
from controllers.machines import Machines
from hcp.codecs import decode
from hcp.kafka.consumer import BatchConsumer
from hcp.kafka.producer import RecordProducer
from hcp.kafka.ranges import ranges_by_time, read
from hcp.model.commands import ControllerCommand, ControllerResult, DeviceOutcome
from hcp.model.ledger import AuditEvent
from hcp.stack import StackAddresses
from hcp.stack.ports import is_free
from hcp.topics import AUDIT_EVENTS, CONTROLLER_RESULT
from tests.agent_process import ROOT
from tests.fix_services import OwnStack
from tests.unit.controllers.world import AWAY, FLEET, GPU, command

WAIT_SECONDS_MAX: Final = 180.0
NOWHERE: Final = StackAddresses(
    kafka_bootstrap="127.0.0.1:9",  # the discard port: nobody listens there
    timescale_dsn="postgresql://127.0.0.1:9/none",
    redis_url="redis://127.0.0.1:9/0",
)
_never = threading.Event()


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A controller process and the simulated hardware that it drives."""

    process: "subprocess.Popen[bytes]"
    machines: Machines
    state_dir: Path

    @property
    def _log(self) -> str:
        return (self.state_dir / "controller.log").read_text(encoding="utf-8")

    def wait_said(self, event: str) -> None:
        """Wait for an event in the controller's log."""
        self.wait(lambda: event in self._log, event)

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until a condition holds; fail when it does not in time, or when the controller has ended."""
        until = time.monotonic() + WAIT_SECONDS_MAX
        while not condition():
            assert self.process.poll() is None, self._log[-4_000:]
            assert time.monotonic() < until, f"must be: {what}; was {self._log[-4_000:]}"
            _never.wait(0.05)

    def running(self) -> int:
        """Count the devices on which anything runs."""
        rows = {shard.shard_id: self.machines.hardware.shard(shard.shard_id) for shard in FLEET.shards()}
        return sum(
            any(rows[shard.shard_id].read(index).running)
            for shard in FLEET.shards()
            for index in range(shard.device_count)
        )

    def stop(self) -> int:
        """End the controller by SIGTERM; return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=90)


@contextmanager
def _site(addresses: StackAddresses, state_dir: Path) -> Iterator[Site]:
    """Run a controller of the demo fleet on hardware of its own."""
    environment = {
        **os.environ,  # noqa: TID251  # a child process inherits ours
        "HCP_KAFKA_BOOTSTRAP": addresses.kafka_bootstrap,
        "HCP_REDIS_URL": addresses.redis_url,
        "HCP_STATE_DIR": str(state_dir),
        "HCP_FLEET_FILE": str(ROOT / "fleet.demo.toml"),
    }
    with (state_dir / "controller.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "controllers"], cwd=ROOT, env=environment, stderr=log)
    try:
        yield Site(
            process=process,
            machines=Machines(fleet=FLEET, facilities=(), state_dir=state_dir),
            state_dir=state_dir,
        )
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(timeout=90)


def _pull(switch: Path) -> None:
    switch.parent.mkdir(parents=True, exist_ok=True)
    switch.touch()


def test_a_controller_that_never_found_kafka_or_redis_stops_every_device(tmp_path: Path) -> None:
    """Started with neither there, one device hanging: the file stops all, and SIGTERM still ends with 0."""
    with _site(NOWHERE, tmp_path) as site:
        site.wait_said("store_unavailable")
        site.machines.hardware.shard(GPU).ask_fault(0, Fault.HANG)
        assert site.running() == FLEET.device_count
        _pull(kill_switch_file(tmp_path))
        site.wait_said("kill_switch_set")
        assert site.running() == 0
        assert site.stop() == 0


def test_a_file_that_was_there_before_the_start_stops_every_device(tmp_path: Path) -> None:
    """A controller that is started, or started again, under a pulled switch leaves nothing running."""
    _pull(kill_switch_file(tmp_path))
    with _site(NOWHERE, tmp_path) as site:
        site.wait_said("kill_switch_set")
        assert site.running() == 0
        assert site.stop() == 0


def _audited(addresses: StackAddresses) -> list[str]:
    """Return what audit.events holds of the kill switch, in order."""
    ranges = ranges_by_time(addresses.kafka_bootstrap, [AUDIT_EVENTS.name])
    events = [decode(record.value) for batch in read(addresses.kafka_bootstrap, ranges) for record in batch]
    own = [each for each in events if isinstance(each, AuditEvent) and each.action.startswith("kill_switch.")]
    assert all(each.actor == (getpass.getuser() if each.action.endswith("set") else "unknown") for each in own)
    return [each.action for each in own]


@pytest.mark.services
def test_losing_kafka_and_redis_takes_nothing_from_the_kill_switch(own_stack: OwnStack, tmp_path: Path) -> None:
    """A controller at work loses both: the file stops all; when they are back, commands are refused as unsafe."""
    with _site(own_stack.addresses, tmp_path) as site:
        site.wait_said("controller_ready")
        assert _outcomes(site, own_stack.addresses) == {DeviceOutcome.COMMITTED}
        own_stack.stack.down()
        ports = [int(each.rpartition(":")[2].partition("/")[0]) for each in _addresses(own_stack)]
        assert all(is_free(port) for port in ports)
        assert site.running() == FLEET.device_count
        _pull(kill_switch_file(tmp_path))
        site.wait_said("kill_switch_set")
        assert site.running() == 0
        assert own_stack.stack.up(attached=True) == own_stack.addresses
        assert _outcomes(site, own_stack.addresses) == {DeviceOutcome.UNSAFE}
        assert site.running() == 0
        site.wait(lambda: _audited(own_stack.addresses) == ["kill_switch.set"], "who set it is on audit.events")
        kill_switch_file(tmp_path).unlink()
        both = ["kill_switch.set", "kill_switch.released"]
        site.wait(lambda: _audited(own_stack.addresses) == both, "its release too")
        assert site.stop() == 0


@pytest.mark.services
def test_a_switch_under_way_starts_nothing_once_the_file_is_there(own_stack: OwnStack, tmp_path: Path) -> None:
    """Pulled while a device hangs in its switch, whose rollback would bring it back: it ends stopped all the same."""
    with _site(own_stack.addresses, tmp_path) as site:
        site.wait_said("controller_ready")
        rows = site.machines.hardware.shard(GPU)
        rows.ask_fault(1, Fault.HANG, step=Step.ACTIVATE, times=1)
        order = command(GPU, to_mode=AWAY[GPU], devices=(1,), epoch=time.time_ns() // 1_000_000)
        _send(order, own_stack.addresses)
        site.wait(lambda: not any(rows.read(1).running), "the device is between two modes")
        _pull(kill_switch_file(tmp_path))
        site.wait_said("kill_switch_set")
        site.wait_said("command_executed")
        site.wait(lambda: site.running() == 0, "nothing runs")
        assert site.stop() == 0


@pytest.mark.services
def test_a_recovery_starts_nothing_while_the_file_is_there(own_stack: OwnStack, tmp_path: Path) -> None:
    """Kill -9 in the middle of a switch, then the file: the successor's recovery leaves no device running."""
    with _site(own_stack.addresses, tmp_path) as site:
        site.wait_said("controller_ready")
        rows = site.machines.hardware.shard(GPU)
        rows.ask_fault(1, Fault.HANG, step=Step.ACTIVATE, times=200)
        _send(command(GPU, to_mode=AWAY[GPU], devices=(1,), epoch=time.time_ns() // 1_000_000), own_stack.addresses)
        site.wait(lambda: not any(rows.read(1).running), "the device is between two modes")
        site.process.kill()
        site.process.wait(timeout=90)
    rows.ask_fault(1, Fault.NONE)
    _pull(kill_switch_file(tmp_path))
    with _site(own_stack.addresses, tmp_path) as site:
        site.wait_said("controller_ready")
        site.wait(lambda: site.running() == 0, "nothing runs")
        assert site.stop() == 0


def _send(order: ControllerCommand, addresses: StackAddresses) -> None:
    producer = RecordProducer(bootstrap=addresses.kafka_bootstrap, produced_by="test")
    producer.send(order)
    producer.close()


def _addresses(own_stack: OwnStack) -> tuple[str, str]:
    return own_stack.addresses.kafka_bootstrap, own_stack.addresses.redis_url


def _outcomes(site: Site, addresses: StackAddresses) -> set[DeviceOutcome]:
    """Send one command; return the outcomes of its result."""
    order = command(GPU, to_mode=AWAY[GPU], epoch=time.time_ns() // 1_000_000)
    reader = BatchConsumer(
        bootstrap=addresses.kafka_bootstrap, group=f"test-{uuid4()}", topics=(CONTROLLER_RESULT.name,)
    )
    _send(order, addresses)
    found: list[ControllerResult] = []

    def is_answered() -> bool:
        values = [decode(record.value) for record in reader.poll(records_max=100, timeout_ms=100)]
        found.extend(
            value for value in values if isinstance(value, ControllerResult) and value.command_id == order.command_id
        )
        return bool(found)

    site.wait(is_answered, "a result")
    reader.close()
    return set(found[0].outcomes)
