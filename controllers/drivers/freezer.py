"""Holding a workload's process by force when its own API does not: cgroup v2's freezer, else SIGSTOP.

What is held keeps its memory and its connections and gets no CPU. Kernels that it queued on a GPU still run to their
end.
"""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol

from controllers.ports import Ack, Applied, NotConfirmed, Refused, Unsupported
from hcp.clock import seconds

POLL_MS: Final = 1
PROCESSES_MAX: Final = 4_096
PID_FILE_LAG_SECONDS: Final = 2.0
"""A process may begin so much after its pid file was written, by the rounding of the two clocks."""
_STOPPED: Final = frozenset("Tt")
_DEAD: Final = frozenset("ZX")


class HoldState(StrEnum):
    """Whether a process can run at all."""

    FREE = "free"
    HELD = "held"
    GONE = "gone"
    UNKNOWN = "unknown"


class Hold(Protocol):
    """A grip on one workload's processes; every call is short reads and writes of the kernel's own files."""

    def state(self) -> HoldState:
        """Look at the processes."""

    async def hold(self, *, deadline_ms: int) -> Ack:
        """Let them get no CPU; applied when the kernel confirms it for all."""

    async def release(self, *, deadline_ms: int) -> Ack:
        """Let them run again; releasing what is free is applied."""


class NoHold:
    """No grip: nothing was configured."""

    def state(self) -> HoldState:
        """Know nothing."""
        return HoldState.UNKNOWN

    async def hold(self, *, deadline_ms: int) -> Ack:  # noqa: ARG002  # the port's signature
        """Say that there is no way."""
        return Unsupported(detail="a cgroup or pid file must be configured to hold the process, was not")

    async def release(self, *, deadline_ms: int) -> Ack:  # noqa: ARG002  # as above
        """Hold nothing, so nothing is to be released."""
        return Applied()


class CgroupFreezer:
    """The freezer of a cgroup v2 that holds one workload's processes and no others."""

    def __init__(self, directory: Path) -> None:
        """Freeze `directory`, which must be writable: a systemd unit's cgroup, or one delegated to us."""
        self._freeze = directory / "cgroup.freeze"
        self._events = directory / "cgroup.events"

    def state(self) -> HoldState:
        """Read cgroup.events."""
        try:
            events = dict(line.split() for line in self._events.read_text(encoding="ascii").splitlines())
        except (OSError, ValueError):
            return HoldState.UNKNOWN
        if events.get("populated") == "0":
            return HoldState.GONE
        return HoldState.HELD if events.get("frozen") == "1" else HoldState.FREE

    async def hold(self, *, deadline_ms: int) -> Ack:
        """Freeze, and wait until the kernel says frozen."""
        return await self._write("1", HoldState.HELD, deadline_ms)

    async def release(self, *, deadline_ms: int) -> Ack:
        """Thaw, and wait until the kernel says so."""
        return await self._write("0", HoldState.FREE, deadline_ms)

    async def _write(self, value: str, wanted: HoldState, deadline_ms: int) -> Ack:
        try:
            with self._freeze.open("r+", encoding="ascii") as file:  # r+: where there is no freezer none is made up
                file.write(value)
        except FileNotFoundError:
            return Unsupported(detail=f"{self._freeze.name} must exist in the cgroup, did not")
        except OSError as error:
            return Refused(detail=f"{self._freeze.name} must be writable, was {error.strerror}")
        return await _confirmed(self.state, wanted, deadline_ms)


