"""The switch protocol over real processes and a real Redis: mining to inference and back, and whatever goes wrong."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from controllers.drivers.freezer import HoldState
from controllers.executor import BUDGETS_MS, DeviceReport, Executor
from controllers.journal import Journal, connect, open_journal
from controllers.readings import Readings
from controllers.recovery import recover
from hcp.model.commands import ControllerCommand, DeviceOutcome
from hcp.model.devices import DeviceMode
from hcp.stack import StackAddresses
from tests.gpu_lab import DEVICE, SHARD, GpuLab, gpu_lab

pytestmark = pytest.mark.services
MINING, INFERENCE, IDLE = DeviceMode.MINING, DeviceMode.AI_INFERENCE, DeviceMode.IDLE
LATE_MS = 800
"""Later than any step may take."""
Hook = Callable[[str, str], Awaitable[None]]


class CrashError(BaseException):
    """The controller dies here, as far as the executor can tell."""


@dataclass(slots=True, kw_only=True)
class Rig:
    """The lab under a journal."""

    lab: GpuLab
    redis: Redis
    journal: Journal
    readings: Readings

    async def execute(self, order: ControllerCommand, hook: Hook | None = None) -> DeviceReport:
        """Execute a command for the one device."""
        executor = Executor(journal=self.journal, readings=self.readings, after_step=hook)
        (report,) = await executor.execute(order, {0: self.lab.machine})
        return report

    async def begin_in(self, mode: DeviceMode) -> None:
        """Bring the device to a mode, and let the readings know."""
        await self.lab.put_in(mode)
        await self.readings.refresh({DEVICE: self.lab.machine})

    async def succeed(self) -> None:
        """Do what a controller does that starts after another one's death."""
        self.journal = await open_journal(self.redis)
        await recover(self.journal, SHARD, {0: self.lab.machine}, abandoned_ms=0)


@pytest_asyncio.fixture
async def rig(services: StackAddresses, tmp_path: Path) -> AsyncIterator[Rig]:
    """Both workloads at rest, an empty journal (Redis database 6), no readings."""
    redis = connect(services.redis_url.rsplit("/", 1)[0] + "/6")
    await redis.flushdb()
    try:
        async with gpu_lab(tmp_path, server_options=("--weights-mb", "4", "--own-load")) as lab:
            yield Rig(lab=lab, redis=redis, journal=await open_journal(redis), readings=Readings())
    finally:
        await redis.aclose()


async def test_switch_there_and_back_is_verified(rig: Rig) -> None:
    """Each way ends committed, every phase is timed, and exactly the wanted process works."""
    await rig.begin_in(MINING)
    for to_mode, from_mode in ((INFERENCE, MINING), (MINING, INFERENCE), (IDLE, MINING), (INFERENCE, IDLE)):
        report = await rig.execute(rig.lab.command(to_mode, from_mode=from_mode))
        assert (report.outcome, report.mode, report.detail) == (DeviceOutcome.COMMITTED, to_mode, "")
        assert list(report.phases_ms) == list(BUDGETS_MS)
        assert await rig.lab.active() == (() if to_mode is IDLE else (to_mode,))
    saved = await rig.redis.get(f"hcp:state:{DEVICE}:{MINING}")
    assert isinstance(saved, bytes)
    assert b"hashes_total" in saved


async def test_wrong_canary_rolls_back(rig: Rig) -> None:
    """A server that wakes in good health and computes other tokens does not keep the device."""
    await rig.begin_in(MINING)
    await rig.lab.fault(rig.lab.server, "corrupt:/resume:1")
    report = await rig.execute(rig.lab.command(INFERENCE, from_mode=MINING))
    assert (report.outcome, report.mode) == (DeviceOutcome.ROLLED_BACK, MINING)
    assert report.detail.startswith("verify: canary must give")
    assert await rig.lab.active() == (MINING,)


async def test_wrong_canary_after_every_rollback_quarantines(rig: Rig) -> None:
    """Neither the miner nor, twice, the way back is proven: everything is stopped and the device set apart."""
    await rig.begin_in(INFERENCE)
    await rig.lab.fault(rig.lab.miner, "no_work")
    await rig.lab.fault(rig.lab.server, "corrupt:/resume")
    report = await rig.execute(rig.lab.command(MINING, from_mode=INFERENCE))
    assert report.outcome is DeviceOutcome.QUARANTINED
    assert report.detail.count("rollback: canary must give") == 2
    assert await rig.lab.active() == ()
    assert rig.lab.device.stops == ["two failed rollbacks"]
    await rig.lab.mend()
    refused = await rig.execute(rig.lab.command(INFERENCE, from_mode=MINING))
    assert refused.outcome is DeviceOutcome.QUARANTINED


@pytest.mark.parametrize("step", ["validate", "pause", "save", "activate"])
async def test_target_killed_in_the_middle_is_rolled_back(rig: Rig, step: str) -> None:
    """A server that dies during its own switch costs nothing: mining goes on, verified."""
    await rig.begin_in(MINING)

    async def kill(done: str, _device_id: str) -> None:
        if done == step:
            rig.lab.server.kill()

    report = await rig.execute(rig.lab.command(INFERENCE, from_mode=MINING), kill)
    assert (report.outcome, report.mode) == (DeviceOutcome.ROLLED_BACK, MINING)
    assert await rig.lab.active() == (MINING,)


