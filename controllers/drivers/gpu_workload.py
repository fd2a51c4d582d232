"""What workloads behind an HTTP API share: the API first, a hold on the process when the API does not do it.

A hung program must not cost the device: while one half of the deadline belongs to its API, the rest is the hold's.
"""

import time
from abc import ABC, abstractmethod
from typing import Final

from controllers.drivers.freezer import Hold, HoldState
from controllers.ports import Ack, Applied, ObservedState, PauseMode, Proof, Refused, Unreachable, Unsupported
from hcp.clock import seconds

API_MS_MAX: Final = 150
"""A program that has not answered a pause by then is hung: what is left goes to holding it."""
OBSERVE_MS_MAX: Final = 40
"""Twice this, once for the workload and once for idle that asks it again, is within the executor's 100 ms."""
RELEASE_MS_MAX: Final = 50


class Deadline:
    """A moment, and how far it is."""

    def __init__(self, deadline_ms: int) -> None:
        """Begin now."""
        self._until_s = time.monotonic() + seconds(deadline_ms)

    @property
    def left_ms(self) -> int:
        """Milliseconds left, at least 1: a call with none left ends at once, it does not raise."""
        return max(1, int((self._until_s - time.monotonic()) * 1_000))


class HeldWorkload(ABC):
    """The Workload port over an API and a hold."""

    def __init__(self, hold: Hold) -> None:
        """Fall back on `hold`."""
        self._hold = hold
        self._has_open_order = False

    async def pause(self, *, mode: PauseMode, deadline_ms: int) -> Ack:
        """Pause by the API; when it fails hold the process. What is held, or has ended, is paused.

        An activation that was not answered may still be taken, long after: then the process is held as well, where
        it can be, so that it does not wake beside another workload.
        """
        deadline = Deadline(deadline_ms)
        if self._hold.state() in {HoldState.HELD, HoldState.GONE}:
            return Applied()
        ack = await self.pause_by_api(mode=mode, deadline_ms=self.pause_api_ms(deadline_ms))
        if isinstance(ack, Applied) and not self._has_open_order:
            return ack
        forced = await self._hold.hold(deadline_ms=deadline.left_ms)
        if isinstance(forced, Applied) or isinstance(ack, Applied):
            return Applied()
        # A worse answer than the first must not hide it: whoever reads the detail wants to know both.
        return type(ack)(detail=f"{ack.detail}; {forced.detail}")

    def pause_api_ms(self, deadline_ms: int) -> int:
        """Return how much of a pause's deadline its API may use, at least 1 ms; the rest is for the hold."""
        return max(1, min(deadline_ms // 2, API_MS_MAX))

    async def activate(self, *, deadline_ms: int) -> Ack:
        """Release the process where it is held, then resume by the API."""
        deadline = Deadline(deadline_ms)
        match self._hold.state():
            case HoldState.GONE:
                return Unreachable(detail="process must live, had ended")
            case HoldState.HELD:
                released = await self._hold.release(deadline_ms=min(deadline.left_ms, RELEASE_MS_MAX))
                if not isinstance(released, Applied):
                    return released
            case HoldState.FREE | HoldState.UNKNOWN:
                pass
        self._has_open_order = True  # until an answer says what became of it; a cancelled call leaves it so
        ack = await self.activate_by_api(deadline_ms=deadline.left_ms)
        self._has_open_order = not isinstance(ack, Applied | Refused | Unsupported)
        return ack

    async def observed(self) -> ObservedState:
        """Look at the process first: held or ended, it does nothing, whatever its API would say."""
        if self._hold.state() in {HoldState.HELD, HoldState.GONE}:
            return ObservedState.PAUSED
        return await self.observed_by_api(deadline_ms=OBSERVE_MS_MAX)

    @abstractmethod
    async def pause_by_api(self, *, mode: PauseMode, deadline_ms: int) -> Ack:
        """Ask the program to pause, and read back that it did."""

    @abstractmethod
    async def activate_by_api(self, *, deadline_ms: int) -> Ack:
        """Ask the program to go on, and read back that it says so."""

    @abstractmethod
    async def observed_by_api(self, *, deadline_ms: int) -> ObservedState:
        """Ask the program what it does."""

    @abstractmethod
    async def export_state(self) -> bytes:
        """Return what a later activation needs to go on."""

    @abstractmethod
    async def verify(self, *, deadline_ms: int) -> Proof:
        """Prove by the application that it runs."""
