"""The site's hindsight optimum, held to enumeration of every device's path and to each class's own optimum."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from backtest.coupled import SiteClass, SiteOptimum, site_power_kw, solve_site
from backtest.hindsight import FloatArray, best_path, priced_path

CLOSE = 1e-6
"""USD and devices: what the solver's tolerances leave of the small numbers here."""


def is_long_enough(path: tuple[int, ...], *, initial_mode: int, minimum: Sequence[int]) -> bool:
    """Return whether each mode entered after the start is kept its minimum, or until the end."""
    runs: list[tuple[int, int]] = [(initial_mode, 0)]
    for mode in path:
        runs = [*runs[:-1], (mode, runs[-1][1] + 1)] if mode == runs[-1][0] else [*runs, (mode, 1)]
    return all(length >= minimum[mode] for mode, length in runs[1:-1])


def device_paths(site_class: SiteClass, *, initial_mode: int) -> tuple[FloatArray, FloatArray]:
    """Return the profit, [N], and the power in each interval, [N, T], of every path of one device."""
    interval_count, mode_count = site_class.profit_usd.shape
    minimum = [1] * mode_count if site_class.minimum_intervals is None else site_class.minimum_intervals.tolist()
    paths = [
        path
        for path in product(range(mode_count), repeat=interval_count)
        if is_long_enough(path, initial_mode=initial_mode, minimum=minimum)
    ]
    profits = [
        priced_path(
            np.array(path, dtype=np.int8),
            profit_usd=site_class.profit_usd,
            switch_cost_usd=site_class.switch_cost_usd,
            initial_mode=initial_mode,
        ).profit_usd
        for path in paths
    ]
    return np.array(profits), site_class.power_kw[np.array(paths)]


def enumerated_best(
    classes: Sequence[SiteClass], *, cap_kw: FloatArray, ramp_kw: FloatArray, is_ramp_down_free: bool
) -> float:
    """Return the profit of the best plan of whole devices, -inf when none keeps the limits."""
    profits, power = np.zeros(1), np.zeros((1, len(cap_kw)))
    initial_kw = 0.0
    for site_class in classes:
        initial_kw += float(site_class.initial_counts @ site_class.power_kw)
        for mode, devices in enumerate(site_class.initial_counts.astype(int).tolist()):
            for _ in range(devices):
                gained, drawn = device_paths(site_class, initial_mode=mode)
                profits = (profits[:, None] + gained).ravel()
                power = (power[:, None] + drawn).reshape(-1, len(cap_kw))
    change = np.diff(power, prepend=initial_kw, axis=1)
    is_kept = (power <= cap_kw + CLOSE) & (change <= ramp_kw + CLOSE)
    if not is_ramp_down_free:
        is_kept &= -change <= ramp_kw + CLOSE
    return float(np.where(is_kept.all(axis=1), profits, -np.inf).max())


def a_class(
    rng: np.random.Generator, *, interval_count: int, mode_count: int, devices: int, stay_max: int = 1
) -> SiteClass:
    """Return a random class: mode 0 is off, the others earn and draw."""
    profit = rng.integers(-3, 9, (interval_count, mode_count)).astype(np.float64)
    profit[:, 0] = 0.0
    cost = rng.integers(0, 4, (mode_count, mode_count)).astype(np.float64)
    np.fill_diagonal(cost, 0.0)
    power = rng.integers(1, 4, mode_count).astype(np.float64)
    power[0] = 0.0
    return SiteClass(
        profit_usd=profit,
        switch_cost_usd=cost,
        power_kw=power,
        initial_counts=np.bincount(rng.integers(0, mode_count, devices), minlength=mode_count).astype(np.float64),
        minimum_intervals=rng.integers(1, stay_max + 1, mode_count),
    )


def small_site(seed: int) -> tuple[list[SiteClass], FloatArray, FloatArray, bool]:
    """Return up to three devices in two classes, with a cap and a ramp limit that often bind."""
    rng = np.random.default_rng(seed)
    mode_count = int(rng.integers(2, 4))
    interval_count = 3 if mode_count == 3 else 4
    classes = [
        a_class(rng, interval_count=interval_count, mode_count=mode_count, devices=devices, stay_max=1 + seed % 2)
        for devices in (1, int(rng.integers(1, 3)))
    ]
    cap = rng.integers(2, 9, interval_count).astype(np.float64)
    ramp = rng.integers(2, 8, interval_count).astype(np.float64)
    return classes, cap, ramp, bool(rng.integers(0, 2))


