"""A GPU switch on real processes: p50 and p99 of the whole and of each phase, pre-warm, and recovery under faults.

Run: `.venv/bin/python -m bench.bench_gpu_switch` (starts a stack, a miner and an inference server of its own).
`--switches 100 --trials 10` for a short look; `--only plain` (or another of `PARTS`) for a part.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvloop
from rich.table import Table

from bench.gpu_faults import Proving, Trial, crashes, faults
from bench.gpu_switching import DEADLINE_MS, activated, show_switches, slept, switched, timed
from bench.report import machine, p50_p99, show, table
from bench.switching import add_timing, bench_stack
from controllers.drivers.freezer import CgroupFreezer, Hold
from controllers.ports import PauseMode
from hcp.model.commands import DeviceOutcome
from hcp.model.devices import DeviceMode
from tests.gpu_lab import cgroup_root, gpu_lab, own_cgroup

SWITCHES: Final = 1_000
TRIALS: Final = 100
PREWARM_ROUNDS: Final = 30
PREWARM_WEIGHTS_MB: Final = 256
GOAL_MS: Final = 100.0
NEIGHBOUR_GOAL_MS: Final = 200.0
PARTS: Final = ("plain", "neighbour", "always", "cuda", "holds", "prewarm", "faults")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One measured run of switches there and back.

    Attributes:
        name: In words, for the titles.
        goal_ms: What p99 of the whole must stay below.
        fsync: Redis' appendfsync.
        has_neighbour: Whether a process beside eats one core.
        miner_options: Command line of the miner.
    """

    name: str
    goal_ms: float
    fsync: str = "everysec"
    has_neighbour: bool = False
    miner_options: tuple[str, ...] = ()


RUNS: Final = {
    "plain": Run(name="fsync everysec", goal_ms=GOAL_MS),
    "neighbour": Run(name="a neighbour eats one core", goal_ms=NEIGHBOUR_GOAL_MS, has_neighbour=True),
    "always": Run(name="fsync always", goal_ms=GOAL_MS, fsync="always"),
    "cuda": Run(name="miner looks every 200 ms, as CUDA workers", goal_ms=GOAL_MS, miner_options=("--poll-ms", "200")),
}


