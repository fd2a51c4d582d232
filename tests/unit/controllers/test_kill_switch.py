"""The kill switch goes on looking and stopping, whatever fails: its directory, a shard, a driver."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from controllers.kill_switch import KillSwitch, kill_switch_file
from controllers.machines import Machines
from controllers.ports import Ack, Applied, Machine, Refused
from hcp.model.facilities import Shard
from tests.unit.controllers.world import FLEET, GPU, HOME, SHARDS

WAIT_SECONDS_MAX = 60
Stop = Callable[[], Awaitable[Ack]]


@asynccontextmanager
async def watched(switch: KillSwitch) -> AsyncIterator["asyncio.Task[None]"]:
    """Let a switch watch; it must still watch at the end."""
    task = asyncio.create_task(switch.watch())
    yield task
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while not condition():  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0.01)


def failures() -> float:
    """Return how many passes have failed."""
    return REGISTRY.get_sample_value("hcp_kill_switch_failures_total") or 0.0


def block(directory: Path) -> None:
    """Put a file where the directory of the switch must be; permissions would not stop root."""
    directory.rmdir()
    directory.touch()


@pytest.fixture
def machines(tmp_path: Path) -> Machines:
    """Simulated hardware of the demo fleet."""
    return Machines(fleet=FLEET, facilities=(), state_dir=tmp_path)


def running(machines: Machines) -> int:
    """Count the devices on which anything runs."""
    rows = [(machines.hardware.shard(shard_id), shard.device_count) for shard_id, shard in SHARDS.items()]
    return sum(any(shard.read(index).running) for shard, count in rows for index in range(count))


async def test_a_directory_that_cannot_be_made_is_tried_again(tmp_path: Path, machines: Machines) -> None:
    """An OSError in a pass ends no watch: counted each time, logged once; the file works when it can be there."""
    path = kill_switch_file(tmp_path)
    path.parent.touch()
    before = failures()
    switch = KillSwitch(path, shards=SHARDS, machines_of=machines.of_shard)
    with capture_logs() as logged:
        async with watched(switch):
            await eventually(lambda: failures() >= before + 2)
            assert running(machines) == FLEET.device_count
            path.parent.unlink()
            await eventually(path.parent.is_dir)
            path.touch()
            await eventually(lambda: logged[-1]["event"] == "kill_switch_set")
            assert running(machines) == 0
    assert [each["event"] for each in logged] == ["kill_switch_failed", "kill_switch_works_again", "kill_switch_set"]


async def test_a_directory_that_is_lost_leaves_devices_stopped(tmp_path: Path, machines: Machines) -> None:
    """Where the file can no longer be looked for, what it last said holds."""
    path = kill_switch_file(tmp_path)
    switch = KillSwitch(path, shards=SHARDS, machines_of=machines.of_shard)
    async with watched(switch):
        await eventually(path.parent.is_dir)
        path.touch()
        await eventually(lambda: running(machines) == 0)
        before = failures()
        path.unlink()
        block(path.parent)
        await eventually(lambda: failures() > before)
        assert switch.is_set
        machines.hardware.shard(GPU).set_running(0, HOME[GPU], is_running=True)
        await eventually(lambda: running(machines) == 0)
        path.parent.unlink()
        await eventually(lambda: not switch.is_set)


@dataclass(slots=True, kw_only=True)
class FakeDevice:
    """A machine and its device, of which only the stop is asked."""

    stop: Stop
    orders: int = 0

    @property
    def device(self) -> "FakeDevice":
        """Return the device: itself."""
        return self

    def safe_stop(self, *, reason: str) -> Awaitable[Ack]:  # noqa: ARG002  # the port's signature
        """Do what this test's driver does."""
        self.orders += 1
        return self.stop()


def _raise_at_once() -> Awaitable[Ack]:
    raise RuntimeError("a driver that raises before anything is awaited")


async def _raise() -> Ack:
    raise OSError("the device is off the bus")


async def _cancel() -> Ack:
    raise asyncio.CancelledError  # as of a driver whose connection was given up by someone else


async def _refuse() -> Ack:
    return Refused(detail="stop must be taken, was refused")


async def _accept() -> Ack:
    return Applied()


async def test_no_driver_keeps_another_device_from_being_stopped(tmp_path: Path) -> None:
    """Drivers that raise, cancel or refuse, and a shard that cannot be opened: all others are stopped, each pass."""
    stops: list[Stop] = [_raise_at_once, _raise, _cancel, _refuse, _accept]
    devices = [FakeDevice(stop=stop) for stop in stops]
    lost, kept = "a.lost-1/00", "a.kept-1/00"

    def machines_of(shard_id: str) -> Mapping[int, Machine]:
        if shard_id == lost:
            raise OSError("the shard cannot be opened")
        return dict(enumerate(devices))  # type: ignore[arg-type]  # a stop is all that is asked of them

    path = kill_switch_file(tmp_path)
    path.parent.mkdir()
    path.touch()
    shards = {shard_id: _shard(shard_id, len(devices)) for shard_id in (lost, kept)}
    before = failures()
    async with watched(KillSwitch(path, shards=shards, machines_of=machines_of)):
        await eventually(lambda: all(device.orders >= 2 for device in devices))
    assert failures() == before, "a device's failure is its own, not the pass's"


def _shard(shard_id: str, device_count: int) -> Shard:
    return Shard(
        facility_id="a",
        cluster_id=shard_id.partition("/")[0],
        shard_id=shard_id,
        device_class="h100",
        device_count=device_count,
    )
