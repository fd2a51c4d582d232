"""Hindsight is never beaten: properties over generated prices, with and without limits of the site that bind."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.results import BEST_FIXED, HINDSIGHT, evaluate
from backtest.wording import COLUMNS, OVER_CAP, cells
from backtest.yardsticks import WINDOW_MS, SitePower, best_fixed, hindsight, ramp_kw
from streams.policies import POLICIES
from tests.unit.backtest.market import ASICS, GPUS, a_fleet, run_over, the_site
from tests.unit.backtest.test_accounting import DEVICES, MINING_COST_USD, SLEEP_COST_USD, a_series

QUICK = settings(max_examples=40, deadline=None)
ENERGY = st.lists(st.integers(min_value=-200, max_value=600).map(float), min_size=2, max_size=48)
NAMES = [policy.name for policy in POLICIES]
ROUNDING = 1e-9


@QUICK
@given(energy=ENERGY)
def test_no_policy_and_no_fixed_mode_beats_hindsight(energy: list[float]) -> None:
    """By the one accounting, hindsight earns at least what anybody does, at the site and in the fleet."""
    fleet = a_fleet(ASICS, GPUS)
    result = evaluate(run_over(energy, fleet=fleet, policies=POLICIES), fleet=fleet, policies=NAMES)
    best = result.row(HINDSIGHT, the_site(fleet).facility_id)
    assert best.method == "dp"
    for name in (*NAMES, BEST_FIXED):
        row = result.row(name, best.facility_id)
        assert row.profit_usd <= best.profit_usd + ROUNDING * (1.0 + abs(best.profit_usd)), name


@QUICK
@given(energy=ENERGY, cap_ratio=st.floats(min_value=0.2, max_value=0.95))
def test_under_a_cap_that_binds_hindsight_keeps_it_and_is_not_beaten_by_who_keeps_it(
    energy: list[float], cap_ratio: float
) -> None:
    """The capped optimum keeps its cap, earns less than the free one and no less than the best fixed mix."""
    fleet = a_fleet(ASICS, GPUS)
    run = run_over(energy, fleet=fleet, policies=POLICIES)
    greatest_kw = sum(float(each.power_kw.max()) * each.device_count for each in run.series)
    capped = a_fleet(ASICS, GPUS, power_cap_mw=cap_ratio * greatest_kw / 1e3)
    free = evaluate(run, fleet=fleet, policies=NAMES).sites[0].rows
    rows = evaluate(run, fleet=capped, policies=NAMES).sites[0].rows
    best, fixed = (next(row for row in rows if row.contender == name) for name in (HINDSIGHT, BEST_FIXED))
    slack = 1e-6 * (1.0 + abs(best.profit_usd))
    assert (best.over_cap_hours, fixed.over_cap_hours) == (0.0, 0.0)
    assert fixed.profit_usd <= best.profit_usd + slack
    assert best.profit_usd <= next(row.profit_usd for row in free if row.contender == HINDSIGHT) + slack
    for row in rows:
        if row.over_cap_hours == 0.0:
            assert row.profit_usd <= best.profit_usd + slack, row.contender


def test_hindsight_of_a_few_hours_is_the_one_worked_by_hand() -> None:
    """Mine, sleep through the loss, mine: counts, switches and dollars."""
    plan = hindsight([a_series(((1.0, 0.0), (-3.0, 0.0), (2.0, 0.0)))], power=SitePower(cap_kw=1e6))
    assert plan.counts[0].tolist() == [[10.0, 0.0], [0.0, 10.0], [10.0, 0.0]]
    assert plan.total_usd == pytest.approx(DEVICES * (3.0 - SLEEP_COST_USD - MINING_COST_USD))
    assert (plan.switch_count, plan.moved_count, plan.method) == ((2,), (20.0,), "dp")


def test_a_loss_smaller_than_two_switches_is_sat_through() -> None:
    """Both switches cost more than the 0.05 USD lost in that hour."""
    plan = hindsight([a_series(((1.0, 0.0), (-0.05, 0.0), (2.0, 0.0)))], power=SitePower(cap_kw=1e6))
    assert plan.switch_count == (0,)
    assert plan.total_usd == pytest.approx(DEVICES * 2.95)


def test_the_best_fixed_choice_weighs_the_switch_to_it() -> None:
    """Asleep for three hours saves 0.012 USD, the switch costs 0.015: the devices stay as they are."""
    kept = best_fixed([a_series(((-0.004, 0.0),) * 3)], power=SitePower(cap_kw=1e6))
    assert (kept.switch_count, kept.total_usd) == ((0,), pytest.approx(DEVICES * -0.012))
    left = best_fixed([a_series(((-0.006, 0.0),) * 3)], power=SitePower(cap_kw=1e6))
    assert (left.switch_count, left.total_usd) == ((1,), pytest.approx(-DEVICES * SLEEP_COST_USD))


def test_under_a_cap_the_fixed_choice_is_a_mix() -> None:
    """30 kW wanted, 12 allowed: four of ten devices mine and the rest sleep, from the start."""
    plan = best_fixed([a_series(((1.0, 0.0),) * 3)], power=SitePower(cap_kw=12.0))
    assert plan.method == "lp"
    assert plan.counts[0][0].tolist() == pytest.approx([4.0, 6.0])
    assert plan.total_usd == pytest.approx(4 * 3.0 - 6 * SLEEP_COST_USD)


def test_windows_of_a_capped_site_follow_on_from_each_other() -> None:
    """Over 60 days devices neither appear nor vanish at a window's edge, and nobody is charged for it."""
    days = 60
    series = a_series(((1.0, 0.0),) * days, starts_h=range(0, 24 * days, 24))
    assert series.starts_ms[-1] - series.starts_ms[0] > 2 * WINDOW_MS
    plan = hindsight([series], power=SitePower(cap_kw=15.0))
    assert plan.counts[0].sum(axis=1) == pytest.approx(np.full(days, DEVICES))
    assert plan.counts[0][:, 0] == pytest.approx(np.full(days, 5.0))
    assert plan.moved_count[0] == pytest.approx(5.0)
    assert plan.total_usd == pytest.approx(5 * days - 5 * SLEEP_COST_USD)


