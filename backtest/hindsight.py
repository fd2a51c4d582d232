"""The hindsight optimum of one device class: the best a policy could have earned, had it known every price before.

Exact dynamic programming over all mode sequences, minimum times included. Where several device classes share a power
cap or a ramp limit, `backtest.coupled` is the one to ask.
"""

import math
from collections import deque
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

MODES_MAX: Final = 127
"""A path holds modes as int8."""

FloatArray = NDArray[np.float64]
ModeArray = NDArray[np.int8]
Stay = deque[FloatArray]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HindsightPath:
    """A sequence of modes and what it earns.

    Attributes:
        modes: Index of the mode in each interval, [T].
        profit_usd: Of one device over all intervals, switch costs deducted; computed from `modes` themselves.
        switch_count: Intervals whose mode differs from the one before; leaving the initial mode counts.
    """

    modes: ModeArray
    profit_usd: float
    switch_count: int


def best_path(
    profit_usd: FloatArray,
    switch_cost_usd: FloatArray,
    *,
    initial_mode: int | None,
    minimum_intervals: NDArray[np.int64] | None = None,
) -> HindsightPath:
    """Return the path that earns most; where several earn as much it is one of them, always the same.

    Exact up to the rounding of float64 sums. 70,080 intervals of 3 modes take some 0.05 s (bench/bench_hindsight.py);
    the time grows with M * M and with the sum of `minimum_intervals`.

    Args:
        profit_usd: Of one device in interval t in mode m, [T, M], finite; negative is a loss.
        switch_cost_usd: Of going from mode i to mode j at the start of an interval, [M, M] or [T, M, M]; 0 or more,
            0 on the diagonal, infinite where the move is impossible.
        initial_mode: Mode before the first interval; None lets the path begin anywhere at no cost.
        minimum_intervals: How long a mode that was entered is kept at least, [M], 1 or more each. It does not hold
            the initial mode, which counts as kept long enough, nor reach past the last interval.

    Raises:
        ValueError: An array has the wrong shape or a value out of range, or `initial_mode` is none of the modes.
    """
    profit, cost = checked_arrays(profit_usd, switch_cost_usd)
    interval_count, mode_count = profit.shape
    _check_initial(initial_mode, mode_count=mode_count)
    minimum = checked_minimum(minimum_intervals, mode_count=mode_count)
    # Past the horizon nothing is earned and no mode may be entered: so a stay that the end cuts off needs no own rule.
    padding = max(minimum) - 1
    earned = np.zeros((interval_count + padding + 1, mode_count))
    np.cumsum(profit, axis=0, out=earned[1 : interval_count + 1])
    earned[interval_count + 1 :] = earned[interval_count]
    advantages = _advantages(earned[:interval_count], cost, padding=padding)
    start = np.array([0.0 if initial_mode in {None, mode} else -np.inf for mode in range(mode_count)])
    leads = _leads(advantages, start, minimum=minimum)
    last = int(np.argmax(leads[-1] + earned[-1]))
    modes = _backtracked(leads, advantages, last=last, minimum=minimum)[:interval_count]
    return priced_path(modes, profit_usd=profit, switch_cost_usd=cost, initial_mode=initial_mode)


def best_fixed(profit_usd: FloatArray, switch_cost_usd: FloatArray, *, initial_mode: int | None) -> HindsightPath:
    """Return the best path that keeps one mode throughout, the one switch to get there paid.

    Among equals the initial mode wins, then the lower index. Arguments and errors are those of `best_path`.
    """
    profit, cost = checked_arrays(profit_usd, switch_cost_usd)
    interval_count, mode_count = profit.shape
    _check_initial(initial_mode, mode_count=mode_count)
    totals = profit.sum(axis=0)
    if initial_mode is not None and interval_count:
        totals -= cost[0, initial_mode]
    mode = int(np.argmax(totals))
    if initial_mode is not None and totals[initial_mode] == totals[mode]:
        mode = initial_mode
    modes = np.full(interval_count, mode, dtype=np.int8)
    return priced_path(modes, profit_usd=profit, switch_cost_usd=cost, initial_mode=initial_mode)


