"""ASICs: how long an order takes to be accepted and read back, and what polling a miner costs, by family and library.

Run: `.venv/bin/python -m bench.bench_asic` (3 minutes; `--miners` and `--orders` make it shorter). Miners are simulated
on loopback by a process of its own. Orders: sleep and mining in turn through the machine that controllers use, against
the goal of 500 ms. Polling: whole readings, 32 at once; CPU is this process's alone; the limit is raw cgminer
`summary` requests by sockets in the same run. Last, a cluster's poller for a while: who is read every 10 s.
"""

import argparse
import asyncio
import resource
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pyasic  # type: ignore[import-untyped]
import uvloop
from pyasic_rs import MinerFactory
from rich.table import Table

from bench.report import against, machine, p50_p99, show, table
from controllers.drivers.asic.client import AsicUnreachableError, Want
from controllers.drivers.asic.connect import Connection
from controllers.drivers.asic.machine import AsicMachine
from controllers.drivers.asic.poller import POLL_EVERY_MS, READ_AT_ONCE_MAX, AsicPoller
from controllers.drivers.asic.unit import AsicUnit
from controllers.ports import Applied, Proven
from hcp.fleet import load_fleet
from hcp.model.devices import DeviceClass, DeviceMode
from simulators.asic.families import Family
from simulators.asic.farm import FarmOptions
from simulators.asic.launch import running_farm

ACCEPT_MS_GOAL: Final = 500.0
CONNECT_MS: Final = 30_000
READ_MS: Final = 10_000
ORDER_MS: Final = 2_000
PYASIC_MINERS_MAX: Final = 100
"""pyasic's whole reading takes tens of milliseconds of CPU."""
WATCH_S: Final = 30.0
FLEET: Final = load_fleet(Path(__file__).resolve().parents[1] / "fleet.toml")


def parser() -> argparse.ArgumentParser:
    """Return what the command line takes."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--miners", type=int, default=500, help="of each family, for polling")
    made.add_argument("--cluster", type=int, default=5_000, help="stock miners for the cluster's poller; 0: leave out")
    made.add_argument("--orders", type=int, default=1_000, help="of each family")
    return made


def class_for(family: Family) -> DeviceClass:
    """Return the S21; without a power target where the firmware takes none."""
    found = FLEET.device_class("s21")
    assert found is not None, "fleet.toml has S21s"
    if family is not Family.STOCK:
        return found
    return replace(found, modes=tuple(mode for mode in found.modes if mode.mode is not DeviceMode.MINING_ECO))


def units_of(family: Family, hosts: Sequence[str]) -> list[AsicUnit]:
    """Return a unit for each address."""
    factory = MinerFactory()
    return [AsicUnit(Connection(host, factory=factory), device_class=class_for(family)) for host in hosts]


def cpu_s() -> float:
    """Return the CPU seconds of this process, threads of libraries included."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def each(of: Sequence[Any], act: Callable[[Any], Awaitable[object]]) -> tuple[float, float]:
    """Act on each, 32 at once; return wall and CPU seconds."""
    slots = asyncio.Semaphore(READ_AT_ONCE_MAX)

    async def one(item: object) -> None:
        async with slots:
            await act(item)

    began_s, began_cpu_s = time.perf_counter(), cpu_s()
    await asyncio.gather(*(one(item) for item in of))
    return time.perf_counter() - began_s, cpu_s() - began_cpu_s


async def connected(units: Sequence[AsicUnit]) -> None:
    """Connect to every unit."""
    await each(units, lambda unit: unit.connection.client(deadline_ms=CONNECT_MS))


async def orders(family: Family, hosts: Sequence[str], count: int, into: Table) -> None:
    """Measure orders one after the other, each on the next miner."""
    machines = [AsicMachine(unit) for unit in units_of(family, hosts)]
    await connected([machine.unit for machine in machines])
    accepted: list[float] = []
    proven: list[float] = []
    failed = 0
    for number in range(count):
        chosen = machines[number % len(machines)]
        mode = DeviceMode.SLEEP if number // len(machines) % 2 == 0 else DeviceMode.MINING
        began = time.perf_counter_ns()
        ack = await chosen.workload(mode).activate(deadline_ms=ORDER_MS)
        accepted.append((time.perf_counter_ns() - began) / 1e6)
        proof = await chosen.workload(mode).verify(deadline_ms=ORDER_MS)
        proven.append((time.perf_counter_ns() - began) / 1e6)
        failed += not (isinstance(ack, Applied) and isinstance(proof, Proven))
    (accept_p50, accept_p99), (prove_p50, prove_p99) = p50_p99(accepted), p50_p99(proven)
    figures = [f"{value:.1f}" for value in (accept_p50, accept_p99, prove_p50, prove_p99)]
    into.add_row(str(family), *figures, *against(prove_p99, ACCEPT_MS_GOAL), f"{count - failed} of {count}")


