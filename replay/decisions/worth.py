"""What a run's devices earned, site by site and class by class: the money of `hcp replay diff`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hcp.model.devices import DeviceClass, DeviceMode
from hcp.model.facilities import Fleet
from hcp.model.recommendations import ClassDevices, ClassRecommendation, Recommendation
from hcp.model.units import MS_PER_HOUR, Usd, usd_micros
from streams.settlement import Interval, earned_usd, move_cost_usd, moves, rows_of, settled_interval

Key = tuple[str, str]
"""Facility and device class."""
Counts = Mapping[DeviceMode, int]


@dataclass(slots=True, kw_only=True)
class Worth:
    """Profit of one class at one site in micro-dollars, switch costs taken off.

    Attributes:
        usd_micros: In all.
        switch_cost_usd_micros: What its switches cost.
        by_hour: Profit by the start of the hour, ms since epoch.
    """

    usd_micros: int = 0
    switch_cost_usd_micros: int = 0
    by_hour: dict[int, int] = field(default_factory=dict)

    def add(self, earned: int, cost: int, *, at_ms: int) -> None:
        """Take in an interval."""
        hour = at_ms // MS_PER_HOUR * MS_PER_HOUR
        self.usd_micros += earned - cost
        self.switch_cost_usd_micros += cost
        self.by_hour[hour] = self.by_hour.get(hour, 0) + earned - cost


def worth_of(recommendations: Iterable[Recommendation], *, fleet: Fleet) -> dict[Key, Worth]:
    """Settle each interval with the devices that its recommendation counts; the first ones got there for nothing.

    Args:
        recommendations: Each site's in the order of event time; a repeat settles nothing.
        fleet: What switches cost.
    """
    found: dict[Key, Worth] = {}
    settled_until_ms: dict[str, int] = {}
    before: dict[Key, Counts] = {}
    for recommendation in recommendations:
        site = recommendation.facility_id
        interval = settled_interval(recommendation, settled_until_ms=settled_until_ms.get(site, 0))
        if interval is None:
            continue
        settled_until_ms[site] = interval.end_ms
        counted = {each.device_class: _counts(each) for each in recommendation.devices}
        for scored in recommendation.classes:
            key = (site, scored.device_class)
            device_class, counts = fleet.device_class(scored.device_class), counted.get(scored.device_class)
            if device_class is None or counts is None:
                continue
            earned, cost = _settled(scored, device_class, interval, before=before.get(key, counts), counts=counts)
            found.setdefault(key, Worth()).add(earned, cost, at_ms=interval.start_ms)
            before[key] = counts
    return found


def _counts(devices: ClassDevices) -> Counts:
    return {each.mode: each.movable_count + each.switching_count for each in devices.modes}


def _settled(
    scored: ClassRecommendation, device_class: DeviceClass, interval: Interval, *, before: Counts, counts: Counts
) -> tuple[int, int]:
    """Return what an interval earned and what the switches before it cost, in micro-dollars."""
    rows = rows_of(scored)
    earned = sum(
        usd_micros(Usd(count * earned_usd(rows[mode], interval))) for mode, count in counts.items() if mode in rows
    )
    cost = sum(
        int(move.amount)
        * usd_micros(move_cost_usd(device_class, rows=rows, from_mode=move.from_mode, to_mode=move.to_mode))
        for move in moves(before, counts)
    )
    return earned, cost
