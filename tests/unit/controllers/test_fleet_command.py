"""Hardware limits, holds and the site's ramp: what keeps a device from being switched, against a real Redis."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from controllers.drivers.hardware import Fault, Step
from controllers.executor import TEMPERATURE_CELSIUS_MAX, Executor
from controllers.fleet_command import FleetCommands, fleet_commands
from controllers.governor import STARTS_TOGETHER_MAX, WAIT_MS_MAX, Governor, RampLimitedError, batches, gaps_ms
from controllers.journal import open_journal
from controllers.limits import PowerStep, limits_of, power_step
from controllers.ports import Telemetry
from controllers.readings import Reading
from controllers.recovery import recover
from hcp.model.commands import ControllerCommand, DeviceOutcome
from hcp.model.devices import UNLIMITED, DeviceClass, DeviceMode, HardwareLimits
from hcp.model.facilities import Fleet
from hcp.model.ids import device_id
from hcp.model.units import MS_PER_HOUR, MS_PER_SECOND, Celsius, DurationMs, Watts
from hcp.stack import StackAddresses
from tests.unit.controllers.world import ASIC, AWAY, FLEET, GPU, HOME, CrashError, World, command, world_at

SITE = FLEET.facilities[0]
CLUSTERS = {cluster.cluster_id: cluster for cluster in SITE.clusters}
HOUR = DurationMs(MS_PER_HOUR)
services = pytest.mark.services


@pytest_asyncio.fixture
async def world(services: StackAddresses, tmp_path: Path) -> AsyncIterator[World]:
    """Simulated hardware and an empty journal."""
    async with world_at(redis_url=services.redis_url, state_dir=tmp_path) as opened:
        yield opened


def _fleet(limits: HardwareLimits = UNLIMITED, *, ramp_mw_per_minute: float = 1.0, feeder: int | None = None) -> Fleet:
    """Return the demo fleet with the ASICs' limits, the site's ramp and its feeders as given."""
    classes = tuple(replace(known, limits=limits) for known in FLEET.device_classes)
    clusters = tuple(replace(cluster, devices_per_feeder=feeder) for cluster in SITE.clusters)
    site = replace(SITE, ramp_mw_per_minute=ramp_mw_per_minute, clusters=clusters)
    return Fleet(facilities=(site,), device_classes=classes)


def _commands(world: World, fleet: Fleet, shard_id: str) -> FleetCommands:
    executor = Executor(journal=world.journal, readings=world.readings)
    return fleet_commands(fleet, fleet.facilities, executor=executor, journal=world.journal)[shard_id.partition("/")[0]]


async def _outcomes(world: World, fleet: Fleet, order: ControllerCommand) -> list[DeviceOutcome]:
    commands = _commands(world, fleet, order.shard_id)
    reports = await commands.execute(order, world.machines.of_shard(order.shard_id))
    assert [report.device_index for report in reports] == list(order.device_indexes)
    for report in reports:
        assert (report.outcome is DeviceOutcome.COMMITTED) is (report.detail == "")
    return [report.outcome for report in reports]


@services
@pytest.mark.parametrize(
    ("limits", "word"),
    [
        (HardwareLimits(minimum_off_ms=HOUR), "start must be 3600000 ms after"),
        (HardwareLimits(starts_per_hour=1), "starts within an hour must be 1"),
    ],
)
async def test_a_start_beyond_the_limits_of_the_hardware_is_refused(
    world: World, limits: HardwareLimits, word: str
) -> None:
    """It says what must be and what was, and the device stays as it was; another controller counts the same."""
    fleet = _fleet(limits)
    assert await _outcomes(world, fleet, command(ASIC, to_mode=DeviceMode.SLEEP)) == [DeviceOutcome.COMMITTED]
    if limits.starts_per_hour:
        order = command(ASIC, to_mode=DeviceMode.MINING, epoch=2)
        assert await _outcomes(world, fleet, order) == [DeviceOutcome.COMMITTED]
        order = command(ASIC, to_mode=DeviceMode.SLEEP, epoch=3)
        assert await _outcomes(world, fleet, order) == [DeviceOutcome.COMMITTED]
    world.journal = await open_journal(world.redis)  # a restart: what Redis keeps still binds
    order = command(ASIC, to_mode=DeviceMode.MINING, epoch=4)
    (report,) = await _commands(world, fleet, ASIC).execute(order, world.machines.of_shard(ASIC))
    assert (report.outcome, report.mode) == (DeviceOutcome.LIMITED, DeviceMode.SLEEP)
    assert report.detail.startswith(word)
    assert world.modes(ASIC) == (DeviceMode.SLEEP,)
    unlimited = await _outcomes(world, _fleet(), replace(order, command_id=order.decision_id))
    assert unlimited == [DeviceOutcome.COMMITTED]


@services
async def test_a_stop_right_after_a_start_is_refused_and_a_safety_stop_is_not(world: World) -> None:
    """`minimum_on` binds whoever commands; `safe_stop` is bound by nothing."""
    fleet = _fleet(HardwareLimits(minimum_on_ms=HOUR))
    await _outcomes(world, fleet, command(ASIC, to_mode=DeviceMode.SLEEP))
    await _outcomes(world, fleet, command(ASIC, to_mode=DeviceMode.MINING, epoch=2))
    refused = await _outcomes(world, fleet, command(ASIC, to_mode=DeviceMode.SLEEP, epoch=3))
    assert refused == [DeviceOutcome.LIMITED]
    await world.machines.of_shard(ASIC)[0].device.safe_stop(reason="test")
    assert world.modes(ASIC) == ()


@services
async def test_a_start_that_was_rolled_back_or_ended_by_recovery_counts(world: World) -> None:
    """Each heats the hardware as a whole one does."""
    fleet = _fleet(HardwareLimits(starts_per_hour=2))
    await _outcomes(world, fleet, command(ASIC, to_mode=DeviceMode.SLEEP))
    world.machines.hardware.shard(ASIC).ask_fault(0, Fault.REFUSE, step=Step.ACTIVATE, times=1)
    failed = await _outcomes(world, fleet, command(ASIC, to_mode=DeviceMode.MINING, epoch=2))
    assert failed == [DeviceOutcome.ROLLED_BACK]
    order = command(ASIC, to_mode=DeviceMode.MINING, epoch=3)
    limits = limits_of(_class(ASIC, fleet), from_mode=order.from_mode, to_mode=order.to_mode)
    executor = Executor(journal=world.journal, readings=world.readings, after_step=_die_after_activate)
    with pytest.raises(CrashError):
        await executor.execute(order, world.machines.of_shard(ASIC), limits=limits)
    assert await recover(world.journal, ASIC, world.machines.of_shard(ASIC), abandoned_ms=0) == 1
    await _outcomes(world, fleet, command(ASIC, to_mode=DeviceMode.SLEEP, epoch=4))
    refused = await _outcomes(world, fleet, command(ASIC, to_mode=DeviceMode.MINING, epoch=5))
    assert refused == [DeviceOutcome.LIMITED]


async def _die_after_activate(step: str, _device_id: str) -> None:
    if step == "activate":
        raise CrashError(step)


def _class(shard_id: str, fleet: Fleet) -> DeviceClass:
    shard = fleet.shard(shard_id)
    found = None if shard is None else fleet.device_class(shard.device_class)
    assert found is not None
    return found


@services
async def test_a_held_device_is_refused_until_it_is_released(world: World) -> None:
    """A lock-out binds every controller, over restarts; the others of the command are switched."""
    await world.journal.hold(GPU, [1], words="locked_out|j.diaz|fan 2 is being changed")
    world.journal = await open_journal(world.redis)
    order = command(GPU, to_mode=AWAY[GPU], devices=(0, 1))
    reports = await _commands(world, _fleet(), GPU).execute(order, world.machines.of_shard(GPU))
    assert [report.outcome for report in reports] == [DeviceOutcome.COMMITTED, DeviceOutcome.HELD]
    assert "j.diaz" in reports[1].detail
    assert world.modes(GPU, 1) == (HOME[GPU],)
    await world.journal.release(GPU, [1])
    order = command(GPU, to_mode=AWAY[GPU], devices=(1,), epoch=2)
    assert await _outcomes(world, _fleet(), order) == [DeviceOutcome.COMMITTED]


@services
@pytest.mark.parametrize(("slows_at", "is_too_hot"), [(None, False), (90.0, False), (86.0, True)])
async def test_a_hot_device_is_not_started_and_may_always_be_stopped(
    world: World, slows_at: float | None, *, is_too_hot: bool
) -> None:
    """The margin is to where this very hardware slows itself; to lower power is what heat asks for."""
    order = command(ASIC, to_mode=DeviceMode.SLEEP)
    _heat(world, DeviceMode.MINING, celsius=TEMPERATURE_CELSIUS_MAX + 10.0, slows_at=None)
    assert await _outcomes(world, _fleet(), order) == [DeviceOutcome.COMMITTED]
    _heat(world, DeviceMode.SLEEP, celsius=84.0, slows_at=slows_at)
    outcomes = await _outcomes(world, _fleet(), command(ASIC, to_mode=DeviceMode.MINING, epoch=2))
    assert outcomes == [DeviceOutcome.UNSAFE if is_too_hot else DeviceOutcome.COMMITTED]


def _heat(world: World, mode: DeviceMode, *, celsius: float, slows_at: float | None) -> None:
    telemetry = Telemetry(
        mode=mode,
        power_watts=Watts(1.0),
        temperature_celsius=Celsius(celsius),
        temperature_max_celsius=None if slows_at is None else Celsius(slows_at),
    )
    name = device_id(shard_id=ASIC, device_index=0)
    world.readings._last[name] = Reading(telemetry=telemetry, at_s=time.monotonic())  # noqa: SLF001  # no other way in


@services
async def test_starts_beyond_the_ramp_are_given_back_and_the_rest_is_done(world: World) -> None:
    """Twelve ASICs want 46 kW; a ramp that gives 20 kW in the time allowed starts as many as fit."""
    asics = tuple(range(12))
    fleet = _fleet(ramp_mw_per_minute=0.004, feeder=1)
    await _outcomes(world, fleet, command(ASIC, to_mode=DeviceMode.SLEEP, devices=asics))
    outcomes = await _outcomes(world, fleet, command(ASIC, to_mode=DeviceMode.MINING, devices=asics, epoch=2))
    each_kw = 3.475 * SITE.pue
    at_once_kw = fleet.facilities[0].ramp_mw_per_minute * 1_000 * 5  # an S21 takes 5 minutes to full power
    assert outcomes.count(DeviceOutcome.COMMITTED) == int(at_once_kw / each_kw)
    assert set(outcomes) == {DeviceOutcome.COMMITTED, DeviceOutcome.LIMITED}


@services
async def test_the_ramp_is_shared_by_the_controllers_of_a_site_and_won_back_with_time(world: World) -> None:
    """What one took another cannot; a bucket in Redis survives both."""
    one = Governor(replace(SITE, ramp_mw_per_minute=0.6), journal=world.journal)
    two = Governor(replace(SITE, ramp_mw_per_minute=0.6), journal=await open_journal(world.redis))
    await one.admit(600.0, capacity_kw=600.0)
    with pytest.raises(RampLimitedError, match=f"within {WAIT_MS_MAX} ms"):
        await two.admit(100.0, capacity_kw=600.0)
    began = time.monotonic()
    await two.admit(5.0, capacity_kw=600.0)  # 10 kW/s
    assert time.monotonic() - began > 5.0 / 10.0 - 0.1


@services
async def test_a_start_waits_for_reductions_of_its_site(world: World) -> None:
    """Reduce first, then add: power that is still drawn is not given away."""
    governor = Governor(SITE, journal=world.journal)
    order: list[str] = []

    async def reduce() -> None:
        async with governor.reducing():
            await asyncio.sleep(0.05)
            order.append("reduced")

    async def start() -> None:
        await governor.admit(1.0, capacity_kw=100.0)
        order.append("started")

    await asyncio.gather(reduce(), start())
    assert order == ["reduced", "started"]


@given(
    indexes=st.lists(st.integers(min_value=0, max_value=511), unique=True, min_size=1, max_size=512).map(sorted),
    feeder=st.none() | st.integers(min_value=1, max_value=200),
    each_kw=st.floats(min_value=0.1, max_value=10.0),
    capacity_kw=st.floats(min_value=0.05, max_value=1_000.0),
)
def test_batches_hold_every_row_once_and_never_more_than_may_start_together(
    indexes: list[int], feeder: int | None, each_kw: float, capacity_kw: float
) -> None:
    """Whatever the feeders and the ramp."""
    made = batches(indexes, devices_per_feeder=feeder, added_kw_each=each_kw, capacity_kw=capacity_kw)
    assert sorted(row for groups in made for rows in groups for row in rows) == list(range(len(indexes)))
    for groups in made:
        assert len({indexes[row] // feeder for rows in groups for row in rows} if feeder else {0}) == 1
        for rows in groups:
            assert len(rows) <= STARTS_TOGETHER_MAX
            assert len(rows) == 1 or len(rows) * each_kw <= capacity_kw


def test_gaps_are_jittered_and_repeatable() -> None:
    """The same command starts the same way again; two commands do not start in step."""
    one, again, other = list(gaps_ms(9, seed="a")), list(gaps_ms(9, seed="a")), list(gaps_ms(9, seed="b"))
    assert one == again != other
    assert one[0] == 0
    assert len(set(one)) > 2


def test_what_a_switch_does_to_the_draw() -> None:
    """Start, stop and level, by the class's own figures."""
    asic, gpu = _class(ASIC, FLEET), _class(GPU, FLEET)
    assert power_step(asic, from_mode=DeviceMode.SLEEP, to_mode=DeviceMode.MINING) is PowerStep.START
    assert power_step(asic, from_mode=DeviceMode.MINING, to_mode=DeviceMode.SLEEP) is PowerStep.STOP
    assert power_step(gpu, from_mode=DeviceMode.IDLE, to_mode=DeviceMode.IDLE) is PowerStep.LEVEL
    limited = replace(asic, limits=HardwareLimits(minimum_on_ms=DurationMs(MS_PER_SECOND), starts_per_hour=3))
    stop = limits_of(limited, from_mode=DeviceMode.MINING, to_mode=DeviceMode.SLEEP)
    assert (stop.since_opposite_ms, stop.starts_per_hour) == (MS_PER_SECOND, 0)
    start = limits_of(limited, from_mode=DeviceMode.SLEEP, to_mode=DeviceMode.MINING)
    assert (start.since_opposite_ms, start.starts_per_hour) == (0, 3)
