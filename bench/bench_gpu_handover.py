"""Mining to inference and back on a real NVIDIA GPU: the switch, sleep and wake of its memory, and what NVML sees.

Run: `python -m bench.bench_gpu_handover` on a host with a driver, CuPy and a Redis (`--redis-url`). The miner hashes
SHA-256d and the server computes tokens, both on the GPU, both resident as in production. No setting of it is changed.
`--cpu` runs the switches on the CPU, for a look at the benchmark itself.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import uvloop
from rich.table import Table

from bench.gpu_switching import DEADLINE_MS, activated, show_switches, slept, switched, timed
from bench.report import BYTES_PER_GIB, machine, show, table
from bench.switching import add_timing
from controllers.drivers.nvml import NvmlDevice
from controllers.drivers.nvml_host import NvmlHost, open_nvml
from controllers.drivers.nvml_reading import GpuReading
from controllers.ports import Ack, Identity, PauseMode, Telemetry, Unsupported
from hcp.model.devices import DeviceMode
from hcp.model.units import Watts
from simulators.gpu_workloads.cuda import load_cupy
from tests.gpu_lab import GpuLab, Program, gpu_lab

SWITCHES: Final = 1_000
SLEEPS: Final = 10
WEIGHTS_MB: Final = 16_384
GOAL_MS: Final = 100.0
SETTLE_SECONDS: Final = 2.0
"""NVML's utilisation looks back up to a second."""
LOOKS: Final = 20
LOOK_EVERY_SECONDS: Final = 0.05
COPY_BYTES: Final = 1 << 32
HASHES_A_SHARE: Final = 1 << 24
BYTES_PER_MB: Final = 1 << 20
BYTES_PER_GB: Final = 1e9


@dataclass(frozen=True, slots=True)
class ReadOnly:
    """The GPU as a Device that is read and never set: the host belongs to others."""

    gpu: NvmlDevice

    async def identify(self) -> Identity:
        """Ask the GPU."""
        return await self.gpu.identify()

    async def telemetry(self) -> Telemetry:
        """Ask the GPU."""
        return await self.gpu.telemetry()

    async def set_power_limit(self, *, limit_watts: Watts, deadline_ms: int) -> Ack:  # noqa: ARG002  # the port's
        """Refuse."""
        return Unsupported(detail="this GPU must only be read")

    async def safe_stop(self, *, reason: str) -> Ack:  # noqa: ARG002  # the port's
        """Refuse."""
        return Unsupported(detail="this GPU must only be read")


def parser() -> argparse.ArgumentParser:
    """Return what the command line may say."""
    top = argparse.ArgumentParser(description=__doc__)
    top.add_argument("--switches", type=int, default=SWITCHES, help="each way")
    top.add_argument("--sleeps", type=int, default=SLEEPS, help="of the weights into the host's memory and back")
    top.add_argument("--weights-mb", type=int, default=WEIGHTS_MB, help="of the served model")
    top.add_argument("--redis-url", default="redis://127.0.0.1:6379/0", help="its database is emptied")
    top.add_argument("--cpu", action="store_true", help="without a GPU")
    return top


async def _sleeps(lab: GpuLab, args: argparse.Namespace, copy_gb_per_s: float) -> None:
    taken: dict[str, list[float]] = {"sleep": [], "cold": [], "prewarm": [], "warm": []}
    for _ in range(args.sleeps):
        taken["sleep"].append(await slept(lab))
        taken["cold"].append(await activated(lab))
        await slept(lab)
        taken["prewarm"].append(await timed(lab.inference.prewarm(deadline_ms=DEADLINE_MS)))
        taken["warm"].append(await activated(lab))
    copy_ms = args.weights_mb * BYTES_PER_MB / copy_gb_per_s / BYTES_PER_GB * 1_000
    found = table(
        f"{args.weights_mb * BYTES_PER_MB / BYTES_PER_GIB:.1f} GiB of weights, {args.sleeps} times; "
        f"a bare copy from pinned memory: {copy_gb_per_s:.1f} GB/s",
        *("what", "p50 ms", "p99 ms", "bare copy ms", "p99 / copy"),
    )
    add_timing(found, "pause into sleep level 1", taken["sleep"], copy_ms)
    add_timing(found, "activate and verify, asleep", taken["cold"], copy_ms)
    add_timing(found, "pre-warm, ahead of the switch", taken["prewarm"], copy_ms)
    add_timing(found, "activate and verify, pre-warmed", taken["warm"], copy_ms)
    show(found)


