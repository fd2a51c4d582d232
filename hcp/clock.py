"""The wall clock as an argument: live processes pass `wall_ms`, tests pass a function of their own."""

import time
from collections.abc import Callable
from typing import Final

from hcp.model.units import MS_PER_SECOND, EpochMs

Clock = Callable[[], EpochMs]

_NS_PER_MS: Final = 1_000_000


def wall_ms() -> EpochMs:
    """Return the wall clock in milliseconds since the epoch; may step when the host's clock is set."""
    return EpochMs(time.time_ns() // _NS_PER_MS)


def simulated_clock(*, origin_ms: EpochMs, started_ms: EpochMs, speed_ratio: float, wall: Clock = wall_ms) -> Clock:
    """Return a clock that shows `origin_ms` at wall time `started_ms` and then runs `speed_ratio` times as fast.

    Every simulator of one run is given the same three numbers, so their event times agree.

    Raises:
        ValueError: `speed_ratio` is not above 0.
    """
    if not speed_ratio > 0.0:
        raise ValueError(f"speed_ratio must be above 0, was {speed_ratio}")
    return lambda: EpochMs(origin_ms + int((wall() - started_ms) * speed_ratio))


def seconds(duration_ms: int) -> float:
    """Turn a duration into the seconds that `sleep` and timeouts take."""
    return duration_ms / MS_PER_SECOND
