"""Warm what the orchestrator will probably want, so that a switch finds its target awake; best effort, never more."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final

import structlog

from controllers.ports import RUNNING, Ack, Applied, Machine, PauseMode, Prewarmable, Unsupported
from hcp.clock import seconds
from hcp.codecs import decode
from hcp.model.devices import DeviceMode
from hcp.model.facilities import Shard
from hcp.model.outlook import Outlook

WARM_MS_MAX: Final = 30_000
"""Weights of tens of gigabytes come from host memory in seconds."""
WARMED_AT_ONCE_MAX: Final = 8
COOL_MS_MAX: Final = 2_000

Act = Callable[[str, Machine, DeviceMode], Awaitable[Ack]]
"""(shard, machine, mode) -> answer."""
MachinesOf = Callable[[str], Mapping[int, Machine]]
Class = tuple[str, str]
"""Facility and device class."""

_log = structlog.get_logger(__name__)


class Prewarmer:
    """Warms the workloads that outlooks name, and pauses them again when the outlook is withdrawn."""

    def __init__(
        self, *, shards: Mapping[str, Shard], machines_of: MachinesOf, lock_of: Callable[[str], asyncio.Lock]
    ) -> None:
        """Act on the machines of `shards`; what pauses one again holds the lock of its shard, as commands do."""
        self._shards, self._machines_of, self._lock_of = shards, machines_of, lock_of
        self._slots = asyncio.Semaphore(WARMED_AT_ONCE_MAX)
        self._warmed: dict[Class, DeviceMode] = {}
        self._tasks: dict[Class, asyncio.Task[None]] = {}

    def take(self, value: bytes | None, *, age_ms: int) -> None:
        """Begin with what a record asks for, and return; the newest outlook of a class replaces the one before.

        Args:
            value: The record; what is no outlook is passed over: nothing depends on it.
            age_ms: Since the broker had it: past its horizon an outlook says nothing.
        """
        outlook = decode(value)
        if not isinstance(outlook, Outlook) or age_ms > outlook.horizon_ms:
            return
        key = (outlook.facility_id, outlook.device_class)
        before = self._tasks.pop(key, None)
        if before is not None:
            before.cancel()
        self._tasks[key] = asyncio.create_task(self._follow(key, outlook.to_mode))

    async def close(self) -> None:
        """Stop what is under way."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _follow(self, key: Class, to_mode: DeviceMode | None) -> None:
        warmed = self._warmed.pop(key, None)
        if to_mode is not None:
            self._warmed[key] = to_mode
            await self._each(key, to_mode, self._warm, "prewarmed")
        elif warmed is not None:
            await self._each(key, warmed, self._cool, "cooled")

    async def _each(self, key: Class, mode: DeviceMode, act: Act, event: str) -> None:
        tasks = [self._bounded(act, shard_id, machine, mode) for shard_id, machine in self._machines(key, mode)]
        if not tasks:
            return
        answers = await asyncio.gather(*tasks)
        counts = Counter(answers)
        problems = sorted(text for text in counts if text)[:3]
        _log.info(
            event,
            facility_id=key[0],
            device_class=key[1],
            mode=str(mode),
            devices=counts[""],
            failed=len(tasks) - counts[""],
            problems=problems,
        )

    def _machines(self, key: Class, mode: DeviceMode) -> Iterable[tuple[str, Machine]]:
        for shard_id, shard in self._shards.items():
            if (shard.facility_id, shard.device_class) != key:
                continue
            for machine in self._machines_of(shard_id).values():
                if mode in machine.modes and isinstance(machine.workload(mode), Prewarmable):
                    yield shard_id, machine

    async def _bounded(self, act: Act, shard_id: str, machine: Machine, mode: DeviceMode) -> str:
        """Act on one machine; return why it did not work, empty when it did or there is nothing to warm."""
        async with self._slots:
            try:
                async with asyncio.timeout(seconds(WARM_MS_MAX)):
                    ack = await act(shard_id, machine, mode)
            except Exception as error:  # noqa: BLE001  # whatever a driver raises, warming is best effort
                return repr(error)[:200]
        return "" if isinstance(ack, Applied | Unsupported) else ack.detail

    async def _warm(self, _shard_id: str, machine: Machine, mode: DeviceMode) -> Ack:
        workload = machine.workload(mode)
        assert isinstance(workload, Prewarmable), "only such are chosen"
        return await workload.prewarm(deadline_ms=WARM_MS_MAX)

    async def _cool(self, shard_id: str, machine: Machine, mode: DeviceMode) -> Ack:
        """Pause again what was only warmed; what was activated since works on."""
        workload = machine.workload(mode)
        async with self._lock_of(shard_id):
            if await workload.observed() in RUNNING:
                return Applied()
            return await workload.pause(mode=PauseMode.KEEP, deadline_ms=COOL_MS_MAX)