def priced_path(
    modes: ModeArray, *, profit_usd: FloatArray, switch_cost_usd: FloatArray, initial_mode: int | None
) -> HindsightPath:
    """Return what a given path earns, so that a policy's path is priced as the optimum is.

    Args:
        modes: Index of the mode in each interval, [T].
        profit_usd: As in `best_path`, [T, M].
        switch_cost_usd: As in `best_path`, [M, M] or [T, M, M].
        initial_mode: As in `best_path`.

    Raises:
        ValueError: As in `best_path`, or `modes` is not one valid index for each interval.
    """
    profit, cost = checked_arrays(profit_usd, switch_cost_usd)
    interval_count, mode_count = profit.shape
    _check_initial(initial_mode, mode_count=mode_count)
    path = np.asarray(modes)
    if path.shape != (interval_count,):
        raise ValueError(f"modes must have shape ({interval_count},), was {path.shape}")
    if interval_count == 0:
        return HindsightPath(modes=path.astype(np.int8), profit_usd=0.0, switch_count=0)
    if path.min() < 0 or path.max() >= mode_count:
        raise ValueError(f"modes must be 0 to {mode_count - 1}, was {path.min()} to {path.max()}")
    before = np.concatenate(([path[0] if initial_mode is None else initial_mode], path[:-1])).astype(np.intp)
    at = np.flatnonzero(before != path)
    paid = cost[at, before[at], path[at]].sum()
    gained = profit[np.arange(interval_count), path].sum()
    return HindsightPath(modes=path.astype(np.int8), profit_usd=float(gained - paid), switch_count=len(at))


