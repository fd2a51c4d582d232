"""What policies are measured against: the hindsight optimum and the best fixed choice of a site, by one accounting."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, Literal

import numpy as np

from backtest.coupled import SiteClass, solve_site
from backtest.hindsight import best_path
from backtest.series import DAY_MS, ClassSeries, FloatArray
from hcp.model.units import MS_PER_MINUTE
from streams.site_limits import RAMP_BURST_MS

Method = Literal["dp", "lp"]
WINDOW_MS: Final = 28 * DAY_MS
"""A capped site is solved window by window, each begun where the last ended: a year at once takes too long.

What is lost is what foresight across the window's edge would have earned, at most a few switches a window.
"""
_SLACK: Final = 1e-9
"""Relative; sums of many devices' draws must not miss a limit by their last bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SitePower:
    """What a site may draw.

    Attributes:
        cap_kw: At most, at any time.
        ramp_kw_per_minute: How fast it may be raised, with the burst that the policies are allowed; lowered at once.
    """

    cap_kw: float
    ramp_kw_per_minute: float = math.inf


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """Devices in each mode over each interval, and what they earn.

    Attributes:
        counts: For each class, [T, M].
        profit_usd: For each class, of all its devices in each interval, switch costs deducted, [T].
        switch_count: For each class, intervals begun with a switch.
        moved_count: For each class, devices moved.
        method: "dp" exact for each class by itself; "lp" a linear programme by windows, since cap or ramp binds.
    """

    counts: tuple[FloatArray, ...]
    profit_usd: tuple[FloatArray, ...]
    switch_count: tuple[int, ...]
    moved_count: tuple[float, ...]
    method: Method

    @property
    def total_usd(self) -> float:
        """Return the profit of the whole site."""
        return float(sum(profit.sum() for profit in self.profit_usd))


def hindsight(classes: Sequence[ClassSeries], *, power: SitePower) -> Plan:
    """Return the plan that earns most with every price known, within the site's limits; minimum times are not asked.

    Args:
        classes: All classes of one site.
        power: Of the site. The ramp is asked for where all classes have the same intervals.
    """
    costs = [each.switch_cost_usd() for each in classes]
    alone = [_best_counts(each, cost) for each, cost in zip(classes, costs, strict=True)]
    if _is_within(classes, alone, power):
        return _plan(classes, alone, costs, method="dp")
    return _plan(classes, _limited_counts(classes, costs, power=power), costs, method="lp")


def best_fixed(classes: Sequence[ClassSeries], *, power: SitePower) -> Plan:
    """Return the best single mode of each class kept throughout; where cap or ramp forbids it, the best fixed mix."""
    costs = [each.switch_cost_usd() for each in classes]
    fixed = [_fixed_counts(each, cost) for each, cost in zip(classes, costs, strict=True)]
    method: Method = "dp"
    if not _is_within(classes, fixed, power):
        fixed = _fixed_mix(classes, costs, power=power)
        method = "lp"
    return _plan(classes, fixed, costs, method=method)


def ramp_kw(series: ClassSeries, *, kw_per_minute: float) -> FloatArray:
    """Return by how much a site's mean power may exceed that of the interval before, [T], in kW.

    It is the most that the token bucket of `streams.site_limits` lets any policy do, so that hindsight is held to the
    ramp and yet nobody who keeps it can be better. The bucket lets power rise from a moment to a later one by its burst
    and the rate times the minutes between; the mean of that over an interval and the one before is the burst and the
    rate times the time between their middles. Power before the first interval stood still.
    """
    starts = series.starts_ms.astype(np.float64)
    middles = starts + series.interval_ms / 2.0
    between_ms = np.diff(middles, prepend=starts[:1])
    return np.asarray(kw_per_minute * (between_ms + RAMP_BURST_MS) / MS_PER_MINUTE)


def hours_over_cap(classes: Sequence[ClassSeries], counts: Sequence[FloatArray], *, power_cap_kw: float) -> float:
    """Return for how many hours a site drew more than its cap."""
    power: dict[int, float] = {}
    length: dict[int, float] = {}
    for each, planned in zip(classes, counts, strict=True):
        for start_ms, hours, drawn in zip(
            each.starts_ms.tolist(), each.hours.tolist(), (planned @ each.power_kw).tolist(), strict=True
        ):
            power[start_ms] = power.get(start_ms, 0.0) + drawn
            length[start_ms] = hours
    limit_kw = power_cap_kw * (1.0 + 1e-9)
    return sum(length[start_ms] for start_ms, drawn in power.items() if drawn > limit_kw)


def _best_counts(series: ClassSeries, cost: FloatArray) -> FloatArray:
    profit = series.profit_usd
    counts = np.zeros_like(profit)
    intervals = np.arange(len(profit))
    for mode in np.flatnonzero(series.initial_counts).tolist():
        path = best_path(profit, cost, initial_mode=mode)
        counts[intervals, path.modes] += series.initial_counts[mode]
    return counts


def _fixed_counts(series: ClassSeries, cost: FloatArray) -> FloatArray:
    totals = series.profit_usd.sum(axis=0) * series.device_count
    totals -= series.initial_counts @ cost[0]
    counts = np.zeros_like(series.profit_usd)
    counts[:, int(np.argmax(totals))] = series.device_count
    return counts


def _is_within(classes: Sequence[ClassSeries], counts: Sequence[FloatArray], power: SitePower) -> bool:
    if hours_over_cap(classes, counts, power_cap_kw=power.cap_kw) > 0.0:
        return False
    if math.isinf(power.ramp_kw_per_minute) or not _is_aligned(classes):
        return True
    return bool((_rises_kw(classes, counts) <= _ramp_kw(classes, power) * (1.0 + _SLACK)).all())


