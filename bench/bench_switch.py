"""The switch protocol on simulated drivers and a real Redis: p50 and p99 of the whole and of each phase.

Run: `.venv/bin/python bench/bench_switch.py` (starts a stack of its own).
"""

import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import uvloop
from rich.table import Table

from bench.report import against, machine, p50_p99, show, table
from bench.switching import bench_stack, phase_table
from controllers.executor import DeviceReport, Executor
from controllers.journal import connect, open_journal
from controllers.machines import Machines
from controllers.readings import Readings
from hcp.fleet import load_fleet
from hcp.model.commands import ControllerCommand, DeviceOutcome
from hcp.model.devices import DeviceMode
from hcp.model.facilities import Fleet, Shard
from hcp.model.ids import id_from_content
from hcp.model.units import EpochMs

SWITCHES: Final = 1_000
SHARD_ROUNDS: Final = 10
GPU_MS_LIMIT: Final = 200.0
ASIC_MS_LIMIT: Final = 500.0
GPU_SHARD, ASIC_SHARD = "tx-north.gpu-1/00", "tx-north.asic-1/00"
_ENDED: Final = {DeviceOutcome.COMMITTED}


class Bench:
    """Executes commands one after the other and keeps the reports."""

    def __init__(self, *, fleet: Fleet, state_dir: Path, executor: Executor, readings: Readings) -> None:
        """Drive the full fleet's hardware, simulated under `state_dir`."""
        self.machines = Machines(fleet=fleet, facilities=("tx-north",), state_dir=state_dir)
        self.executor = executor
        self.readings = readings
        self.epoch = 0

    async def execute(self, shard_id: str, to_mode: DeviceMode, devices: Sequence[int]) -> list[DeviceReport]:
        """Switch some devices of a shard; every one must end committed."""
        self.epoch += 1
        order = _command(self.machines.shards[shard_id], to_mode, tuple(devices), self.epoch)
        reports = await self.executor.execute(order, self.machines.of_shard(shard_id))
        failed = [report for report in reports if report.outcome not in _ENDED]
        assert not failed, f"every switch must be committed, was {failed[:3]}"
        return reports

    async def one_by_one(self, shard_id: str, to_mode: DeviceMode) -> list[DeviceReport]:
        """Switch 1,000 times to `to_mode`, one device at a time; the way back is not counted."""
        home = self.machines.hardware.shard(shard_id)
        back = next(mode for mode in DeviceMode if home.read(0).is_running(mode))
        back = back if back is not to_mode else _other(to_mode)
        reports: list[DeviceReport] = []
        for number in range(SWITCHES):
            index = number % 512
            if home.read(index).is_running(to_mode):
                await self.execute(shard_id, back, (index,))
            reports += await self.execute(shard_id, to_mode, (index,))
        return reports


def _other(mode: DeviceMode) -> DeviceMode:
    return {
        DeviceMode.AI_INFERENCE: DeviceMode.MINING,
        DeviceMode.SLEEP: DeviceMode.MINING,
    }.get(mode, DeviceMode.AI_INFERENCE)


def _command(shard: Shard, to_mode: DeviceMode, devices: tuple[int, ...], epoch: int) -> ControllerCommand:
    return ControllerCommand(
        command_id=id_from_content("bench", shard.shard_id, epoch),
        decision_id=id_from_content("bench-decision", epoch),
        facility_id=shard.facility_id,
        cluster_id=shard.cluster_id,
        shard_id=shard.shard_id,
        device_class=shard.device_class,
        from_mode=_other(to_mode),
        to_mode=to_mode,
        attempt=1,
        device_indexes=devices,
        epochs=(epoch,) * len(devices),
        observed_at_ms=EpochMs(time.time_ns() // 1_000_000),
    )


async def _shard_row(bench: Bench, shard_id: str, limit_ms: float, to: Table) -> None:
    totals: list[float] = []
    walls: list[float] = []
    home = bench.machines.hardware.shard(shard_id)
    for _ in range(SHARD_ROUNDS):
        modes = [profile for profile in DeviceMode if home.read(0).is_running(profile)]
        target = DeviceMode.MINING if modes != [DeviceMode.MINING] else _away(shard_id)
        began = time.perf_counter()
        reports = await bench.execute(shard_id, target, range(512))
        walls.append((time.perf_counter() - began) * 1_000)
        totals += [sum(report.phases_ms.values()) for report in reports]
    p50, p99 = p50_p99(totals)
    cells = (f"{min(walls):.0f}", f"{max(walls):.0f}", f"{p50:.1f}", f"{p99:.1f}")
    to.add_row(shard_id, *cells, *against(p99, limit_ms))


def _away(shard_id: str) -> DeviceMode:
    return DeviceMode.AI_INFERENCE if shard_id == GPU_SHARD else DeviceMode.SLEEP


async def _bench(redis_url: str, state_dir: Path) -> None:
    redis = connect(redis_url)
    readings = Readings()
    executor = Executor(journal=await open_journal(redis), readings=readings)
    fleet = load_fleet(Path("fleet.toml"))
    bench = Bench(fleet=fleet, state_dir=state_dir, executor=executor, readings=readings)
    shards = (GPU_SHARD, ASIC_SHARD)
    for shard_id in shards:
        await readings.refresh(bench.machines.by_device_id(shard_id))
    for title, shard_id, mode, limit_ms in (
        ("GPU, inference to mining", GPU_SHARD, DeviceMode.MINING, GPU_MS_LIMIT),
        ("GPU, mining to inference", GPU_SHARD, DeviceMode.AI_INFERENCE, GPU_MS_LIMIT),
        ("ASIC, mining to sleep (accepted, read back)", ASIC_SHARD, DeviceMode.SLEEP, ASIC_MS_LIMIT),
        ("ASIC, sleep to mining (accepted, read back)", ASIC_SHARD, DeviceMode.MINING, ASIC_MS_LIMIT),
    ):
        await readings.refresh(bench.machines.by_device_id(shard_id))
        show(phase_table(title, await bench.one_by_one(shard_id, mode), limit_ms))
    title = f"One command for 512 devices, {SHARD_ROUNDS} times"
    columns = (
        "shard",
        "last ack min ms",
        "last ack max ms",
        "device p50 ms",
        "device p99 ms",
        "limit ms",
        "p99 / limit",
    )
    found = table(title, *columns)
    for shard_id, limit_ms in ((GPU_SHARD, GPU_MS_LIMIT), (ASIC_SHARD, ASIC_MS_LIMIT)):
        await readings.refresh(bench.machines.by_device_id(shard_id))
        await _shard_row(bench, shard_id, limit_ms, found)
    show(found)
    await redis.aclose()


def main() -> None:
    """Start a stack, measure, print the tables."""
    show(machine())
    with (
        bench_stack("bench-switch") as addresses,
        tempfile.TemporaryDirectory() as state_dir,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(_bench(addresses.redis_url, Path(state_dir)))


if __name__ == "__main__":
    main()