class StopSignal:
    """SIGSTOP and SIGCONT to a process and all its descendants; needs the same user or root."""

    def __init__(self, pid_file: Path) -> None:
        """Stop the process that `pid_file` names, whoever it is at that moment."""
        self._pid_file = pid_file

    def state(self) -> HoldState:
        """Look at every thread."""
        pids = self._pids()
        if pids is None:
            return HoldState.UNKNOWN
        if not pids:
            return HoldState.GONE
        states = {state for pid in pids for state in _thread_states(pid)} - _DEAD
        if not states:
            return HoldState.GONE
        return HoldState.HELD if states <= _STOPPED else HoldState.FREE

    async def hold(self, *, deadline_ms: int) -> Ack:
        """Stop, and wait until every thread is stopped."""
        return await self._send(signal.SIGSTOP, HoldState.HELD, deadline_ms)

    async def release(self, *, deadline_ms: int) -> Ack:
        """Continue."""
        return await self._send(signal.SIGCONT, HoldState.FREE, deadline_ms)

    async def _send(self, number: signal.Signals, wanted: HoldState, deadline_ms: int) -> Ack:
        pids = self._pids()
        if pids is None:
            return Unsupported(detail="pid file must name a process, did not")
        try:
            for pid in pids:
                os.kill(pid, number)
        except ProcessLookupError:
            pass  # ended meanwhile: what is gone is confirmed as gone
        except PermissionError:
            return Refused(detail=f"{number.name} to the process must be permitted, was not")
        return await _confirmed(self.state, wanted, deadline_ms)

    def _pids(self) -> list[int] | None:
        """Return the process and its descendants, the parent first; [] when it has ended, None when not known."""
        try:
            pid = int(self._pid_file.read_text(encoding="ascii"))
            written_s = self._pid_file.stat().st_mtime
        except (OSError, ValueError):
            return None
        began_s = _began_s(pid)
        if began_s is None or began_s > written_s + PID_FILE_LAG_SECONDS:
            return []  # ended, or its number is somebody else's by now
        found = [pid]
        for each in found:
            found += [child for child in _children(each) if child not in found]
            if len(found) > PROCESSES_MAX:
                return None
        return found


class FirstOf:
    """The first grip that can, in their order."""

    def __init__(self, *holds: Hold) -> None:
        """Prefer the earlier."""
        self._holds = holds

    def state(self) -> HoldState:
        """Held when any holds; gone, or free, when any knows."""
        states = [each.state() for each in self._holds]
        for decisive in (HoldState.HELD, HoldState.GONE, HoldState.FREE):
            if decisive in states:
                return decisive
        return HoldState.UNKNOWN

    async def hold(self, *, deadline_ms: int) -> Ack:
        """Try one after the other until one is applied."""
        ack: Ack = Unsupported(detail="a way to hold the process must be configured, was not")
        until_s = time.monotonic() + seconds(deadline_ms)
        for each in self._holds:
            ack = await each.hold(deadline_ms=max(1, int((until_s - time.monotonic()) * 1_000)))
            if isinstance(ack, Applied):
                return ack
        return ack

    async def release(self, *, deadline_ms: int) -> Ack:
        """Release every grip that holds."""
        for each in self._holds:
            if each.state() is HoldState.HELD:
                ack = await each.release(deadline_ms=deadline_ms)
                if not isinstance(ack, Applied):
                    return ack
        return Applied()


def hold_of(*, cgroup_dir: Path | None, pid_file: Path | None) -> Hold:
    """Return the grip that configuration gives: the freezer first, then signals."""
    ways: list[Hold] = []
    if cgroup_dir is not None:
        ways.append(CgroupFreezer(cgroup_dir))
    if pid_file is not None:
        ways.append(StopSignal(pid_file))
    return FirstOf(*ways) if ways else NoHold()


async def _confirmed(state: Callable[[], HoldState], wanted: HoldState, deadline_ms: int) -> Ack:
    until_s = time.monotonic() + seconds(deadline_ms)
    while True:
        seen = state()
        if seen is wanted or (seen is HoldState.GONE and wanted is HoldState.HELD):
            return Applied()
        if time.monotonic() >= until_s:
            return NotConfirmed(detail=f"process must be {wanted}, was {seen} after {deadline_ms} ms")
        await asyncio.sleep(seconds(POLL_MS))


def _stat_fields(path: Path) -> list[str] | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def _began_s(pid: int) -> float | None:
    """Return when a process began, in seconds of the wall clock; None when there is none."""
    fields = _stat_fields(Path(f"/proc/{pid}/stat"))
    if fields is None or fields[0] in _DEAD:
        return None
    since_boot_s = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + since_boot_s


def _thread_states(pid: int) -> set[str]:
    threads = Path(f"/proc/{pid}/task")
    try:
        names = [each.name for each in threads.iterdir()]
    except OSError:
        return set()
    fields = [_stat_fields(threads / name / "stat") for name in names]
    return {each[0] for each in fields if each}


def _children(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text(encoding="ascii").split()]
    except (OSError, ValueError):
        return []
