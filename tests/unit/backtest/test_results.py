"""Rows of results, held to a day worked by hand, and their sums over sites."""

from dataclasses import replace

import numpy as np
import pytest

from backtest.engine import BacktestRun
from backtest.results import BEST_FIXED, FLEET, HINDSIGHT, BacktestResult, evaluate
from backtest.series import Move, PolicyMoves
from hcp.model.devices import DeviceMode
from hcp.model.units import MS_PER_HOUR
from tests.unit.backtest.market import a_fleet, the_site
from tests.unit.backtest.test_accounting import DEVICES, MINING_COST_USD, SLEEP_COST_USD, a_move, a_series

EARNED = ((1.0, 0.0), (-3.0, 0.0), (-3.0, 0.0), (2.0, 0.0))
"""Mining earns 1, loses 3 twice, earns 2: -3 USD a device if kept, 0 asleep."""
FLEET_OF_ONE = a_fleet(("s21", DEVICES, DeviceMode.MINING))
SITE = the_site(FLEET_OF_ONE).facility_id
BEST_USD = DEVICES * (1.0 - SLEEP_COST_USD + 2.0 - MINING_COST_USD)
"""Mine, sleep two hours, mine."""
FIXED_USD = -DEVICES * SLEEP_COST_USD
"""Asleep throughout beats mining throughout; the switch to it at the start is paid."""
LATE = (a_move(2), a_move(3, into=DeviceMode.MINING))
LATE_USD = DEVICES * (1.0 - 3.0 - SLEEP_COST_USD + 2.0 - MINING_COST_USD)
"""A policy that sees the first dear hour only at its end."""


def evaluated(*moves: Move) -> BacktestResult:
    """Evaluate one policy, `late`, that made these moves."""
    series = replace(a_series(EARNED), facility_id=SITE)
    of_policy = PolicyMoves(policy="late", facility_id=SITE, device_class="s21", moves=moves)
    run = BacktestRun(series=(series,), moves=(of_policy,), price_count=4, passed_over_count=0)
    return evaluate(run, fleet=FLEET_OF_ONE, policies=["late"])


def test_shares_of_hindsight_and_of_the_gap_are_those_worked_by_hand() -> None:
    """Hindsight 28.55, best fixed -0.15, the policy -1.45: below the best fixed choice, so a share below 0."""
    result = evaluated(*LATE)
    late, best, fixed = (result.row(name, SITE) for name in ("late", HINDSIGHT, BEST_FIXED))
    assert (late.profit_usd, best.profit_usd, fixed.profit_usd) == pytest.approx((LATE_USD, BEST_USD, FIXED_USD))
    assert late.hindsight_ratio == pytest.approx(LATE_USD / BEST_USD)
    assert late.gap_ratio == pytest.approx((LATE_USD - FIXED_USD) / (BEST_USD - FIXED_USD))
    assert (best.gap_ratio, fixed.gap_ratio) == (1.0, 0.0)
    assert (best.hindsight_ratio, fixed.hindsight_ratio) == (1.0, pytest.approx(FIXED_USD / BEST_USD))


def test_a_policy_that_does_what_hindsight_does_has_the_whole_gap() -> None:
    """The same moves, the same accounting: 100 %."""
    row = evaluated(a_move(1), a_move(3, into=DeviceMode.MINING)).row("late", SITE)
    assert row.profit_usd == pytest.approx(BEST_USD)
    assert row.gap_ratio == pytest.approx(1.0)
    assert row.switch_cost_usd == pytest.approx(DEVICES * (SLEEP_COST_USD + MINING_COST_USD))


def test_the_other_columns_of_a_row() -> None:
    """Two switches of ten devices in four hours; an hour asleep; 30 kWh not drawn; 30 kW within a minute."""
    row = evaluated(*LATE).row("late", SITE)
    assert row.switch_count == 2
    assert row.switches_per_device_day == pytest.approx(2 / (4 / 24))
    assert row.device_hours == {DeviceMode.MINING: 30.0, DeviceMode.SLEEP: 10.0}
    assert row.curtailed_mwh == pytest.approx(0.030)
    assert row.ramp_mw_per_minute_max == pytest.approx(0.030)
    assert row.dwell_minutes_min == 60.0
    assert row.over_cap_hours == 0.0
    assert row.method == "dp"


