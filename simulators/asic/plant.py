"""What one miner does physically: hash boards that ramp, power and heat that follow, shares that add up.

Power and hash rate follow the load, which moves in a straight line: down within seconds, up over the firmware's ramp.
Nothing here knows a protocol; the families' answers are made from these figures.
"""

import math
import time
from collections import deque
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from hcp.model.units import MS_PER_SECOND

ORDERS_KEPT_MAX: Final = 64
AIR_CELSIUS: Final = 25.0
RISE_CELSIUS: Final = 45.0
"""Chips over inlet air at full power."""
PCB_BELOW_CHIP_CELSIUS: Final = 8.0
HEAT_TAU_S: Final = 20.0
FAN_RPM: Final = (1_500.0, 6_000.0)
SHARES_PER_SECOND: Final = 0.2
REJECTED_EVERY: Final = 500
STANDBY_WATTS: Final = 25.0
"""Draw of a sleeping miner, as vendors give it for LuxOS."""
BOOTED_BEFORE_S: Final = 5_000.0


class WorkMode(IntEnum):
    """What the miner was told to do; the values are those of Bitmain's `bitmain-work-mode`."""

    NORMAL = 0
    SLEEP = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """One pool of the configuration."""

    url: str
    user: str
    password: str = "x"  # noqa: S105  # what every pool takes


@dataclass(frozen=True, slots=True, kw_only=True)
class Nameplate:
    """What the model is rated for.

    Attributes:
        model: As the firmware writes it.
        hash_rate_th_per_s: At full power.
        power_watts: At the wall at full power.
        chips_per_board: Of each of the three boards.
    """

    model: str
    hash_rate_th_per_s: float
    power_watts: float
    chips_per_board: int


POOLS: Final = (
    Pool(url="stratum+tcp://pool-a.example:3333", user="site.worker"),
    Pool(url="stratum+tcp://pool-b.example:3333", user="site.worker"),
)


@dataclass(slots=True, kw_only=True)
class Plant:
    """State of one miner; mutable, one owner.

    Attributes:
        nameplate: Ratings.
        ramp_ms: From standing still to full load, above 0.
        down_ms: From full load to standing still, above 0.
        mode: What it was told to do.
        limit_watts: Power target.
        pools: Configured pools, in their order; a stop must leave them as they are.
        orders: What it was told, newest last, at most 64.
    """

    nameplate: Nameplate
    ramp_ms: float
    down_ms: float
    mode: WorkMode = WorkMode.NORMAL
    limit_watts: float = 0.0
    pools: tuple[Pool, ...] = POOLS
    orders: deque[str] = field(default_factory=lambda: deque(maxlen=ORDERS_KEPT_MAX))
    booted_s: float = 0.0
    _load: float = 1.0
    _work_s: float = BOOTED_BEFORE_S
    _chip_celsius: float = AIR_CELSIUS + RISE_CELSIUS
    _at_s: float = 0.0

    def __post_init__(self) -> None:
        """Begin settled at full power."""
        self.limit_watts = self.limit_watts or self.nameplate.power_watts
        self._at_s = time.monotonic()
        self.booted_s = self._at_s - BOOTED_BEFORE_S

    @property
    def elapsed_s(self) -> int:
        """Time since it booted."""
        return int(time.monotonic() - self.booted_s)

    @property
    def load(self) -> float:
        """Share of full power, 0 to 1."""
        self._advance()
        return self._load

    @property
    def power_watts(self) -> float:
        """Draw at the wall."""
        return STANDBY_WATTS + (self.nameplate.power_watts - STANDBY_WATTS) * self.load

    @property
    def hash_rate_gh_per_s(self) -> float:
        """SHA-256 rate."""
        return self.nameplate.hash_rate_th_per_s * 1_000.0 * self.load

    @property
    def chip_celsius(self) -> float:
        """Hottest chip."""
        self._advance()
        return self._chip_celsius

    @property
    def fan_rpm(self) -> float:
        """Each of the fans."""
        low, high = FAN_RPM
        return low + (high - low) * self.load

    @property
    def accepted(self) -> int:
        """Shares the pool took since it was made."""
        self._advance()
        return int(self._work_s * SHARES_PER_SECOND)

    @property
    def rejected(self) -> int:
        """Shares the pool refused."""
        return self.accepted // REJECTED_EVERY

    def set_mode(self, mode: WorkMode) -> None:
        """Stop or go on."""
        self._advance()
        self.mode = mode
        self.orders.append(f"mode {mode.name.lower()}")

    def set_limit(self, limit_watts: float) -> None:
        """Take a power target."""
        self._advance()
        self.limit_watts = limit_watts
        self.orders.append(f"limit {limit_watts:.0f}")

    def set_pools(self, pools: tuple[Pool, ...]) -> None:
        """Replace the pools; noted only when they change."""
        if pools != self.pools:
            self.orders.append(f"pools {len(pools)}")
        self.pools = pools

    def boot(self) -> None:
        """Begin anew: uptime at 0, the load from standing still, the configuration kept."""
        self._advance()
        self.booted_s = time.monotonic()
        self._load = 0.0

    def _target(self) -> float:
        if self.mode is WorkMode.SLEEP:
            return 0.0
        usable = self.nameplate.power_watts - STANDBY_WATTS
        return min(1.0, max(0.0, (self.limit_watts - STANDBY_WATTS) / usable))

    def _advance(self) -> None:
        now_s = time.monotonic()
        passed_s, self._at_s = now_s - self._at_s, now_s
        before, target = self._load, self._target()
        whole_ms = self.down_ms if target < before else self.ramp_ms
        moved = passed_s * MS_PER_SECOND / whole_ms
        self._load = max(target, before - moved) if target < before else min(target, before + moved)
        self._work_s += passed_s * (before + self._load) / 2.0
        heat = AIR_CELSIUS + RISE_CELSIUS * self._load
        self._chip_celsius += (heat - self._chip_celsius) * -math.expm1(-passed_s / HEAT_TAU_S)
