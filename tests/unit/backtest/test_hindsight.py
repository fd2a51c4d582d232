"""The hindsight optimum, held to enumeration of every path on small cases."""

from itertools import pairwise, product

import numpy as np
import pytest

from backtest.hindsight import FloatArray, HindsightPath, best_fixed, best_path, priced_path

SEEDS = range(40)
UNIFORM_COST = 1.0 - np.eye(3)


def is_allowed(path: tuple[int, ...], *, initial_mode: int | None, minimum: tuple[int, ...]) -> bool:
    """Return whether every mode that was entered is kept long enough, or until the end."""
    entered = 0
    is_initial = True
    before = path[0] if initial_mode is None else initial_mode
    for at, mode in enumerate(path):
        if mode != before:
            if not is_initial and at - entered < minimum[before]:
                return False
            entered, is_initial = at, False
        before = mode
    return True


def plain_profit(
    path: tuple[int, ...], *, profit_usd: FloatArray, switch_cost_usd: FloatArray, initial_mode: int | None
) -> float:
    """Add up what a path earns, one interval after the other."""
    total = 0.0
    before = path[0] if initial_mode is None else initial_mode
    for at, mode in enumerate(path):
        cost = switch_cost_usd if switch_cost_usd.ndim == 2 else switch_cost_usd[at]
        total += float(profit_usd[at, mode]) - float(cost[before, mode])
        before = mode
    return total


def enumerated_best(
    *,
    profit_usd: FloatArray,
    switch_cost_usd: FloatArray,
    initial_mode: int | None,
    minimum: tuple[int, ...],
) -> float:
    """Return what the best of all M**T paths earns."""
    interval_count, mode_count = profit_usd.shape
    return max(
        plain_profit(path, profit_usd=profit_usd, switch_cost_usd=switch_cost_usd, initial_mode=initial_mode)
        for path in product(range(mode_count), repeat=interval_count)
        if is_allowed(path, initial_mode=initial_mode, minimum=minimum)
    )


def a_market(rng: np.random.Generator, *, is_priced_by_interval: bool) -> tuple[FloatArray, FloatArray]:
    """Return whole-dollar profits and switch costs of a small random case: exact in float64, and full of ties."""
    interval_count, mode_count = int(rng.integers(1, 8)), int(rng.integers(1, 4))
    profit = rng.integers(-4, 5, (interval_count, mode_count)).astype(np.float64)
    shape = (interval_count, mode_count, mode_count) if is_priced_by_interval else (mode_count, mode_count)
    cost = rng.integers(0, 6, shape).astype(np.float64)
    cost[rng.random(shape) < 0.1] = np.inf
    cost[..., range(mode_count), range(mode_count)] = 0.0
    return profit, cost


