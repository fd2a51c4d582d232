"""The protocol exam, the same for every driver, against a real Redis."""

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import pytest_asyncio

from controllers.drivers.hardware import Fault, Step
from controllers.executor import BUDGETS_MS, TOTAL_MS_MAX, Executor
from controllers.journal import open_journal
from controllers.readings import Readings
from controllers.recovery import recover
from hcp.model.commands import DeviceOutcome
from hcp.stack import StackAddresses
from tests.unit.controllers.world import ASIC, AWAY, GPU, HOME, CrashError, World, command, world_at

pytestmark = pytest.mark.services
each_driver = pytest.mark.parametrize("shard_id", [GPU, ASIC])


@pytest_asyncio.fixture
async def world(services: StackAddresses, tmp_path: Path) -> AsyncIterator[World]:
    """Simulated hardware and an empty journal."""
    async with world_at(redis_url=services.redis_url, state_dir=tmp_path) as opened:
        yield opened


@each_driver
async def test_switch_there_and_back_is_committed(world: World, shard_id: str) -> None:
    """A switch ends committed and verified within 500 ms, every phase is timed, and so is the way back."""
    for epoch, mode in enumerate((AWAY[shard_id], HOME[shard_id]), start=1):
        (report,) = await world.execute(command(shard_id, to_mode=mode, epoch=epoch))
        assert (report.outcome, report.mode, report.detail) == (DeviceOutcome.COMMITTED, mode, "")
        assert world.modes(shard_id) == (mode,)
        assert list(report.phases_ms) == list(BUDGETS_MS)
        assert sum(report.phases_ms.values()) < TOTAL_MS_MAX
        assert (report.settled_ms is not None) is (shard_id == ASIC)


@each_driver
@pytest.mark.parametrize("fault", [Fault.HANG, Fault.REFUSE, Fault.LOST])
@pytest.mark.parametrize("step", [Step.PAUSE, Step.ACTIVATE])
async def test_failing_step_is_rolled_back(world: World, shard_id: str, fault: Fault, step: Step) -> None:
    """A step that hangs, is refused or meets a lost device leaves the device where it was, verified."""
    world.machines.hardware.shard(shard_id).ask_fault(0, fault, step=step, times=1)
    (report,) = await world.execute(command(shard_id, to_mode=AWAY[shard_id]))
    assert (report.outcome, report.mode) == (DeviceOutcome.ROLLED_BACK, HOME[shard_id])
    assert report.detail.startswith(step.name.lower())
    assert world.modes(shard_id) == (HOME[shard_id],)


@each_driver
@pytest.mark.parametrize("fault", [Fault.HANG, Fault.WRONG_PROOF, Fault.LOST])
async def test_failing_proof_is_rolled_back(world: World, shard_id: str, fault: Fault) -> None:
    """No proof, no switch: the device goes back and says why."""
    world.machines.hardware.shard(shard_id).ask_fault(0, fault, step=Step.VERIFY, times=1)
    (report,) = await world.execute(command(shard_id, to_mode=AWAY[shard_id]))
    assert (report.outcome, report.mode) == (DeviceOutcome.ROLLED_BACK, HOME[shard_id])
    assert report.detail.startswith("verify")
    assert world.modes(shard_id) == (HOME[shard_id],)


@each_driver
async def test_state_that_cannot_be_exported_is_rolled_back(world: World, shard_id: str) -> None:
    """Nothing is activated before the paused workload's state is saved."""
    world.machines.hardware.shard(shard_id).ask_fault(0, Fault.HANG, step=Step.EXPORT, times=1)
    (report,) = await world.execute(command(shard_id, to_mode=AWAY[shard_id]))
    assert report.outcome is DeviceOutcome.ROLLED_BACK
    assert "activate" not in report.phases_ms
    assert world.modes(shard_id) == (HOME[shard_id],)


@each_driver
async def test_two_failed_rollbacks_quarantine(world: World, shard_id: str) -> None:
    """A device that cannot be brought back is stopped, quarantined, refused from then on, and released by hand."""
    rows = world.machines.hardware.shard(shard_id)
    rows.ask_fault(0, Fault.WRONG_PROOF, step=Step.VERIFY)
    (report,) = await world.execute(command(shard_id, to_mode=AWAY[shard_id]))
    assert report.outcome is DeviceOutcome.QUARANTINED
    assert report.detail.count("rollback") == 2
    assert world.modes(shard_id) == ()
    rows.ask_fault(0, Fault.NONE)
    (refused,) = await world.execute(command(shard_id, to_mode=HOME[shard_id], epoch=2))
    assert refused.outcome is DeviceOutcome.QUARANTINED
    await world.journal.release(shard_id, [0])
    await world.read(shard_id)
    (report,) = await world.execute(command(shard_id, to_mode=HOME[shard_id], epoch=3))
    assert report.outcome is DeviceOutcome.COMMITTED
    assert world.modes(shard_id) == (HOME[shard_id],)


@each_driver
async def test_older_epoch_is_fenced(world: World, shard_id: str) -> None:
    """A command with an older epoch than the last one taken does nothing; the answer shows the epoch that stands."""
    await world.execute(command(shard_id, to_mode=AWAY[shard_id], epoch=5))
    (report,) = await world.execute(command(shard_id, to_mode=HOME[shard_id], epoch=4))
    assert (report.outcome, report.mode, report.epoch) == (DeviceOutcome.FENCED, AWAY[shard_id], 5)
    assert report.detail == "epoch must be 5 or more, was 4"
    assert world.modes(shard_id) == (AWAY[shard_id],)


