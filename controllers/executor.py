"""The executor of the switch protocol: begin, validate, pause, save, activate, verify, commit; any failure goes back.

A step may use its own budget and the slack that the others left, so that later steps keep theirs and the whole ends
within 500 ms. Begin and commit are Redis calls bounded by the client: their outcome decides, so they are not cut off.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar, assert_never

from controllers.journal import Answer, Begun, Finished, Journal
from controllers.limits import UNBOUND, PowerStep, SwitchLimits
from controllers.ports import Applied, Disproven, Machine, PauseMode, Proven, observed_mode
from controllers.readings import Readings
from hcp.clock import seconds
from hcp.model.commands import ControllerCommand, DeviceOutcome
from hcp.model.devices import DeviceMode
from hcp.model.ids import device_id
from hcp.model.units import MS_PER_SECOND

BUDGETS_MS: Final = {
    "begin": 10,
    "validate": 20,
    "pause": 60,
    "save": 20,
    "activate": 100,
    "verify": 150,
    "commit": 10,
}
TOTAL_MS_MAX: Final = 500
ROLLBACK_MS_MAX: Final = 500
ROLLBACK_ATTEMPTS_MAX: Final = 2
OBSERVE_MS_MAX: Final = 100
SHARD_MS_MAX: Final = 10_000
"""No device of a shard begins later than this after the command; the rest is answered `expired`."""
DEVICES_AT_ONCE_MAX: Final = 128
TEMPERATURE_CELSIUS_MAX: Final = 95.0
"""Of hardware that does not say where it begins to slow itself."""
TEMPERATURE_MARGIN_CELSIUS: Final = 5.0
"""So far below that point a device must be to be started."""

Value = TypeVar("Value")
StepHook = Callable[[str, str], Awaitable[None]]
"""Called with step and device id when a step is done; tests crash and pause the executor here."""


class StepFailedError(Exception):
    """A step did not do what it must; stays within the executor, which rolls back."""


@dataclass(slots=True, kw_only=True)
class DeviceReport:
    """What became of one device; a row of the result."""

    device_index: int
    epoch: int
    outcome: DeviceOutcome
    mode: DeviceMode
    detail: str = ""
    phases_ms: dict[str, float] = field(default_factory=dict)
    settled_ms: float | None = None


@dataclass(slots=True, kw_only=True)
class _Switch:
    """One device's switch under way."""

    machine: Machine
    device_id: str
    command: ControllerCommand
    row: int
    from_mode: DeviceMode
    power_step: PowerStep
    phases_ms: dict[str, float]
    settled_ms: float | None = None
    touched: bool = False

    @property
    def to_mode(self) -> DeviceMode:
        return self.command.to_mode

    def deadline_ms(self, step: str) -> int:
        """Return what `step` may take: its budget and what is left of the slack."""
        steps = list(BUDGETS_MS)
        reserved = sum(BUDGETS_MS[later] for later in steps[steps.index(step) + 1 :])
        left = TOTAL_MS_MAX - sum(self.phases_ms.values()) - reserved
        return max(1, int(left))