def test_hours_over_the_cap_are_counted() -> None:
    """Ten devices draw 30 kW for three of four hours; the cap is 29."""
    series = replace(a_series(EARNED), facility_id=SITE)
    of_policy = PolicyMoves(policy="late", facility_id=SITE, device_class="s21", moves=LATE)
    run = BacktestRun(series=(series,), moves=(of_policy,), price_count=4, passed_over_count=0)
    fleet = a_fleet(("s21", DEVICES, DeviceMode.MINING), power_cap_mw=0.029)
    result = evaluate(run, fleet=fleet, policies=["late"])
    assert result.row("late", SITE).over_cap_hours == 3.0
    assert result.row(HINDSIGHT, SITE).over_cap_hours == 0.0
    assert result.row(HINDSIGHT, SITE).method == "lp"


def test_shares_are_unknown_where_they_would_divide_by_nothing() -> None:
    """One mode best throughout: hindsight is the best fixed choice, and below 0 there is no share of it."""
    series = replace(a_series(((-1.0, -2.0),) * 3), facility_id=SITE)
    of_policy = PolicyMoves(policy="late", facility_id=SITE, device_class="s21", moves=())
    run = BacktestRun(series=(series,), moves=(of_policy,), price_count=3, passed_over_count=0)
    row = evaluate(run, fleet=FLEET_OF_ONE, policies=["late"]).row("late", SITE)
    assert row.profit_usd == -30.0
    assert (row.gap_ratio, row.hindsight_ratio) == (None, None)


def test_the_fleets_rows_add_the_sites_up() -> None:
    """Two sites of which one is empty of moves: sums of sums, the greatest ramp, the shortest dwell."""
    one = the_site(FLEET_OF_ONE)
    fleet = replace(FLEET_OF_ONE, facilities=(one, replace(one, facility_id="there")))
    series = [replace(a_series(EARNED), facility_id=name) for name in (SITE, "there")]
    moves = [
        PolicyMoves(policy="late", facility_id=name, device_class="s21", moves=its_moves)
        for name, its_moves in ((SITE, LATE), ("there", ()))
    ]
    run = BacktestRun(series=tuple(series), moves=tuple(moves), price_count=8, passed_over_count=0)
    result = evaluate(run, fleet=fleet, policies=["late"])
    row = result.row("late")
    assert [each.facility_id for each in result.rows] == [SITE] * 3 + ["there"] * 3 + [FLEET] * 3
    assert row.profit_usd == pytest.approx(LATE_USD - 30.0)
    assert result.row(HINDSIGHT).profit_usd == pytest.approx(2 * BEST_USD)
    assert row.gap_ratio == pytest.approx((LATE_USD - 30.0 - 2 * FIXED_USD) / (2 * (BEST_USD - FIXED_USD)))
    assert row.switches_per_device_day == pytest.approx(20 / (20 * 4 / 24))
    assert row.device_hours == {DeviceMode.MINING: 70.0, DeviceMode.SLEEP: 10.0}
    assert (row.ramp_mw_per_minute_max, row.dwell_minutes_min) == (pytest.approx(0.030), 60.0)
    with pytest.raises(KeyError, match="nobody at fleet must be in the results"):
        result.row("nobody")


def test_profit_by_day_is_cut_at_midnight_utc() -> None:
    """The second hour of two begins the next day; both contenders' days add up to their rows."""
    series = replace(
        a_series(EARNED[:2]),
        facility_id=SITE,
        starts_ms=np.array([23 * MS_PER_HOUR, 24 * MS_PER_HOUR], dtype=np.int64),
    )
    of_policy = PolicyMoves(policy="late", facility_id=SITE, device_class="s21", moves=())
    run = BacktestRun(series=(series,), moves=(of_policy,), price_count=2, passed_over_count=0)
    site = evaluate(run, fleet=FLEET_OF_ONE, policies=["late"]).sites[0]
    days, earned = site.profit_usd("late")
    assert days.tolist() == [0, 24 * MS_PER_HOUR]
    assert earned.tolist() == [10.0, -30.0]
    for row in site.rows:
        assert site.profit_usd(row.contender)[1].sum() == pytest.approx(row.profit_usd)
    quarters, earned = site.profit_usd("late", every_ms=MS_PER_HOUR // 4)
    assert quarters.tolist() == [23 * MS_PER_HOUR, 24 * MS_PER_HOUR]
    assert earned.tolist() == [10.0, -30.0]