@each_driver
async def test_same_command_twice_has_one_effect(world: World, shard_id: str) -> None:
    """A command that comes again is answered as it ended and touches nothing, even when the world moved on."""
    order = command(shard_id, to_mode=AWAY[shard_id])
    await world.execute(order)
    world.machines.hardware.shard(shard_id).stop_all(0)
    (again,) = await world.execute(order)
    assert (again.outcome, again.mode) == (DeviceOutcome.COMMITTED, AWAY[shard_id])
    assert again.phases_ms == {}
    assert world.modes(shard_id) == ()


@each_driver
async def test_device_already_there_is_left_alone(world: World, shard_id: str) -> None:
    """A device seen in the wanted mode is not switched."""
    order = replace(command(shard_id, to_mode=HOME[shard_id]), from_mode=AWAY[shard_id])
    (report,) = await world.execute(order)
    assert (report.outcome, report.mode) == (DeviceOutcome.ALREADY_THERE, HOME[shard_id])
    assert "pause" not in report.phases_ms


@each_driver
async def test_stale_telemetry_refuses(world: World, shard_id: str) -> None:
    """A device without fresh telemetry is not touched."""
    world.readings = Readings()
    (report,) = await world.execute(command(shard_id, to_mode=AWAY[shard_id]))
    assert (report.outcome, report.mode) == (DeviceOutcome.STALE_TELEMETRY, HOME[shard_id])
    assert world.modes(shard_id) == (HOME[shard_id],)


@each_driver
@pytest.mark.parametrize("step", list(BUDGETS_MS))
async def test_crash_at_every_step_is_recovered(world: World, shard_id: str, step: str) -> None:
    """A controller that dies at any step leaves what its successor brings to one verified mode, and answers for."""
    order = command(shard_id, to_mode=AWAY[shard_id])
    with pytest.raises(CrashError):
        await world.execute(order, crash=step)
    world.journal = await open_journal(world.redis)
    await recover(world.journal, shard_id, world.machines.of_shard(shard_id), abandoned_ms=0)
    forward = step in {"activate", "verify", "commit"}
    mode = AWAY[shard_id] if forward else HOME[shard_id]
    assert world.modes(shard_id) == (mode,)
    (answer,) = await world.execute(order)
    assert answer.outcome is (DeviceOutcome.COMMITTED if forward else DeviceOutcome.ROLLED_BACK)
    assert answer.mode is mode


@each_driver
async def test_predecessor_is_fenced_after_takeover(world: World, shard_id: str) -> None:
    """Once a successor took a switch over, the old controller cannot commit it."""
    order = command(shard_id, to_mode=AWAY[shard_id])
    successor = await open_journal(world.redis)

    async def take_over(step: str, _device_id: str) -> None:
        if step == "verify":
            (taken,) = await successor.take_over(shard_id, abandoned_ms=0)
            assert taken.is_taken

    executor = Executor(journal=world.journal, readings=world.readings, after_step=take_over)
    (report,) = await executor.execute(order, world.machines.of_shard(shard_id))
    assert report.outcome is DeviceOutcome.FENCED
    (busy,) = await world.execute(order)
    assert (busy.outcome, busy.mode) == (DeviceOutcome.DUPLICATE, AWAY[shard_id])


@each_driver
async def test_hung_device_delays_no_other(world: World, shard_id: str) -> None:
    """Every other device of the shard is committed in its own time while one hangs."""
    world.machines.hardware.shard(shard_id).ask_fault(3, Fault.HANG, step=Step.ACTIVATE, times=1)
    reports = await world.execute(command(shard_id, to_mode=AWAY[shard_id], devices=tuple(range(8))))
    by_index = {report.device_index: report for report in reports}
    assert by_index.pop(3).outcome is DeviceOutcome.ROLLED_BACK
    assert {report.outcome for report in by_index.values()} == {DeviceOutcome.COMMITTED}
    assert all(sum(report.phases_ms.values()) < TOTAL_MS_MAX for report in by_index.values())


async def test_unknown_device_is_answered(world: World) -> None:
    """A device that the shard does not have is answered, the others are switched."""
    first, second = await world.execute(command(GPU, to_mode=AWAY[GPU], devices=(0, 99)))
    assert (first.outcome, second.outcome) == (DeviceOutcome.COMMITTED, DeviceOutcome.UNKNOWN_DEVICE)


@each_driver
@pytest.mark.parametrize("seed", range(3))
async def test_whatever_happens_the_answer_is_the_truth(world: World, shard_id: str, seed: int) -> None:
    """Under random faults and crashes every device ends in the one mode its answer says, or stopped in quarantine."""
    random = Random(seed)
    rows = world.machines.hardware.shard(shard_id)
    for epoch in range(1, 26):
        fault, step = random.choice([*Fault][2:]), random.choice([*Step][1:5])
        rows.ask_fault(0, random.choice([Fault.NONE, fault]), step=step, times=random.randint(1, 4))
        order = command(shard_id, to_mode=random.choice([AWAY[shard_id], HOME[shard_id]]), epoch=epoch)
        with suppress(CrashError):
            await world.execute(order, crash=random.choice([None, *BUDGETS_MS]))
        world.journal = await open_journal(world.redis)
        await recover(world.journal, shard_id, world.machines.of_shard(shard_id), abandoned_ms=0)
        (answer,) = await world.execute(order)
        rows.ask_fault(0, Fault.NONE)
        if answer.outcome is DeviceOutcome.QUARANTINED:
            assert world.modes(shard_id) == ()
            await world.journal.release(shard_id, [0])
        else:
            assert world.modes(shard_id) == (answer.mode,)
        await world.read(shard_id)
