"""The hindsight optimum of a whole site, whose device classes share a power cap and a ramp limit.

Without a binding limit each class's own optimum (`backtest.hindsight`) is the site's; otherwise a linear programme over
device counts is solved with HiGHS. It lets counts be fractions: exact for that relaxation, and an upper bound for whole
devices. With hundreds of devices a class the gap is small; its size is not proven here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import highspy
import numpy as np
from numpy.typing import NDArray

from backtest.hindsight import FloatArray, best_path, checked_arrays, checked_minimum

IndexArray = NDArray[np.int64]
Term = tuple[IndexArray, FloatArray | float]
"""Columns and their coefficients in rows: [row] or [row, term]; -1 is no column."""

SOLVER: Final = "ipm"
"""The interior point method, ended by crossover: a third of simplex's time over a month, about its time over less."""
POWER_TOLERANCE_RATIO: Final = 1e-9
"""Of the site's greatest power: a limit passed by less is kept, since sums of float64 round."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SiteClass:
    """One device class at a site.

    Attributes:
        profit_usd: Of one device in interval t in mode m, [T, M], finite; as in `best_path`.
        switch_cost_usd: Of one device, [M, M] or [T, M, M], 0 or more; as in `best_path`.
        power_kw: Draw of one device in each mode at the wall, [M], 0 or more.
        initial_counts: Devices in each mode before the first interval, [M], 0 or more.
        minimum_intervals: How long a mode that was entered is kept at least, [M], 1 or more; as in `best_path`.
    """

    profit_usd: FloatArray
    switch_cost_usd: FloatArray
    power_kw: FloatArray
    initial_counts: FloatArray
    minimum_intervals: NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SiteOptimum:
    """The best plan of a site.

    Attributes:
        method: "dp" when the classes' own optima kept every limit, "lp" when the linear programme had to be solved.
        counts: For each class the devices in each mode, [T, M]; fractions may occur in an "lp" plan.
        profit_usd: Of the site over all intervals, switch costs deducted.
        cap_price_usd_per_kw: What one more kW of cap in an interval would have earned, [T], 0 or more; 0 in a "dp"
            plan.
    """

    method: Literal["dp", "lp"]
    counts: tuple[FloatArray, ...]
    profit_usd: float
    cap_price_usd_per_kw: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Limits:
    """The site's limits as arrays over intervals, [T]; infinite where there is none."""

    cap_kw: FloatArray
    up_kw: FloatArray
    down_kw: FloatArray
    initial_kw: float


def solve_site(
    classes: Sequence[SiteClass],
    *,
    cap_kw: FloatArray | None = None,
    ramp_kw: FloatArray | None = None,
    is_ramp_down_free: bool = False,
) -> SiteOptimum:
    """Return the plan of a site that earns most within its limits.

    The whole horizon is one programme, nothing is cut. Where limits bind, five classes over a week of 15-minute
    intervals (24,000 variables) take 1 to 2 s, over a month (107,000) 7 to 22 s, by market and load of the machine
    (bench/bench_hindsight.py). The time grows faster than the variables: a year is not for this.

    Args:
        classes: One or more, all over the same T intervals.
        cap_kw: Power of the site at most in each interval, [T], 0 or more; infinite or None is no cap.
        ramp_kw: Change of the site's power at most from the interval before, [T], 0 or more; the first is counted from
            `initial_counts`. A limit in MW per minute times the minutes of an interval, in kW.
        is_ramp_down_free: Whether power may be lowered at once, the ramp limit holding upwards only.

    Raises:
        ValueError: An array has the wrong shape or a value out of range, or no plan keeps the limits.
    """
    checked = [_checked(site_class) for site_class in classes]
    if not checked:
        raise ValueError("classes must hold one class or more, was empty")
    interval_counts = {len(site_class.profit_usd) for site_class in checked}
    if len(interval_counts) > 1:
        raise ValueError(f"classes must have the same number of intervals, was {sorted(interval_counts)}")
    limits = _limits(
        checked,
        cap_kw=cap_kw,
        ramp_kw=ramp_kw,
        is_ramp_down_free=is_ramp_down_free,
        interval_count=interval_counts.pop(),
    )
    _check_reachable(checked, limits)
    plan = _uncoupled(checked)
    if _is_within(checked, plan.counts, limits):
        return plan
    return _coupled(checked, limits)


