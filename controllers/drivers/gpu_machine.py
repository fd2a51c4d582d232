"""A GPU with its resident workloads behind the Machine port: any Device, and a workload a mode."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from controllers.drivers.idle_gpu import IdleGpu
from controllers.ports import (
    RUNNING,
    Ack,
    Applied,
    Device,
    Disproven,
    Hashing,
    Identity,
    NotConfirmed,
    ObservedState,
    PauseMode,
    Prewarmable,
    Proof,
    Proven,
    Telemetry,
    Unreachable,
    Unsupported,
    Workload,
)
from hcp.model.devices import DeviceMode
from hcp.model.units import Watts

STOP_MS_MAX: Final = 400
"""Within the executor's and the kill switch's own bound of 500 ms."""


class _Exclusive:
    """A workload whose proof holds only while no other one runs on the device."""

    def __init__(self, mode: DeviceMode, workload: Workload, others: Mapping[DeviceMode, Workload]) -> None:
        self._mode = mode
        self._workload = workload
        self._others = dict(others)

    async def pause(self, *, mode: PauseMode, deadline_ms: int) -> Ack:
        return await self._workload.pause(mode=mode, deadline_ms=deadline_ms)

    async def activate(self, *, deadline_ms: int) -> Ack:
        return await self._workload.activate(deadline_ms=deadline_ms)

    async def observed(self) -> ObservedState:
        return await self._workload.observed()

    async def export_state(self) -> bytes:
        return await self._workload.export_state()

    async def prewarm(self, *, deadline_ms: int) -> Ack:
        if isinstance(self._workload, Prewarmable):
            return await self._workload.prewarm(deadline_ms=deadline_ms)
        return Unsupported(detail=f"{self._mode} must have something to warm, has not")

    async def verify(self, *, deadline_ms: int) -> Proof:
        proof, states = await asyncio.gather(
            self._workload.verify(deadline_ms=deadline_ms), _observed(self._others.values())
        )
        if not isinstance(proof, Proven):
            return proof
        beside = [mode for mode, state in zip(self._others, states, strict=True) if state in RUNNING]
        if beside:
            return Disproven(detail=f"only {self._mode} must run, was beside {', '.join(beside)}")
        return proof


class _WorkingDevice:
    """The device with what its workloads alone know: the mode it is in, and how to stop it."""

    def __init__(self, device: Device, workloads: Mapping[DeviceMode, Workload]) -> None:
        self._device = device
        self._workloads = dict(workloads)

    async def identify(self) -> Identity:
        return await self._device.identify()

    async def telemetry(self) -> Telemetry:
        reading, states = await asyncio.gather(self._device.telemetry(), _observed(self._workloads.values()))
        mode = _mode_of(dict(zip(self._workloads, states, strict=True)))
        running: Workload | None = self._workloads.get(mode) if mode is not None else None
        return replace(reading, mode=mode, hash_rate_h_per_s=_hash_rate(running))

    async def set_power_limit(self, *, limit_watts: Watts, deadline_ms: int) -> Ack:
        return await self._device.set_power_limit(limit_watts=limit_watts, deadline_ms=deadline_ms)

    async def safe_stop(self, *, reason: str) -> Ack:
        """Pause every workload, by force where one does not answer, and stop the device itself where it can be."""
        stops = [each.pause(mode=PauseMode.ABORT, deadline_ms=STOP_MS_MAX) for each in self._workloads.values()]
        own, *acks = await asyncio.gather(self._stop_device(reason), *stops)
        running = [ack.detail for ack in acks if not isinstance(ack, Applied)]
        if running:
            return NotConfirmed(detail=f"every workload must be paused: {'; '.join(running)}")
        # With all workloads paused a device that has no stop of its own is stopped.
        return Applied() if isinstance(own, Unsupported) else own

    async def _stop_device(self, reason: str) -> Ack:
        try:
            return await self._device.safe_stop(reason=reason)
        except Exception as error:  # noqa: BLE001  # whatever a driver raises, the workloads must be stopped
            return Unreachable(detail=f"device must take the stop, was {error!r:.120}")


class GpuMachine:
    """The Machine port over a device, its workloads, and idle."""

    def __init__(self, *, device: Device, workloads: Mapping[DeviceMode, Workload]) -> None:
        """Compose them; a workload for idle is added.

        Raises:
            ValueError: A workload for idle was given.
        """
        if DeviceMode.IDLE in workloads:
            raise ValueError("workloads must not include idle, which is none of them running")
        self._device = _WorkingDevice(device, workloads)
        self._workloads: dict[DeviceMode, Workload] = {
            mode: _Exclusive(mode, workload, {other: each for other, each in workloads.items() if other is not mode})
            for mode, workload in workloads.items()
        }
        self._workloads[DeviceMode.IDLE] = IdleGpu(tuple(workloads.values()))

    @property
    def device(self) -> Device:
        """The device, with the mode that its workloads show."""
        return self._device

    @property
    def modes(self) -> tuple[DeviceMode, ...]:
        """Modes of its workloads, and idle."""
        return tuple(self._workloads)

    def workload(self, mode: DeviceMode) -> Workload:
        """Return the workload of a mode."""
        return self._workloads[mode]


async def _observed(workloads: Iterable[Workload]) -> list[ObservedState]:
    return list(await asyncio.gather(*(each.observed() for each in workloads)))


def _hash_rate(workload: object) -> float | None:
    return workload.hash_rate_h_per_s if isinstance(workload, Hashing) else None


def _mode_of(states: Mapping[DeviceMode, ObservedState]) -> DeviceMode | None:
    if ObservedState.UNKNOWN in states.values():
        return None
    running = [mode for mode, state in states.items() if state in RUNNING]
    if not running:
        return DeviceMode.IDLE
    return running[0] if len(running) == 1 else None
