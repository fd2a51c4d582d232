"""A small fleet of simulated hardware, commands for it, and an executor that crashes where a test says."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from redis.asyncio import Redis

from controllers.executor import DeviceReport, Executor
from controllers.journal import Journal, connect, open_journal
from controllers.machines import Machines
from controllers.readings import Readings
from hcp.fleet import load_fleet
from hcp.model.commands import ControllerCommand
from hcp.model.devices import DeviceMode
from hcp.model.units import EpochMs

FLEET = load_fleet(Path(__file__).resolve().parents[3] / "fleet.demo.toml")
GPU, ASIC = "tx-north.gpu-1/00", "tx-north.asic-1/00"
AWAY = {GPU: DeviceMode.MINING, ASIC: DeviceMode.SLEEP}
HOME = {GPU: DeviceMode.AI_INFERENCE, ASIC: DeviceMode.MINING}
SHARDS = {shard.shard_id: shard for shard in FLEET.shards()}


class CrashError(BaseException):
    """The process dies here, as far as the executor can tell."""


def crash_after(step: str) -> Callable[[str, str], Awaitable[None]]:
    """Return a hook that dies when `step` is done."""

    async def die(done: str, _device_id: str) -> None:
        if done == step:
            raise CrashError(step)

    return die


def command(
    shard_id: str, *, to_mode: DeviceMode, devices: tuple[int, ...] = (0,), epoch: int = 1
) -> ControllerCommand:
    """Return a new command for some devices of a shard."""
    shard = SHARDS[shard_id]
    away = AWAY[shard_id]
    return ControllerCommand(
        command_id=str(uuid4()),
        decision_id=str(uuid4()),
        facility_id=shard.facility_id,
        cluster_id=shard.cluster_id,
        shard_id=shard_id,
        device_class=shard.device_class,
        from_mode=HOME[shard_id] if to_mode is away else away,
        to_mode=to_mode,
        attempt=1,
        device_indexes=devices,
        epochs=(epoch,) * len(devices),
        observed_at_ms=EpochMs(time.time_ns() // 1_000_000),
    )


@dataclass(slots=True, kw_only=True)
class World:
    """Hardware, journal and readings of one test."""

    machines: Machines
    journal: Journal
    readings: Readings
    redis: Redis

    async def read(self, shard_id: str) -> None:
        """Refresh the cached telemetry of a shard."""
        await self.readings.refresh(self.machines.by_device_id(shard_id))

    async def execute(self, order: ControllerCommand, *, crash: str | None = None) -> list[DeviceReport]:
        """Execute a command; die after step `crash`."""
        hook = crash_after(crash) if crash is not None else None
        executor = Executor(journal=self.journal, readings=self.readings, after_step=hook)
        return await executor.execute(order, self.machines.of_shard(order.shard_id))

    def modes(self, shard_id: str, index: int = 0) -> tuple[DeviceMode, ...]:
        """Return what the hardware itself runs."""
        row = self.machines.hardware.shard(shard_id).read(index)
        return tuple(mode for mode in DeviceMode if row.is_running(mode))


@asynccontextmanager
async def world_at(*, redis_url: str, state_dir: Path) -> AsyncIterator[World]:
    """Open a world on an emptied Redis database of its own (number 5)."""
    redis = connect(redis_url.rsplit("/", 1)[0] + "/5")
    await redis.flushdb()
    readings = Readings()
    machines = Machines(fleet=FLEET, facilities=(), state_dir=state_dir)
    try:
        world = World(machines=machines, journal=await open_journal(redis), readings=readings, redis=redis)
        await world.read(GPU)
        await world.read(ASIC)
        yield world
    finally:
        await redis.aclose()
