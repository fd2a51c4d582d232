"""The controller as a process against real Kafka and Redis: command in, result out, whatever dies."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from confluent_kafka import Producer

from controllers.drivers.hardware import Fault, Step
from controllers.machines import Machines
from hcp.codecs import decode, encode
from hcp.kafka.admin import ensure_topics
from hcp.kafka.consumer import BatchConsumer
from hcp.kafka.producer import RecordProducer
from hcp.kafka.replays import HEADER
from hcp.model.commands import ControllerResult, DeviceOutcome
from hcp.model.devices import DeviceMode
from hcp.model.rejections import DeadLetter, RejectReason
from hcp.stack import StackAddresses
from hcp.topics import CONTROLLER_COMMAND, CONTROLLER_RESULT
from tests.unit.controllers.world import AWAY, FLEET, GPU, HOME, command

pytestmark = pytest.mark.services
ROOT = Path(__file__).resolve().parents[2]
WAIT_MS = 30_000


@dataclass(slots=True)
class Controller:
    """A controller process, its hardware and the topics around it."""

    services: StackAddresses
    state_dir: Path
    redis_url: str
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    seen: list[object] = field(default_factory=list)
    producer: RecordProducer = field(init=False)
    consumer: BatchConsumer = field(init=False)
    machines: Machines = field(init=False)

    def __post_init__(self) -> None:
        ensure_topics(self.services.kafka_bootstrap)
        self.producer = RecordProducer(bootstrap=self.services.kafka_bootstrap, produced_by="test")
        self.consumer = BatchConsumer(
            bootstrap=self.services.kafka_bootstrap,
            group=f"test-{uuid4()}",
            topics=(CONTROLLER_RESULT.name, CONTROLLER_COMMAND.dead),
        )
        self.machines = Machines(fleet=FLEET, facilities=(), state_dir=self.state_dir)

    @property
    def log(self) -> Path:
        """What the process said."""
        return self.state_dir / "controller.log"

    def start(self) -> None:
        """Start the process and wait until it is ready."""
        said_before = self.said("controller_ready")
        environment = {
            **os.environ,  # noqa: TID251  # a child process inherits ours
            "HCP_KAFKA_BOOTSTRAP": self.services.kafka_bootstrap,
            "HCP_REDIS_URL": self.redis_url,
            "HCP_STATE_DIR": str(self.state_dir),
            "HCP_FLEET_FILE": str(ROOT / "fleet.demo.toml"),
            **self.environment,
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "controllers"], cwd=ROOT, env=environment, stderr=log
            )
        self.eventually(lambda: self.said("controller_ready") > said_before)

    def stop(self, number: signal.Signals) -> int:
        """End the process by a signal; return its exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(timeout=90)

    def said(self, event: str) -> int:
        """Count an event in the log."""
        return self.log.read_text().count(event) if self.log.exists() else 0

    def eventually(self, condition: Callable[[], bool]) -> None:
        """Read results until a condition holds; fail with the log when it does not in 40 s."""
        end = time.monotonic() + WAIT_MS / 1_000
        while not condition():
            self.seen += [decode(record.value) for record in self.consumer.poll(records_max=100, timeout_ms=50)]
            assert time.monotonic() < end, self.log.read_text()[-4_000:]

    def results(self, command_id: str) -> list[ControllerResult]:
        """Return the results of a command seen so far."""
        return [item for item in self.seen if isinstance(item, ControllerResult) and item.command_id == command_id]

    def send(self, value: object) -> None:
        """Put a record on its topic, now."""
        self.producer.send(value)
        self.producer.flush()

    def result(self, command_id: str, *, count: int = 1) -> ControllerResult:
        """Wait for the `count`-th result of a command."""
        self.eventually(lambda: len(self.results(command_id)) >= count)
        return self.results(command_id)[count - 1]

    def modes(self, shard_id: str, index: int) -> tuple[DeviceMode, ...]:
        """Return what a device really runs."""
        row = self.machines.hardware.shard(shard_id).read(index)
        return tuple(mode for mode in DeviceMode if row.is_running(mode))


