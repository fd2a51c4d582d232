"""How true a probability is, held to intervals worked by hand and to what the learner itself has settled."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from backtest.reliability import BINS, Predictions, reliability
from backtest.results import evaluate
from backtest.series import ClassSeries
from hcp.model.devices import DeviceMode
from streams.policies import pair, policy_named
from tests.unit.backtest.market import ASICS, MINES_USD_PER_MWH, SLEEPS_USD_PER_MWH, a_fleet, run_over
from tests.unit.backtest.test_accounting import MINING, SLEEP, a_series

NAN = float("nan")


def of(series: ClassSeries, probabilities: Sequence[Sequence[float]]) -> Predictions:
    """Return what was said of a class."""
    return Predictions(
        policy="predictive",
        facility_id=series.facility_id,
        device_class=series.device_class,
        probabilities=np.array(probabilities),
    )


def test_what_was_said_is_held_to_the_interval_of_the_payback() -> None:
    """Gains of 1 USD pay 0.145 back within the hour: each prediction is of the next hour, the last of none recorded."""
    series = a_series(((1.0, 0.0), (1.0, 0.0), (-1.0, 0.0), (-1.0, 0.0)))
    found = reliability([series], [of(series, [[0.9], [0.8], [0.85], [0.5]])])
    assert found is not None
    assert found.counts.tolist() == [0] * 8 + [2, 1]
    assert (found.said[8], found.held[8]) == pytest.approx(((0.8 + 0.85) / 2, 0.5))  # lost its order, kept it
    assert (found.said[9], found.held[9]) == pytest.approx((0.9, 1.0))
    assert found.brier == pytest.approx((0.1**2 + 0.8**2 + 0.15**2) / 3)
    assert found.brier_constant == pytest.approx(2 / 3 * (1 - 2 / 3))


def test_a_small_gain_is_looked_at_later_and_at_most_sixteen_intervals_on() -> None:
    """A gain of 0.05 USD an hour pays 0.145 USD back in the third hour; one of a tenth of a cent is asked after 16."""
    earned = [(0.05, 0.0), (-1.0, 0.0), (-1.0, 0.0), (1.0, 0.0)]
    series = a_series(tuple(earned))
    assert _held(series, [[0.7], [NAN], [NAN], [NAN]]) == [1.0]
    slow = a_series(((0.001, 0.0), *((-1.0, 0.0),) * (pair.AHEAD_MAX - 1), (1.0, 0.0)))
    assert _held(slow, [[0.7], *[[NAN]] * pair.AHEAD_MAX]) == [1.0]


def _held(series: ClassSeries, probabilities: Sequence[Sequence[float]]) -> list[float]:
    found = reliability([series], [of(series, probabilities)])
    assert found is not None
    return [float(each) for each in found.held if not np.isnan(each)]


def test_every_pair_of_three_modes_counts() -> None:
    """Three modes are three pairs, in the order of the class."""
    eco = replace(MINING, mode=DeviceMode.MINING_ECO)
    two = a_series(((1.0, 0.0),) * 2)
    series = replace(
        two,
        modes=(MINING, eco, SLEEP),
        profit_usd_per_hour=np.array([[2.0, 1.0, 0.0], [1.0, 2.0, 0.0]]),
        revenue_usd_per_hour=np.ones((2, 3)),
        power_kw=np.array([3.0, 2.0, 0.0]),
        initial_counts=np.array([10.0, 0.0, 0.0]),
    )
    found = reliability([series], [of(series, [[0.15, 0.25, 0.35], [NAN] * 3])])
    assert found is not None
    assert found.counts.tolist() == [0, 1, 1, 1, *[0] * (BINS - 4)]
    assert found.held[1:4].tolist() == [0.0, 1.0, 1.0]


def test_nothing_that_came_due_is_no_reliability() -> None:
    """One interval has no next."""
    series = a_series(((1.0, 0.0),))
    assert reliability([series], [of(series, [[0.5]])]) is None


def test_a_run_keeps_what_predictive_said_and_only_that() -> None:
    """At each settled interval what its memory says then; its own counts of what held agree with the rates settled."""
    energy = [MINES_USD_PER_MWH, MINES_USD_PER_MWH, SLEEPS_USD_PER_MWH] * 12
    fleet = a_fleet(ASICS)
    policies = [policy_named(name) for name in ("predictive", "threshold")]
    run = run_over(energy, fleet=fleet, policies=policies)
    (predictions,), (series,) = run.predictions, run.series
    assert predictions.policy == "predictive"
    rows = {place: pair.new_row() for place in range(predictions.probabilities.shape[1])}
    modes = len(series.modes)
    pairs = [(first, second) for first in range(modes) for second in range(first + 1, modes)]
    cost = series.switch_cost_usd()
    for at, said in enumerate(predictions.probabilities.tolist()):
        for place, (first, second) in enumerate(pairs):
            upper, lower = (first, second) if series.power_kw[first] >= series.power_kw[second] else (second, first)
            profit = series.profit_usd_per_hour[at]
            interval = pair.Interval(
                int(series.starts_ms[at]),
                int(series.interval_ms[at]),
                float(profit[upper] - profit[lower]),
                float(cost[at, lower, upper]),
                float(cost[at, upper, lower]),
            )
            pair.observe(rows[place], interval)
            assert said[place] == rows[place][pair.PROBABILITY]
    found = evaluate(run, fleet=fleet, policies=["predictive", "threshold"]).sites[0].reliability
    assert set(found) == {"predictive"}
    # Each pair's first cell of `HITS` and `TRIALS` a node holds all of them: what the learner has settled for itself.
    settled = sum(sum(row[pair.TRIALS + 3 : pair.TRIALS + 4 * pair.NODES : 4]) for row in rows.values())
    held = sum(sum(row[pair.HITS + 3 : pair.HITS + 4 * pair.NODES : 4]) for row in rows.values())
    # The learner lets what is long past fade, by a thousandth a trial.
    assert float(found["predictive"].counts.sum()) == pytest.approx(settled, rel=0.05)
    counted = np.nansum(found["predictive"].held * found["predictive"].counts)
    assert counted == pytest.approx(held, rel=0.05)
