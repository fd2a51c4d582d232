"""Revoked sessions and users, known to every gateway within a second: the table is read four times a second."""

import asyncio
from dataclasses import dataclass, field
from typing import Final

import structlog

from gateway.database import Database
from gateway.principals import Principal
from hcp.clock import Clock, seconds
from hcp.errors import StoreError
from hcp.model.units import MS_PER_SECOND

POLL_MS: Final = 250
"""A revocation that commits takes effect after at most this and one query."""
STALE_MS: Final = 5_000
"""When the table could not be read for this long, no token counts: who was revoked is no longer known."""
OVERLAP: Final = "10 minutes"
"""How far back each poll reads: a revocation whose transaction commits late carries an older time."""
KEPT: Final = "2 hours"
"""Longer than any access token lives."""


@dataclass(slots=True, kw_only=True)
class Revocations:
    """What has been revoked, by session or user.

    A token is void when it was issued at or before the moment of the revocation of its session or user.
    """

    database: Database
    clock: Clock
    _revoked_at_ms: dict[str, int] = field(default_factory=dict)
    _read_at_ms: int = 0

    def is_revoked(self, principal: Principal) -> bool:
        """Whether a token's session or user was revoked after it was issued."""
        latest = max(self._revoked_at_ms.get(principal.session_id, 0), self._revoked_at_ms.get(principal.user_id, 0))
        return principal.issued_at_ms <= latest

    @property
    def is_current(self) -> bool:
        """Whether the table was read lately."""
        return self.clock() - self._read_at_ms <= STALE_MS

    async def refresh(self, *, since: str = OVERLAP) -> None:
        """Read what was revoked lately.

        Raises:
            StoreError: The database does not answer.
        """
        asked_at_ms = self.clock()
        rows = await self.database.rows(
            "select subject::text, (extract(epoch from revoked_at) * 1000)::bigint as revoked_at_ms from revocations "
            "where revoked_at > now() - %s::interval",
            since,
        )
        for row in rows:
            subject = row["subject"]
            self._revoked_at_ms[subject] = max(self._revoked_at_ms.get(subject, 0), row["revoked_at_ms"])
        self._read_at_ms = asked_at_ms
        self._forget_old(asked_at_ms)

    def _forget_old(self, now_ms: int) -> None:
        oldest_ms = now_ms - 2 * 3_600 * MS_PER_SECOND
        for subject in [each for each, at_ms in self._revoked_at_ms.items() if at_ms < oldest_ms]:
            del self._revoked_at_ms[subject]

    async def watch(self) -> None:
        """Refresh for ever; the log says once when the table cannot be read, and once when it can again."""
        log = structlog.get_logger(__name__)
        is_away = False
        since = KEPT
        while True:
            try:
                await self.refresh(since=since)
            except StoreError as error:
                if not is_away:
                    log.warning("revocations_unreadable", error=str(error))
                is_away, since = True, KEPT
            else:
                if is_away:
                    log.info("revocations_readable")
                is_away, since = False, OVERLAP
            await asyncio.sleep(seconds(POLL_MS))
