"""A simulated ASIC: it accepts in milliseconds and settles in seconds, and the two are told apart.

Settling is an estimate, the class's `enter_ms` in fleet.toml: the switch ends with the mode read back, it does not
wait for the hash boards.
"""

import asyncio

from controllers.drivers.hardware import Fault, ShardHardware, Step, now_us
from controllers.drivers.simulated import SimulatedDevice, saved_state
from controllers.ports import (
    Accepted,
    Ack,
    Device,
    Disproven,
    ObservedState,
    PauseMode,
    Proof,
    Proven,
    Refused,
)
from hcp.model.devices import DeviceClass, DeviceMode


class _AsicWorkload:
    """Mining or sleeping; a miner is one process, so the order to sleep is what stops the mining."""

    def __init__(self, *, device: SimulatedDevice, mode: DeviceMode) -> None:
        self._device = device
        self._mode = mode

    async def pause(self, *, mode: PauseMode, deadline_ms: int) -> Ack:  # noqa: ARG002  # shares in flight are lost
        async with asyncio.timeout(deadline_ms / 1_000):
            if await self._device.call(Step.PAUSE, low_ms=1, high_ms=5) is Fault.REFUSE:
                return Refused(detail=f"{self._mode} must stop, was refused")
        self._device.rows.set_running(self._device.index, self._mode, is_running=False)
        return Accepted()

    async def activate(self, *, deadline_ms: int) -> Ack:
        async with asyncio.timeout(deadline_ms / 1_000):
            if await self._device.call(Step.ACTIVATE, low_ms=2, high_ms=15) is Fault.REFUSE:
                return Refused(detail=f"{self._mode} must be accepted, was refused")
        self._device.rows.set_running(self._device.index, self._mode, is_running=True)
        return Accepted()

    async def observed(self) -> ObservedState:
        state = await self._device.observe(self._mode)
        if state is ObservedState.ACTIVE and self._ramped_ms() < self._settling_ms():
            return ObservedState.RAMPING
        return state

    async def export_state(self) -> bytes:
        await self._device.call(Step.EXPORT, low_ms=0, high_ms=0)
        return saved_state(self._device, self._mode)

    async def verify(self, *, deadline_ms: int) -> Proof:
        async with asyncio.timeout(deadline_ms / 1_000):
            fault = await self._device.call(Step.VERIFY, low_ms=1, high_ms=5)
        row = self._device.rows.read(self._device.index)
        running = [mode for mode in self._device.modes if row.is_running(mode)]
        if running != [self._mode] or fault is Fault.WRONG_PROOF:
            was = "something else" if fault is Fault.WRONG_PROOF else ", ".join(running) or "nothing"
            return Disproven(detail=f"{self._mode} must be read back, was {was}")
        return Proven(evidence=f"{self._mode} read back", settling_ms=self._settling_ms())

    def _settling_ms(self) -> float:
        return float(self._device.device_class.profile(self._mode).enter_ms)

    def _ramped_ms(self) -> float:
        return (now_us() - self._device.rows.read(self._device.index).since_us) / 1_000


class SimulatedAsic:
    """The Machine port: one miner."""

    def __init__(self, *, rows: ShardHardware, index: int, device_class: DeviceClass) -> None:
        """Drive row `index` as a miner of that class."""
        self._device = SimulatedDevice(rows=rows, index=index, device_class=device_class)
        self._workloads = {mode: _AsicWorkload(device=self._device, mode=mode) for mode in self._device.modes}

    @property
    def device(self) -> Device:
        """The miner itself."""
        return self._device

    @property
    def modes(self) -> tuple[DeviceMode, ...]:
        """Modes of its class."""
        return self._device.modes

    def workload(self, mode: DeviceMode) -> _AsicWorkload:
        """Return the workload of a mode."""
        return self._workloads[mode]
