"""The clock that all simulators of one run share, and the way each of them is told to stop."""

import math
import signal
import threading
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any, Self

from hcp.clock import Clock, simulated_clock, wall_ms
from hcp.model.units import EpochMs


@dataclass(frozen=True, slots=True, kw_only=True)
class RunClock:
    """Event time of a run.

    Attributes:
        origin_ms: Event time that the run began at.
        started_ms: Wall time that was.
        speed_ratio: Event seconds a wall second; 0 or infinite is as fast as possible.
    """

    origin_ms: EpochMs
    started_ms: EpochMs
    speed_ratio: float

    @property
    def is_paced(self) -> bool:
        """Say whether events wait for their time."""
        return self.speed_ratio > 0.0 and math.isfinite(self.speed_ratio)

    def clock(self, wall: Clock = wall_ms) -> Clock:
        """Return the simulated clock.

        Raises:
            ValueError: The speed is not above 0 and finite, so that there is no now.
        """
        if not self.is_paced:
            raise ValueError(f"speed_ratio must be above 0 and finite, was {self.speed_ratio}")
        return simulated_clock(
            origin_ms=self.origin_ms, started_ms=self.started_ms, speed_ratio=self.speed_ratio, wall=wall
        )

    def due_ms(self, observed_at_ms: int) -> EpochMs:
        """Return the wall time at which an event becomes known; what is older than the run is due at its start."""
        if not self.is_paced or observed_at_ms <= self.origin_ms:
            return self.started_ms
        return EpochMs(self.started_ms + math.ceil((observed_at_ms - self.origin_ms) / self.speed_ratio))


class StopSignal:
    """Set by SIGTERM and SIGINT while it is entered; the handlers of before come back at the end."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stop.set()

    def set(self) -> None:
        """Stop, as a signal would."""
        self._stop.set()

    @property
    def is_set(self) -> bool:
        """Say whether it is time to stop."""
        return self._stop.is_set()

    def wait(self, duration_ms: float) -> bool:
        """Wait that long at most; return whether to stop."""
        return self._stop.wait(max(duration_ms, 0.0) / 1_000.0)