def site_power_kw(classes: Sequence[SiteClass], counts: Sequence[FloatArray]) -> FloatArray:
    """Return the power a plan draws in each interval, [T], in kW."""
    power: FloatArray = np.sum(
        [planned @ site_class.power_kw for site_class, planned in zip(classes, counts, strict=True)], axis=0
    )
    return power


def _checked(site_class: SiteClass) -> SiteClass:
    profit, cost = checked_arrays(site_class.profit_usd, site_class.switch_cost_usd)
    mode_count = profit.shape[1]
    checked_minimum(site_class.minimum_intervals, mode_count=mode_count)
    return SiteClass(
        profit_usd=profit,
        switch_cost_usd=cost,
        power_kw=_by_index("power_kw", site_class.power_kw, count=mode_count),
        initial_counts=_by_index("initial_counts", site_class.initial_counts, count=mode_count),
        minimum_intervals=site_class.minimum_intervals,
    )


def _by_index(name: str, values: FloatArray, *, count: int, is_infinite_allowed: bool = False) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (count,):
        raise ValueError(f"{name} must have shape ({count},), was {array.shape}")
    wrong = ~(array >= 0.0)  # also finds NaN
    if not is_infinite_allowed:
        wrong |= np.isinf(array)
    if wrong.any():
        at = int(wrong.argmax())
        raise ValueError(f"{name} must be 0 or more, was {array[at]} at index {at}")
    return array


def _limits(
    classes: Sequence[SiteClass],
    *,
    cap_kw: FloatArray | None,
    ramp_kw: FloatArray | None,
    is_ramp_down_free: bool,
    interval_count: int,
) -> _Limits:
    boundless = np.full(interval_count, np.inf)
    cap, ramp = (
        boundless if values is None else _by_index(name, values, count=interval_count, is_infinite_allowed=True)
        for name, values in (("cap_kw", cap_kw), ("ramp_kw", ramp_kw))
    )
    return _Limits(
        cap_kw=cap,
        up_kw=ramp,
        down_kw=boundless if is_ramp_down_free else ramp,
        initial_kw=float(sum(site_class.initial_counts @ site_class.power_kw for site_class in classes)),
    )


def _greatest_kw(classes: Sequence[SiteClass]) -> float:
    return float(sum(site_class.initial_counts.sum() * site_class.power_kw.max() for site_class in classes))


def _tolerance_kw(classes: Sequence[SiteClass]) -> float:
    return POWER_TOLERANCE_RATIO * max(1.0, _greatest_kw(classes))


def _check_reachable(classes: Sequence[SiteClass], limits: _Limits) -> None:
    """Refuse a cap below the least power the site can have come down to; complete when every move is possible at once.

    Any power between the least and the greatest is a mix of modes, so one lower bound is carried on from interval to
    interval. The upper one never falls below the least power and so cannot fail by itself.
    """
    least = float(sum(site_class.initial_counts.sum() * site_class.power_kw.min() for site_class in classes))
    slack = _tolerance_kw(classes)
    lowest = limits.initial_kw
    for at, (cap, down) in enumerate(zip(limits.cap_kw.tolist(), limits.down_kw.tolist(), strict=True)):
        lowest = max(least, lowest - down)
        if lowest > cap + slack:
            raise ValueError(
                f"cap_kw must be {lowest:g} or more in interval {at}, the least the site can draw then, was {cap:g}"
            )


