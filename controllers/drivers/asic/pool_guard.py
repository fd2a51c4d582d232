"""Keeps a miner's pools through a stop: read before, read after, written back where they can be, an alarm where not.

One library was seen to send a configuration without pools when the read in front of a stop failed. A miner without
pools hashes for nobody and looks healthy, so this is checked after every order, and owed while it cannot be.
"""

import structlog

from controllers.drivers.asic.client import AsicClient, PoolEntry, SaidYes
from controllers.drivers.asic.orders import Deadline
from controllers.ports import Ack, Applied, NotConfirmed

_log = structlog.get_logger(__name__)


class PoolGuard:
    """What the pools of one miner must be."""

    def __init__(self, host: str) -> None:
        """Know none yet."""
        self._host = host
        self._good: tuple[PoolEntry, ...] = ()
        self.is_check_owed = False
        """After an order the pools could not be read again yet."""

    @property
    def known(self) -> tuple[PoolEntry, ...]:
        """Return the pools as they were last seen in order."""
        return self._good

    async def remember(self, client: AsicClient, *, deadline_ms: int) -> None:
        """Read the pools before an order; what cannot be read leaves what is known."""
        pools = await client.pools(deadline_ms=deadline_ms)
        if pools and not self.is_check_owed:
            self._good = pools

    async def check(self, client: AsicClient, *, deadline: Deadline) -> Ack:
        """Read the pools after an order and mend them when they are gone.

        Returns:
            Applied when they are as before, or as before again, or could not be read yet, which is then owed;
            NotConfirmed when they are gone and cannot be brought back.
        """
        self.is_check_owed = bool(self._good)
        if not self._good or not deadline.left_ms:
            return Applied()
        pools = await client.pools(deadline_ms=deadline.left_ms)
        if pools is None:
            return Applied()
        if pools == self._good:
            self.is_check_owed = False
            return Applied()
        return await self._mend(client, pools, deadline=deadline)

    async def _mend(self, client: AsicClient, pools: tuple[PoolEntry, ...], *, deadline: Deadline) -> Ack:
        said = await client.restore_pools(self._good, deadline_ms=deadline.left_ms)
        again = await client.pools(deadline_ms=deadline.left_ms) if isinstance(said, SaidYes) else pools
        is_mended = again == self._good
        self.is_check_owed = not is_mended
        _log.error(
            "asic_pools_changed_by_order",
            host=self._host,
            pools_before=len(self._good),
            pools_after=len(pools),
            is_mended=is_mended,
        )
        if is_mended:
            return Applied()
        return NotConfirmed(
            detail=f"pools must be as before the order, {len(self._good)} of them, were {len(pools)} and stay so"
        )
