"""NVML: what each call of a reading costs, a reading of every GPU, and a power limit set and read back.

Run: `.venv/bin/python bench/bench_nvml.py`. It takes the machine's own libnvidia-ml.so.1 where there is a driver, and
the simulator of eight H100 where there is none; `--simulator` takes the simulator in any case. Limits are set to what
they are. A figure's limit is the bare call, or the bare calls of a whole reading, of the same run.
"""

import argparse
import asyncio
import ctypes
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import uvloop
from rich.table import Table

from bench.nvml_calls import SUCCESS, Pair, limit, nvml, one_by_one, reading
from bench.report import machine, p50_p99, show, table
from controllers.drivers.nvml import NvmlDevice
from controllers.drivers.nvml_api import Budget
from controllers.drivers.nvml_host import NvmlHost, open_nvml
from controllers.drivers.nvml_reader import read_facts, read_gpu
from controllers.ports import Applied
from hcp.clock import wall_ms
from hcp.settings import load_settings
from hcp.stack import default_cache_dir
from simulators.nvml.build import LIBRARY, STATE_VARIABLE, build_library, preload
from simulators.nvml.models import H100
from simulators.nvml.state import NvmlSimulator

ROUNDS_MAX: Final = 1_000
ROUNDS_MIN: Final = 5
SECONDS_MAX: Final = 2.0
"""For each figure: a real driver may take milliseconds a call."""
DEADLINE_MS: Final = 60_000
NS_PER_US: Final = 1_000


def parser() -> argparse.ArgumentParser:
    """Return what the command line takes."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--simulator", action="store_true", help="measure the simulator even where there is a driver")
    return made


def _timed_us(work: Callable[[], object]) -> list[float]:
    taken: list[float] = []
    until_s = time.perf_counter() + SECONDS_MAX
    while len(taken) < ROUNDS_MIN or (len(taken) < ROUNDS_MAX and time.perf_counter() < until_s):
        begun = time.perf_counter_ns()
        work()
        taken.append((time.perf_counter_ns() - begun) / NS_PER_US)
    return taken


async def _awaited_us(work: Callable[[], Awaitable[object]]) -> list[float]:
    taken: list[float] = []
    until_s = time.perf_counter() + SECONDS_MAX
    while len(taken) < ROUNDS_MIN or (len(taken) < ROUNDS_MAX and time.perf_counter() < until_s):
        begun = time.perf_counter_ns()
        await work()
        taken.append((time.perf_counter_ns() - begun) / NS_PER_US)
    return taken


def _tried(call: Callable[[], object]) -> Callable[[], None]:
    def work() -> None:
        with suppress(nvml.NVMLError):  # what a product lacks is part of what its reading costs
            call()

    return work


def _row(to: Table, name: str, taken: Sequence[float], bare: Sequence[float], note: str = "") -> None:
    (p50, p99), (bare_p50, bare_p99) = p50_p99(taken), p50_p99(bare)
    figures = (p50, p99, bare_p50, bare_p99)
    to.add_row(name, *(f"{figure:,.1f}" for figure in figures), f"{p50 / bare_p50:.1f}", str(len(taken)), note)


def _columns(title: str, limit_name: str) -> Table:
    return table(title, "what", "p50 us", "p99 us", f"{limit_name} p50", "p99", "p50 ratio", "rounds", "answer")


def _answer(pair: Pair) -> str:
    code = pair.bare()
    return "" if code == SUCCESS else str(nvml.NVMLError(code))


def _calls(pairs: Sequence[Pair]) -> Table:
    found = _columns("One call, through the binding", "bare")
    for pair in pairs:
        _row(found, pair.name, _timed_us(_tried(pair.bound)), _timed_us(pair.bare), _answer(pair))
    return found


async def _wholes(host: NvmlHost, pairs: tuple[Pair, ...], order: Pair | None) -> Table:
    found = _columns("Whole readings and orders, through the driver", "bare calls")
    first, *_ = host.uuids
    handle = nvml.nvmlDeviceGetHandleByUUID(first)
    facts = read_facts(Budget(deadline_ms=DEADLINE_MS), handle)
    bare = _timed_us(one_by_one(pairs))

    def direct() -> object:
        return read_gpu(Budget(deadline_ms=DEADLINE_MS), handle, facts=facts, observed_at_ms=wall_ms())

    async def all_together() -> object:
        return await asyncio.gather(*(host.read(uuid, deadline_ms=DEADLINE_MS) for uuid in host.uuids))

    _row(found, "a reading, in this thread", _timed_us(direct), bare)
    _row(found, "a reading, in its lane", await _awaited_us(lambda: host.read(first, deadline_ms=DEADLINE_MS)), bare)
    every = [one_by_one(_pairs_of(uuid, facts.nvlinks)) for uuid in host.uuids]
    one_thread = _timed_us(lambda: [work() for work in every])
    _row(found, f"{len(host.uuids)} GPUs read, each in its lane", await _awaited_us(all_together), one_thread)
    if order is not None:
        await _add_limit(found, NvmlDevice(host=host, uuid=first), order)
    return found


def _pairs_of(uuid: str, nvlinks: int) -> tuple[Pair, ...]:
    return reading(nvml.nvmlDeviceGetHandleByUUID(uuid), nvlinks=nvlinks)


async def _add_limit(to: Table, device: NvmlDevice, order: Pair) -> None:
    now = (await device.reading()).power.limit_watts
    assert now is not None, "an order was made from this limit"
    ack = await device.set_power_limit(limit_watts=now, deadline_ms=DEADLINE_MS)
    taken = await _awaited_us(lambda: device.set_power_limit(limit_watts=now, deadline_ms=DEADLINE_MS))
    note = "" if isinstance(ack, Applied) else type(ack).__name__
    _row(to, "a limit set and read back, in its lane", taken, _timed_us(order.bare), note)


async def _bench(source: str) -> None:
    host = await open_nvml(deadline_ms=DEADLINE_MS)
    assert isinstance(host, NvmlHost), host
    for missing in host.missing:
        show(f"GPU {missing.index} is missing: {missing.detail}")
    assert host.uuids, "a driver without GPUs has nothing to measure"
    facts = [(await host.read(uuid, deadline_ms=DEADLINE_MS)).facts for uuid in host.uuids]
    names = sorted({one.name for one in facts})
    show(f"{source}: driver {host.driver}, {len(facts)} x {', '.join(names)}")
    pairs = _pairs_of(facts[0].uuid, facts[0].nvlinks)
    order = limit(nvml.nvmlDeviceGetHandleByUUID(facts[0].uuid))
    show(_calls((*pairs, *([] if order is None else [order]))), await _wholes(host, pairs, order))
    await host.close()


def _has_driver() -> bool:
    try:
        return int(ctypes.CDLL(LIBRARY).nvmlInit_v2()) == SUCCESS
    except (OSError, AttributeError):
        return False


def main() -> None:
    """Measure and print."""
    given = parser().parse_args()
    show(machine())
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if not given.simulator and _has_driver():
            runner.run(_bench(f"the machine's own {LIBRARY}"))
            return
        preload(build_library(default_cache_dir(load_settings().cache_dir) / "nvml"))
        with NvmlSimulator.create(Path(folder) / "state", models=(H100,) * 8) as simulator:
            os.environ[STATE_VARIABLE] = str(simulator.path)  # noqa: TID251  # read by the C library in this process
            runner.run(_bench(f"the simulator of {LIBRARY} (its costs are the binding's and ours, not a driver's)"))


if __name__ == "__main__":
    main()
