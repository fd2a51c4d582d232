"""Cached telemetry of every device: one poller reads, everybody else looks here and checks the age."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from controllers.ports import Machine, Telemetry
from hcp.clock import seconds
from hcp.model.devices import DeviceMode

READING_AGE_MS_MAX: Final = 30_000
READ_DEADLINE_MS: Final = 500
READ_TOGETHER_MAX: Final = 256

Monotonic = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A device's last telemetry and when it was taken, in seconds of the monotonic clock."""

    telemetry: Telemetry
    at_s: float


class Readings:
    """Last reading of each device by device id."""

    def __init__(self, *, monotonic: Monotonic = time.monotonic) -> None:
        """Start empty."""
        self._monotonic = monotonic
        self._last: dict[str, Reading] = {}

    def fresh(self, device_id: str, *, age_ms_max: int = READING_AGE_MS_MAX) -> Telemetry | None:
        """Return a device's telemetry; None when it was never read or is too old."""
        reading = self._last.get(device_id)
        if reading is None or self._monotonic() - reading.at_s > seconds(age_ms_max):
            return None
        return reading.telemetry

    def note_mode(self, device_id: str, mode: DeviceMode) -> None:
        """Write a mode through that a switch has just verified."""
        reading = self._last.get(device_id)
        if reading is not None:
            self._last[device_id] = replace(reading, telemetry=replace(reading.telemetry, mode=mode))

    async def refresh(self, machines: Mapping[str, Machine]) -> None:
        """Read devices, 256 at once; one that does not answer in time keeps its old reading."""
        waiting = iter(machines.items())
        while group := list(islice(waiting, READ_TOGETHER_MAX)):
            await self._read(group)

    async def _read(self, group: Iterable[tuple[str, Machine]]) -> None:
        tasks = {asyncio.ensure_future(machine.device.telemetry()): device_id for device_id, machine in group}
        done, late = await asyncio.wait(tasks, timeout=seconds(READ_DEADLINE_MS))
        for task in late:
            task.cancel()
        for task in done:
            if task.exception() is None:
                self._last[tasks[task]] = Reading(telemetry=task.result(), at_s=self._monotonic())
