"""One miner through two clients: the first steers and measures, the second knows what it was told and its limit."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from controllers.drivers.asic.client import (
    AsicClient,
    AsicReading,
    AsicUnreachableError,
    Capabilities,
    PoolEntry,
    Said,
    Want,
)
from hcp.model.units import Watts


class CombinedClient:
    """The AsicClient port over a first choice and the one that serves what the first does not."""

    def __init__(self, first: AsicClient, second: AsicClient) -> None:
        """Compose them; both drive the same miner."""
        self._first = first
        self._second = second
        self.model = first.model
        self.firmware = first.firmware
        self.capabilities = Capabilities(
            can_sleep=first.capabilities.can_sleep or second.capabilities.can_sleep,
            can_limit_watts=second.capabilities.can_limit_watts,
            can_restore_pools=first.capabilities.can_restore_pools,
            reads_told=second.capabilities.reads_told,
            reports_wall_power=first.capabilities.reports_wall_power,
            rewrites_config_on_order=first.capabilities.rewrites_config_on_order,
        )

    async def read(self, want: Want, *, deadline_ms: int) -> AsicReading:
        """Return the first's reading with what the second says it was told.

        Raises:
            AsicUnreachableError: The one that was needed did not answer: the second for TOLD, else the first.
        """
        if want is Want.TOLD:
            return await self._second.read(Want.TOLD, deadline_ms=deadline_ms)
        measured, told = await asyncio.gather(
            self._first.read(want, deadline_ms=deadline_ms),
            self._second.read(Want.TOLD, deadline_ms=deadline_ms),
            return_exceptions=True,
        )
        if isinstance(measured, BaseException):
            raise measured
        if isinstance(told, AsicUnreachableError):
            return replace(measured, told=None, limit_watts=None)
        if isinstance(told, BaseException):
            raise told
        return replace(measured, told=told.told, limit_watts=told.limit_watts)

    async def stop(self, *, deadline_ms: int) -> Said:
        """Order it to sleep."""
        chosen = self._first if self._first.capabilities.can_sleep else self._second
        return await chosen.stop(deadline_ms=deadline_ms)

    async def resume(self, *, deadline_ms: int) -> Said:
        """Order it to mine."""
        chosen = self._first if self._first.capabilities.can_sleep else self._second
        return await chosen.resume(deadline_ms=deadline_ms)

    async def limit(self, watts: Watts, *, deadline_ms: int) -> Said:
        """Order a power target."""
        return await self._second.limit(watts, deadline_ms=deadline_ms)

    async def pools(self, *, deadline_ms: int) -> tuple[PoolEntry, ...] | None:
        """Return the configured pools; None when they could not be read."""
        return await self._first.pools(deadline_ms=deadline_ms)

    async def restore_pools(self, pools: Sequence[PoolEntry], *, deadline_ms: int) -> Said:
        """Write back pools that were read before, with their passwords."""
        return await self._first.restore_pools(pools, deadline_ms=deadline_ms)
