"""What both simulated drivers share: the ports over one row of simulated hardware, faults met and latencies waited.

A driver adds its latencies and how its workload proves itself.
"""

import asyncio
from abc import ABC, abstractmethod
from random import Random
from typing import ClassVar, Final

from controllers.drivers.hardware import Fault, ShardHardware, Step
from controllers.ports import Ack, Applied, Device, Identity, ObservedState, PauseMode, Proof, Refused, Telemetry
from hcp.clock import seconds
from hcp.model.devices import DeviceClass, DeviceMode
from hcp.model.units import Celsius, Watts

HANG_MS: Final = 3_600_000
"""A hung device answers after its caller has long given up."""
TEMPERATURE_CELSIUS: Final = Celsius(62.0)


class DeviceLostError(ConnectionError):
    """The simulated device is off the bus or the network."""


class SimulatedDevice:
    """The Device port over one row."""

    vendor = "HCP"

    def __init__(self, *, rows: ShardHardware, index: int, device_class: DeviceClass) -> None:
        """Drive row `index`."""
        self.rows = rows
        self.index = index
        self.device_class = device_class
        self.modes = tuple(profile.mode for profile in device_class.modes)
        self._random = Random(index)  # noqa: S311  # jitter of a simulation, no cryptography

    async def call(self, step: Step, *, low_ms: float, high_ms: float) -> Fault:
        """Wait as long as the hardware takes; hang or raise when a fault says so, return any other fault."""
        fault = self.rows.take_fault(self.index, step)
        if fault is Fault.HANG:
            await asyncio.sleep(seconds(HANG_MS))
        if fault is Fault.LOST:
            raise DeviceLostError(f"device must answer, was lost at {step.name.lower()}")
        if high_ms:
            await asyncio.sleep(self._random.uniform(low_ms, high_ms) / 1_000)
        return fault

    async def identify(self) -> Identity:
        """Return the class this row plays."""
        modes = tuple(str(mode) for mode in self.modes)
        return Identity(vendor=self.vendor, product=self.device_class.name, firmware="simulated", capabilities=modes)

    async def telemetry(self) -> Telemetry:
        """Read mode and draw; unknown when nothing or too much runs."""
        await self.call(Step.TELEMETRY, low_ms=0, high_ms=0)
        row = self.rows.read(self.index)
        running = [mode for mode in self.modes if row.is_running(mode)]
        mode = running[0] if len(running) == 1 else None
        power = self.device_class.profile(mode).power_watts if mode is not None else None
        return Telemetry(mode=mode, power_watts=power, temperature_celsius=TEMPERATURE_CELSIUS)

    async def set_power_limit(self, *, limit_watts: Watts, deadline_ms: int) -> Ack:
        """Keep the limit in the row."""
        async with asyncio.timeout(seconds(deadline_ms)):
            fault = await self.call(Step.ACTIVATE, low_ms=1, high_ms=3)
        if fault is Fault.REFUSE or not limit_watts > 0:
            return Refused(detail=f"power limit must be taken, was refused: {limit_watts} W")
        row = self.rows.read(self.index)
        row.power_limit_watts = limit_watts
        self.rows.write(self.index, row)
        return Applied()

    async def safe_stop(self, *, reason: str) -> Ack:  # noqa: ARG002  # a real driver writes it to the device's log
        """Cut every workload; works for a hung device too, as a power relay would."""
        self.rows.stop_all(self.index)
        return Applied()


class SimulatedWorkload(ABC):
    """The Workload port: what one device does in one mode."""

    pause_ms_max: ClassVar[float]
    """A pause takes 1 ms to this."""
    activate_ms_max: ClassVar[float]
    """An activation takes 2 ms to this."""

    def __init__(self, *, device: SimulatedDevice, mode: DeviceMode) -> None:
        """Be the workload of `mode`."""
        self.device = device
        self.mode = mode

    async def pause(self, *, mode: PauseMode, deadline_ms: int) -> Ack:  # noqa: ARG002  # no requests are simulated
        """Stop; what it did is kept in the row."""
        async with asyncio.timeout(seconds(deadline_ms)):
            if await self.device.call(Step.PAUSE, low_ms=1, high_ms=self.pause_ms_max) is Fault.REFUSE:
                return Refused(detail=f"{self.mode} must pause, was refused")
        self.device.rows.set_running(self.device.index, self.mode, is_running=False)
        return Applied()

    async def activate(self, *, deadline_ms: int) -> Ack:
        """Start, whatever else runs: that nothing else does is for `verify` to see."""
        async with asyncio.timeout(seconds(deadline_ms)):
            if await self.device.call(Step.ACTIVATE, low_ms=2, high_ms=self.activate_ms_max) is Fault.REFUSE:
                return Refused(detail=f"{self.mode} must activate, was refused")
        self.device.rows.set_running(self.device.index, self.mode, is_running=True)
        return Applied()

    async def observed(self) -> ObservedState:
        """Read whether it runs."""
        try:
            await self.device.call(Step.OBSERVE, low_ms=0, high_ms=0)
        except DeviceLostError:
            return ObservedState.UNKNOWN
        is_running = self.device.rows.read(self.device.index).is_running(self.mode)
        return ObservedState.ACTIVE if is_running else ObservedState.PAUSED

    async def export_state(self) -> bytes:
        """Return what a real workload would export: here, how far it was."""
        await self.device.call(Step.EXPORT, low_ms=0, high_ms=0)
        return f"{self.mode}:{self.device.rows.read(self.device.index).work}".encode()

    @abstractmethod
    async def verify(self, *, deadline_ms: int) -> Proof:
        """Prove that it runs, and alone."""


class SimulatedMachine:
    """The Machine port: one device and a workload a mode."""

    workload_type: ClassVar[type[SimulatedWorkload]]

    def __init__(self, *, rows: ShardHardware, index: int, device_class: DeviceClass) -> None:
        """Drive row `index` as a device of that class."""
        self._device = SimulatedDevice(rows=rows, index=index, device_class=device_class)
        self._workloads = {mode: self.workload_type(device=self._device, mode=mode) for mode in self._device.modes}

    @property
    def device(self) -> Device:
        """The device itself."""
        return self._device

    @property
    def modes(self) -> tuple[DeviceMode, ...]:
        """Modes of its class."""
        return self._device.modes

    def workload(self, mode: DeviceMode) -> SimulatedWorkload:
        """Return the workload of a mode."""
        return self._workloads[mode]
