"""ASICs under the protocol: a crash after every step and every fault of a miner, each on many miners; how each ended.

Run: `.venv/bin/python -m bench.bench_asic_faults` (starts a stack and farms of its own; `--trials` miners each, 100 at
first). A miner ends as stated when it is committed or rolled back and was told so by its own state, or is set apart.
What a hung miner does cannot be known while it hangs: it must be in quarantine then.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final
from uuid import uuid4

import uvloop
from redis.asyncio import Redis
from rich.table import Table

from bench.bench_asic import CONNECT_MS, connected, each, units_of
from bench.report import machine, show, table
from bench.switching import bench_stack
from controllers.drivers.asic.client import Want
from controllers.drivers.asic.machine import AsicMachine
from controllers.executor import BUDGETS_MS, DeviceReport, Executor
from controllers.journal import connect, open_journal
from controllers.readings import Readings
from controllers.recovery import recover
from hcp.clock import wall_ms
from hcp.model.commands import ControllerCommand, DeviceOutcome
from hcp.model.devices import DeviceMode
from hcp.model.ids import device_id
from simulators.asic.families import Family
from simulators.asic.farm import FarmOptions
from simulators.asic.launch import FarmProcess, running_farm

SHARD: Final = "tx-north.asic-1/00"
ENDS: Final = (DeviceOutcome.COMMITTED, DeviceOutcome.ROLLED_BACK, DeviceOutcome.QUARANTINED)
FAULTS: Final = (
    "hang", "refuse", "restart:1:300", "restart_on_order:1:50", "stale:1", "stale", "half:1", "half", "garbage:1",
    "garbage", "slow:-1:20", "slow:-1:1000", "ignore", "refuse_order", "cut_after_order:1", "config_fails", "no_mode",
)  # fmt: skip


class CrashError(BaseException):
    """The controller dies here, as far as the executor can tell."""


@dataclass(slots=True, kw_only=True)
class Ended:
    """How the trials of one kind ended."""

    outcomes: Counter[DeviceOutcome] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class Proving:
    """Runs trials on a farm: all its miners mine, are ordered to sleep, and something goes wrong with each."""

    def __init__(self, farm: FarmProcess, family: Family, redis: Redis) -> None:
        """Drive every miner of the farm."""
        self._farm = farm
        self._redis = redis
        self._readings = Readings()
        self.machines = {index: AsicMachine(unit) for index, unit in enumerate(units_of(family, farm.hosts))}

    async def prove(self, *, fault: str = "", crash_at: str = "") -> Ended:
        """Run one kind of trial on every miner at once."""
        await self._redis.flushdb()
        await self._settle()
        if fault:
            for host in self._farm.hosts:
                self._farm.fault(host, fault)

        async def look(step: str, _device_id: str) -> None:
            if step == crash_at:
                raise CrashError(step)

        order = _order(len(self.machines))
        journal = await open_journal(self._redis)
        executor = Executor(journal=journal, readings=self._readings, after_step=look if crash_at else None)
        try:
            reports = await executor.execute(order, self.machines)
        except CrashError:
            journal = await open_journal(self._redis)
            await recover(journal, SHARD, self.machines, abandoned_ms=0)
            reports = await Executor(journal=journal, readings=self._readings).execute(order, self.machines)
        ended = Ended(outcomes=Counter(report.outcome for report in reports))
        for report in reports:
            ended.wrong += self._faulty(report)
        if await journal.take_over(SHARD, abandoned_ms=0):
            ended.wrong.append("journal must be closed, was open")
        return ended

    async def _settle(self) -> None:
        """Mend every miner and let it mine; read each once, as the poller would."""
        for host in self._farm.hosts:
            self._farm.mend(host)
        await each(
            list(self.machines.values()),
            lambda each_: each_.workload(DeviceMode.MINING).activate(deadline_ms=CONNECT_MS),
        )
        await each(list(self.machines.values()), lambda each_: each_.unit.read(Want.TELEMETRY, deadline_ms=CONNECT_MS))
        await self._readings.refresh(
            {device_id(shard_id=SHARD, device_index=index): machine for index, machine in self.machines.items()}
        )

    def _faulty(self, report: DeviceReport) -> list[str]:
        """Return what is not as it must be."""
        state = self._farm.state(self._farm.hosts[report.device_index])
        told = DeviceMode.SLEEP if state.mode == "sleep" else DeviceMode.MINING
        found = []
        if report.outcome not in ENDS:
            found.append(f"outcome must be an end, was {report.outcome}: {report.detail:.100}")
        elif report.outcome is not DeviceOutcome.QUARANTINED and told is not report.mode:
            found.append(f"{report.mode} must be told, was {told} after {report.outcome}: {report.detail:.100}")
        if len(state.pools) != 2:
            found.append(f"pools must be 2, were {len(state.pools)}")
        return found


def _order(count: int) -> ControllerCommand:
    return ControllerCommand(
        command_id=str(uuid4()),
        decision_id=str(uuid4()),
        facility_id="tx-north",
        cluster_id="tx-north.asic-1",
        shard_id=SHARD,
        device_class="s21",
        from_mode=DeviceMode.MINING,
        to_mode=DeviceMode.SLEEP,
        attempt=1,
        device_indexes=tuple(range(count)),
        epochs=(1,) * count,
        observed_at_ms=wall_ms(),
    )


async def _family(family: Family, redis: Redis, trials: int, faults: Sequence[str]) -> Table:
    options = FarmOptions(family=family, first=f"127.{230 + list(Family).index(family)}.0.1", count=trials)
    with running_farm(replace(options, ramp_ms=500, down_ms=200)) as farm:
        proving = Proving(farm, family, redis)
        await connected([each_.unit for each_ in proving.machines.values()])
        columns = ("what", "committed", "rolled back", "quarantined", "not as stated", "the first")
        made = table(f"{family}: mining to sleep, {trials} miners each", *columns)
        kinds = [(f"controller dies after {step}", "", step) for step in BUDGETS_MS]
        kinds += [("miner " + fault.replace(":-1", "").replace(":", " "), fault, "") for fault in faults]
        for name, fault, crash_at in kinds:
            ended = await proving.prove(fault=fault, crash_at=crash_at)
            counts = [str(ended.outcomes[outcome]) for outcome in ENDS]
            made.add_row(name, *counts, str(len(ended.wrong)), ended.wrong[0] if ended.wrong else "")
    return made


async def _bench(redis_url: str, trials: int) -> None:
    redis = connect(redis_url)
    for family in Family:
        show(await _family(family, redis, trials, FAULTS))
    await redis.aclose()


def parser() -> argparse.ArgumentParser:
    """Return what the command line may say."""
    top = argparse.ArgumentParser(description=__doc__)
    top.add_argument("--trials", type=int, default=100, help="miners for each crash and fault")
    return top


def main() -> None:
    """Start a stack, prove, print the tables."""
    given = parser().parse_args()
    show(machine())
    with bench_stack("bench-asic-faults") as addresses:
        uvloop.run(_bench(addresses.redis_url, given.trials))
    show(machine())


if __name__ == "__main__":
    main()
