"""NVML of this host: initialised once, one lane a GPU, handles kept and found again by UUID after a loss.

The library is the system's libnvidia-ml.so.1, found by name; tests put the simulator's in its place. Without one, or
without a driver, `open_nvml` returns `NvmlAbsent` and the rest of the controller works on.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog

from controllers.drivers.nvml_api import LOST_CODES, Budget, Handle, NvmlError, call, code_of, find_handle, optional
from controllers.drivers.nvml_lanes import Lane, LaneTimeoutError
from controllers.drivers.nvml_reader import read_facts, read_gpu
from controllers.drivers.nvml_reading import GpuFacts, GpuReading
from controllers.drivers.nvml_watch import WAIT_MS, XidWatcher
from controllers.drivers.nvml_xid import HealthEvent, XidSeen
from hcp.clock import Clock, wall_ms
from hcp.errors import HcpError

log = structlog.get_logger()

GPUS_MAX: Final = 32
"""Lanes of one host; more GPUs than a host has slots are a mistake."""
OPEN_DEADLINE_MS: Final = 10_000
"""Without persistence mode the first nvmlInit loads the driver's state for every GPU: seconds."""
FIND_DEADLINE_MS: Final = 5_000
CLOSE_DEADLINE_MS: Final = 2_000

Result = TypeVar("Result")


class GpuUnreachableError(HcpError):
    """The GPU cannot be asked now.

    Attributes:
        code: NVML's answer; None when there was none in time.
    """

    def __init__(self, message: str, *, code: int | None = None) -> None:
        self.code = code
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class NvmlAbsent:
    """This host has no usable NVML; `detail` says what must be and what was."""

    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuMissing:
    """A GPU that the driver counts and did not let us have, so that its UUID is not known."""

    index: int
    detail: str


class Gpu:
    """One GPU behind its lane; its handle is found when first needed and again after a loss."""

    def __init__(self, uuid: str, lane: Lane, *, index: int | None = None) -> None:
        """Take over the lane; the index is the driver's, as long as nothing changes."""
        self.uuid = uuid
        self.lane = lane
        self.index = index
        self._handle: Handle | None = None
        self._facts: GpuFacts | None = None

    async def run(
        self, work: Callable[[Budget, Handle], Result], *, deadline_ms: int, is_order: bool = False
    ) -> Result:
        """Do a piece of work with the GPU's handle, in its lane.

        A handle that turns out lost is found anew by UUID and the work done once more: it must bear that.

        Raises:
            GpuUnreachableError: It is lost, did not answer in time, or NVML answered with an error.
        """
        try:
            return await self.lane.run(
                lambda budget: self._with_handle(budget, work), deadline_ms=deadline_ms, is_order=is_order
            )
        except LaneTimeoutError as error:
            raise GpuUnreachableError(str(error)) from error
        except NvmlError as error:
            raise GpuUnreachableError(f"{self.uuid} must answer, said: {error}", code=code_of(error)) from error

    def facts(self, budget: Budget, handle: Handle) -> GpuFacts:
        """Return what stays, read once a handle, and again while an answer was unclear; for work in the lane."""
        if self._facts is not None:
            return self._facts
        was_unclear, budget.is_unclear = budget.is_unclear, False
        facts = read_facts(budget, handle)
        self._facts = None if budget.is_unclear else facts
        budget.is_unclear |= was_unclear
        return facts

    def _with_handle(self, budget: Budget, work: Callable[[Budget, Handle], Result]) -> Result:
        was_kept = self._handle is not None
        try:
            return self._once(budget, work)
        except NvmlError as error:
            if not was_kept or code_of(error) not in LOST_CODES:
                raise
        return self._once(budget, work)

    def _once(self, budget: Budget, work: Callable[[Budget, Handle], Result]) -> Result:
        try:
            if self._handle is None:
                self._handle = find_handle(budget, self.uuid, self.index)
            return work(budget, self._handle)
        except NvmlError as error:
            if code_of(error) in LOST_CODES:
                self._handle = self._facts = None
            raise