class Executor:
    """Executes commands on machines by the protocol; one for a controller."""

    def __init__(self, *, journal: Journal, readings: Readings, after_step: StepHook | None = None) -> None:
        """Journal to Redis, validate from `readings`."""
        self._journal = journal
        self._readings = readings
        self._after_step = after_step
        self._slots = asyncio.Semaphore(DEVICES_AT_ONCE_MAX)

    async def execute(
        self,
        command: ControllerCommand,
        machines: Mapping[int, Machine],
        *,
        limits: SwitchLimits = UNBOUND,
        is_expired: bool = False,
    ) -> list[DeviceReport]:
        """Switch every device of a command and return a report for each, in the command's order.

        Args:
            command: Checked against the fleet.
            machines: By device index; a device without one is answered `unknown_device`.
            limits: Of the hardware, for this switch.
            is_expired: Too old to act on: only what is already done is answered as done.

        Raises:
            StoreError: Redis does not answer; the hardware was left verified, the journal tells recovery what to do.
        """
        began = time.perf_counter()
        known = [row for row, index in enumerate(command.device_indexes) if index in machines]
        answers = await self._journal.begin(command, rows=known, is_expired=is_expired, limits=limits)
        begin_ms = _ms_since(began)
        reports = {
            row: _report(command, row, DeviceOutcome.UNKNOWN_DEVICE, command.from_mode, "device must be in fleet.toml")
            for row in set(range(len(command.device_indexes))) - set(known)
        }
        tasks = [
            self._answered(
                command, row, answer, machines[command.device_indexes[row]], limits.step, begin_ms=begin_ms, began=began
            )
            for row, answer in zip(known, answers, strict=True)
        ]
        for row, outcome in zip(known, await asyncio.gather(*tasks, return_exceptions=True), strict=True):
            if isinstance(outcome, BaseException):
                raise outcome
            reports[row] = outcome
        return [reports[row] for row in range(len(command.device_indexes))]

    async def _answered(  # one row's facts, called in one place
        self,
        command: ControllerCommand,
        row: int,
        answer: Answer,
        machine: Machine,
        step: PowerStep,
        *,
        begin_ms: float,
        began: float,
    ) -> DeviceReport:
        match answer.begun:
            case Begun.PREPARED:
                return await self._slotted(command, row, machine, step, begin_ms=begin_ms, began=began)
            case Begun.DONE:
                done = answer.finished
                assert done is not None, "a done answer carries how it ended"
                return _report(command, row, done.outcome, done.mode, done.detail)
            case Begun.BUSY:
                outcome, detail = DeviceOutcome.DUPLICATE, f"device must be free, was under way: {answer.detail}"
            case Begun.QUARANTINED:
                outcome, detail = DeviceOutcome.QUARANTINED, f"device must be out of quarantine, was: {answer.detail}"
            case Begun.FENCED:
                epoch = command.epochs[row]
                outcome, detail = DeviceOutcome.FENCED, f"epoch must be {answer.detail} or more, was {epoch}"
            case Begun.EXPIRED:
                outcome, detail = DeviceOutcome.EXPIRED, "command must be fresh, was too old to act on"
            case Begun.HELD:
                outcome, detail = DeviceOutcome.HELD, f"device must be released, was held: {answer.detail}"
            case Begun.LIMITED:
                outcome, detail = DeviceOutcome.LIMITED, answer.detail
            case _:
                assert_never(answer.begun)
        mode, seen = await self._mode_now(machine, command.from_mode)
        report = _report(command, row, outcome, mode, f"{detail}{seen}")
        if answer.begun is Begun.FENCED:
            report.epoch = int(answer.detail)  # shows the sender what to go above
        return report

    async def _slotted(  # as _answered
        self,
        command: ControllerCommand,
        row: int,
        machine: Machine,
        step: PowerStep,
        *,
        begin_ms: float,
        began: float,
    ) -> DeviceReport:
        async with self._slots:
            switch = _Switch(
                machine=machine,
                device_id=device_id(shard_id=command.shard_id, device_index=command.device_indexes[row]),
                command=command,
                row=row,
                from_mode=command.from_mode,
                power_step=step,
                phases_ms={"begin": begin_ms},
            )
            if _ms_since(began) > SHARD_MS_MAX:
                detail = f"shard must be done in {SHARD_MS_MAX} ms, was not"
                mode, seen = await self._mode_now(machine, command.from_mode)
                return await self._end(switch, DeviceOutcome.EXPIRED, mode, f"{detail}{seen}")
            await self._hook("begin", switch)
            return await self._run(switch)

    async def _run(self, switch: _Switch) -> DeviceReport:
        try:
            refused = await self._step(switch, "validate", lambda: self._validate(switch))
            if refused is not None:
                outcome, mode, detail = refused
                return await self._end(switch, outcome, mode, detail)
            switch.touched = True
            await self._step(switch, "pause", lambda: self._pause(switch, switch.from_mode))
            await self._step(switch, "save", lambda: self._save(switch))
            await self._step(switch, "activate", lambda: self._activate(switch, switch.to_mode))
            switch.settled_ms = await self._step(switch, "verify", lambda: self._verify(switch, switch.to_mode))
        except StepFailedError as error:
            if not switch.touched:
                mode, seen = await self._mode_now(switch.machine, switch.from_mode)
                return await self._end(switch, DeviceOutcome.STALE_TELEMETRY, mode, f"{error}{seen}")
            return await self._roll_back(switch, str(error))
        return await self._end(switch, DeviceOutcome.COMMITTED, switch.to_mode, "")

    async def _step(self, switch: _Switch, step: str, act: Callable[[], Awaitable[Value]]) -> Value:
        """Run one step within its deadline and time it.

        Raises:
            StepFailedError: It was late, refused, disproven, or the device or the store failed.
        """
        deadline_ms = switch.deadline_ms(step)
        began = time.perf_counter()
        try:
            async with asyncio.timeout(seconds(deadline_ms)):
                value = await act()
        except TimeoutError as error:
            raise StepFailedError(f"{step} must end in {deadline_ms} ms, was not done") from error
        except StepFailedError as error:
            raise StepFailedError(f"{step}: {error}") from error
        except Exception as error:  # whatever a driver raises, the device must go back to a verified state
            raise StepFailedError(f"{step} must be answered, was: {error!r:.200}") from error
        finally:
            switch.phases_ms[step] = _ms_since(began)
        await self._hook(step, switch)
        return value

    async def _validate(self, switch: _Switch) -> tuple[DeviceOutcome, DeviceMode, str] | None:
        telemetry = self._readings.fresh(switch.device_id)
        if telemetry is None:
            raise StepFailedError("telemetry must be fresh, was stale or missing")
        heat = telemetry.temperature_celsius
        mode = telemetry.mode
        slows_at = telemetry.temperature_max_celsius
        heat_max = TEMPERATURE_CELSIUS_MAX if slows_at is None else slows_at - TEMPERATURE_MARGIN_CELSIUS
        # To lower power is what a hot device needs: that is never refused for heat.
        if heat is not None and heat > heat_max and switch.power_step is not PowerStep.STOP:
            detail = f"temperature must be {heat_max} degC or less, was {heat}"
            return DeviceOutcome.UNSAFE, mode or switch.from_mode, detail
        if mode is switch.to_mode and await observed_mode(switch.machine) is mode:
            return DeviceOutcome.ALREADY_THERE, mode, ""
        if mode is not None and mode is not switch.to_mode:
            switch.from_mode = mode  # what runs is what must be paused, whatever the command believed
        return None

    async def _pause(self, switch: _Switch, mode: DeviceMode) -> None:
        deadline_ms = switch.deadline_ms("pause")
        ack = await switch.machine.workload(mode).pause(mode=PauseMode.KEEP, deadline_ms=deadline_ms)
        if not isinstance(ack, Applied):
            raise StepFailedError(ack.detail)

    async def _save(self, switch: _Switch) -> None:
        state = await switch.machine.workload(switch.from_mode).export_state()
        await self._journal.save(device_id=switch.device_id, mode=switch.from_mode, state=state)

    async def _activate(self, switch: _Switch, mode: DeviceMode) -> None:
        ack = await switch.machine.workload(mode).activate(deadline_ms=switch.deadline_ms("activate"))
        if not isinstance(ack, Applied):
            raise StepFailedError(ack.detail)

    async def _verify(self, switch: _Switch, mode: DeviceMode) -> float | None:
        proof = await switch.machine.workload(mode).verify(deadline_ms=switch.deadline_ms("verify"))
        match proof:
            case Proven():
                return proof.settling_ms
            case Disproven():
                raise StepFailedError(proof.detail)
            case _:
                assert_never(proof)

    async def _roll_back(self, switch: _Switch, cause: str) -> DeviceReport:
        failures = await restore(switch.machine, mode=switch.from_mode)
        switch.settled_ms = None
        if len(failures) < ROLLBACK_ATTEMPTS_MAX:
            return await self._end(switch, DeviceOutcome.ROLLED_BACK, switch.from_mode, cause)
        mode, detail = await put_away(switch.machine, believed=switch.from_mode, failures=(cause, *failures))
        return await self._end(switch, DeviceOutcome.QUARANTINED, mode, detail)

    async def _end(self, switch: _Switch, outcome: DeviceOutcome, mode: DeviceMode, detail: str) -> DeviceReport:
        began = time.perf_counter()
        finished = Finished(
            shard_id=switch.command.shard_id,
            device_index=switch.command.device_indexes[switch.row],
            command_id=switch.command.command_id,
            outcome=outcome,
            mode=mode,
            detail=detail,
        )
        is_ours = await self._journal.finish(finished)
        if outcome in {DeviceOutcome.COMMITTED, DeviceOutcome.ALREADY_THERE}:
            switch.phases_ms["commit"] = _ms_since(began)
        if not is_ours:
            outcome, detail = DeviceOutcome.FENCED, "journal entry must be ours, was taken over by another controller"
        elif outcome is not DeviceOutcome.QUARANTINED:
            self._readings.note_mode(switch.device_id, mode)
        await self._hook("commit", switch)
        report = _report(switch.command, switch.row, outcome, mode, detail)
        report.phases_ms = switch.phases_ms
        report.settled_ms = switch.settled_ms
        return report

    async def _mode_now(self, machine: Machine, believed: DeviceMode) -> tuple[DeviceMode, str]:
        mode = await asked_mode(machine)
        return (mode, "") if mode is not None else (believed, "; mode could not be read back")

    async def _hook(self, step: str, switch: _Switch) -> None:
        if self._after_step is not None:
            await self._after_step(step, switch.device_id)


