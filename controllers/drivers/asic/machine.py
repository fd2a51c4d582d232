"""An ASIC behind the Machine port. Its modes exclude each other by nature, so to enter one is to leave the others.

An order is accepted in milliseconds and settles in minutes: the proof is what the miner says it was told, read back,
with its power target; that it hashes and draws so is for telemetry to show.
"""

import asyncio
from typing import Final

from controllers.drivers.asic.client import AsicReading, AsicUnknownError, AsicUnreachableError, Want
from controllers.drivers.asic.orders import READ_BACK_EVERY_MS, Deadline
from controllers.drivers.asic.unit import AsicUnit
from controllers.ports import (
    Ack,
    Applied,
    Disproven,
    Identity,
    ObservedState,
    PauseMode,
    Proof,
    Proven,
    Telemetry,
)
from hcp.clock import seconds
from hcp.model.devices import DeviceMode
from hcp.model.units import Ratio, Watts

OBSERVE_MS_MAX: Final = 400
IDENTIFY_MS_MAX: Final = 10_000
STOP_MS_MAX: Final = 1_900
"""Within the kill switch's and an order's own bound of 2 s."""
TELEMETRY_AGE_MS_MAX: Final = 30_000
_H_PER_TH: Final = 1e12


class AsicDevice:
    """The Device port over a unit; its telemetry is what the poller read last."""

    def __init__(self, unit: AsicUnit) -> None:
        """Drive the unit."""
        self._unit = unit

    async def identify(self) -> Identity:
        """Return what a library takes it for.

        Raises:
            AsicUnreachableError: It does not answer.
            AsicUnknownError: No library knows it.
        """
        client = await self._unit.connection.client(deadline_ms=IDENTIFY_MS_MAX)
        return Identity(
            vendor=client.firmware,
            product=client.model,
            firmware=client.firmware,
            capabilities=client.capabilities.names(),
        )

    async def telemetry(self) -> Telemetry:
        """Return the poller's last reading.

        Raises:
            AsicUnreachableError: There is none, or it is older than 30 s.
        """
        reading = self._unit.seen(age_ms_max=TELEMETRY_AGE_MS_MAX)
        if reading is None:
            raise AsicUnreachableError(f"{self._unit.host} must be read every {TELEMETRY_AGE_MS_MAX} ms, was not")
        return Telemetry(
            mode=self._unit.mode_of(reading),
            power_watts=reading.power_watts,
            temperature_celsius=reading.chip_temperature_celsius,
            hash_rate_h_per_s=None if reading.hash_rate_th_per_s is None else reading.hash_rate_th_per_s * _H_PER_TH,
            fan_speed_rpm=reading.fan_speed_rpm,
            reject_ratio=_reject_ratio(reading),
        )

    async def set_power_limit(self, *, limit_watts: Watts, deadline_ms: int) -> Ack:
        """Order a target and read it back."""
        return await self._unit.limit(limit_watts, deadline_ms=deadline_ms)

    async def safe_stop(self, *, reason: str) -> Ack:  # noqa: ARG002  # no firmware here keeps a reason
        """Put it to sleep; what sleeps is left alone."""
        return await self._unit.tell(DeviceMode.SLEEP, deadline_ms=STOP_MS_MAX)


class AsicWorkload:
    """One mode of a unit."""

    def __init__(self, unit: AsicUnit, mode: DeviceMode) -> None:
        """Drive the unit to a mode."""
        self._unit = unit
        self._mode = mode

    async def pause(self, *, mode: PauseMode, deadline_ms: int) -> Ack:  # noqa: ARG002  # the port's signature
        """Accept: the activation of another mode is what ends this one, and none is stopped in between."""
        return Applied()

    async def activate(self, *, deadline_ms: int) -> Ack:
        """Order the mode and read it back."""
        return await self._unit.tell(self._mode, deadline_ms=deadline_ms)

    async def observed(self) -> ObservedState:
        """Read what it was told; mining without hashes yet is told apart by telemetry, not here."""
        try:
            reading = await self._unit.read(Want.TOLD, deadline_ms=OBSERVE_MS_MAX)
        except (AsicUnreachableError, AsicUnknownError):
            return ObservedState.UNKNOWN
        seen = self._unit.mode_of(reading)
        if seen is None:
            return ObservedState.UNKNOWN
        return ObservedState.ACTIVE if seen is self._mode else ObservedState.PAUSED

    async def export_state(self) -> bytes:
        """Return nothing: a miner's pool gives it the next job."""
        return b"{}"

    async def verify(self, *, deadline_ms: int) -> Proof:
        """Read until it says that it was told so."""
        deadline = Deadline(deadline_ms)
        was = "not answered"
        while deadline.left_ms:
            try:
                reading = await self._unit.read(Want.TOLD, deadline_ms=deadline.left_ms)
            except (AsicUnreachableError, AsicUnknownError) as error:
                was = str(error)
            else:
                mode = self._unit.mode_of(reading)
                if mode is self._mode:
                    target = "" if reading.limit_watts is None else f" at {reading.limit_watts:.0f} W"
                    return Proven(evidence=f"{mode}{target} read back")
                was = str(mode or "unknown")
            await asyncio.sleep(seconds(min(READ_BACK_EVERY_MS, deadline.left_ms)))
        return Disproven(detail=f"{self._mode} must be read back within {deadline_ms} ms, was {was}")


class AsicMachine:
    """The Machine port over one unit."""

    def __init__(self, unit: AsicUnit) -> None:
        """Compose device and workloads."""
        self.unit = unit
        self._device = AsicDevice(unit)
        self._workloads = {mode: AsicWorkload(unit, mode) for mode in unit.modes}

    @property
    def device(self) -> AsicDevice:
        """The hardware."""
        return self._device

    @property
    def modes(self) -> tuple[DeviceMode, ...]:
        """Modes of its class."""
        return self.unit.modes

    def workload(self, mode: DeviceMode) -> AsicWorkload:
        """Return the workload of a mode."""
        return self._workloads[mode]


def _reject_ratio(reading: AsicReading) -> Ratio | None:
    if reading.accepted is None or reading.rejected is None or not reading.accepted + reading.rejected:
        return None
    return Ratio(reading.rejected / (reading.accepted + reading.rejected))