async def raw_summary(host: str) -> None:
    """Ask `summary` by a bare socket: what a miner's own interface costs at the least."""
    reader, writer = await asyncio.open_connection(host, 4028)
    writer.write(b'{"command":"summary"}')
    await reader.read(-1)
    writer.close()


async def polling(family: Family, hosts: Sequence[str], into: Table) -> None:
    """Measure whole readings by the driver, by pyasic's slimmest and whole reading, and the bare request."""
    units = units_of(family, hosts)
    await connected(units)
    unread = 0

    async def read(unit: AsicUnit) -> None:
        nonlocal unread
        try:
            await unit.read(Want.TELEMETRY, deadline_ms=READ_MS)
        except AsicUnreachableError:
            unread += 1

    _, first_s = await each(units, read)  # sets up sessions and sockets, once a miner
    wall_s, used_s = await each(units, read)
    bare = None if family in {Family.WHATSMINER, Family.BRAIINS} else await each(hosts, raw_summary)
    _row(
        into,
        f"{family}, driver",
        len(hosts),
        wall_s,
        used_s,
        bare,
        len(hosts),
        f"{unread} unread; first {first_s / len(hosts) * 1e6:,.0f} us",
    )
    few = hosts[:PYASIC_MINERS_MAX]
    found = [miner for miner in await asyncio.gather(*(pyasic.get_miner(host) for host in few)) if miner is not None]
    if not found:
        into.add_row(f"{family}, pyasic", "-", "-", "-", "-", "not identified")
        return
    wall_s, used_s = await each(found, lambda miner: miner.get_data())
    _row(into, f"{family}, pyasic get_data", len(found), wall_s, used_s, bare, len(hosts), "")


def _row(
    into: Table,
    name: str,
    count: int,
    wall_s: float,
    used_s: float,
    bare: tuple[float, float] | None,
    bare_count: int,
    note: str,
) -> None:
    cpu_us = used_s / count * 1e6
    ratio = "-" if bare is None else f"{cpu_us / (bare[1] / bare_count * 1e6):.1f}"
    bare_us = "-" if bare is None else f"{bare[1] / bare_count * 1e6:,.0f}"
    into.add_row(name, f"{count / wall_s:,.0f}", f"{cpu_us:,.0f}", bare_us, ratio, note)


async def watched(hosts: Sequence[str], into: Table) -> None:
    """Let a cluster's poller work, and see how old readings get."""
    units = units_of(Family.STOCK, hosts)
    poller = AsicPoller(units)
    began_s = time.perf_counter()
    await poller.start(first_round_ms_max=10 * 60_000)
    first_s = time.perf_counter() - began_s
    await asyncio.sleep(POLL_EVERY_MS / 1_000)
    before, began_cpu_s, began_s = poller.counts, cpu_s(), time.perf_counter()
    await asyncio.sleep(WATCH_S)
    passed_s, used_s, after = time.perf_counter() - began_s, cpu_s() - began_cpu_s, poller.counts
    fresh = sum(unit.seen(age_ms_max=POLL_EVERY_MS + 1_000) is not None for unit in units)
    await poller.close()
    read = after.read - before.read
    into.add_row(
        f"{len(hosts):,}",
        f"{first_s:.1f}",
        f"{read / passed_s:,.0f}",
        f"{len(hosts) / (POLL_EVERY_MS / 1_000):,.0f}",
        f"{used_s / max(read, 1) * 1e6:,.0f}",
        f"{used_s / passed_s:.2f}",
        f"{fresh:,} of {len(hosts):,}; {after.failed - before.failed} failed",
    )


async def measure(given: argparse.Namespace) -> None:
    """Measure and show."""
    accepting = table(
        "Sleep and mining in turn, ms",
        "family",
        "accept p50",
        "p99",
        "and proven p50",
        "p99",
        "goal",
        "p99/goal",
        "ended",
    )
    polled = table("Whole readings, 32 at once", "by", "miners/s", "CPU us/miner", "bare summary", "ratio", "")
    for number, family in enumerate(Family):
        options = FarmOptions(
            family=family, first=f"127.{200 + number}.0.1", count=given.miners, ramp_ms=500, down_ms=200
        )
        with running_farm(options) as farm:
            await polling(family, farm.hosts, polled)
            await orders(family, farm.hosts[:100], given.orders, accepting)
    parts: list[Table | str] = [machine(), accepting, polled]
    if given.cluster:
        cluster = table(
            f"One poller, every {POLL_EVERY_MS / 1_000:.0f} s", "miners", "first round s", "read/s", "goal/s",
            "CPU us/miner", "cores", "read within 11 s",
        )  # fmt: skip
        options = FarmOptions(family=Family.STOCK, first="127.210.0.1", count=given.cluster)
        with running_farm(options) as farm:
            await watched(farm.hosts, cluster)
        parts.append(cluster)
    show(*parts)


def main() -> None:
    """Measure."""
    uvloop.run(measure(parser().parse_args()))


if __name__ == "__main__":
    main()
