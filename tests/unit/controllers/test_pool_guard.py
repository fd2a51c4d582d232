"""Pools through an order: unchanged, wiped and mended, wiped for good, unreadable."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from controllers.drivers.asic.client import (
    NO_CAPABILITIES,
    AsicReading,
    CannotSay,
    Capabilities,
    PoolEntry,
    Said,
    SaidYes,
    Want,
)
from controllers.drivers.asic.orders import Deadline
from controllers.drivers.asic.pool_guard import PoolGuard
from controllers.ports import Applied, NotConfirmed
from hcp.model.units import Watts

GOOD: Final = (
    PoolEntry(url="stratum+tcp://a:3333", user="site.1"),
    PoolEntry(url="stratum+tcp://b:3333", user="site.1"),
)


@dataclass(slots=True)
class FakeClient:
    """The AsicClient port over a list of pools; None is a read that fails."""

    configured: tuple[PoolEntry, ...] | None = GOOD
    takes_pools: bool = True
    restored: list[tuple[PoolEntry, ...]] = field(default_factory=list)
    model: str = "fake"
    firmware: str = "fake"
    capabilities: Capabilities = NO_CAPABILITIES

    async def read(self, want: Want, *, deadline_ms: int) -> AsicReading:  # noqa: ARG002  # the port's signature
        """Read nothing."""
        return AsicReading()

    async def stop(self, *, deadline_ms: int) -> Said:  # noqa: ARG002  # as above
        """Take it."""
        return SaidYes()

    async def resume(self, *, deadline_ms: int) -> Said:  # noqa: ARG002  # as above
        """Take it."""
        return SaidYes()

    async def limit(self, watts: Watts, *, deadline_ms: int) -> Said:  # noqa: ARG002  # as above
        """Take it."""
        return SaidYes()

    async def pools(self, *, deadline_ms: int) -> tuple[PoolEntry, ...] | None:  # noqa: ARG002  # as above
        """Return what is configured."""
        return self.configured

    async def restore_pools(self, pools: Sequence[PoolEntry], *, deadline_ms: int) -> Said:  # noqa: ARG002  # as above
        """Configure them, where it can."""
        self.restored.append(tuple(pools))
        if not self.takes_pools:
            return CannotSay(detail="cannot")
        self.configured = tuple(pools)
        return SaidYes()


def soon() -> Deadline:
    """Return a deadline that leaves time."""
    return Deadline(1_000)


async def guarded(client: FakeClient) -> PoolGuard:
    """Return a guard that has seen the client's pools."""
    guard = PoolGuard("10.0.0.1")
    await guard.remember(client, deadline_ms=1_000)
    return guard


async def test_pools_that_stayed_are_left_alone() -> None:
    """Nothing is written, nothing is owed."""
    client = FakeClient()
    guard = await guarded(client)
    assert await guard.check(client, deadline=soon()) == Applied()
    assert not guard.is_check_owed
    assert client.restored == []


async def test_wiped_pools_are_written_back() -> None:
    """The order counts, for the miner hashes for us again."""
    client = FakeClient()
    guard = await guarded(client)
    client.configured = ()
    assert await guard.check(client, deadline=soon()) == Applied()
    assert client.restored == [GOOD]
    assert await client.pools(deadline_ms=1_000) == GOOD
    assert not guard.is_check_owed


async def test_pools_gone_for_good_are_told() -> None:
    """A firmware that cannot be written to makes the order a failure, and the check stays owed."""
    client = FakeClient(takes_pools=False)
    guard = await guarded(client)
    client.configured = GOOD[:1]
    ack = await guard.check(client, deadline=soon())
    assert isinstance(ack, NotConfirmed)
    assert "2 of them, were 1" in ack.detail
    assert guard.is_check_owed


async def test_check_that_could_not_be_made_is_owed_and_made_up_for() -> None:
    """Neither an unreadable configuration nor a passed deadline is taken for pools in order."""
    client = FakeClient()
    guard = await guarded(client)
    assert await guard.check(client, deadline=Deadline(0)) == Applied()
    assert guard.is_check_owed
    client.configured = None
    assert await guard.check(client, deadline=soon()) == Applied()
    assert guard.is_check_owed
    client.configured = ()
    await guard.remember(client, deadline_ms=1_000)
    assert guard.known == GOOD  # what is wrong now is not what must be
    assert await guard.check(client, deadline=soon()) == Applied()
    assert client.configured == GOOD


async def test_miner_whose_pools_were_never_read_is_not_judged() -> None:
    """Without a picture of before there is nothing to compare with."""
    client = FakeClient(configured=None)
    guard = await guarded(client)
    client.configured = ()
    assert await guard.check(client, deadline=soon()) == Applied()
    assert not guard.is_check_owed
