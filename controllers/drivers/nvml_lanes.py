"""A bounded pool for calls that may hang: one thread a GPU, and never a second.

NVML has no deadline of its own, and a call into a wedged driver stays in the kernel (state D) where nothing ends it:
the thread is lost until the driver comes back. So each GPU has a lane, one daemon thread that makes its calls one after
the other. A hung call takes its own GPU's lane and no other; the pool cannot be exhausted, for there is nothing to take
beyond that one thread. Callers wait at most their deadline; what they gave up on before it began is never begun, so an
order cannot take effect long after it was reported as failed. Orders go before readings. Daemon, so that a process with
a hung lane can still end.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from controllers.drivers.nvml_api import AbandonedError, Budget
from hcp.clock import seconds
from hcp.errors import HcpError

WAITING_MAX: Final = 16
"""Pieces of work that may wait in one lane; one more is refused at once."""
_JOIN_POLL_MS: Final = 2

Result = TypeVar("Result")


async def ended(threads: Iterable[threading.Thread], *, deadline_ms: int) -> bool:
    """Wait for threads without blocking the loop, which a join would; tell whether all have ended by then."""
    waited_for = list(threads)
    until_s = time.monotonic() + seconds(deadline_ms)
    while any(thread.is_alive() for thread in waited_for):
        if time.monotonic() >= until_s:
            return False
        await asyncio.sleep(seconds(_JOIN_POLL_MS))
    return True


class LaneTimeoutError(HcpError):
    """The hardware did not answer in time; says which call it is in."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Job:
    work: Callable[[Budget], Any]
    budget: Budget
    future: "Future[Any]"


class Lane:
    """One thread for one GPU's calls."""

    def __init__(self, name: str) -> None:
        """Start the thread."""
        self.name = name
        self._ready = threading.Condition()
        self._orders: deque[_Job] = deque()
        self._readings: deque[_Job] = deque()
        self._running: _Job | None = None
        self._is_closed = False
        self._thread = threading.Thread(target=self._serve, name=f"nvml-{name}", daemon=True)
        self._thread.start()

    @property
    def busy_ms(self) -> int:
        """Return for how long the piece of work under way has been asked for, 0 when there is none."""
        running = self._running
        return 0 if running is None else int((time.monotonic() - running.budget.begun_s) * 1_000)

    @property
    def is_alive(self) -> bool:
        """Tell whether the thread is still there."""
        return self._thread.is_alive()

    async def run(self, work: Callable[[Budget], Result], *, deadline_ms: int, is_order: bool = False) -> Result:
        """Do a piece of work in the lane and return what it returns.

        Args:
            work: Makes calls through its budget, which ends it at the next call once nobody waits any more.
            deadline_ms: From now, waiting for the lane included.
            is_order: Goes before every reading that waits.

        Raises:
            LaneTimeoutError: Not done by the deadline, the lane is full or closed.
            Exception: Whatever the work raised.
        """
        job = _Job(work=work, budget=Budget(deadline_ms=deadline_ms), future=Future())
        self._put(job, self._orders if is_order else self._readings)
        try:
            result: Result = await asyncio.wait_for(asyncio.wrap_future(job.future), seconds(deadline_ms))
        except (TimeoutError, AbandonedError) as error:
            raise LaneTimeoutError(f"{self.name} must answer within {deadline_ms} ms, {self._excuse()}") from error
        return result

    async def close(self, *, deadline_ms: int) -> bool:
        """End the thread after the call it is in; tell whether it did end by then."""
        with self._ready:
            self._is_closed = True
            for job in (*self._orders, *self._readings):
                if job.future.set_running_or_notify_cancel():
                    job.future.set_exception(LaneTimeoutError(f"{self.name} must be open, was closed"))
            self._orders.clear()
            self._readings.clear()
            self._ready.notify_all()
        return await ended((self._thread,), deadline_ms=deadline_ms)

    def _put(self, job: _Job, to: deque[_Job]) -> None:
        with self._ready:
            for queue in (self._orders, self._readings):
                for given_up in [waiting for waiting in queue if waiting.future.cancelled()]:
                    queue.remove(given_up)
            if self._is_closed:
                raise LaneTimeoutError(f"{self.name} must be open, was closed")
            if len(self._orders) + len(self._readings) >= WAITING_MAX:
                raise LaneTimeoutError(f"{self.name} must have at most {WAITING_MAX} calls waiting, {self._excuse()}")
            to.append(job)
            self._ready.notify()

    def _excuse(self) -> str:
        running = self._running
        return "was idle" if running is None else f"was in {running.budget.call_name} for {self.busy_ms} ms"

    def _next(self) -> _Job | None:
        with self._ready:
            self._running = None
            while not (self._orders or self._readings or self._is_closed):
                self._ready.wait()
            if self._is_closed:
                return None
            self._running = (self._orders or self._readings).popleft()
            return self._running

    def _serve(self) -> None:
        while (job := self._next()) is not None:
            if job.future.set_running_or_notify_cancel():
                self._do(job)
            del job  # a lane that waits keeps nothing alive

    @staticmethod
    def _do(job: _Job) -> None:
        try:
            result = job.work(job.budget)
        except BaseException as error:  # noqa: BLE001  # handed to whoever asked, who knows what it means
            job.future.set_exception(error)
        else:
            job.future.set_result(result)