@pytest.fixture
def controller(services: StackAddresses, tmp_path: Path) -> Iterator[Controller]:
    """A controller on hardware of its own; ended with the test. Epochs start anew above every earlier test's."""
    running = Controller(services, tmp_path, services.redis_url)
    try:
        yield running
    finally:
        if running.process is not None and running.process.poll() is None:
            running.process.kill()
            running.process.wait()
        running.consumer.close()
        running.producer.close()


def _epoch() -> int:
    return time.time_ns() // 1_000_000


def test_command_in_result_out_and_again(controller: Controller) -> None:
    """A command is executed once; the same command again gets the same result; SIGTERM ends with 0."""
    controller.start()
    order = command(GPU, to_mode=AWAY[GPU], devices=(0, 1, 2), epoch=_epoch())
    controller.send(order)
    first = controller.result(order.command_id)
    assert first.outcomes == (DeviceOutcome.COMMITTED,) * 3
    assert first.modes == (AWAY[GPU],) * 3
    controller.send(order)
    assert controller.result(order.command_id, count=2) == first
    assert controller.said("command_executed") == 1
    assert controller.stop(signal.SIGTERM) == 0


def test_bad_records_are_dead_lettered_and_the_flow_goes_on(controller: Controller) -> None:
    """What is no command, of nowhere, or a replayed one is refused whole with a reason; the next one is executed."""
    controller.start()
    good = command(GPU, to_mode=AWAY[GPU], devices=(4,), epoch=_epoch())
    partition = CONTROLLER_COMMAND.partition_of(good)
    controller.producer.send_raw(CONTROLLER_COMMAND.name, b"x", b"no avro", partition)
    lost = command(GPU, to_mode=AWAY[GPU], epoch=_epoch())
    controller.producer.send(replace(lost, shard_id="tx-north.gpu-1/77"))
    controller.producer.send(replace(lost, device_class="s21"))
    replayed = command(GPU, to_mode=AWAY[GPU], devices=(6,), epoch=_epoch())
    producer = Producer({"bootstrap.servers": controller.services.kafka_bootstrap})
    headers: list[tuple[str, str | bytes | None]] = [(HEADER, b"r-42")]
    producer.produce(CONTROLLER_COMMAND.name, encode(replayed), b"x", partition=partition, headers=headers)
    assert producer.flush(WAIT_MS / 1_000) == 0
    controller.send(good)
    assert controller.result(good.command_id).outcomes == (DeviceOutcome.COMMITTED,)
    wanted = {RejectReason.NOT_A_RECORD, RejectReason.UNKNOWN_SHARD, RejectReason.UNKNOWN_DEVICE_CLASS}
    wanted |= {RejectReason.REPLAYED}
    controller.eventually(lambda: wanted <= {item.reason for item in controller.seen if isinstance(item, DeadLetter)})
    assert controller.results(replayed.command_id) == []


def test_hung_device_delays_no_other_shard(controller: Controller) -> None:
    """While one device hangs, its shard's others are committed and it is rolled back, in one result."""
    controller.start()
    controller.machines.hardware.shard(GPU).ask_fault(5, Fault.HANG, step=Step.ACTIVATE, times=1)
    order = command(GPU, to_mode=AWAY[GPU], devices=tuple(range(8)), epoch=_epoch())
    controller.send(order)
    result = controller.result(order.command_id)
    assert result.outcomes[5] is DeviceOutcome.ROLLED_BACK
    assert result.outcomes.count(DeviceOutcome.COMMITTED) == 7
    assert controller.modes(GPU, 5) == (HOME[GPU],)