@pytest.mark.parametrize("is_priced_by_interval", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_no_enumerated_path_earns_more_and_one_earns_as_much(seed: int, *, is_priced_by_interval: bool) -> None:
    """The optimum is that of enumeration, with and without minimum times, a given start and impossible moves."""
    rng = np.random.default_rng(seed)
    profit, cost = a_market(rng, is_priced_by_interval=is_priced_by_interval)
    mode_count = profit.shape[1]
    minimum = tuple(int(each) for each in rng.integers(1, 5, (mode_count,)))
    for initial_mode in (None, *range(mode_count)):
        for stays in ((1,) * mode_count, minimum):
            found = best_path(profit, cost, initial_mode=initial_mode, minimum_intervals=np.array(stays))
            wanted = enumerated_best(profit_usd=profit, switch_cost_usd=cost, initial_mode=initial_mode, minimum=stays)
            path = tuple(int(mode) for mode in found.modes)
            assert found.profit_usd == wanted
            assert is_allowed(path, initial_mode=initial_mode, minimum=stays)
            assert found.profit_usd == plain_profit(
                path, profit_usd=profit, switch_cost_usd=cost, initial_mode=initial_mode
            )


def test_many_blocks_agree_with_a_plain_recursion() -> None:
    """Cutting the horizon into blocks changes nothing: 5,000 whole-dollar intervals give the textbook's optimum."""
    rng = np.random.default_rng(7)
    profit = rng.integers(-9, 10, (5_000, 3)).astype(np.float64)
    cost = np.array([[0.0, 11.0, 5.0], [7.0, 0.0, 13.0], [3.0, 17.0, 0.0]])
    best = np.array([0.0, -np.inf, -np.inf])
    for row in profit:
        best = (best[:, None] - cost).max(axis=0) + row
    found = best_path(profit, cost, initial_mode=0)
    assert found.profit_usd == best.max()
    assert found.switch_count > 100


@pytest.mark.parametrize("minimum", [(2, 1, 9), (40, 1, 3), (100, 100, 100)])
def test_long_stays_reach_over_blocks(minimum: tuple[int, int, int]) -> None:
    """Stays longer than a block agree with a recursion over modes and the intervals still owed."""
    rng = np.random.default_rng(11)
    profit = rng.integers(-9, 10, (900, 3)).astype(np.float64)
    best = {(mode, 0): 0.0 for mode in range(3)}
    for row in profit:
        after: dict[tuple[int, int], float] = {}
        for (mode, owed), value in best.items():
            moves = [(mode, max(owed - 1, 0), 0.0)]
            if owed == 0:
                moves += [(other, minimum[other] - 1, 6.0) for other in range(3) if other != mode]
            for to, left, cost in moves:
                after[to, left] = max(after.get((to, left), -np.inf), value - cost + float(row[to]))
        best = after
    found = best_path(profit, 6.0 * UNIFORM_COST, initial_mode=None, minimum_intervals=np.array(minimum))
    assert found.profit_usd == max(best.values())
    changes = np.flatnonzero(np.diff(found.modes)) + 1
    for entered, left in pairwise(changes.tolist()):
        assert left - entered >= minimum[found.modes[entered]]


@pytest.mark.parametrize("initial_mode", [0, 1, 2])
def test_a_move_that_earns_nothing_is_not_made(initial_mode: int) -> None:
    """Where all modes earn alike, the path stays where it began."""
    found = best_path(np.ones((6, 3)), 0.01 * UNIFORM_COST, initial_mode=initial_mode)
    assert found.modes.tolist() == [initial_mode] * 6
    assert (found.switch_count, found.profit_usd) == (0, 6.0)


def test_leaving_the_initial_mode_is_paid_and_counted() -> None:
    """The first interval is no exception; a free start pays nothing."""
    profit = np.array([[0.0, 5.0], [0.0, 5.0]])
    cost = np.array([[0.0, 3.0], [3.0, 0.0]])
    begun = best_path(profit, cost, initial_mode=0)
    free = best_path(profit, cost, initial_mode=None)
    assert (begun.profit_usd, begun.switch_count, begun.modes.tolist()) == (7.0, 1, [1, 1])
    assert (free.profit_usd, free.switch_count, free.modes.tolist()) == (10.0, 0, [1, 1])


def test_the_initial_mode_owes_no_minimum_and_the_end_cuts_a_stay_off() -> None:
    """Minimum times bind what was entered inside the horizon, and ask nothing after it."""
    profit = np.array([[0.0, 4.0], [0.0, 4.0]])
    found = best_path(profit, np.zeros((2, 2)), initial_mode=0, minimum_intervals=np.array([9, 9]))
    assert found.modes.tolist() == [1, 1]


def test_best_fixed_pays_one_switch_and_no_more() -> None:
    """It weighs the switch against the whole horizon, and keeps the initial mode on a tie."""
    profit = np.array([[1.0, 2.0]] * 3)
    cost = np.array([[0.0, 2.0], [2.0, 0.0]])
    assert best_fixed(profit, cost, initial_mode=0).modes.tolist() == [1, 1, 1]
    assert best_fixed(profit, cost, initial_mode=0).profit_usd == 4.0
    assert best_fixed(profit, cost + np.array([[0.0, 1.0], [0.0, 0.0]]), initial_mode=0).modes.tolist() == [0, 0, 0]
    assert best_fixed(profit, cost, initial_mode=None).profit_usd == 6.0


@pytest.mark.parametrize("find", [best_path, best_fixed])
@pytest.mark.parametrize("initial_mode", [None, 1])
def test_no_intervals_earn_nothing(find: object, initial_mode: int | None) -> None:
    """An empty horizon is a path without modes."""
    assert callable(find)
    found = find(np.zeros((0, 2)), np.zeros((2, 2)), initial_mode=initial_mode)
    assert isinstance(found, HindsightPath)
    assert (found.modes.shape, found.modes.dtype, found.profit_usd, found.switch_count) == ((0,), np.int8, 0.0, 0)


def test_an_empty_horizon_with_minimum_times_earns_nothing() -> None:
    """Minimum times add nothing to an empty horizon."""
    found = best_path(np.zeros((0, 2)), np.zeros((2, 2)), initial_mode=0, minimum_intervals=np.array([3, 1]))
    assert (len(found.modes), found.profit_usd) == (0, 0.0)


def test_a_profit_that_is_no_number_is_refused_by_its_place() -> None:
    """NaN and infinity never reach the sum; the message says where they are."""
    profit = np.zeros((4, 2))
    profit[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"profit_usd must be finite, was nan in interval 3, mode 1"):
        best_path(profit, np.zeros((2, 2)), initial_mode=0)
    profit[3, 1] = np.inf
    with pytest.raises(ValueError, match=r"was inf in interval 3, mode 1"):
        best_fixed(profit, np.zeros((2, 2)), initial_mode=0)


@pytest.mark.parametrize("value", [np.nan, -0.01])
def test_a_switch_cost_out_of_range_is_refused_by_its_place(value: float) -> None:
    """A cost that is negative or no number is refused, in one matrix and in one for each interval."""
    cost = np.zeros((2, 2))
    cost[0, 1] = value
    with pytest.raises(ValueError, match=r"switch_cost_usd must be 0 or more.* from mode 0 to 1"):
        best_path(np.zeros((3, 2)), cost, initial_mode=0)
    by_interval = np.zeros((3, 2, 2))
    by_interval[2, 1, 0] = value
    with pytest.raises(ValueError, match=r"in interval 2, from mode 1 to 0"):
        best_path(np.zeros((3, 2)), by_interval, initial_mode=0)


def test_staying_may_not_cost() -> None:
    """The diagonal is 0: a cost of staying belongs into the profit."""
    with pytest.raises(ValueError, match=r"0 from a mode to itself, was 1\.0 from mode 1 to 1"):
        best_path(np.zeros((3, 2)), np.diag([0.0, 1.0]), initial_mode=0)


@pytest.mark.parametrize(
    ("profit_shape", "cost_shape", "wanted"),
    [
        ((3,), (1, 1), r"profit_usd must have shape \[T, M\]"),
        ((3, 0), (0, 0), r"profit_usd must have shape \[T, M\]"),
        ((3, 128), (128, 128), r"1 to 127 modes"),
        ((3, 2), (3, 3), r"switch_cost_usd must have shape \[2, 2\] or \[3, 2, 2\], was \[3, 3\]"),
        ((3, 2), (2, 2, 2), r"was \[2, 2, 2\]"),
    ],
)
def test_shapes_must_fit(profit_shape: tuple[int, ...], cost_shape: tuple[int, ...], wanted: str) -> None:
    """A shape that does not fit is refused, never broadcast."""
    with pytest.raises(ValueError, match=wanted):
        best_path(np.zeros(profit_shape), np.zeros(cost_shape), initial_mode=None)


@pytest.mark.parametrize(
    ("minimum", "wanted"),
    [
        (np.array([1, 0]), "1 or more, was 0 for mode 1"),
        (np.array([1, 2, 3]), "must be 2 whole numbers"),
        (np.array([1.5, 2.0]), "must be 2 whole numbers"),
    ],
)
def test_minimum_times_are_whole_and_at_least_one(minimum: np.typing.NDArray[np.int64], wanted: str) -> None:
    """A minimum that is no count of intervals is refused."""
    with pytest.raises(ValueError, match=wanted):
        best_path(np.zeros((3, 2)), np.zeros((2, 2)), initial_mode=0, minimum_intervals=minimum)


@pytest.mark.parametrize("initial_mode", [-1, 2])
def test_the_initial_mode_is_one_of_the_modes(initial_mode: int) -> None:
    """A negative index is an error, not a count from the end."""
    for find in (best_path, best_fixed):
        with pytest.raises(ValueError, match="initial_mode must be None or 0 to 1"):
            find(np.zeros((3, 2)), np.zeros((2, 2)), initial_mode=initial_mode)


def test_a_given_path_is_priced_as_the_optimum_is() -> None:
    """A policy's path is worth its profits less every switch; a path that does not fit is refused."""
    profit = np.array([[1.0, 2.0], [3.0, 1.0], [0.0, 8.0]])
    cost = np.array([[0.0, 0.5], [0.25, 0.0]])
    priced = priced_path(np.array([1, 0, 1], dtype=np.int8), profit_usd=profit, switch_cost_usd=cost, initial_mode=0)
    assert (priced.profit_usd, priced.switch_count) == (13.0 - 0.5 - 0.25 - 0.5, 3)
    for modes, wanted in (([0, 1], "shape"), ([0, 1, 2], "0 to 1, was 0 to 2"), ([0, 1, -1], "was -1 to 1")):
        with pytest.raises(ValueError, match=wanted):
            priced_path(np.array(modes, dtype=np.int8), profit_usd=profit, switch_cost_usd=cost, initial_mode=0)
