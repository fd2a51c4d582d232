"""An order to a miner and what became of it: said, read back until the deadline, and judged by what was read."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, assert_never

from controllers.drivers.asic.client import (
    AsicClient,
    AsicReading,
    AsicUnreachableError,
    CannotSay,
    Said,
    SaidNo,
    SaidNothing,
    SaidYes,
    Told,
    Want,
)
from controllers.ports import Ack, Applied, NotConfirmed, Refused, Unreachable, Unsupported
from hcp.clock import seconds
from hcp.model.units import MS_PER_SECOND, Watts

ORDER_ATTEMPTS_MAX: Final = 2
"""A no may be due to a session or salt that grew stale on the way: the second attempt makes a new one."""
READ_BACK_EVERY_MS: Final = 15
READ_BACK_EVERY_MS_MAX: Final = 250
LIMIT_TOLERANCE_RATIO: Final = 0.01


class Deadline:
    """A moment by which all must be done, in milliseconds of the monotonic clock."""

    def __init__(self, deadline_ms: int) -> None:
        """End `deadline_ms` from now."""
        self._end_s = time.monotonic() + seconds(deadline_ms)

    @property
    def left_ms(self) -> int:
        """Return what is left, 0 when it has passed."""
        return max(0, int((self._end_s - time.monotonic()) * MS_PER_SECOND))


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What must be read back.

    Attributes:
        told: What it must say it was told; None when that does not matter.
        limit_watts: The target that must be in force; None when that does not matter.
    """

    told: Told | None = None
    limit_watts: Watts | None = None

    def is_met(self, reading: AsicReading) -> bool:
        """Tell whether a reading shows it; what was not read shows nothing."""
        if self.told is not None and reading.told is not self.told:
            return False
        if self.limit_watts is None:
            return True
        if reading.limit_watts is None:
            return False
        return abs(reading.limit_watts - self.limit_watts) <= LIMIT_TOLERANCE_RATIO * self.limit_watts


async def order(
    client: AsicClient,
    *,
    goal: Goal,
    send: Callable[[int], Awaitable[Said]],
    deadline: Deadline,
) -> tuple[Ack, AsicReading | None]:
    """Send an order and return what became of it, by what was read back last, and that.

    Args:
        client: Whom.
        goal: What must be read back; its limit is replaced by what the firmware says it took.
        send: Sends it, given the milliseconds that are left.
        deadline: For all of it.
    """
    ack: Ack = Unreachable(detail="deadline must leave time for an order, had passed")
    seen: AsicReading | None = None
    for _ in range(ORDER_ATTEMPTS_MAX):
        if not deadline.left_ms:
            break
        said = await send(deadline.left_ms)
        if isinstance(said, CannotSay):
            return Unsupported(detail=said.detail), seen
        if isinstance(said, SaidYes) and said.limit_watts is not None:
            goal = Goal(told=goal.told, limit_watts=said.limit_watts)
        seen = await _read_back(client, goal, is_awaited=isinstance(said, SaidYes), deadline=deadline)
        ack = judged(said, goal=goal, seen=seen)
        if not isinstance(ack, Refused):
            break
    return ack, seen


async def _read_back(client: AsicClient, goal: Goal, *, is_awaited: bool, deadline: Deadline) -> AsicReading | None:
    """Read until the goal is met or the time is up; once only when nobody said that it would be.

    Returns:
        The last reading, None when none was had.
    """
    pause_ms = READ_BACK_EVERY_MS
    last: AsicReading | None = None
    while deadline.left_ms:
        try:
            last = await client.read(Want.TOLD, deadline_ms=deadline.left_ms)
        except AsicUnreachableError:
            pass  # a firmware that restarts its software on an order is back in a while: the deadline decides
        else:
            if goal.is_met(last) or not is_awaited:
                break
        await asyncio.sleep(seconds(min(pause_ms, deadline.left_ms)))
        pause_ms = min(2 * pause_ms, READ_BACK_EVERY_MS_MAX)
    return last


def judged(said: Said, *, goal: Goal, seen: AsicReading | None) -> Ack:
    """Return what became of an order: what was read decides, and what was said names the failure."""
    if isinstance(said, CannotSay):
        return Unsupported(detail=said.detail)
    if seen is not None and goal.is_met(seen):
        return Applied()
    was = f"{_shown(goal)} must be read back, was {_seen(goal, seen)}"
    match said:
        case SaidYes():
            return Unreachable(detail=was) if seen is None else NotConfirmed(detail=f"order was taken, and {was}")
        case SaidNo():
            return Unreachable(detail=f"{said.detail}; {was}") if seen is None else Refused(detail=said.detail)
        case SaidNothing():
            return Unreachable(detail=f"{said.detail}; {was}")
        case _:
            assert_never(said)


def _shown(goal: Goal) -> str:
    parts = [str(goal.told)] if goal.told is not None else []
    return " at ".join([*parts, f"{goal.limit_watts:.0f} W"] if goal.limit_watts is not None else parts)


def _seen(goal: Goal, seen: AsicReading | None) -> str:
    if seen is None:
        return "not answered"
    parts = [str(seen.told or "unknown")] if goal.told is not None else []
    if goal.limit_watts is not None:
        parts.append(f"{seen.limit_watts:.0f} W" if seen.limit_watts is not None else "no target")
    return " at ".join(parts)