def _uncoupled(classes: Sequence[SiteClass]) -> SiteOptimum:
    """Return each class's own optimum, as if nothing were shared."""
    counts: list[FloatArray] = []
    profit_usd = 0.0
    for site_class in classes:
        planned = np.zeros_like(site_class.profit_usd)
        for mode in np.flatnonzero(site_class.initial_counts).tolist():
            devices = float(site_class.initial_counts[mode])
            path = best_path(
                site_class.profit_usd,
                site_class.switch_cost_usd,
                initial_mode=mode,
                minimum_intervals=site_class.minimum_intervals,
            )
            planned[np.arange(len(planned)), path.modes] += devices
            profit_usd += devices * path.profit_usd
        counts.append(planned)
    free = np.zeros(len(counts[0]))
    return SiteOptimum(method="dp", counts=tuple(counts), profit_usd=profit_usd, cap_price_usd_per_kw=free)


def _is_within(classes: Sequence[SiteClass], counts: Sequence[FloatArray], limits: _Limits) -> bool:
    power = site_power_kw(classes, counts)
    change = np.diff(power, prepend=limits.initial_kw)
    slack = _tolerance_kw(classes)
    is_capped = bool((power <= limits.cap_kw + slack).all())
    return is_capped and bool(((change <= limits.up_kw + slack) & (-change <= limits.down_kw + slack)).all())


def _coupled(classes: Sequence[SiteClass], limits: _Limits) -> SiteOptimum:
    """Solve the linear programme over counts, moves and the site's power."""
    programme = _Programme()
    moves = [_add_class(programme, site_class) for site_class in classes]
    shape = limits.cap_kw.shape
    power = programme.add_columns(np.zeros(shape), upper=limits.cap_kw)
    drawn = [(columns, site_class.power_kw) for columns, site_class in zip(moves, classes, strict=True)]
    programme.add_rows([(power, -1.0), *drawn], lower=np.zeros(shape), upper=np.zeros(shape))
    first = np.zeros(shape)
    first[0] = limits.initial_kw
    change = [(power, 1.0), (_shifted(power, 1), -1.0)]
    programme.add_rows(change, lower=first - limits.down_kw, upper=first + limits.up_kw)
    solution = programme.solved()
    return SiteOptimum(
        method="lp",
        counts=tuple(np.where(columns >= 0, solution.values[columns], 0.0).sum(axis=1) for columns in moves),
        profit_usd=solution.gain,
        # The power of an interval is a column bounded by the cap: its price is what the objective gains with the bound.
        cap_price_usd_per_kw=np.maximum(solution.prices[power], 0.0),
    )


def _add_class(programme: "_Programme", site_class: SiteClass) -> IndexArray:
    """Add one class and return its columns: devices that go from one mode to another, or stay, [T, from, to].

    Staying has a column too. Counts and moves without it would let devices pass through a third mode within one
    interval, where two moves cost less than one.
    """
    profit, cost = site_class.profit_usd, site_class.switch_cost_usd
    is_possible = np.isfinite(cost)
    moves = np.full(cost.shape, -1)
    moves[is_possible] = programme.add_columns((profit[:, None, :] - cost)[is_possible])
    first = np.zeros(profit.shape)
    first[0] = site_class.initial_counts
    arrived = _shifted(moves, 1).swapaxes(1, 2)
    programme.add_rows([(moves, 1.0), (arrived, -1.0)], lower=first, upper=first)
    mode_count = profit.shape[1]
    minimum = np.array(checked_minimum(site_class.minimum_intervals, mode_count=mode_count))
    if minimum.max() > 1:
        # Who entered a mode within its minimum stays; those that leave are the ones there longest.
        entering = np.where(np.eye(mode_count, dtype=bool), -1, moves).swapaxes(1, 2)
        staying = np.diagonal(moves, axis1=1, axis2=2)
        recent: list[Term] = [
            (np.where(minimum[:, None] > lag, _shifted(entering, lag), -1), -1.0) for lag in range(1, minimum.max())
        ]
        programme.add_rows([(staying, 1.0), *recent], lower=np.zeros(profit.shape), upper=np.full(profit.shape, np.inf))
    return moves


def _shifted(columns: IndexArray, lag: int) -> IndexArray:
    """Return the columns `lag` intervals before; -1 before the first."""
    before = np.full_like(columns, -1)
    before[lag:] = columns[: len(columns) - lag]
    return before


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Solution:
    """Of a programme: the objective, and for each column its value and its reduced cost."""

    gain: float
    values: FloatArray
    prices: FloatArray


