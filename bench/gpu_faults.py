"""Crashes at every step and every fault on real processes: each trial must end in a stated, verified state."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from controllers.drivers.freezer import HoldState
from controllers.executor import BUDGETS_MS, DeviceReport, Executor
from controllers.journal import Journal, connect, open_journal
from controllers.readings import Readings
from controllers.recovery import recover
from hcp.clock import seconds
from hcp.model.commands import ControllerCommand, DeviceOutcome
from hcp.model.devices import DeviceMode
from tests.gpu_lab import DEVICE, SHARD, GpuLab, Program

MINING, INFERENCE = DeviceMode.MINING, DeviceMode.AI_INFERENCE
SLOW_MS: Final = 600
"""Later than any step may take."""
LATE_MS: Final = 700
_ENDS: Final = {DeviceOutcome.COMMITTED, DeviceOutcome.ROLLED_BACK, DeviceOutcome.QUARANTINED}


class CrashError(BaseException):
    """The controller dies here, as far as the executor can tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One thing that goes wrong during a switch.

    Attributes:
        name: In words, for the table.
        to_mode: Where the switch goes; it comes from the other of mining and inference.
        server_fault: Asked of the server; "" is none.
        miner_fault: Asked of the miner; "" is none.
        crash_at: The controller dies when this step is done; "" is never.
        kill_at: A process is killed when this step is done; "" is never.
        killed: The mode of the process that is killed.
        late_ms: How long after the end something may still come; it is looked at again then.
    """

    name: str
    to_mode: DeviceMode
    server_fault: str = ""
    miner_fault: str = ""
    crash_at: str = ""
    kill_at: str = ""
    killed: DeviceMode = INFERENCE
    late_ms: int = 0

    @property
    def from_mode(self) -> DeviceMode:
        """Where the switch comes from."""
        return MINING if self.to_mode is INFERENCE else INFERENCE


@dataclass(slots=True, kw_only=True)
class Ended:
    """How the trials of one kind ended."""

    outcomes: Counter[DeviceOutcome] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    active_max: int = 0


def crashes() -> tuple[Trial, ...]:
    """Return a crash at every step, both ways."""
    return tuple(
        Trial(name=f"controller dies after {step}, to {mode}", to_mode=mode, crash_at=step)
        for mode in (INFERENCE, MINING)
        for step in BUDGETS_MS
    )


def faults() -> tuple[Trial, ...]:
    """Return every fault of either workload, as the target and as the source."""
    found = [
        Trial(
            name=f"{who} {fault.partition(':')[0]}, as {'target' if to_mode is mode else 'source'}",
            to_mode=to_mode,
            server_fault=fault if mode is INFERENCE else "",
            miner_fault=fault if mode is MINING else "",
            late_ms=LATE_MS if fault.startswith("slow") else 0,
        )
        for who, mode in (("server", INFERENCE), ("miner", MINING))
        for to_mode in (INFERENCE, MINING)
        for fault in ("hang", "refuse", "reset", "crash", f"slow::-1:{SLOW_MS}")
    ]
    found += [
        Trial(
            name="server resumes after it was given up",
            to_mode=INFERENCE,
            server_fault=f"slow:/resume:1:{SLOW_MS}",
            late_ms=LATE_MS,
        ),
        Trial(
            name="miner resumes after it was given up",
            to_mode=MINING,
            miner_fault=f"slow:/json_rpc:1:{SLOW_MS}",
            late_ms=LATE_MS,
        ),
        Trial(name="server wakes with wrong tokens", to_mode=INFERENCE, server_fault="corrupt:/resume:1"),
        Trial(name="server hangs at the canary", to_mode=INFERENCE, server_fault="hang:/v1/completions"),
        Trial(name="miner resumes and does not hash", to_mode=MINING, miner_fault="no_work"),
        Trial(name="neither way is proven", to_mode=MINING, miner_fault="no_work", server_fault="corrupt:/resume"),
        Trial(name="server killed after activate", to_mode=INFERENCE, kill_at="activate"),
        Trial(name="miner killed after activate", to_mode=MINING, kill_at="activate", killed=MINING),
        Trial(name="miner killed as source", to_mode=INFERENCE, kill_at="validate", killed=MINING),
        Trial(name="controller dies, server killed", to_mode=INFERENCE, kill_at="activate", crash_at="activate"),
    ]
    return tuple(found)


class Proving:
    """Runs trials in a lab and looks, after every step and at the end, at what really runs."""

    def __init__(self, lab: GpuLab, redis_url: str) -> None:
        """Journal to Redis database 7."""
        self._lab = lab
        self._redis = connect(redis_url.rsplit("/", 1)[0] + "/7")
        self._readings = Readings()

    async def prove(self, trial: Trial, times: int) -> Ended:
        """Run a trial several times."""
        ended = Ended()
        for _ in range(times):
            await self._once(trial, ended)
        return ended

    async def close(self) -> None:
        """End the connection to Redis."""
        await self._redis.aclose()

    async def _once(self, trial: Trial, ended: Ended) -> None:
        lab = self._lab
        await self._redis.flushdb()  # a quarantine of the trial before ends with it
        await lab.put_in(trial.from_mode)
        await self._readings.refresh({DEVICE: lab.machine})
        for program, fault in ((lab.server, trial.server_fault), (lab.miner, trial.miner_fault)):
            if fault:
                await lab.fault(program, fault)

        async def look(step: str, _device_id: str) -> None:
            if step == trial.kill_at:
                lab.programs[trial.killed].kill()
            ended.active_max = max(ended.active_max, len(await lab.active()))
            if step == trial.crash_at:
                raise CrashError(step)

        order = lab.command(trial.to_mode, from_mode=trial.from_mode)
        journal = await open_journal(self._redis)
        try:
            (report,) = await Executor(journal=journal, readings=self._readings, after_step=look).execute(
                order, {0: lab.machine}
            )
        except CrashError:
            report, journal = await self._succeed(order)
        await asyncio.sleep(seconds(trial.late_ms))
        active = await lab.active()
        ended.active_max = max(ended.active_max, len(active))
        ended.outcomes[report.outcome] += 1
        ended.wrong += self._faulty(report, active, await journal.take_over(SHARD, abandoned_ms=0))

    async def _succeed(self, order: ControllerCommand) -> tuple[DeviceReport, Journal]:
        journal = await open_journal(self._redis)
        await recover(journal, SHARD, {0: self._lab.machine}, abandoned_ms=0)
        (report,) = await Executor(journal=journal, readings=self._readings).execute(order, {0: self._lab.machine})
        return report, journal

    def _faulty(self, report: DeviceReport, active: Sequence[DeviceMode], unfinished: Sequence[object]) -> list[str]:
        """Return what is not as it must be at the end of a trial."""
        is_still = report.outcome is DeviceOutcome.QUARANTINED or report.mode is DeviceMode.IDLE
        expected = () if is_still else (report.mode,)
        found = []
        if report.outcome not in _ENDS:
            found.append(f"outcome must be an end, was {report.outcome}: {report.detail:.80}")
        if tuple(active) != expected:
            found.append(f"{expected} must run, was {active} after {report.outcome}: {report.detail:.80}")
        if unfinished:
            found.append("journal must be closed, was open")
        for mode, program in self._lab.programs.items():
            if mode in active and not _is_ours(program):
                found.append(f"{mode} must be a process of ours, was not")
        return found


def _is_ours(program: Program) -> bool:
    return program.hold.state() is HoldState.FREE and program.running.process.poll() is None
