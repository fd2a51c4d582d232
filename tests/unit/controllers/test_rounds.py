"""Rounds of reading: a shard that raises costs no other its turn, and is told of once."""

import pytest
from structlog.testing import capture_logs

from controllers.rounds import Rounds

SHARDS = ("a/00", "b/00", "c/00")


class Drivers:
    """Reads shards; those named raise."""

    def __init__(self) -> None:
        self.broken: set[str] = set()
        self.read: list[str] = []

    async def refresh(self, shard_id: str) -> None:
        """Read one."""
        if shard_id in self.broken:
            raise RuntimeError(f"driver of {shard_id} is broken")
        self.read.append(shard_id)


@pytest.mark.asyncio
async def test_a_driver_that_raises_costs_no_other_shard_its_turn() -> None:
    """The others are read in every round; the broken one is named once, and once more when it is back."""
    drivers = Drivers()
    drivers.broken = {"b/00"}
    rounds = Rounds(SHARDS, drivers.refresh)
    with capture_logs() as logs:
        await rounds.once()
        await rounds.once()
        assert drivers.read == ["a/00", "c/00"] * 2
        assert rounds.unread == {"b/00"}
        drivers.broken = set()
        await rounds.once()
    assert drivers.read[4:] == list(SHARDS)
    assert rounds.unread == set()
    assert [(each["event"], each["shard_id"]) for each in logs] == [
        ("shard_unread", "b/00"),
        ("shard_read_again", "b/00"),
    ]
    assert "driver of b/00 is broken" in logs[0]["error"]
