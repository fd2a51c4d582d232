"""Hindsight is never beaten: properties over generated prices, with and without a power cap that binds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.results import BEST_FIXED, HINDSIGHT, evaluate
from backtest.yardsticks import WINDOW_MS, best_fixed, hindsight
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
    plan = hindsight([a_series(((1.0, 0.0), (-3.0, 0.0), (2.0, 0.0)))], power_cap_kw=1e6)
    assert plan.counts[0].tolist() == [[10.0, 0.0], [0.0, 10.0], [10.0, 0.0]]
    assert plan.total_usd == pytest.approx(DEVICES * (3.0 - SLEEP_COST_USD - MINING_COST_USD))
    assert (plan.switch_count, plan.moved_count, plan.method) == ((2,), (20.0,), "dp")


def test_a_loss_smaller_than_two_switches_is_sat_through() -> None:
    """Both switches cost more than the 0.05 USD lost in that hour."""
    plan = hindsight([a_series(((1.0, 0.0), (-0.05, 0.0), (2.0, 0.0)))], power_cap_kw=1e6)
    assert plan.switch_count == (0,)
    assert plan.total_usd == pytest.approx(DEVICES * 2.95)


def test_the_best_fixed_choice_weighs_the_switch_to_it() -> None:
    """Asleep for three hours saves 0.012 USD, the switch costs 0.015: the devices stay as they are."""
    kept = best_fixed([a_series(((-0.004, 0.0),) * 3)], power_cap_kw=1e6)
    assert (kept.switch_count, kept.total_usd) == ((0,), pytest.approx(DEVICES * -0.012))
    left = best_fixed([a_series(((-0.006, 0.0),) * 3)], power_cap_kw=1e6)
    assert (left.switch_count, left.total_usd) == ((1,), pytest.approx(-DEVICES * SLEEP_COST_USD))


def test_under_a_cap_the_fixed_choice_is_a_mix() -> None:
    """30 kW wanted, 12 allowed: four of ten devices mine and the rest sleep, from the start."""
    plan = best_fixed([a_series(((1.0, 0.0),) * 3)], power_cap_kw=12.0)
    assert plan.method == "lp"
    assert plan.counts[0][0].tolist() == pytest.approx([4.0, 6.0])
    assert plan.total_usd == pytest.approx(4 * 3.0 - 6 * SLEEP_COST_USD)


def test_windows_of_a_capped_site_follow_on_from_each_other() -> None:
    """Over 60 days devices neither appear nor vanish at a window's edge, and nobody is charged for it."""
    days = 60
    series = a_series(((1.0, 0.0),) * days, starts_h=range(0, 24 * days, 24))
    assert series.starts_ms[-1] - series.starts_ms[0] > 2 * WINDOW_MS
    plan = hindsight([series], power_cap_kw=15.0)
    assert plan.counts[0].sum(axis=1) == pytest.approx(np.full(days, DEVICES))
    assert plan.counts[0][:, 0] == pytest.approx(np.full(days, 5.0))
    assert plan.moved_count[0] == pytest.approx(5.0)
    assert plan.total_usd == pytest.approx(5 * days - 5 * SLEEP_COST_USD)


def test_classes_with_different_intervals_cannot_share_a_cap() -> None:
    """Their sum has no meaning where one has no price: refused, with both lengths."""
    shorter = a_series(((1.0, 0.0),) * 2)
    with pytest.raises(ValueError, match="same intervals where a power cap binds, was 3 of s21 and 2 of s21"):
        hindsight([a_series(((1.0, 0.0),) * 3), shorter], power_cap_kw=40.0)
