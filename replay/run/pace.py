"""The pace of then, times a speed: when each record is to be sent, and waiting for it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from hcp.clock import seconds

WAIT_SECONDS_MAX = 0.2
"""Between two looks at what else is to be done while waiting."""


@dataclass(slots=True, kw_only=True)
class Pace:
    """Tells each record when it is to be sent, from the first on.

    Attributes:
        speed: Event seconds a wall second; None for as fast as possible.
        on_idle: Called at least every WAIT_SECONDS_MAX while waiting.
        clock: Seconds, monotonic.
        sleep: Waits so many seconds.
    """

    speed: float | None
    on_idle: Callable[[], None] = lambda: None
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _first: tuple[int, float] | None = field(default=None, init=False)

    def wait(self, at_ms: int) -> float:
        """Wait until a record of that event time is to be sent; return how many seconds late it is then.

        Without a speed nothing is waited for, and nothing is late.
        """
        if self.speed is None:
            return 0.0
        if self._first is None:
            self._first = at_ms, self.clock()
        first_ms, began_s = self._first
        planned_s = began_s + seconds(at_ms - first_ms) / self.speed
        while (left_s := planned_s - self.clock()) > 0:
            self.on_idle()
            self.sleep(min(left_s, WAIT_SECONDS_MAX))
        return self.clock() - planned_s
