"""What a backtest settles by: a class's rates in every interval and mode, and the moves of its devices."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hcp.model.devices import DeviceMode, ModeProfile
from hcp.model.units import MS_PER_HOUR
from streams.economics import SWITCH_COST_USD_MIN

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
DAY_MS: Final = 24 * MS_PER_HOUR


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Devices of a class that went from one mode to another.

    Attributes:
        at_ms: Event time of the decision, from which they are in the new mode.
        from_mode: Mode left.
        to_mode: Mode entered.
        device_count: How many; 1 or more.
    """

    at_ms: int
    from_mode: DeviceMode
    to_mode: DeviceMode
    device_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyMoves:
    """All moves of one class under one policy, in event-time order."""

    policy: str
    facility_id: str
    device_class: str
    moves: tuple[Move, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClassSeries:
    """One class of one site over T settled intervals and M modes; what is not settled is not here.

    Attributes:
        facility_id: The site.
        device_class: The class.
        modes: Its modes, in the order of every array.
        starts_ms: Start of each interval, ascending, [T].
        interval_ms: Its length, above 0, [T].
        energy_usd_per_mwh: Energy price, [T].
        profit_usd_per_hour: Of one device, [T, M].
        revenue_usd_per_hour: Of one device, [T, M].
        power_kw: What the site draws for one device, PUE included, [M].
        initial_counts: Devices in each mode before the first interval, [M].
    """

    facility_id: str
    device_class: str
    modes: tuple[ModeProfile, ...]
    starts_ms: IntArray
    interval_ms: IntArray
    energy_usd_per_mwh: FloatArray
    profit_usd_per_hour: FloatArray
    revenue_usd_per_hour: FloatArray
    power_kw: FloatArray
    initial_counts: FloatArray

    @property
    def device_count(self) -> int:
        """Count its devices."""
        return int(self.initial_counts.sum())

    @property
    def hours(self) -> FloatArray:
        """Return the length of each interval in hours, [T]."""
        return self.interval_ms / MS_PER_HOUR

    @property
    def profit_usd(self) -> FloatArray:
        """Return what one device earns in each interval and mode, [T, M]."""
        return self.profit_usd_per_hour * self.hours[:, None]

    def mode_index(self, mode: DeviceMode) -> int:
        """Return where a mode stands in the arrays.

        Raises:
            ValueError: The class has no such mode.
        """
        return [profile.mode for profile in self.modes].index(mode)

    def switch_cost_usd(self) -> FloatArray:
        """Return what one device's switch at the start of each interval costs, [T, from, to]; 0 from a mode to itself.

        The formula is `streams.economics.switch_cost_usd`, at the revenues of the interval entered.
        """
        revenue = self.revenue_usd_per_hour
        enter_hours = np.array([mode.enter_ms / MS_PER_HOUR for mode in self.modes])
        wear = np.array([mode.enter_wear_usd for mode in self.modes])
        reload = np.array([mode.enter_reload_usd for mode in self.modes])
        best = np.maximum(np.maximum(revenue[:, :, None], revenue[:, None, :]), 0.0)
        cost = np.maximum(best * enter_hours + wear + reload, SWITCH_COST_USD_MIN)
        cost[:, range(len(self.modes)), range(len(self.modes))] = 0.0
        return np.asarray(cost, dtype=np.float64)