def checked_arrays(profit_usd: FloatArray, switch_cost_usd: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return both as float64, the costs as a read-only [T, M, M]; the rules are those of `best_path`.

    Raises:
        ValueError: A shape is wrong or a value out of range; the message says where.
    """
    profit = np.asarray(profit_usd, dtype=np.float64)
    if profit.ndim != 2 or not 1 <= profit.shape[1] <= MODES_MAX:  # noqa: PLR2004 - [T, M] has two dimensions
        raise ValueError(f"profit_usd must have shape [T, M] with 1 to {MODES_MAX} modes, was {profit.shape}")
    if not np.isfinite(profit).all():
        at, mode = (int(index) for index in np.argwhere(~np.isfinite(profit))[0])
        raise ValueError(f"profit_usd must be finite, was {profit[at, mode]} in interval {at}, mode {mode}")
    interval_count, mode_count = profit.shape
    cost = np.asarray(switch_cost_usd, dtype=np.float64)
    if cost.shape not in {(mode_count, mode_count), (interval_count, mode_count, mode_count)}:
        wanted = f"[{mode_count}, {mode_count}] or [{interval_count}, {mode_count}, {mode_count}]"
        raise ValueError(f"switch_cost_usd must have shape {wanted}, was {list(cost.shape)}")
    wrong = ~(cost >= 0.0)  # also finds NaN
    wrong |= np.eye(mode_count, dtype=bool) & (cost != 0.0)
    if wrong.any():
        place = tuple(int(index) for index in np.argwhere(wrong)[0])
        interval = f" in interval {place[0]}," if cost.ndim > profit.ndim else ""
        rule = "0 or more, and 0 from a mode to itself"
        raise ValueError(
            f"switch_cost_usd must be {rule}, was {cost[place]}{interval} from mode {place[-2]} to {place[-1]}"
        )
    return profit, np.broadcast_to(cost, (interval_count, mode_count, mode_count))


def checked_minimum(minimum_intervals: NDArray[np.int64] | None, *, mode_count: int) -> list[int]:
    """Return the minimum stay in each mode, 1 where nothing is asked.

    Raises:
        ValueError: It is not one whole number for each mode, or one is below 1.
    """
    if minimum_intervals is None:
        return [1] * mode_count
    minimum = np.asarray(minimum_intervals)
    if minimum.shape != (mode_count,) or not np.issubdtype(minimum.dtype, np.integer):
        raise ValueError(f"minimum_intervals must be {mode_count} whole numbers, was {minimum!r}")
    if minimum.min() < 1:
        raise ValueError(f"minimum_intervals must be 1 or more, was {minimum.min()} for mode {minimum.argmin()}")
    return [int(intervals) for intervals in minimum]


def _check_initial(initial_mode: int | None, *, mode_count: int) -> None:
    if initial_mode is not None and not 0 <= initial_mode < mode_count:
        raise ValueError(f"initial_mode must be None or 0 to {mode_count - 1}, was {initial_mode}")


def _advantages(earned: FloatArray, cost: FloatArray, *, padding: int) -> FloatArray:
    """Return [t, i, j]: what is added to the lead of a path in mode i when it moves to mode j at t.

    A path's lead is its profit so far less what its present mode would have earned from the first interval on. So
    staying leaves the lead as it is, and only moves are left to look at.
    """
    interval_count, mode_count = earned.shape
    advantages = np.full((interval_count + padding, mode_count, mode_count), -np.inf)
    advantages[:, range(mode_count), range(mode_count)] = 0.0
    advantages[:interval_count] = earned[:, :, None] - earned[:, None, :] - cost
    return advantages


def _leads(advantages: FloatArray, start: FloatArray, *, minimum: list[int]) -> FloatArray:
    """Return [t, mode]: the best lead of a path that may leave a mode at the start of interval t; last row: the end.

    A step is a product of a vector and a matrix in the max-plus algebra, which is associative. So the horizon is cut
    into about sqrt(T) blocks that all step at once: first as matrices (what each state at a block's start gains until
    its end), then, each block's start known, as vectors. Ten times as fast as a loop over intervals.

    A state is a mode that may be left, or one of the intervals of a stay that may not.
    """
    interval_count, mode_count, _ = advantages.shape
    step_count = math.isqrt(interval_count) + 1
    block_count = -(-interval_count // step_count)
    padded = np.full((block_count * step_count, mode_count, mode_count), -np.inf)
    padded[:, range(mode_count), range(mode_count)] = 0.0
    padded[:interval_count] = advantages
    # The block comes last, so that each operation runs along memory.
    shaped = padded.reshape(block_count, step_count, mode_count, mode_count)
    steps = np.ascontiguousarray(shaped.transpose(1, 2, 3, 0))
    state_count = sum(minimum)
    identity = np.where(np.eye(state_count, dtype=bool), 0.0, -np.inf)
    free, stays = _split(np.repeat(identity[:, :, None], block_count, axis=2), minimum=minimum)
    for step in steps:
        free = _stepped(free, stays, step)
    gained = _joined(free, stays)
    starts = np.full((block_count + 1, state_count), -np.inf)
    starts[0, :mode_count] = start
    for block in range(block_count):
        starts[block + 1] = (starts[block][:, None] + gained[:, :, block]).max(axis=0)
    free, stays = _split(np.ascontiguousarray(starts[None, :-1].transpose(0, 2, 1)), minimum=minimum)
    leads = np.empty((step_count, mode_count, block_count))
    for index, step in enumerate(steps):
        leads[index] = free[0]
        free = _stepped(free, stays, step)
    before = leads.transpose(2, 0, 1).reshape(-1, mode_count)[:interval_count]
    return np.concatenate((before, starts[-1:, :mode_count]))


def _split(states: FloatArray, *, minimum: list[int]) -> tuple[FloatArray, list[Stay]]:
    """Return [row, mode, block] of the modes that may be left, and for each mode its stay's intervals, oldest first."""
    bounds = list(accumulate((intervals - 1 for intervals in minimum), initial=len(minimum)))
    stays = [deque(states[:, index] for index in range(first, last)) for first, last in pairwise(bounds)]
    return states[:, : len(minimum)], stays


def _joined(free: FloatArray, stays: list[Stay]) -> FloatArray:
    """Return [row, state, block]: what `_split` takes apart."""
    return np.concatenate((free, *(part[:, None] for stay in stays for part in stay)), axis=1)


def _stepped(free: FloatArray, stays: list[Stay], step: FloatArray) -> FloatArray:
    """Return what `free` is one interval later; moves the stays on. `step` is [from, to, block]."""
    entered: FloatArray = free[:, 0, None] + step[0]
    for mode in range(1, len(step)):
        np.maximum(entered, free[:, mode, None] + step[mode], out=entered)
    if not any(stays):
        return entered
    after: FloatArray = entered.copy()
    for mode, stay in enumerate(stays):
        if stay:
            stay.append(entered[:, mode])
            np.maximum(free[:, mode], stay.popleft(), out=after[:, mode])
    return after


def _backtracked(leads: FloatArray, advantages: FloatArray, *, last: int, minimum: list[int]) -> ModeArray:
    """Return the path that ends in `last`: back to the last entry that beat staying, then on from the mode it left."""
    end = len(advantages)
    modes = np.full(end, last, dtype=np.int8)
    entries = [_entries(leads, advantages, mode=mode, minimum=shortest) for mode, shortest in enumerate(minimum)]
    mode = last
    while entries[mode]:
        entered = entries[mode].pop()
        if entered + minimum[mode] <= end:
            end = entered
            mode = int(np.argmax(leads[end] + advantages[end, :, mode]))
            modes[:end] = mode
    return modes


def _entries(leads: FloatArray, advantages: FloatArray, *, mode: int, minimum: int) -> list[int]:
    """Return the intervals at whose start entering the mode beat being in it already, once it may be left."""
    entered = (leads[:-1] + advantages[:, :, mode]).max(axis=1)
    comparable = len(entered) - (minimum - 1)
    beaten: list[int] = np.flatnonzero(entered[:comparable] > leads[minimum - 1 : -1, mode]).tolist()
    return beaten
