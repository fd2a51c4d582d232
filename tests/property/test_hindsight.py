"""Properties of the hindsight optimum on generated markets, in whole dollars: exact sums, so no tolerance."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from backtest.hindsight import FloatArray, best_fixed, best_path, priced_path

QUICK = settings(max_examples=60, deadline=None)
USD = st.integers(min_value=-50, max_value=50)
COST_USD = st.integers(min_value=0, max_value=40)


@st.composite
def markets(draw: st.DrawFn) -> tuple[FloatArray, FloatArray, int | None]:
    """Return profits, switch costs and an initial mode."""
    mode_count = draw(st.integers(min_value=1, max_value=4))
    row = st.lists(USD, min_size=mode_count, max_size=mode_count)
    profit = np.array(draw(st.lists(row, min_size=1, max_size=60)), dtype=np.float64)
    costs = draw(st.lists(COST_USD, min_size=mode_count**2, max_size=mode_count**2))
    cost = np.array(costs, dtype=np.float64).reshape(mode_count, mode_count)
    np.fill_diagonal(cost, 0.0)
    return profit, cost, draw(st.one_of(st.none(), st.integers(min_value=0, max_value=mode_count - 1)))


def minimum_of(stay: int, *, mode_count: int) -> NDArray[np.int64]:
    """Return minimum times that differ by mode, from 1 on."""
    return 1 + (stay * np.arange(1, mode_count + 1)) % 7


@QUICK
@given(market=markets(), seed=st.integers(min_value=0, max_value=2**32 - 1))
def test_no_path_earns_more(market: tuple[FloatArray, FloatArray, int | None], seed: int) -> None:
    """Neither the best fixed mode nor random paths, nor the optimum changed in one interval, beat the optimum."""
    profit, cost, initial_mode = market
    interval_count, mode_count = profit.shape
    best = best_path(profit, cost, initial_mode=initial_mode)
    assert best.profit_usd >= best_fixed(profit, cost, initial_mode=initial_mode).profit_usd
    rng = np.random.default_rng(seed)
    others = rng.integers(0, mode_count, (20, interval_count)).astype(np.int8)
    others[10:] = best.modes
    others[range(10, 20), rng.integers(0, interval_count, 10)] = rng.integers(0, mode_count, 10)
    for modes in others:
        priced = priced_path(modes, profit_usd=profit, switch_cost_usd=cost, initial_mode=initial_mode)
        assert best.profit_usd >= priced.profit_usd


@QUICK
@given(market=markets(), stay=st.integers(min_value=0, max_value=6))
def test_the_total_is_that_of_the_path(market: tuple[FloatArray, FloatArray, int | None], stay: int) -> None:
    """Added up interval by interval, the returned modes earn what is reported, and switch as often."""
    profit, cost, initial_mode = market
    found = best_path(
        profit, cost, initial_mode=initial_mode, minimum_intervals=minimum_of(stay, mode_count=profit.shape[1])
    )
    before = int(found.modes[0]) if initial_mode is None else initial_mode
    total, switch_count = 0.0, 0
    for at, mode in enumerate(found.modes.tolist()):
        total += float(profit[at, mode] - cost[before, mode])
        switch_count += mode != before
        before = mode
    assert (found.profit_usd, found.switch_count) == (total, switch_count)


@QUICK
@given(market=markets(), stay=st.integers(min_value=1, max_value=6))
def test_a_minimum_time_never_earns(market: tuple[FloatArray, FloatArray, int | None], stay: int) -> None:
    """A longer minimum leaves fewer paths; the best fixed mode is always among them."""
    profit, cost, initial_mode = market
    minimum = minimum_of(stay, mode_count=profit.shape[1])
    free, held, longer = (
        best_path(profit, cost, initial_mode=initial_mode, minimum_intervals=each).profit_usd
        for each in (None, minimum, minimum + 2)
    )
    assert free >= held >= longer >= best_fixed(profit, cost, initial_mode=initial_mode).profit_usd


@QUICK
@given(market=markets(), stay=st.integers(min_value=0, max_value=6), usd=st.integers(min_value=1, max_value=40))
def test_dearer_switches_are_never_more(market: tuple[FloatArray, FloatArray, int | None], stay: int, usd: int) -> None:
    """Doubling one cost for all moves adds no switch, whichever of several optima is returned.

    Let n and m be the switches at cost c and at 2c. The first path is best at c, the second at 2c: adding up both
    inequalities leaves c * n >= c * m, so ties need no rule as long as c is above 0.
    """
    profit, _, initial_mode = market
    mode_count = profit.shape[1]
    minimum = minimum_of(stay, mode_count=mode_count)
    uniform = float(usd) * (1.0 - np.eye(mode_count))
    once, twice = (
        best_path(profit, cost, initial_mode=initial_mode, minimum_intervals=minimum)
        for cost in (uniform, 2.0 * uniform)
    )
    assert twice.switch_count <= once.switch_count


@QUICK
@given(market=markets(), stay=st.integers(min_value=0, max_value=6), usd=st.integers(min_value=1, max_value=40))
def test_a_mode_that_earns_more_in_every_interval_is_chosen_no_less(
    market: tuple[FloatArray, FloatArray, int | None], stay: int, usd: int
) -> None:
    """The same sum more in all intervals never shortens a mode's time: the argument is that of the switch cost.

    A rise in some intervals only may shorten it, when the path then comes later or leaves earlier to catch them.
    """
    profit, cost, initial_mode = market
    mode_count = profit.shape[1]
    minimum = minimum_of(stay, mode_count=mode_count)
    for mode in range(mode_count):
        raised = profit.copy()
        raised[:, mode] += usd
        before, after = (
            best_path(each, cost, initial_mode=initial_mode, minimum_intervals=minimum).modes
            for each in (profit, raised)
        )
        assert (after == mode).sum() >= (before == mode).sum()


@QUICK
@given(market=markets(), usd=USD)
def test_what_every_mode_earns_changes_no_path(market: tuple[FloatArray, FloatArray, int | None], usd: int) -> None:
    """The same sum in every mode of an interval moves the profit by that sum and nothing else."""
    profit, cost, initial_mode = market
    shifted = profit + float(usd)
    before, after = (best_path(each, cost, initial_mode=initial_mode) for each in (profit, shifted))
    assert after.modes.tolist() == before.modes.tolist()
    assert after.profit_usd == before.profit_usd + usd * len(profit)