class _Programme:
    """A linear programme to maximise, put together in whole arrays: a loop over variables would outlast the solver."""

    def __init__(self) -> None:
        self._column_count = 0
        self._row_count = 0
        self._gains: list[FloatArray] = []
        self._uppers: list[FloatArray] = []
        self._row_bounds: list[tuple[FloatArray, FloatArray]] = []
        self._entries: list[tuple[IndexArray, IndexArray, FloatArray]] = []

    def add_columns(self, gain: FloatArray, *, upper: FloatArray | None = None) -> IndexArray:
        """Add a variable of 0 or more for each element of `gain` and return their indexes in its shape."""
        columns = np.arange(self._column_count, self._column_count + gain.size, dtype=np.int64).reshape(gain.shape)
        self._column_count += gain.size
        self._gains.append(gain.ravel())
        self._uppers.append(np.full(gain.size, np.inf) if upper is None else upper.ravel())
        return columns

    def add_rows(self, terms: Sequence[Term], *, lower: FloatArray, upper: FloatArray) -> None:
        """Add a row for each element of `lower`: the sum of its terms lies between it and `upper`."""
        rows = np.arange(self._row_count, self._row_count + lower.size, dtype=np.int64).reshape(lower.shape)
        self._row_count += lower.size
        self._row_bounds.append((lower.ravel(), upper.ravel()))
        for columns, coefficient in terms:
            is_there = columns >= 0
            spread = rows.reshape(rows.shape + (1,) * (columns.ndim - rows.ndim))
            self._entries.append(
                (
                    np.broadcast_to(spread, columns.shape)[is_there],
                    columns[is_there],
                    np.broadcast_to(coefficient, columns.shape)[is_there],
                )
            )

    def solved(self) -> _Solution:
        """Solve it.

        Raises:
            ValueError: No values keep every row and bound.
            RuntimeError: The solver gave up for another reason.
        """
        # Without Highs.__init__: it turns on callbacks, and with them prints a banner before anything can be said.
        solver = highspy.Highs.__new__(highspy.Highs)
        super(highspy.Highs, solver).__init__()
        solver.setOptionValue("output_flag", False)  # noqa: FBT003 - the solver's own interface
        solver.setOptionValue("solver", SOLVER)
        solver.passModel(self._model())
        solver.run()
        status = solver.getModelStatus()
        if status == highspy.HighsModelStatus.kInfeasible:
            raise ValueError("cap_kw and ramp_kw must leave a plan, was none that also keeps minimum stays and moves")
        if status != highspy.HighsModelStatus.kOptimal:
            raise RuntimeError(f"the solver must end optimal, was {solver.modelStatusToString(status)}")
        solution = solver.getSolution()
        return _Solution(
            gain=float(solver.getInfo().objective_function_value),
            values=np.maximum(solution.col_value, 0.0),
            prices=np.array(solution.col_dual),
        )

    def _model(self) -> highspy.HighsLp:
        rows, columns, coefficients = (np.concatenate(parts) for parts in zip(*self._entries, strict=True))
        order = np.argsort(rows, kind="stable")
        model = highspy.HighsLp()
        model.num_col_, model.num_row_ = self._column_count, self._row_count
        model.sense_ = highspy.ObjSense.kMaximize
        model.col_cost_ = np.concatenate(self._gains)
        model.col_lower_ = np.zeros(self._column_count)
        model.col_upper_ = np.concatenate(self._uppers)
        model.row_lower_ = np.concatenate([lower for lower, _ in self._row_bounds])
        model.row_upper_ = np.concatenate([upper for _, upper in self._row_bounds])
        model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        model.a_matrix_.start_ = np.searchsorted(rows[order], np.arange(self._row_count + 1)).astype(np.int32)
        model.a_matrix_.index_ = columns[order].astype(np.int32)
        model.a_matrix_.value_ = coefficients[order]
        return model