@contextmanager
def neighbour() -> Iterator[None]:
    """Run a process that eats one core."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


async def _measure(run: Run, redis_url: str, directory: Path, switches: int) -> None:
    with neighbour() if run.has_neighbour else nullcontext():
        async with gpu_lab(directory, miner_options=run.miner_options, server_options=("--own-load",)) as lab:
            reports = await switched(lab, redis_url, switches=switches, fsync=run.fsync)
    show_switches(run.name, reports, run.goal_ms)


async def _prewarm(directory: Path, rounds: int) -> None:
    """Measure an activation from sleep level 1 with and without a pre-warm, and the pre-warm itself."""
    options = ("--weights-mb", str(PREWARM_WEIGHTS_MB))
    taken: dict[str, list[float]] = {"sleep": [], "cold": [], "prewarm": [], "warm": [], "resident": []}
    async with gpu_lab(directory, server_options=options, sleep_level=1) as lab:
        for _ in range(rounds):
            taken["sleep"].append(await slept(lab))
            taken["cold"].append(await activated(lab))
            await slept(lab)
            taken["prewarm"].append(await timed(lab.inference.prewarm(deadline_ms=DEADLINE_MS)))
            taken["warm"].append(await activated(lab))
    async with gpu_lab(directory, server_options=options) as lab:
        for _ in range(rounds):
            await slept(lab)
            taken["resident"].append(await activated(lab))
    cold_p99 = p50_p99(taken["cold"])[1]
    found = table(
        f"{PREWARM_WEIGHTS_MB} MB of weights, {rounds} times", "what", "p50 ms", "p99 ms", "cold p99 ms", "p99 / cold"
    )
    for name, words in (
        ("sleep", "pause into sleep level 1"),
        ("cold", "activate and verify, asleep"),
        ("prewarm", "pre-warm, ahead of the switch"),
        ("warm", "activate and verify, pre-warmed"),
        ("resident", "activate and verify, never asleep"),
    ):
        add_timing(found, words, taken[name], cold_p99)
    show(found)


async def _holds(directory: Path, rounds: int) -> None:
    """Measure what it takes to stop a miner by its API and by force, until that is confirmed."""
    found = table(f"Stopping a miner, {rounds} times", "what", "p50 ms", "p99 ms", "API p99 ms", "p99 / API")
    async with gpu_lab(directory) as lab:
        await lab.put_in(DeviceMode.MINING)
        by_api: list[float] = []
        for _ in range(rounds):
            by_api.append(await timed(lab.mining.pause(mode=PauseMode.KEEP, deadline_ms=DEADLINE_MS)))
            await timed(lab.mining.activate(deadline_ms=DEADLINE_MS))
        limit_ms = p50_p99(by_api)[1]
        add_timing(found, "pause by the API, read back", by_api, limit_ms)
        add_timing(found, "SIGSTOP, every thread stopped", await _held(lab.miner.hold, rounds), limit_ms)
        if cgroup_root() is None:
            show("cgroup v2 must be writable to measure its freezer, was not")
        else:
            with own_cgroup(lab.miner.running.pid) as cgroup:
                add_timing(found, "cgroup.freeze, frozen 1", await _held(CgroupFreezer(cgroup), rounds), limit_ms)
    show(found)


async def _held(hold: Hold, rounds: int) -> list[float]:
    taken: list[float] = []
    for _ in range(rounds):
        taken.append(await timed(hold.hold(deadline_ms=DEADLINE_MS)))
        await timed(hold.release(deadline_ms=DEADLINE_MS))
    return taken


async def _faults(redis_url: str, directory: Path, trials: int) -> None:
    async with gpu_lab(directory, server_options=("--weights-mb", "4", "--own-load")) as lab:
        proving = Proving(lab, redis_url)
        for title, kinds in (("Crash of the controller", crashes()), ("Faults", faults())):
            show(await _fault_table(title, proving, kinds, trials))
        await proving.close()


async def _fault_table(title: str, proving: Proving, kinds: Sequence[Trial], trials: int) -> Table:
    columns = ("what", "committed", "rolled back", "quarantined", "not as stated", "active at once, most")
    found = table(f"{title}, each {trials} times", *columns)
    wrong: list[str] = []
    for trial in kinds:
        ended = await proving.prove(trial, trials)
        counts = [
            str(ended.outcomes[outcome])
            for outcome in (DeviceOutcome.COMMITTED, DeviceOutcome.ROLLED_BACK, DeviceOutcome.QUARANTINED)
        ]
        found.add_row(trial.name, *counts, str(len(ended.wrong)), str(ended.active_max))
        wrong += [f"{trial.name}: {each}" for each in ended.wrong[:2]]
    show(*wrong)
    return found


async def _bench(redis_url: str, directory: Path, args: argparse.Namespace) -> None:
    for part in args.only or PARTS:
        if part in RUNS:
            await _measure(RUNS[part], redis_url, directory, args.switches)
        elif part == "prewarm":
            await _prewarm(directory, min(PREWARM_ROUNDS, args.switches))
        elif part == "holds":
            await _holds(directory, args.switches)
        else:
            await _faults(redis_url, directory, args.trials)


def parser() -> argparse.ArgumentParser:
    """Return what the command line may say."""
    top = argparse.ArgumentParser(description=__doc__)
    top.add_argument("--switches", type=int, default=SWITCHES, help="each way")
    top.add_argument("--trials", type=int, default=TRIALS, help="of each crash and each fault")
    top.add_argument("--only", choices=PARTS, action="append", help="a part; may be given again")
    return top


def main() -> None:
    """Start a stack, measure, print the tables."""
    args = parser().parse_args()
    show(machine())
    with (
        bench_stack("bench-gpu-switch") as addresses,
        tempfile.TemporaryDirectory() as directory,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(_bench(addresses.redis_url, Path(directory), args))
    show(machine())


if __name__ == "__main__":
    main()