def is_whole(plan: SiteOptimum) -> bool:
    """Return whether every count is a whole number."""
    return all(bool((np.abs(counts - counts.round()) < CLOSE).all()) for counts in plan.counts)


def hold(plan: SiteOptimum, classes: Sequence[SiteClass], *, cap: FloatArray, ramp: FloatArray, free: bool) -> None:
    """Assert that a plan keeps every device, the cap and the ramp limit."""
    for counts, site_class in zip(plan.counts, classes, strict=True):
        assert counts.sum(axis=1) == pytest.approx(site_class.initial_counts.sum(), abs=CLOSE)
        assert (counts >= 0.0).all()
    power = site_power_kw(classes, plan.counts)
    initial = sum(float(each.initial_counts @ each.power_kw) for each in classes)
    change = np.diff(power, prepend=initial)
    assert (power <= cap + CLOSE).all()
    assert (change <= ramp + CLOSE).all()
    assert free or (-change <= ramp + CLOSE).all()


def test_whole_devices_never_beat_the_optimum_and_match_it_when_it_is_whole() -> None:
    """Over 150 small sites: an upper bound always, the very optimum where the plan is in whole devices."""
    matched = {"dp": 0, "lp": 0}
    bounded = 0
    for seed in range(150):
        classes, cap, ramp, free = small_site(seed)
        best = enumerated_best(classes, cap_kw=cap, ramp_kw=ramp, is_ramp_down_free=free)
        if best == -np.inf:
            continue
        plan = solve_site(classes, cap_kw=cap, ramp_kw=ramp, is_ramp_down_free=free)
        hold(plan, classes, cap=cap, ramp=ramp, free=free)
        assert plan.profit_usd >= best - CLOSE, seed
        if is_whole(plan) and all(np.all(each.minimum_intervals == 1) for each in classes):
            assert plan.profit_usd == pytest.approx(best, abs=CLOSE), seed
            matched[plan.method] += 1
        bounded += 1
    assert bounded > 100
    assert matched["dp"] > 5
    assert matched["lp"] > 5


def with_a_bound_stranger(classes: list[SiteClass], *, interval_count: int) -> tuple[list[SiteClass], float]:
    """Make classes draw nothing and add one that a cap of 0.5 kW binds: the programme is solved, they are uncoupled."""
    stranger = SiteClass(
        profit_usd=np.array([[0.0, 1.0]] * interval_count),
        switch_cost_usd=np.zeros((2, 2)),
        power_kw=np.array([0.0, 1.0]),
        initial_counts=np.array([1.0, 0.0]),
    )
    drawless = [replace(each, power_kw=np.zeros_like(each.power_kw)) for each in classes]
    return [*drawless, stranger], 0.5 * interval_count


def own_optimum(site_class: SiteClass) -> float:
    """Return what the devices of a class earn on their own."""
    optimum_usd = 0.0
    for mode, devices in enumerate(site_class.initial_counts.tolist()):
        path = best_path(
            site_class.profit_usd,
            site_class.switch_cost_usd,
            initial_mode=mode,
            minimum_intervals=site_class.minimum_intervals,
        )
        optimum_usd += devices * path.profit_usd
    return optimum_usd


@pytest.mark.parametrize(("mode_count", "stay_max"), [(2, 1), (3, 1), (2, 5)])
@pytest.mark.parametrize("seed", range(8))
def test_the_programme_equals_dynamic_programming_where_nothing_is_shared(
    seed: int, mode_count: int, stay_max: int
) -> None:
    """Two independent methods, one figure: of 60 intervals, with minimum times too."""
    rng = np.random.default_rng(seed)
    classes = [a_class(rng, interval_count=60, mode_count=mode_count, devices=9, stay_max=stay_max) for _ in range(2)]
    site, stranger_usd = with_a_bound_stranger(classes, interval_count=60)
    plan = solve_site(site, cap_kw=np.full(60, 0.5))
    assert plan.method == "lp"
    assert plan.profit_usd == pytest.approx(sum(own_optimum(each) for each in classes) + stranger_usd, abs=1e-5)


