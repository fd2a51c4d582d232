"""One ASIC: its connection, the pools it must keep, and what was last read of it."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from controllers.drivers.asic.client import (
    AsicClient,
    AsicReading,
    AsicUnknownError,
    AsicUnreachableError,
    Said,
    Told,
    Want,
)
from controllers.drivers.asic.connect import Connection
from controllers.drivers.asic.orders import Deadline, Goal, order
from controllers.drivers.asic.pool_guard import PoolGuard
from controllers.ports import Ack, Applied, Unreachable
from hcp.clock import seconds
from hcp.model.devices import DeviceClass, DeviceMode
from hcp.model.units import Watts

Monotonic = Callable[[], float]
POOLS_MS_MAX: Final = 2_000
"""To look after pools beside a poll, when an order left no time for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A whole reading and when it was taken, in seconds of the monotonic clock."""

    reading: AsicReading
    at_s: float


class AsicUnit:
    """One miner of a class; device, workloads and poller share it."""

    def __init__(
        self, connection: Connection, *, device_class: DeviceClass, monotonic: Monotonic = time.monotonic
    ) -> None:
        """Read nothing yet."""
        self.connection = connection
        self.guard = PoolGuard(connection.host)
        self._monotonic = monotonic
        self._orders = 0
        self._seen: Seen | None = None
        self._watts = {profile.mode: profile.power_watts for profile in device_class.modes}

    @property
    def host(self) -> str:
        """Its address."""
        return self.connection.host

    @property
    def modes(self) -> tuple[DeviceMode, ...]:
        """Modes of its class."""
        return tuple(self._watts)

    def mode_of(self, reading: AsicReading) -> DeviceMode | None:
        """Return the mode that a reading shows; None when it does not say.

        Full power and a target are told apart by what the target in force is nearer to: firmware with profiles takes
        the next lower one.
        """
        if reading.told is None:
            return None
        return DeviceMode.SLEEP if reading.told is Told.SLEEP else self._mining_mode(reading.limit_watts)

    def seen(self, *, age_ms_max: int) -> AsicReading | None:
        """Return the last whole reading; None when there is none or it is too old."""
        seen = self._seen
        if seen is None or self._monotonic() - seen.at_s > seconds(age_ms_max):
            return None
        return seen.reading

    async def read(self, want: Want, *, deadline_ms: int) -> AsicReading:
        """Read afresh; a whole reading is kept, unless an order was given meanwhile: it may show what was before.

        Raises:
            AsicUnreachableError: Nothing was read by then.
            AsicUnknownError: What answers is no miner that a library knows.
        """
        deadline = Deadline(deadline_ms)
        orders = self._orders
        client = await self.connection.client(deadline_ms=deadline.left_ms)
        reading = await client.read(want, deadline_ms=deadline.left_ms)
        if want is Want.TELEMETRY and orders == self._orders:
            self._seen = Seen(reading=reading, at_s=self._monotonic())
        return reading

    async def tell(self, mode: DeviceMode, *, deadline_ms: int) -> Ack:
        """Bring the miner to a mode by as few orders as that takes, each read back; what is so already is accepted."""
        deadline = Deadline(deadline_ms)
        try:
            client = await self.connection.client(deadline_ms=deadline.left_ms)
            now = await client.read(Want.TOLD, deadline_ms=deadline.left_ms)
        except (AsicUnreachableError, AsicUnknownError) as error:
            return Unreachable(detail=str(error))
        if self.mode_of(now) is mode:
            return Applied()
        if mode is DeviceMode.SLEEP:
            return await self._order(client, Goal(told=Told.SLEEP), lambda ms: client.stop(deadline_ms=ms), deadline)
        if self._mining_mode(now.limit_watts) is not mode:
            ack = await self._limit(client, Watts(self._watts[mode]), deadline)
            if not isinstance(ack, Applied) or now.told is Told.MINE:
                return ack
        return await self._order(client, Goal(told=Told.MINE), lambda ms: client.resume(deadline_ms=ms), deadline)

    async def limit(self, watts: Watts, *, deadline_ms: int) -> Ack:
        """Order a power target and read it back."""
        deadline = Deadline(deadline_ms)
        try:
            client = await self.connection.client(deadline_ms=deadline.left_ms)
        except (AsicUnreachableError, AsicUnknownError) as error:
            return Unreachable(detail=str(error))
        return await self._limit(client, watts, deadline)

    async def look_after_pools(self) -> None:
        """Check the pools that an order left no time for."""
        client = self.connection.known
        if client is not None and self.guard.is_check_owed:
            await self.guard.check(client, deadline=Deadline(POOLS_MS_MAX))

    def _mining_mode(self, limit_watts: Watts | None) -> DeviceMode | None:
        full, target = self._watts[DeviceMode.MINING], self._watts.get(DeviceMode.MINING_ECO)
        if target is None:
            return DeviceMode.MINING
        if limit_watts is None:
            return None
        return DeviceMode.MINING if limit_watts > (full + target) / 2.0 else DeviceMode.MINING_ECO

    async def _limit(self, client: AsicClient, watts: Watts, deadline: Deadline) -> Ack:
        goal = Goal(limit_watts=watts)
        return await self._order(client, goal, lambda ms: client.limit(watts, deadline_ms=ms), deadline)

    async def _order(
        self, client: AsicClient, goal: Goal, send: Callable[[int], Awaitable[Said]], deadline: Deadline
    ) -> Ack:
        is_guarded = client.capabilities.rewrites_config_on_order
        if is_guarded:
            await self.guard.remember(client, deadline_ms=deadline.left_ms)
        self._orders += 1
        read_back = None
        try:
            ack, read_back = await order(client, goal=goal, send=send, deadline=deadline)
        finally:
            self._orders += 1  # a reading begun during the order may show what was before
            self._note(read_back or AsicReading())
        if not is_guarded:
            return ack
        kept = await self.guard.check(client, deadline=deadline)
        return ack if isinstance(kept, Applied) else kept

    def _note(self, read_back: AsicReading) -> None:
        """Let the last whole reading say what was read back after an order; nothing when nothing was."""
        if self._seen is not None:
            told = replace(self._seen.reading, told=read_back.told, limit_watts=read_back.limit_watts)
            self._seen = replace(self._seen, reading=told)
