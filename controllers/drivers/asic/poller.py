"""Reads the miners of a cluster over and over: many at once, never one twice at once, slow ones less and less often."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from controllers.drivers.asic.client import AsicUnknownError, AsicUnreachableError, Want
from controllers.drivers.asic.unit import AsicUnit
from hcp.clock import seconds

POLL_EVERY_MS: Final = 10_000
POLL_EVERY_MS_MAX: Final = 60_000
"""Of a miner that does not answer: it costs a slot until its deadline each time."""
READ_MS_MAX: Final = 4_000
"""A stock Antminer answers a whole reading within a second; pyasic_rs gives up after 5 s by itself."""
READ_AT_ONCE_MAX: Final = 32
SLOW_AT_ONCE_MAX: Final = 16
"""Miners that did not answer last time have slots of their own, so that they never take those of the others."""
_DOUBLINGS_MAX: Final = 10

Monotonic = Callable[[], float]
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PollCounts:
    """What came of the polls since the start."""

    read: int
    failed: int


class AsicPoller:
    """One coordinator for a cluster."""

    def __init__(
        self,
        units: Sequence[AsicUnit],
        *,
        every_ms: int = POLL_EVERY_MS,
        read_ms_max: int = READ_MS_MAX,
        monotonic: Monotonic = time.monotonic,
    ) -> None:
        """Poll each unit every `every_ms`, spread over that time."""
        self._units = tuple(units)
        self._every_s = seconds(every_ms)
        self._read_ms_max = read_ms_max
        self._monotonic = monotonic
        self._slots = asyncio.Semaphore(READ_AT_ONCE_MAX)
        self._slow_slots = asyncio.Semaphore(SLOW_AT_ONCE_MAX)
        self._read = self._failed = 0
        self._unasked = len(self._units)
        self._all_asked = asyncio.Event()
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    @property
    def counts(self) -> PollCounts:
        """Return what came of the polls."""
        return PollCounts(read=self._read, failed=self._failed)

    async def start(self, *, first_round_ms_max: int) -> None:
        """Begin, and return when every unit was asked once, or after `first_round_ms_max`."""
        self._tasks = tuple(asyncio.create_task(self._follow(index)) for index in range(len(self._units)))
        try:
            async with asyncio.timeout(seconds(first_round_ms_max)):
                await self._all_asked.wait()
        except TimeoutError:
            _log.warning("asics_not_all_asked", read=self._read, failed=self._failed, units=len(self._units))

    async def close(self) -> None:
        """Stop, readings under way included."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _follow(self, index: int) -> None:
        """Poll one unit for ever; one that fails, twice as late each time, up to a minute."""
        unit, failures = self._units[index], 0
        # The first round asks all as fast as slots allow, the next ones are spread over the interval.
        due_s = await self._first(unit) + self._every_s * index / len(self._units)
        while True:
            await asyncio.sleep(max(0.0, due_s - self._monotonic()))
            failures = 0 if await self._poll(unit, failures) else failures + 1
            every_s = self._every_s * 2.0 ** min(failures, _DOUBLINGS_MAX)
            every_s = max(self._every_s, min(every_s, seconds(POLL_EVERY_MS_MAX)))
            due_s = max(due_s + every_s, self._monotonic())

    async def _first(self, unit: AsicUnit) -> float:
        began_s = self._monotonic()
        await self._poll(unit, 0)
        self._unasked -= 1
        if not self._unasked:
            self._all_asked.set()
        return began_s + self._every_s

    async def _poll(self, unit: AsicUnit, failures: int) -> bool:
        """Read a unit; say so when it begins to fail and when it is read again."""
        detail = ""
        async with self._slow_slots if failures else self._slots:
            try:
                await unit.read(Want.TELEMETRY, deadline_ms=self._read_ms_max)
                await unit.look_after_pools()
            except (AsicUnreachableError, AsicUnknownError) as error:
                detail = str(error)
            except Exception as error:  # noqa: BLE001  # whatever a library raises, this and the others are read on
                detail = repr(error)[:200]
        if detail:
            self._failed += 1
            if not failures:
                _log.warning("asic_unread", host=unit.host, detail=detail)
            return False
        self._read += 1
        if failures:
            _log.info("asic_read_again", host=unit.host)
        return True