def test_killed_in_the_middle_leaves_a_verified_state(controller: Controller) -> None:
    """Killed while a device hangs in the middle of its switch: the successor brings it back, answers and says so."""
    controller.start()
    rows = controller.machines.hardware.shard(GPU)
    rows.ask_fault(6, Fault.HANG, step=Step.ACTIVATE, times=200)
    order = command(GPU, to_mode=AWAY[GPU], devices=(6, 7), epoch=_epoch())
    controller.send(order)
    controller.eventually(lambda: controller.modes(GPU, 6) == ())
    assert controller.stop(signal.SIGKILL) == -signal.SIGKILL
    assert controller.modes(GPU, 6) == ()
    rows.ask_fault(6, Fault.NONE)
    controller.start()
    result = controller.result(order.command_id)
    assert controller.said("switches_recovered") == 1
    assert result.outcomes[0] is DeviceOutcome.ROLLED_BACK
    assert result.modes[0] is HOME[GPU]
    assert controller.modes(GPU, 6) == (HOME[GPU],)
    assert result.outcomes[1] is DeviceOutcome.COMMITTED
    assert controller.modes(GPU, 7) == (AWAY[GPU],)


def test_kill_switch_stops_every_device(controller: Controller) -> None:
    """A file stops all devices within a second and refuses commands until it is taken away."""
    controller.start()
    switch = controller.state_dir / "controllers" / "STOP"
    switch.touch()
    controller.eventually(lambda: controller.said("kill_switch_set") == 1)
    assert controller.modes(GPU, 0) == ()
    order = command(GPU, to_mode=AWAY[GPU], epoch=_epoch())
    controller.send(order)
    assert controller.result(order.command_id).outcomes == (DeviceOutcome.UNSAFE,)


def test_second_controller_shares_the_work(controller: Controller, tmp_path: Path) -> None:
    """While a second controller joins the group and the first is killed, each command has one effect and an answer."""
    controller.start()
    second = Controller(controller.services, tmp_path, controller.redis_url)
    orders = [command(GPU, to_mode=AWAY[GPU], devices=(index,), epoch=_epoch()) for index in range(8)]
    try:
        for order in orders[:4]:
            controller.send(order)
        second.start()
        for order in orders[4:]:
            controller.send(order)
        controller.stop(signal.SIGKILL)
        for order in orders:
            assert controller.result(order.command_id).outcomes == (DeviceOutcome.COMMITTED,)
        assert second.stop(signal.SIGTERM) == 0
    finally:
        if second.process is not None and second.process.poll() is None:
            second.process.kill()
            second.process.wait()
        second.consumer.close()
        second.producer.close()


class Cable:
    """A TCP line to Redis that a test can pull and plug in again, on the same port."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._ends: list[socket.socket] = []
        self.is_plugged = True
        threading.Thread(target=self._accept, daemon=True).start()

    def pull(self) -> None:
        """Cut every connection and refuse new ones."""
        self.is_plugged = False
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._ends.clear()

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            if not self.is_plugged:
                near.close()
                continue
            far = socket.create_connection(self._target)
            self._ends += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=_pump, args=(source, sink), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def test_redis_away_is_waited_for(controller: Controller) -> None:
    """While Redis is away a command waits, the log says so once, and the command is executed when Redis is back."""
    address = urlsplit(controller.services.redis_url)
    assert address.hostname is not None
    assert address.port is not None
    cable = Cable((address.hostname, address.port))
    controller.redis_url = f"redis://127.0.0.1:{cable.port}{address.path or '/0'}"
    controller.start()
    cable.pull()
    order = command(GPU, to_mode=AWAY[GPU], devices=(1,), epoch=_epoch())
    controller.send(order)
    controller.eventually(lambda: controller.said("store_unavailable") == 1)
    assert controller.modes(GPU, 1) == (HOME[GPU],)
    cable.is_plugged = True
    assert controller.result(order.command_id).outcomes == (DeviceOutcome.COMMITTED,)
    assert controller.said("store_unavailable") == 1
    assert controller.stop(signal.SIGTERM) == 0
