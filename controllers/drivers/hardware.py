"""Simulated hardware that outlives its controller: one small mapped file a shard, one row a device.

A file and not Redis, so that the "hardware" shares no fate with the journal: kill -9 of a controller or the loss of
Redis leaves it as it was, and recovery has something true to ask. A test or an operator maps the same file from another
process and asks for faults there.
"""

import mmap
import os
import struct
import time
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final

from hcp.model.devices import DeviceMode
from hcp.model.facilities import Cluster, Shard

_ROW: Final = struct.Struct("<B8sBBBdQQ")
"""initialised, running per mode, fault, faulty step, faults left, power limit (W), work done, since (us, wall)."""
_SUFFIX: Final = ".rows8"
"""Named for the modes a row has room for: a file with other rows is left alone, never misread."""
_MODES: Final = tuple(DeviceMode)
FOREVER: Final = 255
"""Faults left that never count down."""


class Fault(IntEnum):
    """What a device does wrong on request."""

    NONE = 0
    HANG = 1
    REFUSE = 2
    WRONG_PROOF = 3
    LOST = 4


class Step(IntEnum):
    """Which call the fault meets."""

    ANY = 0
    PAUSE = 1
    EXPORT = 2
    ACTIVATE = 3
    VERIFY = 4
    OBSERVE = 5
    TELEMETRY = 6


@dataclass(slots=True, kw_only=True)
class Row:
    """State of one simulated device, as its mapped bytes say."""

    running: bytes
    fault: int
    fault_step: int
    faults_left: int
    power_limit_watts: float
    work: int
    since_us: int

    def is_running(self, mode: DeviceMode) -> bool:
        """Tell whether the workload of a mode runs."""
        return bool(self.running[_MODES.index(mode)])


def now_us() -> int:
    """Return the wall clock in microseconds: it must mean the same after a restart."""
    return time.time_ns() // 1_000


class ShardHardware:
    """The mapped rows of one shard."""

    def __init__(self, *, directory: Path, shard: Shard, initial_mode: DeviceMode) -> None:
        """Map the shard's file, made with every device in `initial_mode` when it is new."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{shard.shard_id.replace('/', '_')}{_SUFFIX}"
        size = shard.device_count * _ROW.size
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if os.fstat(descriptor).st_size < size:
                os.ftruncate(descriptor, size)
            self._rows = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)
        for index in range(shard.device_count):
            if not self._rows[index * _ROW.size]:
                self.write(index, _row_in(initial_mode))

    def read(self, index: int) -> Row:
        """Return a device's row."""
        _, running, fault, step, left, limit, work, since = _ROW.unpack_from(self._rows, index * _ROW.size)
        return Row(
            running=running,
            fault=fault,
            fault_step=step,
            faults_left=left,
            power_limit_watts=limit,
            work=work,
            since_us=since,
        )

    def write(self, index: int, row: Row) -> None:
        """Replace a device's row."""
        fields = (row.fault, row.fault_step, row.faults_left, row.power_limit_watts, row.work, row.since_us)
        _ROW.pack_into(self._rows, index * _ROW.size, 1, row.running, *fields)

    def set_running(self, index: int, mode: DeviceMode, *, is_running: bool) -> None:
        """Start or stop the workload of a mode; starting what runs changes nothing."""
        row = self.read(index)
        if row.is_running(mode) is is_running:
            return
        running = bytearray(row.running)
        running[_MODES.index(mode)] = is_running
        row.work, row.since_us, row.running = work_done(row), now_us(), bytes(running)
        self.write(index, row)

    def stop_all(self, index: int) -> None:
        """Stop every workload of a device."""
        row = self.read(index)
        row.work, row.since_us, row.running = work_done(row), now_us(), bytes(len(_MODES))
        self.write(index, row)

    def ask_fault(self, index: int, fault: Fault, *, step: Step = Step.ANY, times: int = FOREVER) -> None:
        """Let a device go wrong from now on, `times` calls of `step`; Fault.NONE mends it."""
        row = self.read(index)
        row.fault, row.fault_step, row.faults_left = fault, step, times
        self.write(index, row)

    def take_fault(self, index: int, step: Step) -> Fault:
        """Return the fault that this call meets, counting it."""
        row = self.read(index)
        if not row.fault or not row.faults_left or row.fault_step not in {Step.ANY, step}:
            return Fault.NONE
        if row.faults_left != FOREVER:
            row.faults_left -= 1
            self.write(index, row)
        return Fault(row.fault)


def _row_in(mode: DeviceMode) -> Row:
    running = bytes(int(known is mode) for known in _MODES)
    return Row(running=running, fault=0, fault_step=0, faults_left=0, power_limit_watts=0.0, work=0, since_us=now_us())


def work_done(row: Row) -> int:
    """Return the work counter: it advances by one a microsecond while something runs."""
    return row.work + (max(0, now_us() - row.since_us) if any(row.running) else 0)


class SimulatedHardware:
    """All shards of some clusters, mapped when first touched."""

    def __init__(self, *, directory: Path, clusters: tuple[Cluster, ...]) -> None:
        """Keep the rows under `directory`."""
        self._directory = directory
        self._known = {shard.shard_id: (shard, cluster) for cluster in clusters for shard in cluster.shards()}
        self._mapped: dict[str, ShardHardware] = {}

    def shard(self, shard_id: str) -> ShardHardware:
        """Return a shard's rows; KeyError when no cluster has it."""
        if shard_id not in self._mapped:
            shard, cluster = self._known[shard_id]
            self._mapped[shard_id] = ShardHardware(
                directory=self._directory, shard=shard, initial_mode=cluster.initial_mode
            )
        return self._mapped[shard_id]