async def _looks(host: NvmlHost, lab: GpuLab) -> None:
    """Show what NVML says while one works, while the other does, and while none does."""
    found = table("What NVML says, medians", "who works", "W", "GPU %", "SM MHz", "GiB", "°C", "PIDs", "work/s")
    await lab.put_in(DeviceMode.MINING)
    await _look(found, "miner (hashes)", host, lab, lab.miner)
    await timed(lab.mining.pause(mode=PauseMode.KEEP, deadline_ms=DEADLINE_MS))
    await _look(found, "none", host, lab, lab.miner)
    await lab.put_in(DeviceMode.AI_INFERENCE)
    await _look(found, "server (tokens)", host, lab, lab.server)
    show(found)


async def _look(to: Table, name: str, host: NvmlHost, lab: GpuLab, of: Program) -> None:
    await asyncio.sleep(SETTLE_SECONDS)
    began, before = time.monotonic(), (await lab.truth(of))["work"]
    seen: list[GpuReading] = []
    for _ in range(LOOKS):
        seen.append(await host.read(host.uuids[0], deadline_ms=DEADLINE_MS))
        await asyncio.sleep(LOOK_EVERY_SECONDS)
    rate = ((await lab.truth(of))["work"] - before) / (time.monotonic() - began)
    pids = {one.pid for reading in seen for one in reading.load.processes or ()}
    to.add_row(
        name,
        _median(seen, lambda one: one.power.instant_watts),
        _median(seen, lambda one: (one.load.utilisation_ratio or 0.0) * 100),
        _median(seen, lambda one: one.clocks.sm_mhz),
        _median(seen, lambda one: (one.load.memory_used_bytes or 0) / BYTES_PER_GIB),
        _median(seen, lambda one: one.heat.temperature_celsius),
        f"{len(pids & {lab.miner.running.pid, lab.server.running.pid})} of 2",
        f"{rate:,.0f}",
    )


def _median(seen: list[GpuReading], of: Callable[[GpuReading], float | None]) -> str:
    known = [value for value in map(of, seen) if value is not None]
    return f"{median(known):,.0f}" if known else "not told"


def _copy_gb_per_s() -> float:
    """Measure a bare copy from pinned memory to the GPU: the best of three."""
    cupy = load_cupy()
    pinned, held = cupy.cuda.alloc_pinned_memory(COPY_BYTES), cupy.empty(COPY_BYTES, "u1")
    taken_s = []
    for _ in range(3):
        began = time.perf_counter()
        held.data.copy_from_host(pinned.ptr, COPY_BYTES)
        cupy.cuda.Device().synchronize()
        taken_s.append(time.perf_counter() - began)
    del held
    cupy.get_default_memory_pool().free_all_blocks()
    return COPY_BYTES / min(taken_s) / BYTES_PER_GB


async def _on_gpu(directory: Path, args: argparse.Namespace) -> None:
    host = await open_nvml(deadline_ms=DEADLINE_MS)
    assert isinstance(host, NvmlHost), host
    facts = (await host.read(host.uuids[0], deadline_ms=DEADLINE_MS)).facts
    show(f"driver {host.driver}, {facts.name}")
    card = ReadOnly(NvmlDevice(host=host, uuid=host.uuids[0]))
    copy_gb_per_s = _copy_gb_per_s()
    miner = ("--cuda", "--difficulty", str(HASHES_A_SHARE))
    server = ("--cuda", "--weights-mb", str(args.weights_mb))
    async with gpu_lab(directory, miner_options=miner, server_options=(*server, "--own-load"), card=card) as lab:
        await _looks(host, lab)
        reports = await switched(lab, args.redis_url, switches=args.switches)
        show_switches("both resident on the GPU", reports, GOAL_MS)
    async with gpu_lab(directory, miner_options=miner, server_options=server, card=card, sleep_level=1) as lab:
        await _sleeps(lab, args, copy_gb_per_s)
    await host.close()


async def _on_cpu(directory: Path, args: argparse.Namespace) -> None:
    async with gpu_lab(directory, server_options=("--own-load",)) as lab:
        show_switches("on the CPU", await switched(lab, args.redis_url, switches=args.switches), GOAL_MS)


def main() -> None:
    """Measure and print."""
    args = parser().parse_args()
    show(machine())
    with (
        tempfile.TemporaryDirectory() as directory,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run((_on_cpu if args.cpu else _on_gpu)(Path(directory), args))
    show(machine())


if __name__ == "__main__":
    main()
