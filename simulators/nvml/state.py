"""The Python side of the simulator: makes the state file, plays the physics of each GPU and asks for faults.

Any process may map the same file, so a test, the fleet simulator and an operator change what a driver sees elsewhere.
Limits are the driver's to set: they stay in the file when either side is killed.
"""

import ctypes
import fcntl
import mmap
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from hcp.errors import HcpError
from hcp.model.units import Celsius, Ratio, Watts
from simulators.nvml.layout import (
    FOREVER,
    GPUS_MAX,
    LAYOUT_WORD,
    PROCESSES_MAX,
    WINDOW_US,
    XIDS_MAX,
    Call,
    GpuState,
    HostState,
    NvmlReturn,
)
from simulators.nvml.models import H100, GpuModel

DRIVER_VERSION: Final = "580.95.05"
CUDA_VERSION: Final = 13_000
MW_PER_W: Final = 1_000
US_PER_S: Final = 1_000_000
PERCENT: Final = 100
XID_FALLEN_OFF_THE_BUS: Final = 79
HANG_MS: Final = 3_600_000
"""As good as for ever; mending the GPU ends it."""
_FILE_MODE: Final = 0o600


class NvmlStateError(HcpError):
    """The state file is not one that this version reads; says what must be and what was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process that holds memory of a GPU."""

    pid: int
    used_bytes: int
    is_graphics: bool = False


def _now_us() -> int:
    return time.monotonic_ns() // 1_000


def _slid(before: int, now: int, since_us: int) -> int:
    if since_us >= WINDOW_US:
        return now
    return before + int((now - before) * max(0, since_us) / WINDOW_US)


class FakeGpu:
    """One GPU of the file; every change is seen at once by whoever has the library loaded."""

    def __init__(self, *, state: GpuState, index: int, host: "NvmlSimulator") -> None:
        """Be the GPU at `index`."""
        self._state = state
        self._host = host
        self.index = index

    @property
    def uuid(self) -> str:
        """Return the UUID, as NVML prints it."""
        return bytes(self._state.uuid).decode()

    @property
    def power_limit_watts(self) -> Watts:
        """Return the limit that a driver set, or the default."""
        return Watts(self._state.limit_mw / MW_PER_W)

    @property
    def power_watts(self) -> Watts:
        """Return the draw of the moment: what the load wants, at most the limit."""
        return Watts(self._draw_mw() / MW_PER_W)

    def set_load(self, *, power_watts: Watts, utilisation_ratio: Ratio, memory_used_bytes: int | None = None) -> None:
        """Let the GPU want so much power and be so busy from now on; averages follow within a second."""
        with self._host.locked():
            state, now_us = self._state, _now_us()
            since_us = now_us - state.draw_changed_us
            state.draw_before_mw = _slid(state.draw_before_mw, self._draw_mw(), since_us)
            state.energy_mj += self._draw_mw() * max(0, since_us) // US_PER_S
            state.demand_mw, state.draw_changed_us = round(power_watts * MW_PER_W), now_us
            busy_since_us = now_us - state.utilization_changed_us
            state.utilization_before_percent = _slid(
                state.utilization_before_percent, state.utilization_percent, busy_since_us
            )
            state.utilization_percent = round(utilisation_ratio * PERCENT)
            state.utilization_changed_us = now_us
            if memory_used_bytes is not None:
                state.memory_used_bytes = memory_used_bytes

    def set_temperature(self, celsius: Celsius, *, memory_celsius: Celsius | None = None) -> None:
        """Set what the sensors show, in whole degrees as NVML gives them."""
        self._state.temperature_c = round(celsius)
        if memory_celsius is not None:
            self._state.memory_temperature_c = round(memory_celsius)

    def set_processes(self, processes: Sequence[Process]) -> None:
        """Replace who runs on the GPU.

        Raises:
            ValueError: More than 32.
        """
        if len(processes) > PROCESSES_MAX:
            raise ValueError(f"processes must be at most {PROCESSES_MAX}, were {len(processes)}")
        self._state.process_count = 0  # a reader in between sees none rather than halves
        for row, process in zip(self._state.processes, processes, strict=False):
            row.pid, row.is_graphics, row.used_bytes = process.pid, process.is_graphics, process.used_bytes
        self._state.process_count = len(processes)

    def set_ecc_errors(self, *, corrected: int, uncorrected: int) -> None:
        """Set the counters, since the driver was loaded and for the board's life alike."""
        self._state.ecc_errors[:] = (corrected, uncorrected, corrected, uncorrected)

    def set_nvlinks_active(self, links: int) -> None:
        """Let the first `links` links be up."""
        self._state.nvlink_active_mask = (1 << links) - 1

    def set_external_limit(self, limit_watts: Watts) -> None:
        """Let something other than the management limit bound the draw (a brake, a rack); 0 is nothing."""
        self._state.limit_external_mw = round(limit_watts * MW_PER_W)

    def ask_fault(self, code: NvmlReturn, *, call: Call = Call.ANY, times: int = FOREVER) -> None:
        """Answer `code` to the next `times` calls of that kind; replaces the fault that was asked for before."""
        with self._host.locked():
            self._state.fault_left = 0
            self._state.fault_code, self._state.fault_call, self._state.fault_left = code, call, times

    def ask_slow(self, duration_ms: int, *, call: Call = Call.ANY) -> None:
        """Let calls of that kind take so long; `mend` lets go those that wait."""
        self._state.slow_call, self._state.slow_ms = call, duration_ms

    def ask_hang(self, *, call: Call = Call.ANY) -> None:
        """Let calls of that kind not come back until the GPU is mended."""
        self.ask_slow(HANG_MS, call=call)

    def ignore_limit(self, *, is_ignored: bool = True) -> None:
        """Let the GPU say yes to a limit and not take it."""
        self._state.ignores_limit = is_ignored

    def lack(self, *calls: Call) -> None:
        """Answer "not supported" to these calls for good; without any, support all again."""
        self._state.unsupported_mask = sum(1 << call for call in calls)

    def lose(self) -> None:
        """Answer "GPU is lost" to everything until `recover`."""
        self._state.is_lost = True

    def fall_off_the_bus(self) -> None:
        """Get lost with Xid 79, as a GPU does whose PCI Express link went down."""
        self._host.raise_xid(self.index, XID_FALLEN_OFF_THE_BUS)
        self.lose()

    def recover(self) -> None:
        """Bring a lost GPU back as a reset does: handles from before stay lost, and the limit is the default again."""
        with self._host.locked():
            if self._state.is_lost:
                self._state.generation += 1
                self._state.limit_mw = self._state.limit_default_mw
                self._state.is_lost = False

    def mend(self) -> None:
        """Take back every fault; what is lost needs `recover`."""
        with self._host.locked():
            state = self._state
            state.fault_code = state.fault_left = state.slow_ms = state.ignores_limit = 0
            state.limit_external_mw = 0

    def _draw_mw(self) -> int:
        state = self._state
        return int(min(state.demand_mw, state.limit_mw, state.limit_external_mw or state.limit_mw))