def test_limits_that_do_not_bind_leave_each_class_its_own_optimum() -> None:
    """Then no programme is solved, the cap is worth nothing, and the profit is the classes' sum."""
    rng = np.random.default_rng(3)
    classes = [a_class(rng, interval_count=50, mode_count=3, devices=20) for _ in range(3)]
    plan = solve_site(classes, cap_kw=np.full(50, 1e6), ramp_kw=np.full(50, 1e6))
    assert plan.method == "dp"
    assert plan.profit_usd == pytest.approx(sum(own_optimum(each) for each in classes))
    assert plan.cap_price_usd_per_kw.tolist() == [0.0] * 50
    assert solve_site(classes).profit_usd == plan.profit_usd
    hold(plan, classes, cap=np.full(50, 1e6), ramp=np.full(50, 1e6), free=False)


@pytest.mark.parametrize("seed", range(6))
def test_the_price_of_the_cap_bounds_what_a_change_of_it_earns(seed: int) -> None:
    """One kW more earns at most the price, one kW less costs at least the price: the profit is concave in the cap."""
    rng = np.random.default_rng(seed)
    classes = [a_class(rng, interval_count=12, mode_count=3, devices=30) for _ in range(2)]
    cap = np.full(12, 40.0)
    plan = solve_site(classes, cap_kw=cap, ramp_kw=np.full(12, 25.0), is_ramp_down_free=True)
    assert plan.method == "lp"
    assert plan.cap_price_usd_per_kw.max() > 0.1
    at = int(plan.cap_price_usd_per_kw.argmax())
    price = float(plan.cap_price_usd_per_kw[at])
    one = np.eye(12)[at]
    more, less = (
        solve_site(classes, cap_kw=changed, ramp_kw=np.full(12, 25.0), is_ramp_down_free=True).profit_usd
        for changed in (cap + one, cap - one)
    )
    assert more - plan.profit_usd <= price + CLOSE
    assert plan.profit_usd - less >= price - CLOSE


def steady(*, profit_on: float, devices: float, is_on: bool) -> SiteClass:
    """Return a class of 1 kW devices that may be off or on over three intervals."""
    return SiteClass(
        profit_usd=np.array([[0.0, profit_on]] * 3),
        switch_cost_usd=np.zeros((2, 2)),
        power_kw=np.array([0.0, 1.0]),
        initial_counts=np.array([0.0, devices]) if is_on else np.array([devices, 0.0]),
    )


def test_a_cap_gives_power_to_the_class_that_earns_most_with_it() -> None:
    """Ten kW go to the dearer class first; the price is what the cheaper one earns with a kW."""
    dear, cheap = steady(profit_on=5.0, devices=6, is_on=False), steady(profit_on=2.0, devices=6, is_on=False)
    plan = solve_site([cheap, dear], cap_kw=np.full(3, 10.0))
    assert plan.counts[1][:, 1] == pytest.approx([6.0] * 3)
    assert plan.counts[0][:, 1] == pytest.approx([4.0] * 3)
    assert plan.profit_usd == pytest.approx(3 * (6 * 5.0 + 4 * 2.0))
    assert plan.cap_price_usd_per_kw == pytest.approx([2.0] * 3)


def test_a_ramp_limit_counts_from_the_initial_power() -> None:
    """Four kW an interval up: 4, 8, 10 devices run; down the limit holds unless it is said to be free."""
    plan = solve_site([steady(profit_on=1.0, devices=10, is_on=False)], ramp_kw=np.full(3, 4.0))
    assert plan.counts[0][:, 1] == pytest.approx([4.0, 8.0, 10.0])
    losing = steady(profit_on=-1.0, devices=10, is_on=True)
    slow = solve_site([losing], ramp_kw=np.full(3, 4.0))
    assert slow.counts[0][:, 1] == pytest.approx([6.0, 2.0, 0.0])
    at_once = solve_site([losing], ramp_kw=np.full(3, 4.0), is_ramp_down_free=True)
    assert (at_once.method, at_once.profit_usd) == ("dp", 0.0)


