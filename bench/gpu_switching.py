"""What the benchmarks of GPU switches share: switches there and back on a lab, and timed steps of its server."""

import time
from collections.abc import Awaitable, Mapping, Sequence
from typing import Final

from bench.report import show
from bench.switching import phase_table
from controllers.executor import DeviceReport, Executor
from controllers.journal import connect, open_journal
from controllers.ports import Ack, Applied, PauseMode, Proven
from controllers.readings import Readings
from hcp.model.commands import DeviceOutcome
from hcp.model.devices import DeviceMode
from tests.gpu_lab import DEVICE, GpuLab

REFRESH_SECONDS: Final = 5.0
DEADLINE_MS: Final = 10_000
_OTHER: Final = {DeviceMode.MINING: DeviceMode.AI_INFERENCE, DeviceMode.AI_INFERENCE: DeviceMode.MINING}


async def switched(
    lab: GpuLab, redis_url: str, *, switches: int, fsync: str = "everysec"
) -> Mapping[DeviceMode, Sequence[DeviceReport]]:
    """Switch there and back `switches` times, journalled in an emptied Redis; return the reports by target."""
    redis = connect(redis_url)
    await redis.flushdb()
    await redis.config_set("appendfsync", fsync)
    readings = Readings()
    executor = Executor(journal=await open_journal(redis), readings=readings)
    reports: dict[DeviceMode, list[DeviceReport]] = {mode: [] for mode in _OTHER}
    await lab.put_in(DeviceMode.MINING)
    read_s = -REFRESH_SECONDS
    for _ in range(switches):
        for from_mode, to_mode in _OTHER.items():
            if time.monotonic() - read_s > REFRESH_SECONDS:
                await readings.refresh({DEVICE: lab.machine})
                read_s = time.monotonic()
            order = lab.command(to_mode, from_mode=from_mode)
            reports[to_mode] += await executor.execute(order, {0: lab.machine})
    await redis.config_set("appendfsync", "everysec")
    await redis.aclose()
    return reports


def show_switches(name: str, reports: Mapping[DeviceMode, Sequence[DeviceReport]], goal_ms: float) -> None:
    """Print the phases of those committed in each direction, and what became of the others."""
    for to_mode, found in reports.items():
        committed = [report for report in found if report.outcome is DeviceOutcome.COMMITTED]
        if len(committed) > 1:
            show(phase_table(f"{_OTHER[to_mode]} to {to_mode}, {name}", committed, goal_ms))
        others = {f"{each.outcome}: {each.detail}" for each in found if each.outcome is not DeviceOutcome.COMMITTED}
        show(f"{len(committed)} of {len(found)} committed; {'; '.join(sorted(others)[:3])}")


async def slept(lab: GpuLab) -> float:
    """Pause the server as the lab has it, into sleep where it has one; return milliseconds."""
    return await timed(lab.inference.pause(mode=PauseMode.KEEP, deadline_ms=DEADLINE_MS))


async def activated(lab: GpuLab) -> float:
    """Activate the server and prove it by its canary; return milliseconds."""
    began = time.perf_counter()
    await timed(lab.inference.activate(deadline_ms=DEADLINE_MS))
    proof = await lab.inference.verify(deadline_ms=DEADLINE_MS)
    assert isinstance(proof, Proven), proof
    return (time.perf_counter() - began) * 1_000


async def timed(order: Awaitable[Ack]) -> float:
    """Await an order that must be applied; return milliseconds."""
    began = time.perf_counter()
    ack = await order
    assert ack == Applied(), ack
    return (time.perf_counter() - began) * 1_000