class NvmlSimulator:
    """One simulated host: its file mapped, its GPUs."""

    def __init__(self, path: Path) -> None:
        """Map a file that `create` made.

        Raises:
            NvmlStateError: It is not there, or of another layout.
        """
        self.path = path
        size = ctypes.sizeof(HostState)
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise NvmlStateError(f"{path} must be a state file of the NVML simulator, was not: {error}") from error
        found = os.fstat(self._file).st_size
        if found != size:
            os.close(self._file)
            raise NvmlStateError(f"{path} must hold {size} bytes, held {found}: made by another version")
        self._map = mmap.mmap(self._file, size)
        self._host: HostState | None = HostState.from_buffer(self._map)
        if self._host.layout_word != LAYOUT_WORD:
            word = self._host.layout_word
            self.close()
            raise NvmlStateError(f"{path} must begin with {LAYOUT_WORD:#x}, began with {word:#x}")
        self.gpus = tuple(
            FakeGpu(state=self._host.gpus[index], index=index, host=self) for index in range(self._host.gpu_count)
        )

    @classmethod
    def create(cls, path: Path, *, models: Sequence[GpuModel] = (H100,) * 8) -> Self:
        """Make a host anew and map it; whoever mapped an older file of that name keeps the older one.

        Raises:
            ValueError: Not 1 to 16 GPUs.
        """
        if not 1 <= len(models) <= GPUS_MAX:
            raise ValueError(f"GPUs of a host must be 1 to {GPUS_MAX}, were {len(models)}")
        host = HostState(layout_word=LAYOUT_WORD, gpu_count=len(models), cuda_version=CUDA_VERSION)
        host.driver_version, host.nvml_version = DRIVER_VERSION.encode(), f"13.{DRIVER_VERSION}".encode()
        for index, model in enumerate(models):
            model.fill(host.gpus[index], index=index, now_us=_now_us())
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".nvml-")
        with os.fdopen(descriptor, "wb") as file:
            file.write(bytes(host))
        Path(name).chmod(_FILE_MODE)
        Path(name).rename(path)
        return cls(path)

    def gpu(self, index: int) -> FakeGpu:
        """Return a GPU; IndexError when there is none."""
        return self.gpus[index]

    def raise_xid(self, index: int, xid: int) -> None:
        """Let the driver log an Xid of a GPU, for everyone who waits for events."""
        with self.locked():
            host = self._mapped()
            row = host.xids[host.xid_count % XIDS_MAX]
            row.gpu, row.xid, row.at_us = index, xid, _now_us()
            host.xid_count += 1

    def refuse_init(self, code: NvmlReturn = NvmlReturn.DRIVER_NOT_LOADED) -> None:
        """Answer `code` to nvmlInit from now on; SUCCESS mends it."""
        self._mapped().init_code = code

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Exclude every other writer, the library's too; a killed holder lets go."""
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Unmap; the file stays."""
        if self._host is not None:
            self.gpus = ()
            self._host = None
            with suppress(BufferError):  # somebody still holds a GPU; the mapping goes with the last of them
                self._map.close()
            os.close(self._file)

    def _mapped(self) -> HostState:
        if self._host is None:
            raise NvmlStateError(f"{self.path} must be mapped, was closed")
        return self._host

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
