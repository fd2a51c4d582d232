"""Rounds of reading: every shard's devices again and again, whatever one of them raises."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import structlog

from hcp.clock import seconds

EVERY_MS: Final = 10_000
ERROR_CHARACTERS_MAX: Final = 200

_log = structlog.get_logger(__name__)


class Rounds:
    """Reads a shard at a time; one that cannot be read is named once while it lasts, and costs no other its turn."""

    def __init__(self, shards: Iterable[str], read: Callable[[str], Awaitable[None]]) -> None:
        """Go round `shards`; `read` refreshes one, by its id, and sends what was found."""
        self._shards = tuple(shards)
        self._read = read
        self.unread: set[str] = set()

    async def forever(self) -> None:
        """Begin a round 10 s after the last one ended."""
        while True:
            await asyncio.sleep(seconds(EVERY_MS))
            await self.once()

    async def once(self) -> None:
        """Read every shard once."""
        for shard_id in self._shards:
            try:
                await self._read(shard_id)
            except Exception as error:  # noqa: BLE001  # whatever a driver raises, the other shards must stay fresh
                if shard_id not in self.unread:
                    self.unread.add(shard_id)
                    _log.warning("shard_unread", shard_id=shard_id, error=repr(error)[:ERROR_CHARACTERS_MAX])
            else:
                if shard_id in self.unread:
                    self.unread.discard(shard_id)
                    _log.info("shard_read_again", shard_id=shard_id)
            await asyncio.sleep(0)  # simulated devices answer without waiting; commands must get their turn