def _rises_kw(classes: Sequence[ClassSeries], counts: Sequence[FloatArray]) -> FloatArray:
    drawn = np.sum([planned @ each.power_kw for each, planned in zip(classes, counts, strict=True)], axis=0)
    before = float(sum(each.initial_counts @ each.power_kw for each in classes))
    return np.asarray(np.diff(drawn, prepend=before))


def _ramp_kw(classes: Sequence[ClassSeries], power: SitePower) -> FloatArray:
    return ramp_kw(classes[0], kw_per_minute=power.ramp_kw_per_minute)


def _limited_counts(
    classes: Sequence[ClassSeries], costs: Sequence[FloatArray], *, power: SitePower
) -> list[FloatArray]:
    _check_aligned(classes)
    ramp = _ramp_kw(classes, power)
    initial = [each.initial_counts for each in classes]
    parts: list[list[FloatArray]] = [[] for _ in classes]
    for first, last in _windows(classes[0]):
        site = [
            _site_class(each, cost, first=first, last=last, counts=counts)
            for each, cost, counts in zip(classes, costs, initial, strict=True)
        ]
        optimum = solve_site(
            site, cap_kw=np.full(last - first, power.cap_kw), ramp_kw=ramp[first:last], is_ramp_down_free=True
        )
        for part, planned in zip(parts, optimum.counts, strict=True):
            part.append(planned)
        # The solver's rounding must not add devices from window to window.
        initial = [
            np.maximum(planned[-1], 0.0) * (each.initial_counts.sum() / np.maximum(planned[-1], 0.0).sum())
            for each, planned in zip(classes, optimum.counts, strict=True)
        ]
    return [np.concatenate(part) for part in parts]


def _is_aligned(classes: Sequence[ClassSeries]) -> bool:
    return all(np.array_equal(each.starts_ms, classes[0].starts_ms) for each in classes[1:])


def _check_aligned(classes: Sequence[ClassSeries]) -> None:
    """Refuse classes that cannot be summed interval by interval.

    Raises:
        ValueError: The classes have different intervals, so that no common cap can be put on them.
    """
    for each in classes[1:]:
        if not np.array_equal(each.starts_ms, classes[0].starts_ms):
            raise ValueError(
                f"classes must have the same intervals where a power cap binds, "
                f"was {len(classes[0].starts_ms)} of {classes[0].device_class} "
                f"and {len(each.starts_ms)} of {each.device_class}"
            )


def _windows(series: ClassSeries) -> Iterator[tuple[int, int]]:
    numbers = ((series.starts_ms - series.starts_ms[0]) // WINDOW_MS).tolist()
    first = 0
    for _, window in groupby(numbers):
        last = first + sum(1 for _ in window)
        yield first, last
        first = last


def _site_class(series: ClassSeries, cost: FloatArray, *, first: int, last: int, counts: FloatArray) -> SiteClass:
    return SiteClass(
        profit_usd=series.profit_usd[first:last],
        switch_cost_usd=cost[first:last],
        power_kw=series.power_kw,
        initial_counts=counts,
    )


def _fixed_mix(classes: Sequence[ClassSeries], costs: Sequence[FloatArray], *, power: SitePower) -> list[FloatArray]:
    """Return the best mix of modes kept throughout: the site's programme with all intervals as one."""
    _check_aligned(classes)
    site = [
        SiteClass(
            profit_usd=each.profit_usd.sum(axis=0, keepdims=True),
            switch_cost_usd=cost[:1],
            power_kw=each.power_kw,
            initial_counts=each.initial_counts,
        )
        for each, cost in zip(classes, costs, strict=True)
    ]
    optimum = solve_site(
        site, cap_kw=np.array([power.cap_kw]), ramp_kw=_ramp_kw(classes, power)[:1], is_ramp_down_free=True
    )
    return [
        np.repeat(planned, len(each.profit_usd), axis=0) for each, planned in zip(classes, optimum.counts, strict=True)
    ]


def _plan(
    classes: Sequence[ClassSeries], counts: Sequence[FloatArray], costs: Sequence[FloatArray], *, method: Method
) -> Plan:
    paid = [_switches(each, planned, cost) for each, planned, cost in zip(classes, counts, costs, strict=True)]
    return Plan(
        counts=tuple(counts),
        profit_usd=tuple(
            (planned * each.profit_usd).sum(axis=1) - switches.paid_usd
            for each, planned, switches in zip(classes, counts, paid, strict=True)
        ),
        switch_count=tuple(switches.switch_count for switches in paid),
        moved_count=tuple(switches.moved_count for switches in paid),
        method=method,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Switches:
    paid_usd: FloatArray
    switch_count: int
    moved_count: float


def _switches(series: ClassSeries, counts: FloatArray, cost: FloatArray) -> _Switches:
    """Charge the moves between counts: each interval's leavers go where they are wanted, cheapest entries first."""
    changes = np.diff(counts, axis=0, prepend=series.initial_counts[None, :])
    tolerance = 1e-6 * max(series.device_count, 1)
    paid = np.zeros(len(counts))
    at = np.flatnonzero(np.abs(changes).max(axis=1) > tolerance)
    moved = 0.0
    for index in at.tolist():
        change = changes[index].copy()
        pairs = sorted(
            (
                (float(cost[index, left, into]), left, into)
                for left in range(len(change))
                for into in range(len(change))
            ),
        )
        for each_usd, left, into in pairs:
            amount = min(-change[left], change[into])
            if left != into and amount > 0.0:
                change[left] += amount
                change[into] -= amount
                paid[index] += amount * each_usd
                moved += float(amount)
    return _Switches(paid_usd=paid, switch_count=len(at), moved_count=moved)