class NvmlHost:
    """The GPUs of this host; made by `open_nvml`."""

    def __init__(self, *, lane: Lane, driver: str, clock: Clock) -> None:
        """Take over the lane in which NVML was initialised."""
        self.driver = driver
        self.missing: tuple[GpuMissing, ...] = ()
        self.watcher: XidWatcher | None = None
        self._lane = lane
        self._clock = clock
        self._gpus: dict[str, Gpu] = {}
        self._finders: dict[int, Lane] = {}

    @property
    def uuids(self) -> tuple[str, ...]:
        """Return the GPUs known so far, in the driver's order."""
        return tuple(self._gpus)

    def gpu(self, uuid: str) -> Gpu:
        """Return a GPU by UUID, also one that is not on the bus yet: its calls fail until it is.

        Raises:
            ValueError: More than 32 GPUs.
        """
        if uuid not in self._gpus:
            if len(self._gpus) >= GPUS_MAX:
                raise ValueError(f"GPUs must be at most {GPUS_MAX}, was asked for {uuid} too")
            self._gpus[uuid] = Gpu(uuid, Lane(uuid))
        return self._gpus[uuid]

    async def read(self, uuid: str, *, deadline_ms: int) -> GpuReading:
        """Read a GPU.

        Raises:
            GpuUnreachableError: It is lost, did not answer in time, or NVML answered with an error.
            NoReadingError: It answered with nothing of use.
        """
        gpu = self.gpu(uuid)
        return await gpu.run(
            lambda budget, handle: read_gpu(
                budget,
                handle,
                facts=gpu.facts(budget, handle),
                observed_at_ms=self._clock(),
                xids=self.recent_xids(uuid),
            ),
            deadline_ms=deadline_ms,
        )

    def recent_xids(self, uuid: str) -> tuple[XidSeen, ...]:
        """Return the last Xids of a GPU; none when nobody watches."""
        return () if self.watcher is None else self.watcher.recent(uuid)

    def watch(self, on_event: Callable[[HealthEvent], None], *, wait_ms: int = WAIT_MS) -> XidWatcher:
        """Watch every GPU known so far until `close`, which an idle watcher delays by up to `wait_ms`.

        Raises:
            ValueError: It is watched already.
        """
        if self.watcher is not None:
            raise ValueError("a host must be watched once, was watched")
        indexes = {uuid: gpu.index for uuid, gpu in self._gpus.items()}
        self.watcher = XidWatcher(indexes=indexes, on_event=on_event, clock=self._clock, wait_ms=wait_ms)
        self.watcher.start()
        return self.watcher

    async def find(self, *, deadline_ms: int = FIND_DEADLINE_MS) -> None:
        """Learn the UUIDs of the driver's GPUs, all at once, so that one that hangs hides only itself.

        Raises:
            GpuUnreachableError: The driver did not even say how many there are.
        """
        try:
            count = await self._lane.run(
                lambda budget: int(call(budget, "nvmlDeviceGetCount")), deadline_ms=deadline_ms
            )
        except (LaneTimeoutError, NvmlError) as error:
            raise GpuUnreachableError(f"the driver must count its GPUs, did not: {error}") from error
        for index in range(len(self._finders), min(count, GPUS_MAX)):
            self._finders[index] = Lane(f"GPU {index}")
        found = await asyncio.gather(*(_uuid(lane, index, deadline_ms) for index, lane in self._finders.items()))
        for (index, lane), answer in zip(self._finders.items(), found, strict=True):
            if isinstance(answer, GpuMissing):
                continue
            if answer not in self._gpus:
                lane.name = answer
                self._gpus[answer] = Gpu(answer, lane)
            self._gpus[answer].index = index
        self.missing = tuple(answer for answer in found if isinstance(answer, GpuMissing))
        for gpu in self.missing:
            log.warning("gpu_missing", index=gpu.index, detail=gpu.detail)

    async def close(self, *, deadline_ms: int = CLOSE_DEADLINE_MS) -> bool:
        """End watcher and lanes and shut NVML down; tell whether all ended by the deadline.

        With a call still in the driver nvmlShutdown is left out: pulling the library from under it may crash.
        """
        lanes = {*self._finders.values(), *(gpu.lane for gpu in self._gpus.values())}
        parts = [lane.close(deadline_ms=deadline_ms) for lane in lanes]
        if self.watcher is not None:
            parts.append(self.watcher.close(deadline_ms=deadline_ms))
        has_ended = all(await asyncio.gather(*parts))
        if has_ended:
            try:
                await self._lane.run(lambda budget: optional(budget, ("nvmlShutdown",)), deadline_ms=deadline_ms)
            except (LaneTimeoutError, NvmlError) as error:
                log.warning("nvml_not_shut_down", detail=str(error))
                has_ended = False
        else:
            log.warning("nvml_calls_hang", lanes=[lane.name for lane in lanes if lane.is_alive])
        return await self._lane.close(deadline_ms=deadline_ms) and has_ended


async def _uuid(lane: Lane, index: int, deadline_ms: int) -> str | GpuMissing:
    def ask(budget: Budget) -> str:
        return str(call(budget, "nvmlDeviceGetUUID", call(budget, "nvmlDeviceGetHandleByIndex", index)))

    try:
        return await lane.run(ask, deadline_ms=deadline_ms)
    except (LaneTimeoutError, NvmlError) as error:
        return GpuMissing(index=index, detail=str(error))


async def open_nvml(*, deadline_ms: int = OPEN_DEADLINE_MS, clock: Clock = wall_ms) -> NvmlHost | NvmlAbsent:
    """Initialise NVML and find the GPUs; a host without any is not an error of the controller."""
    lane = Lane("NVML")

    def begin(budget: Budget) -> str:
        call(budget, "nvmlInit")
        return str(optional(budget, ("nvmlSystemGetDriverVersion",)) or "unknown")

    try:
        driver = await lane.run(begin, deadline_ms=deadline_ms)
    except (LaneTimeoutError, NvmlError) as error:
        await lane.close(deadline_ms=0)
        return NvmlAbsent(detail=f"libnvidia-ml.so.1 and a driver must be there, was: {error}")
    host = NvmlHost(lane=lane, driver=driver, clock=clock)
    try:
        await host.find()
    except GpuUnreachableError as error:
        await host.close()
        return NvmlAbsent(detail=str(error))
    return host
