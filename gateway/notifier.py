"""Wakes the relay after a commit: one NOTIFY for all that committed while the last one was under way.

Not in the transaction itself: PostgreSQL lets transactions that notify commit only one after the other.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Final

from gateway.database import Database
from hcp.errors import StoreError

CHANNEL: Final = "hcp_outbox"


@dataclass(slots=True, kw_only=True)
class Notifier:
    """Sends NOTIFY; one that is lost costs the relay's next look, no record."""

    database: Database
    _wanted: asyncio.Event = field(default_factory=asyncio.Event)

    def poke(self) -> None:
        """Say that something was committed to the outbox."""
        self._wanted.set()

    async def run(self) -> None:
        """Notify for ever."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                async with self.database.connection() as connection:
                    await connection.execute(f"notify {CHANNEL}".encode())
            except StoreError:
                continue  # the relay looks by itself, and a store that is away is reported by those who need it
