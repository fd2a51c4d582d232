"""The site governor: before devices draw more, the ramp must allow it and what is to draw less must have done so.

It is the hardware's own guard, by the wall clock and whoever commands; the orchestrator plans in event time. Devices of
one feeder start a few at a time, a little apart, so that their inrush does not add up. A command that lowers power, or
leaves it, is never kept waiting.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Final

from controllers.journal import Journal
from hcp.clock import seconds
from hcp.model.facilities import Facility
from hcp.model.units import MS_PER_MINUTE

STARTS_TOGETHER_MAX: Final = 32
"""Of one feeder."""
APART_MS: Final = 40
"""Between such groups of one feeder, give or take half of it."""
WAIT_MS_MAX: Final = 8_000
"""A start that the ramp allows only later is given back: prices will have moved by then."""
REDUCTIONS_MS_MAX: Final = 2_000
"""No reduction takes longer: each of its steps is bounded."""
_KW_PER_MW: Final = 1_000.0


class RampLimitedError(Exception):
    """The site's ramp does not allow a start in time; the message says what must be and what was."""


class Governor:
    """Governs the starts of one site in this process; the ramp is in Redis, where all controllers of the site take."""

    def __init__(self, site: Facility, *, journal: Journal) -> None:
        """Keep to the site's `ramp_mw_per_minute`."""
        self._site = site
        self._journal = journal
        self._rate_kw_per_ms = site.ramp_mw_per_minute * _KW_PER_MW / MS_PER_MINUTE
        self._reductions = 0
        self._none_left = asyncio.Event()
        self._none_left.set()

    def capacity_kw(self, *, settling_ms: int) -> float:
        """Return what may be taken at once, kW at the site's meter: a minute's worth, or that of a slower rise.

        Args:
            settling_ms: What the devices take to their full draw.
        """
        return self._rate_kw_per_ms * max(MS_PER_MINUTE, settling_ms)

    @asynccontextmanager
    async def reducing(self) -> AsyncIterator[None]:
        """Let starts of the site wait while devices go to less power."""
        self._reductions += 1
        self._none_left.clear()
        try:
            yield
        finally:
            self._reductions -= 1
            if not self._reductions:
                self._none_left.set()

    async def admit(self, added_kw: float, *, capacity_kw: float) -> None:
        """Wait until reductions under way have ended and the ramp allows so much more.

        Args:
            added_kw: At the site's meter, above 0.
            capacity_kw: What may be taken at once.

        Raises:
            RampLimitedError: That would take longer than `WAIT_MS_MAX`.
            StoreError: Redis does not answer.
        """
        try:
            async with asyncio.timeout(seconds(REDUCTIONS_MS_MAX)):
                await self._none_left.wait()
        except TimeoutError:
            pass  # more of them keep coming: the ramp alone decides then
        waited_ms = 0
        while wait_ms := await self._journal.admit(
            self._site.facility_id,
            added_kw=added_kw,
            rate_kw_per_ms=self._rate_kw_per_ms,
            capacity_kw=capacity_kw,
        ):
            if waited_ms + wait_ms > WAIT_MS_MAX:
                raise RampLimitedError(
                    f"ramp of {self._site.facility_id} must allow {added_kw:.1f} kW within {WAIT_MS_MAX} ms, "
                    f"was {waited_ms + wait_ms} ms away"
                )
            waited_ms += wait_ms
            await asyncio.sleep(seconds(wait_ms))


def batches(
    device_indexes: Sequence[int], *, devices_per_feeder: int | None, added_kw_each: float, capacity_kw: float
) -> list[list[list[int]]]:
    """Split the rows of a command by feeder, and each feeder's into groups that may start together.

    Args:
        device_indexes: Of a command.
        devices_per_feeder: Devices in a row on one feeder; None: all on one.
        added_kw_each: What one device adds at the site's meter, above 0.
        capacity_kw: What may be added at once: no group adds more, unless one device alone does.

    Returns:
        Rows (positions in `device_indexes`), a list of groups a feeder, in the order of the command.
    """
    together = max(1, min(STARTS_TOGETHER_MAX, int(capacity_kw / added_kw_each)))
    feeders: dict[int, list[int]] = {}
    for row, index in enumerate(device_indexes):
        feeders.setdefault(0 if devices_per_feeder is None else index // devices_per_feeder, []).append(row)
    return [[rows[at : at + together] for at in range(0, len(rows), together)] for rows in feeders.values()]


def gaps_ms(count: int, *, seed: str) -> Iterator[int]:
    """Yield how long to wait before each of a feeder's groups; none before the first.

    Args:
        count: Groups.
        seed: The same seed gives the same gaps.
    """
    random = Random(seed)  # noqa: S311  # jitter, no cryptography
    for number in range(count):
        yield 0 if number == 0 else random.randint(APART_MS // 2, APART_MS * 3 // 2)
