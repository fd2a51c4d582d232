"""How long the hindsight optimum takes: one class over two years of intervals, and a site whose cap and ramp bind.

Run: `python -m bench.bench_hindsight`; no service is needed. Each figure stands beside a limit of the same run: for
dynamic programming, one pass of numpy over the [T, M, M] array of moves, which any method must at least read; for the
linear programme, the time of the classes' own optima, which is what an uncoupled site takes.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np

from backtest.coupled import SiteClass, solve_site
from backtest.hindsight import FloatArray, best_path

INTERVALS_PER_DAY = 96
HOURS_PER_INTERVAL = 0.25
PATH_INTERVALS = 70_080
ROUNDS = 7
GOAL_PATH_S = 0.3
GOAL_SITE_MONTH_S = 60.0
SEED = 20_231_125
DEVICE_COUNTS = (512, 256, 128, 10_000, 5_000)
MODE_COUNTS = (3, 3, 3, 2, 2)
POWER_KW = np.array([0.05, 3.5, 2.4])
EARNED_USD_PER_HOUR = np.array([0.0, 0.20, 0.145])
CAP_RATIO = 0.7
RAMP_RATIO = 0.1
"""Of the site's greatest power; both bind often in this market."""


def median_s(work: Callable[[], object], rounds: int) -> float:
    """Return the median time of some rounds, in seconds."""
    taken: list[float] = []
    for _ in range(rounds):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def energy_usd_per_mwh(rng: np.random.Generator, interval_count: int) -> FloatArray:
    """Return a price with days, drift and rare spikes, in USD per MWh."""
    hours = np.arange(interval_count) * HOURS_PER_INTERVAL
    spikes = rng.exponential(120.0, interval_count) * (rng.random(interval_count) < 0.1)
    price: FloatArray = 40.0 + 25.0 * np.sin(hours * 2 * np.pi / 24) + rng.normal(0, 0.9, interval_count).cumsum()
    return price + spikes


def a_site(interval_count: int) -> list[SiteClass]:
    """Return five classes, all off at first; later ones earn more."""
    rng = np.random.default_rng(SEED)
    energy = energy_usd_per_mwh(rng, interval_count)[:, None]
    classes: list[SiteClass] = []
    for rank, (devices, modes) in enumerate(zip(DEVICE_COUNTS, MODE_COUNTS, strict=True)):
        drift = (1.0 + 0.1 * rank) * (1.0 + 0.002 * rng.normal(0, 1, interval_count).cumsum())[:, None]
        per_hour = EARNED_USD_PER_HOUR[:modes] * drift - POWER_KW[:modes] * energy / 1e3
        classes.append(
            SiteClass(
                profit_usd=per_hour * HOURS_PER_INTERVAL,
                switch_cost_usd=0.03 * (1.0 - np.eye(modes)),
                power_kw=POWER_KW[:modes],
                initial_counts=np.eye(modes)[0] * devices,
            )
        )
    return classes


def print_path(mode_count: int, stay: int) -> float:
    """Print one row of dynamic programming and return its seconds."""
    rng = np.random.default_rng(SEED)
    energy = energy_usd_per_mwh(rng, PATH_INTERVALS)[:, None]
    profit = HOURS_PER_INTERVAL * (EARNED_USD_PER_HOUR[:mode_count] - POWER_KW[:mode_count] * energy / 1e3)
    cost = 0.03 * (1.0 - np.eye(mode_count))
    minimum = np.full(mode_count, stay)
    moves = np.broadcast_to(cost, (PATH_INTERVALS, mode_count, mode_count)).copy()
    out = np.empty_like(moves)
    found = best_path(profit, cost, initial_mode=0, minimum_intervals=minimum)
    taken = median_s(lambda: best_path(profit, cost, initial_mode=0, minimum_intervals=minimum), ROUNDS)
    limit = median_s(lambda: np.add(moves, profit[:, :, None], out=out), ROUNDS)
    name = f"{PATH_INTERVALS:,} x {mode_count} modes, stay {stay}"
    print(f"dp  {name:30} {taken * 1e3:9.1f} ms   pass {limit * 1e3:8.2f} ms   ratio {taken / limit:8.1f}", end="")
    print(f"   {found.switch_count:,} switches")
    return taken


def print_site(name: str, interval_count: int, rounds: int) -> float:
    """Print one row of a site whose limits bind and return its seconds."""
    classes = a_site(interval_count)
    greatest_kw = sum(devices * float(POWER_KW.max()) for devices in DEVICE_COUNTS)
    cap, ramp = np.full(interval_count, CAP_RATIO * greatest_kw), np.full(interval_count, RAMP_RATIO * greatest_kw)
    plan = solve_site(classes, cap_kw=cap, ramp_kw=ramp, is_ramp_down_free=True)
    assert plan.method == "lp"
    taken = median_s(lambda: solve_site(classes, cap_kw=cap, ramp_kw=ramp, is_ramp_down_free=True), rounds)
    limit = median_s(lambda: solve_site(classes), rounds)
    variables = interval_count * (sum(modes**2 for modes in MODE_COUNTS) + 1)
    bound = float((plan.cap_price_usd_per_kw > 0.0).mean())
    print(f"lp  {name:30} {taken * 1e3:9.1f} ms   dp   {limit * 1e3:8.2f} ms   ratio {taken / limit:8.1f}", end="")
    print(f"   {variables:,} variables, {variables / taken:,.0f}/s, cap priced in {bound:.0%} of intervals")
    return taken


def main() -> int:
    """Print the table; return 1 when a goal is missed."""
    paths = [print_path(mode_count, stay) for mode_count in (2, 3) for stay in (1, 4, 12)]
    print_site("5 classes, 1 day of 15 min", INTERVALS_PER_DAY, 3)
    print_site("5 classes, 1 week", 7 * INTERVALS_PER_DAY, 1)
    month = print_site("5 classes, 1 month", 31 * INTERVALS_PER_DAY, 1)
    print(f"goals: each path under {GOAL_PATH_S:g} s, a month under {GOAL_SITE_MONTH_S:g} s")
    return 0 if max(paths) < GOAL_PATH_S and month < GOAL_SITE_MONTH_S else 1


if __name__ == "__main__":
    raise SystemExit(main())