def test_a_cap_below_the_least_power_is_refused_by_its_interval() -> None:
    """A mode that is never off sets the least power; the message names the first interval that cannot be kept."""
    always_on = replace(steady(profit_on=1.0, devices=4, is_on=True), power_kw=np.array([0.5, 1.0]))
    with pytest.raises(ValueError, match=r"cap_kw must be 2 or more in interval 1, .* was 1\.9"):
        solve_site([always_on], cap_kw=np.array([9.0, 1.9, 1.0]))


def test_a_cap_that_falls_faster_than_the_ramp_allows_is_refused_by_its_interval() -> None:
    """From 10 kW with 4 kW an interval, 2 kW is the least in interval 1."""
    with pytest.raises(ValueError, match=r"cap_kw must be 2 or more in interval 1"):
        solve_site(
            [steady(profit_on=1.0, devices=10, is_on=True)],
            cap_kw=np.array([6.0, 1.0, 1.0]),
            ramp_kw=np.full(3, 4.0),
        )


def test_a_cap_that_only_an_impossible_move_could_keep_is_refused() -> None:
    """Devices that can never leave a mode keep its power."""
    stuck = replace(steady(profit_on=1.0, devices=4, is_on=True), switch_cost_usd=np.array([[0.0, 0.0], [np.inf, 0.0]]))
    with pytest.raises(ValueError, match="must leave a plan"):
        solve_site([stuck], cap_kw=np.full(3, 1.0))


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({"power_kw": np.array([0.0, np.nan])}, r"power_kw must be 0 or more, was nan at index 1"),
        ({"power_kw": np.array([0.0])}, r"power_kw must have shape \(2,\)"),
        ({"initial_counts": np.array([-1.0, 2.0])}, r"initial_counts must be 0 or more, was -1\.0 at index 0"),
        ({"initial_counts": np.array([np.inf, 2.0])}, r"initial_counts must be 0 or more, was inf"),
        ({"minimum_intervals": np.array([0, 1])}, r"minimum_intervals must be 1 or more"),
        ({"profit_usd": np.array([[0.0, np.nan]])}, r"profit_usd must be finite, was nan in interval 0, mode 1"),
    ],
)
def test_a_class_out_of_range_is_refused(changed: dict[str, Any], wanted: str) -> None:
    """Nothing that is no number reaches the solver."""
    with pytest.raises(ValueError, match=wanted):
        solve_site([replace(steady(profit_on=1.0, devices=1, is_on=True), **changed)])


@pytest.mark.parametrize("name", ["cap_kw", "ramp_kw"])
def test_a_limit_out_of_range_is_refused(name: str) -> None:
    """A limit is one number of 0 or more for each interval."""
    site = [steady(profit_on=1.0, devices=1, is_on=True)]
    for values, wanted in (([1.0, np.nan, 1.0], "was nan at index 1"), ([1.0], r"must have shape \(3,\)")):
        limit: dict[str, Any] = {name: np.array(values)}
        with pytest.raises(ValueError, match=f"{name} .*{wanted}"):
            solve_site(site, **limit)


def test_classes_share_their_intervals_and_are_not_none() -> None:
    """A site without classes, or with horizons of different length, has no plan."""
    with pytest.raises(ValueError, match="one class or more"):
        solve_site([])
    shorter = replace(steady(profit_on=1.0, devices=1, is_on=True), profit_usd=np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"same number of intervals, was \[2, 3\]"):
        solve_site([shorter, steady(profit_on=1.0, devices=1, is_on=True)])


def test_an_empty_horizon_earns_nothing() -> None:
    """No intervals, no profit, no programme."""
    empty = replace(steady(profit_on=1.0, devices=1, is_on=True), profit_usd=np.zeros((0, 2)))
    plan = solve_site([empty], cap_kw=np.zeros(0), ramp_kw=np.zeros(0))
    assert (plan.method, plan.profit_usd, plan.counts[0].shape) == ("dp", 0.0, (0, 2))