async def test_source_killed_in_the_middle_does_not_stop_the_switch(rig: Rig) -> None:
    """A miner that dies while it is to be paused does not run: the switch goes on."""
    await rig.begin_in(MINING)

    async def kill(done: str, _device_id: str) -> None:
        if done == "validate":
            rig.lab.miner.kill()

    report = await rig.execute(rig.lab.command(INFERENCE, from_mode=MINING), kill)
    assert (report.outcome, report.mode) == (DeviceOutcome.COMMITTED, INFERENCE)
    assert await rig.lab.active() == (INFERENCE,)


async def test_process_that_crashes_at_its_activation_is_rolled_back(rig: Rig) -> None:
    """A server that ends at the very call that wakes it leaves the device to the miner."""
    await rig.begin_in(MINING)
    await rig.lab.fault(rig.lab.server, "crash:/resume")
    report = await rig.execute(rig.lab.command(INFERENCE, from_mode=MINING))
    assert (report.outcome, report.mode) == (DeviceOutcome.ROLLED_BACK, MINING)
    assert await rig.lab.active() == (MINING,)


@pytest.mark.parametrize("path", ["/resume", "/v1/completions", ""])
async def test_hung_target_is_rolled_back_and_held(rig: Rig, path: str) -> None:
    """A server that hangs is held where it does not pause or may still wake, and mining goes on."""
    await rig.begin_in(MINING)
    await rig.lab.fault(rig.lab.server, f"hang:{path}")
    report = await rig.execute(rig.lab.command(INFERENCE, from_mode=MINING))
    assert (report.outcome, report.mode) == (DeviceOutcome.ROLLED_BACK, MINING)
    assert (rig.lab.server.hold.state() is HoldState.HELD) is (path != "/v1/completions")
    assert await rig.lab.active() == (MINING,)


@pytest.mark.parametrize(("to_mode", "path"), [(INFERENCE, "/resume"), (MINING, "/json_rpc")])
async def test_order_that_takes_effect_late_does_not_wake_a_second_workload(
    rig: Rig, to_mode: DeviceMode, path: str
) -> None:
    """An activation given up and rolled back is still in the program's queue: the process is held before it is met."""
    from_mode = MINING if to_mode is INFERENCE else INFERENCE
    await rig.begin_in(from_mode)
    await rig.lab.fault(rig.lab.programs[to_mode], f"slow:{path}:1:{LATE_MS}")
    began = time.monotonic()
    report = await rig.execute(rig.lab.command(to_mode, from_mode=from_mode))
    assert (report.outcome, report.mode) == (DeviceOutcome.ROLLED_BACK, from_mode)
    while time.monotonic() - began < 2 * LATE_MS / 1_000:
        assert await rig.lab.active() == (from_mode,)
        await asyncio.sleep(0.05)


async def test_hung_source_is_held_and_the_switch_goes_on(rig: Rig) -> None:
    """A server that does not answer its pause is stopped by force, and the miner takes over."""
    await rig.begin_in(INFERENCE)
    await rig.lab.fault(rig.lab.server, "hang:/pause")
    report = await rig.execute(rig.lab.command(MINING, from_mode=INFERENCE))
    assert (report.outcome, report.mode) == (DeviceOutcome.COMMITTED, MINING)
    assert rig.lab.server.hold.state() is HoldState.HELD
    assert await rig.lab.active() == (MINING,)


@pytest.mark.parametrize(("from_mode", "to_mode"), [(MINING, INFERENCE), (INFERENCE, MINING)])
@pytest.mark.parametrize("step", list(BUDGETS_MS))
async def test_crash_at_every_step_ends_in_the_one_mode_it_answers_for(
    rig: Rig, step: str, from_mode: DeviceMode, to_mode: DeviceMode
) -> None:
    """The successor of a controller that died at any step leaves the workload that it answers for, and no other."""
    await rig.begin_in(from_mode)
    order = rig.lab.command(to_mode, from_mode=from_mode)

    async def die(done: str, _device_id: str) -> None:
        if done == step:
            raise CrashError(step)

    with pytest.raises(CrashError):
        await rig.execute(order, die)
    await rig.succeed()
    answer = await rig.execute(order)
    is_forward = step in {"activate", "verify", "commit"}
    assert answer.outcome is (DeviceOutcome.COMMITTED if is_forward else DeviceOutcome.ROLLED_BACK)
    # Between pause and activate nothing runs, which is idle: a successor may go back to that as well.
    is_idle_right = step in {"pause", "save"}
    assert answer.mode in {to_mode if is_forward else from_mode, IDLE if is_idle_right else None}
    assert await rig.lab.active() == (() if answer.mode is IDLE else (answer.mode,))
    assert await rig.journal.take_over(SHARD, abandoned_ms=0) == []


async def test_crash_with_the_target_dead_too_is_rolled_back(rig: Rig) -> None:
    """Controller and server die at the same moment: nothing is left that runs beside what the successor answers."""
    await rig.begin_in(MINING)
    order = rig.lab.command(INFERENCE, from_mode=MINING)

    async def die(done: str, _device_id: str) -> None:
        if done == "activate":
            rig.lab.server.kill()
            raise CrashError(done)

    with pytest.raises(CrashError):
        await rig.execute(order, die)
    await rig.succeed()
    answer = await rig.execute(order)
    assert answer.outcome is DeviceOutcome.ROLLED_BACK
    assert answer.mode in {MINING, IDLE}
    assert await rig.lab.active() == (() if answer.mode is IDLE else (MINING,))
