"""A simulated GPU with resident miner and inference server; latencies of a few ms as measured on real processes."""

import asyncio
from typing import Final

from controllers.drivers.hardware import Fault, ShardHardware, Step, work_done
from controllers.drivers.simulated import SimulatedDevice, saved_state
from controllers.ports import Accepted, Ack, Device, Disproven, ObservedState, PauseMode, Proof, Proven, Refused
from hcp.model.devices import DeviceClass, DeviceMode

PROOF_WAIT_MS: Final = 2.0
"""Between two readings of the hash counter."""


class _GpuWorkload:
    """The miner, the inference server or nothing, of one GPU."""

    def __init__(self, *, device: SimulatedDevice, mode: DeviceMode) -> None:
        self._device = device
        self._mode = mode

    async def pause(self, *, mode: PauseMode, deadline_ms: int) -> Ack:  # noqa: ARG002  # no requests are simulated
        async with asyncio.timeout(deadline_ms / 1_000):
            if await self._device.call(Step.PAUSE, low_ms=1, high_ms=4) is Fault.REFUSE:
                return Refused(detail=f"{self._mode} must pause, was refused")
        self._device.rows.set_running(self._device.index, self._mode, is_running=False)
        return Accepted()

    async def activate(self, *, deadline_ms: int) -> Ack:
        async with asyncio.timeout(deadline_ms / 1_000):
            if await self._device.call(Step.ACTIVATE, low_ms=2, high_ms=6) is Fault.REFUSE:
                return Refused(detail=f"{self._mode} must activate, was refused")
        self._device.rows.set_running(self._device.index, self._mode, is_running=True)
        return Accepted()

    async def observed(self) -> ObservedState:
        return await self._device.observe(self._mode)

    async def export_state(self) -> bytes:
        await self._device.call(Step.EXPORT, low_ms=0, high_ms=0)
        return saved_state(self._device, self._mode)

    async def verify(self, *, deadline_ms: int) -> Proof:
        async with asyncio.timeout(deadline_ms / 1_000):
            fault = await self._device.call(Step.VERIFY, low_ms=1, high_ms=3)
            before = work_done(self._device.rows.read(self._device.index))
            await asyncio.sleep(PROOF_WAIT_MS / 1_000)
        row = self._device.rows.read(self._device.index)
        others = [mode for mode in self._device.modes if mode is not self._mode and row.is_running(mode)]
        if others:
            return Disproven(detail=f"only {self._mode} must run, was beside {', '.join(others)}")
        done = work_done(row) - before if row.is_running(self._mode) and fault is not Fault.WRONG_PROOF else 0
        return self._proof(done)

    def _proof(self, done: int) -> Proof:
        if done <= 0:
            wanted = {
                DeviceMode.MINING: "hashes must advance",
                DeviceMode.AI_INFERENCE: "a token must be generated",
            }.get(self._mode, f"{self._mode} must be read back")
            return Disproven(detail=f"{wanted}, was not")
        return Proven(evidence=f"{self._mode} did {done} units of work")


class SimulatedGpu:
    """The Machine port: one GPU and its workloads."""

    def __init__(self, *, rows: ShardHardware, index: int, device_class: DeviceClass) -> None:
        """Drive row `index` as a GPU of that class."""
        self._device = SimulatedDevice(rows=rows, index=index, device_class=device_class)
        self._workloads = {mode: _GpuWorkload(device=self._device, mode=mode) for mode in self._device.modes}

    @property
    def device(self) -> Device:
        """The GPU itself."""
        return self._device

    @property
    def modes(self) -> tuple[DeviceMode, ...]:
        """Modes of its class."""
        return self._device.modes

    def workload(self, mode: DeviceMode) -> _GpuWorkload:
        """Return the workload of a mode."""
        return self._workloads[mode]
