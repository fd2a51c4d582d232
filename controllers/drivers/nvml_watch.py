"""Waits for Xids: one thread and one event set a GPU, so that a GPU that hangs while it registers silences no other."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

import pynvml  # type: ignore[import-untyped]
import structlog

from controllers.drivers.nvml_api import AbandonedError, Budget, NvmlError, code_of, find_handle
from controllers.drivers.nvml_lanes import ended
from controllers.drivers.nvml_xid import GpuBack, GpuLost, HealthEvent, XidSeen
from hcp.clock import Clock, seconds, wall_ms

log = structlog.get_logger()

WAIT_MS: Final = 250
"""One wait for an event, and so how long an idle watcher takes to end."""
RETRY_MS: Final = 1_000
"""Between two tries to register a GPU that is lost."""
FIND_DEADLINE_MS: Final = 5_000
"""To find a GPU before its events are registered."""
XIDS_KEPT_MAX: Final = 32
"""Last Xids kept for the readings of a GPU."""
_XID: Final = pynvml.nvmlEventTypeXidCriticalError


class XidWatcher:
    """Watches some GPUs from `start` to `close`."""

    def __init__(
        self,
        *,
        indexes: Mapping[str, int | None],
        on_event: Callable[[HealthEvent], None],
        clock: Clock = wall_ms,
        wait_ms: int = WAIT_MS,
        retry_ms: int = RETRY_MS,
    ) -> None:
        """Prepare to tell `on_event`, in the thread of the running loop, of every Xid, loss and return.

        Args:
            indexes: GPUs to watch by UUID, with the index that the driver gives them, where it is known.
            on_event: Must not block; an Xid storm calls it once for each.
            clock: Time of the events.
            wait_ms: Bound of one wait.
            retry_ms: Bound of how often a lost GPU is asked for.
        """
        self._on_event = on_event
        self._clock = clock
        self._wait_ms = wait_ms
        self._retry_ms = retry_ms
        self._stop = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._lost: set[str] = set()
        self._indexes = dict(indexes)
        self._recent: dict[str, tuple[XidSeen, ...]] = dict.fromkeys(self._indexes, ())
        self._threads = tuple(
            threading.Thread(target=self._watch, args=(uuid,), name=f"nvml-xid-{uuid}", daemon=True)
            for uuid in self._indexes
        )

    def start(self) -> None:
        """Begin to watch; NVML must be initialised until `close` has returned."""
        for thread in self._threads:
            thread.start()

    def recent(self, uuid: str) -> tuple[XidSeen, ...]:
        """Return the last Xids of a GPU, oldest first."""
        return self._recent.get(uuid, ())

    async def close(self, *, deadline_ms: int) -> bool:
        """End every thread after its wait; tell whether all did by then (one in a hung call does not)."""
        self._stop.set()
        return await ended(self._threads, deadline_ms=deadline_ms)

    def _watch(self, uuid: str) -> None:
        while not self._stop.is_set():
            try:
                self._watch_until_trouble(uuid)
            except (NvmlError, AbandonedError) as error:
                if isinstance(error, NvmlError) and code_of(error) == pynvml.NVML_ERROR_NOT_SUPPORTED:
                    log.warning("gpu_tells_no_xids", uuid=uuid)
                    return
                if uuid not in self._lost:
                    self._lost.add(uuid)
                    self._tell(GpuLost(uuid=uuid, seen_at_ms=self._clock(), detail=str(error)))
                self._stop.wait(seconds(self._retry_ms))

    def _watch_until_trouble(self, uuid: str) -> None:
        events = pynvml.nvmlEventSetCreate()
        try:
            handle = find_handle(Budget(deadline_ms=FIND_DEADLINE_MS), uuid, self._indexes[uuid])
            pynvml.nvmlDeviceRegisterEvents(handle, _XID, events)
            if uuid in self._lost:
                self._lost.discard(uuid)
                self._tell(GpuBack(uuid=uuid, seen_at_ms=self._clock()))
            while not self._stop.is_set():
                self._wait(uuid, events)
        finally:
            pynvml.nvmlEventSetFree(events)

    def _wait(self, uuid: str, events: Any) -> None:  # noqa: ANN401  # an event set of the untyped binding
        try:
            event = pynvml.nvmlEventSetWait(events, self._wait_ms)
        except NvmlError as error:
            if code_of(error) != pynvml.NVML_ERROR_TIMEOUT:
                raise
            return
        if event.eventType & _XID:
            seen = XidSeen(uuid=uuid, xid=int(event.eventData), seen_at_ms=self._clock())
            self._recent[uuid] = (*self._recent[uuid], seen)[-XIDS_KEPT_MAX:]  # replaced whole: read in other threads
            self._tell(seen)

    def _tell(self, event: HealthEvent) -> None:
        try:
            self._loop.call_soon_threadsafe(self._on_event, event)
        except RuntimeError:  # the loop is closed: nobody is left to be told
            self._stop.set()
