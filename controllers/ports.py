"""What the executor asks of hardware: the ports every driver implements, and the values they answer with."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from hcp.model.devices import DeviceMode
from hcp.model.units import Celsius, Ratio, Watts


class PauseMode(StrEnum):
    """What becomes of requests in flight."""

    KEEP = "keep"
    WAIT = "wait"
    ABORT = "abort"


class ObservedState(StrEnum):
    """What a workload is seen to do; `unknown` when the hardware did not say."""

    ACTIVE = "active"
    PAUSED = "paused"
    RAMPING = "ramping"
    UNKNOWN = "unknown"


RUNNING = frozenset({ObservedState.ACTIVE, ObservedState.RAMPING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """The hardware took the order and, where it can be read back, says so; that it obeys is for `verify` to show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The hardware did not take the order; `detail` says what must be and what was."""

    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsupported:
    """This hardware or firmware has no such order: asking again changes nothing."""

    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreachable:
    """No answer within the deadline, or no connection: whether the order took effect is unknown."""

    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotConfirmed:
    """The hardware said yes, and what was read back within the deadline says otherwise."""

    detail: str


Ack = Applied | Refused | Unsupported | Unreachable | NotConfirmed
"""A value for each outcome, never a boolean: all but the first say in `detail` what must be and what was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """The workload did what only a running one can do.

    Attributes:
        evidence: What was seen, in words: a token, hashes advancing, a mode read back.
        settling_ms: The driver's estimate from the command until full power (or none); None when not measured.
    """

    evidence: str
    settling_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Disproven:
    """The workload answered and is not doing its work; `detail` says what must be and what was."""

    detail: str


Proof = Proven | Disproven


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a device is."""

    vendor: str
    product: str
    firmware: str
    capabilities: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """One reading; None means not measured, never zero.

    Attributes:
        mode: Mode the device is in; None when nothing, or more than one workload, runs.
        power_watts: Draw at the wall, 0 or more.
        temperature_celsius: Hottest chip.
        temperature_max_celsius: Where this hardware begins to slow itself; None when it does not say.
        memory_temperature_celsius: Of a GPU's memory.
        inlet_temperature_celsius: Of the air that an ASIC draws in.
        utilisation_ratio: Share of time a kernel ran, 0..1.
        hash_rate_h_per_s: Hashes a second, 0 or more.
        fan_speed_rpm: Mean of the fans.
        reject_ratio: Shares that the pool refused, 0..1.
    """

    mode: DeviceMode | None
    power_watts: Watts | None
    temperature_celsius: Celsius | None
    temperature_max_celsius: Celsius | None = None
    memory_temperature_celsius: Celsius | None = None
    inlet_temperature_celsius: Celsius | None = None
    utilisation_ratio: Ratio | None = None
    hash_rate_h_per_s: float | None = None
    fan_speed_rpm: float | None = None
    reject_ratio: Ratio | None = None


class Device(Protocol):
    """The hardware itself."""

    async def identify(self) -> Identity:
        """Return vendor, firmware and capabilities."""

    async def telemetry(self) -> Telemetry:
        """Return a fresh reading."""

    async def set_power_limit(self, *, limit_watts: Watts, deadline_ms: int) -> Ack:
        """Bound the draw."""

    async def safe_stop(self, *, reason: str) -> Ack:
        """Stop everything on the device; needs neither Redis nor Kafka."""


class Workload(Protocol):
    """One resident workload of a device: what it does in one mode."""

    async def pause(self, *, mode: PauseMode, deadline_ms: int) -> Ack:
        """Stop working and keep the state; pausing what is paused is accepted."""

    async def activate(self, *, deadline_ms: int) -> Ack:
        """Take over the device; activating what is active is accepted."""

    async def observed(self) -> ObservedState:
        """Ask the hardware, not a memory of it."""

    async def export_state(self) -> bytes:
        """Return what a later activation needs to go on."""

    async def verify(self, *, deadline_ms: int) -> Proof:
        """Prove by the application, never by utilisation, that this workload runs."""


@runtime_checkable
class Prewarmable(Protocol):
    """A workload that can do part of its activation beforehand, without taking the device."""

    async def prewarm(self, *, deadline_ms: int) -> Ack:
        """Do that part; what is warm or active already is accepted."""


@runtime_checkable
class Hashing(Protocol):
    """A workload that says how fast it hashes."""

    @property
    def hash_rate_h_per_s(self) -> float | None:
        """Return the rate when it was last observed, hashes a second; None when it did not say."""


class Machine(Protocol):
    """A device with its resident workloads, one a mode.

    Every call may be cancelled at any time: a driver must not block the event loop.
    """

    @property
    def device(self) -> Device:
        """The hardware."""

    @property
    def modes(self) -> tuple[DeviceMode, ...]:
        """Modes it has a workload for."""

    def workload(self, mode: DeviceMode) -> Workload:
        """Return the workload of a mode; KeyError when it has none."""


async def observed_mode(machine: Machine) -> DeviceMode | None:
    """Ask the hardware which mode it is in; None when nothing runs, more than one does, or one did not say."""
    running = []
    for mode in machine.modes:
        state = await machine.workload(mode).observed()
        if state is ObservedState.UNKNOWN:
            return None
        if state in RUNNING:
            running.append(mode)
    return running[0] if len(running) == 1 else None
