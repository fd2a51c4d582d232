"""Settle moves by the interval: what was earned, paid for switches, drawn and curtailed; the same for every contender.

A real-time price is published at the end of its interval and settles that interval with the devices as they were
in it. Devices that move within an interval are settled by share of time. A switch is charged in the interval it
enters; one decided after the last interval enters none and is not charged. Time that no price is for earns nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from backtest.series import ClassSeries, FloatArray, IntArray, Move


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClassAccount:
    """One class under one contender.

    Attributes:
        counts: Mean devices in each mode over each interval, [T, M].
        profit_usd: Of all devices in each interval, switch costs deducted, [T].
        switch_cost_usd: Paid in each interval, [T].
        switch_count: Decisions to switch that took effect.
        moved_count: Devices they moved; a device that moves twice counts twice.
        dwell_ms_min: Shortest time between devices entering a mode and any leaving it; None when that never happened.
    """

    counts: FloatArray
    profit_usd: FloatArray
    switch_cost_usd: FloatArray
    switch_count: int
    moved_count: float
    dwell_ms_min: int | None


def settle(series: ClassSeries, moves: Sequence[Move]) -> ClassAccount:
    """Settle a class whose devices moved; moves in event-time order."""
    interval_count, mode_count = series.profit_usd_per_hour.shape
    at_ms = np.array([move.at_ms for move in moves], dtype=np.int64)
    entered = entered_interval(series, at_ms)
    takes_effect = entered < interval_count
    kept = [move for move, is_kept in zip(moves, takes_effect, strict=True) if is_kept]
    entered, at_ms = entered[takes_effect], at_ms[takes_effect]
    left = np.array([series.mode_index(move.from_mode) for move in kept], dtype=np.int64)
    into = np.array([series.mode_index(move.to_mode) for move in kept], dtype=np.int64)
    moved = np.array([move.device_count for move in kept], dtype=np.float64)
    steps = np.zeros((interval_count + 1, mode_count))
    # The part of the interval before a move is taken back from the full step.
    missed = np.maximum(at_ms - series.starts_ms[entered], 0) / series.interval_ms[entered]
    corrections = np.zeros((interval_count, mode_count))
    for mode, sign in ((left, -1.0), (into, 1.0)):
        np.add.at(steps, (entered, mode), sign * moved)
        np.add.at(corrections, (entered, mode), -sign * moved * missed)
    counts = series.initial_counts + np.cumsum(steps[:interval_count], axis=0) + corrections
    paid = np.zeros(interval_count)
    np.add.at(paid, entered, moved * series.switch_cost_usd()[entered, left, into])
    return ClassAccount(
        counts=counts,
        profit_usd=(counts * series.profit_usd).sum(axis=1) - paid,
        switch_cost_usd=paid,
        switch_count=len(kept),
        moved_count=float(moved.sum()),
        dwell_ms_min=_dwell_ms_min(kept),
    )


def entered_interval(series: ClassSeries, at_ms: IntArray) -> IntArray:
    """Return the interval that holds each time, or the next one where none does; T where there is none."""
    before = np.searchsorted(series.starts_ms, at_ms, side="right") - 1
    ends = series.starts_ms + series.interval_ms
    is_inside = (before >= 0) & (at_ms < ends[np.maximum(before, 0)])
    return np.where(is_inside, before, before + 1)


def ramp_mw_per_minute_max(series: Sequence[ClassSeries], moves: Sequence[Sequence[Move]]) -> float:
    """Return the greatest change of a site's power within one clock minute, in MW.

    Args:
        series: The site's classes.
        moves: The moves of each.
    """
    by_minute: dict[int, float] = {}
    for each, its_moves in zip(series, moves, strict=True):
        power = {profile.mode: kilowatts for profile, kilowatts in zip(each.modes, each.power_kw, strict=True)}
        for move in its_moves:
            change_kw = move.device_count * float(power[move.to_mode] - power[move.from_mode])
            minute = move.at_ms // 60_000
            by_minute[minute] = by_minute.get(minute, 0.0) + change_kw
    return max((abs(change) for change in by_minute.values()), default=0.0) / 1_000.0


def _dwell_ms_min(moves: Sequence[Move]) -> int | None:
    entered_at_ms: dict[object, int] = {}
    shortest: int | None = None
    for move in moves:
        since_ms = entered_at_ms.get(move.from_mode)
        if since_ms is not None:
            dwell_ms = move.at_ms - since_ms
            shortest = dwell_ms if shortest is None else min(shortest, dwell_ms)
        entered_at_ms[move.to_mode] = move.at_ms
    return shortest