def test_classes_with_different_intervals_cannot_share_a_cap() -> None:
    """Their sum has no meaning where one has no price: refused, with both lengths."""
    shorter = a_series(((1.0, 0.0),) * 2)
    with pytest.raises(ValueError, match="same intervals where a power cap binds, was 3 of s21 and 2 of s21"):
        hindsight([a_series(((1.0, 0.0),) * 3), shorter], power=SitePower(cap_kw=40.0))


@QUICK
@given(energy=ENERGY, ramp_ratio=st.floats(min_value=0.002, max_value=0.06), cap_ratio=st.sampled_from([0.7, 2.0]))
def test_under_a_ramp_that_binds_hindsight_keeps_it_and_is_not_beaten(
    energy: list[float], ramp_ratio: float, cap_ratio: float
) -> None:
    """The policies are held to the same ramp, by their token bucket; with a cap beside it or without."""
    greatest_kw = 8 * 1.1 * 0.7 + 12 * 1.1 * 3.5
    fleet = a_fleet(ASICS, GPUS, power_cap_mw=cap_ratio * greatest_kw / 1e3)
    site = replace(the_site(fleet), ramp_mw_per_minute=ramp_ratio * greatest_kw / 1e3)
    fleet = replace(fleet, facilities=(site,))
    result = evaluate(run_over(energy, fleet=fleet, policies=POLICIES), fleet=fleet, policies=NAMES).sites[0]
    plan, best = result.hindsight, next(row for row in result.rows if row.contender == HINDSIGHT)
    drawn = sum(planned @ each.power_kw for planned, each in zip(plan.counts, result.classes, strict=True))
    before = sum(float(each.initial_counts @ each.power_kw) for each in result.classes)
    rises = np.diff(drawn, prepend=before)
    assert (rises <= ramp_kw(result.classes[0], kw_per_minute=ramp_ratio * greatest_kw) * (1.0 + 1e-6)).all()
    slack = 1e-6 * (1.0 + abs(best.profit_usd))
    for row in result.rows:
        if row.over_cap_hours == 0.0:
            assert row.profit_usd <= best.profit_usd + slack, row.contender


def test_up_slowly_and_down_at_once_is_worked_by_hand() -> None:
    """30 kW gone at once, and in each hour thereafter no more back than its ramp of 0.1 kW/min and the burst allow."""
    earned = ((1.0, 0.0), (-300.0, 0.0), *((1.0, 0.0),) * 6)
    free = hindsight([a_series(earned)], power=SitePower(cap_kw=1e6))
    slow = hindsight([a_series(earned)], power=SitePower(cap_kw=1e6, ramp_kw_per_minute=0.1))
    each_hour_kw = 0.1 * (60 + 5)
    assert (free.method, slow.method) == ("dp", "lp")
    back_kw = [30.0, 0.0, *(min(30.0, each_hour_kw * hour) for hour in range(1, 7))]
    assert (slow.counts[0][:, 0] * 3.0).tolist() == pytest.approx(back_kw)


def test_a_ramp_that_binds_nowhere_changes_nothing() -> None:
    """The classes' own optima, by dynamic programming."""
    earned = ((1.0, 0.0), (-3.0, 0.0), (2.0, 0.0))
    plan = hindsight([a_series(earned)], power=SitePower(cap_kw=1e6, ramp_kw_per_minute=0.5))
    assert plan.method == "dp"
    assert plan.counts[0].tolist() == [[10.0, 0.0], [0.0, 10.0], [10.0, 0.0]]


def test_a_fixed_mode_that_the_ramp_does_not_let_begin_is_a_mix() -> None:
    """All asleep at first: as many mine from the first hour on as 0.1 kW/min, half an hour and the burst let begin."""
    series = replace(a_series(((1.0, 0.0),) * 3), initial_counts=np.array([0.0, 10.0]))
    plan = best_fixed([series], power=SitePower(cap_kw=1e6, ramp_kw_per_minute=0.1))
    assert plan.method == "lp"
    assert plan.counts[0][:, 0].tolist() == pytest.approx([0.1 * (30 + 5) / 3.0] * 3)


def test_the_ramp_between_intervals_counts_to_their_middles_and_over_gaps() -> None:
    """An hour between middles, three over a gap of two hours, half of one before the first; and the burst."""
    series = a_series(((1.0, 0.0),) * 3, starts_h=(0, 1, 4))
    assert ramp_kw(series, kw_per_minute=2.0).tolist() == [2.0 * 35, 2.0 * 65, 2.0 * 185]


def test_who_drew_more_than_the_cap_is_flagged_in_the_table() -> None:
    """A site that begins above its cap is over it for the first interval, whoever decides; its hindsight never."""
    fleet = a_fleet(ASICS, power_cap_mw=0.5 * 12 * 3.5 * 1.1 / 1e3)
    run = run_over([30.0] * 4, fleet=fleet, policies=POLICIES)
    rows = {row.contender: cells(row) for row in evaluate(run, fleet=fleet, policies=NAMES).rows}
    shares = [[column.title for column in COLUMNS].index(title) for title in ("of hindsight", "of the gap")]
    for at in shares:
        assert {name for name, row in rows.items() if row[at].endswith(OVER_CAP)} == set(NAMES)