async def asked_mode(machine: Machine) -> DeviceMode | None:
    """Ask the hardware which mode it is in, within 100 ms; None when it does not say one."""
    try:
        async with asyncio.timeout(seconds(OBSERVE_MS_MAX)):
            return await observed_mode(machine)
    except Exception:  # noqa: BLE001  # whatever a driver raises, it did not say
        return None


async def restore(machine: Machine, *, mode: DeviceMode) -> tuple[str, ...]:
    """Bring a device back to `mode`, verified, in at most two attempts with a budget of their own.

    Returns:
        Why each failed attempt failed; as many as attempts allowed when the device was not restored.
    """
    failures: list[str] = []
    for _ in range(ROLLBACK_ATTEMPTS_MAX):
        try:
            async with asyncio.timeout(seconds(ROLLBACK_MS_MAX)):
                failure = await _restore_once(machine, mode)
        except TimeoutError:
            failure = f"rollback must end in {ROLLBACK_MS_MAX} ms, was not done"
        except Exception as error:  # noqa: BLE001  # whatever a driver raises, the second attempt must be made
            failure = f"rollback must be answered, was: {error!r:.200}"
        if failure is None:
            break
        failures.append(failure)
    return tuple(failures)


async def _restore_once(machine: Machine, mode: DeviceMode) -> str | None:
    for other in machine.modes:
        if other is not mode:
            ack = await machine.workload(other).pause(mode=PauseMode.KEEP, deadline_ms=ROLLBACK_MS_MAX)
            if not isinstance(ack, Applied):
                return f"rollback: {ack.detail}"
    ack = await machine.workload(mode).activate(deadline_ms=ROLLBACK_MS_MAX)
    if not isinstance(ack, Applied):
        return f"rollback: {ack.detail}"
    proof = await machine.workload(mode).verify(deadline_ms=ROLLBACK_MS_MAX)
    return f"rollback: {proof.detail}" if isinstance(proof, Disproven) else None


async def put_away(machine: Machine, *, believed: DeviceMode, failures: tuple[str, ...]) -> tuple[DeviceMode, str]:
    """Stop a device that could not be brought back; return the mode to report and why it is in quarantine."""
    try:
        async with asyncio.timeout(seconds(ROLLBACK_MS_MAX)):
            ack = await machine.device.safe_stop(reason="two failed rollbacks")
        stopped = "stopped" if isinstance(ack, Applied) else f"stop must be taken: {ack.detail}"
    except Exception as error:  # noqa: BLE001  # whatever a driver raises, the device is quarantined
        stopped = f"stop failed: {error!r:.80}"
    mode = await asked_mode(machine)
    return mode or believed, "; ".join((*failures, stopped))


def _report(
    command: ControllerCommand, row: int, outcome: DeviceOutcome, mode: DeviceMode, detail: str = ""
) -> DeviceReport:
    return DeviceReport(
        device_index=command.device_indexes[row],
        epoch=command.epochs[row],
        outcome=outcome,
        mode=mode,
        detail=detail,
    )


def _ms_since(began_s: float) -> float:
    return (time.perf_counter() - began_s) * MS_PER_SECOND
