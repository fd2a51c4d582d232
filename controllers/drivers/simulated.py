"""What both simulated drivers share: faults met, latencies waited, the device's own port; and the choice of driver."""

import asyncio
from random import Random
from typing import Final

from controllers.drivers.hardware import Fault, ShardHardware, Step
from controllers.ports import Accepted, Ack, Identity, ObservedState, Refused, Telemetry
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
        async with asyncio.timeout(deadline_ms / 1_000):
            fault = await self.call(Step.ACTIVATE, low_ms=1, high_ms=3)
        if fault is Fault.REFUSE or not limit_watts > 0:
            return Refused(detail=f"power limit must be taken, was refused: {limit_watts} W")
        row = self.rows.read(self.index)
        row.power_limit_watts = limit_watts
        self.rows.write(self.index, row)
        return Accepted()

    async def safe_stop(self, *, reason: str) -> Ack:  # noqa: ARG002  # a real driver writes it to the device's log
        """Cut every workload; works for a hung device too, as a power relay would."""
        self.rows.stop_all(self.index)
        return Accepted()

    async def observe(self, mode: DeviceMode) -> ObservedState:
        """Read whether the workload of a mode runs."""
        try:
            await self.call(Step.OBSERVE, low_ms=0, high_ms=0)
        except DeviceLostError:
            return ObservedState.UNKNOWN
        return ObservedState.ACTIVE if self.rows.read(self.index).is_running(mode) else ObservedState.PAUSED


def saved_state(device: SimulatedDevice, mode: DeviceMode) -> bytes:
    """Return what a real workload would export: here, how far it was."""
    return f"{mode}:{device.rows.read(device.index).work}".encode()
