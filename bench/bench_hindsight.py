"""How long the hindsight optimum takes: one class over two years of intervals, and a site whose cap and ramp bind.

Run: `python -m bench.bench_hindsight`; no service is needed. Each figure stands beside a limit of the same run: for
dynamic programming, one pass of numpy over the [T, M, M] array of moves, which any method must at least read; for the
linear programme, the time of the classes' own optima, which is what an uncoupled site takes.
"""

import statistics
from collections.abc import Callable

import numpy as np
from rich.table import Table

from backtest.coupled import SiteClass, solve_site
from backtest.hindsight import FloatArray, best_path
from bench.report import machine, show, table, timed_ms

INTERVALS_PER_DAY = 96
HOURS_PER_INTERVAL = 0.25
PATH_INTERVALS = 70_080
ROUNDS = 7
GOAL_PATH_MS = 300.0
GOAL_SITE_MONTH_MS = 60_000.0
SEED = 20_231_125
DEVICE_COUNTS = (512, 256, 128, 10_000, 5_000)
MODE_COUNTS = (3, 3, 3, 2, 2)
POWER_KW = np.array([0.05, 3.5, 2.4])
EARNED_USD_PER_HOUR = np.array([0.0, 0.20, 0.145])
CAP_RATIO = 0.7
RAMP_RATIO = 0.1
"""Of the site's greatest power; both bind often in this market."""


def median_ms(work: Callable[[], object], rounds: int) -> float:
    """Return the median time of some rounds."""
    return statistics.median(timed_ms(work, rounds))


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


def path_row(to: Table, mode_count: int, stay: int) -> float:
    """Add one row of dynamic programming and return its milliseconds."""
    rng = np.random.default_rng(SEED)
    energy = energy_usd_per_mwh(rng, PATH_INTERVALS)[:, None]
    profit = HOURS_PER_INTERVAL * (EARNED_USD_PER_HOUR[:mode_count] - POWER_KW[:mode_count] * energy / 1e3)
    cost = 0.03 * (1.0 - np.eye(mode_count))
    minimum = np.full(mode_count, stay)
    moves = np.broadcast_to(cost, (PATH_INTERVALS, mode_count, mode_count)).copy()
    out = np.empty_like(moves)
    found = best_path(profit, cost, initial_mode=0, minimum_intervals=minimum)
    taken = median_ms(lambda: best_path(profit, cost, initial_mode=0, minimum_intervals=minimum), ROUNDS)
    limit = median_ms(lambda: np.add(moves, profit[:, :, None], out=out), ROUNDS)
    name = f"{PATH_INTERVALS:,} x {mode_count} modes, stay {stay}"
    to.add_row(name, f"{taken:.1f}", f"{limit:.2f}", f"{taken / limit:.1f}", f"{found.switch_count:,} switches")
    return taken


def site_row(to: Table, name: str, interval_count: int, rounds: int) -> float:
    """Add one row of a site whose limits bind and return its milliseconds."""
    classes = a_site(interval_count)
    greatest_kw = sum(devices * float(POWER_KW.max()) for devices in DEVICE_COUNTS)
    cap, ramp = np.full(interval_count, CAP_RATIO * greatest_kw), np.full(interval_count, RAMP_RATIO * greatest_kw)
    plan = solve_site(classes, cap_kw=cap, ramp_kw=ramp, is_ramp_down_free=True)
    assert plan.method == "lp"
    taken = median_ms(lambda: solve_site(classes, cap_kw=cap, ramp_kw=ramp, is_ramp_down_free=True), rounds)
    limit = median_ms(lambda: solve_site(classes), rounds)
    variables = interval_count * (sum(modes**2 for modes in MODE_COUNTS) + 1)
    bound = float((plan.cap_price_usd_per_kw > 0.0).mean())
    size = f"{variables:,} variables, cap priced in {bound:.0%} of intervals"
    to.add_row(name, f"{taken:.1f}", f"{limit:.2f}", f"{taken / limit:.1f}", size)
    return taken


def main() -> int:
    """Print the table; return 1 when a goal is missed."""
    columns = ("ms", "limit ms", "ratio", "size")
    alone = table("one class, dynamic programming; limit: one numpy pass over its moves", "what", *columns)
    coupled = table("a site, linear programme; limit: its classes uncoupled", "what", *columns)
    paths = [path_row(alone, mode_count, stay) for mode_count in (2, 3) for stay in (1, 4, 12)]
    site_row(coupled, "5 classes, 1 day of 15 min", INTERVALS_PER_DAY, 3)
    site_row(coupled, "5 classes, 1 week", 7 * INTERVALS_PER_DAY, 1)
    month = site_row(coupled, "5 classes, 1 month", 31 * INTERVALS_PER_DAY, 1)
    goals = f"goals: each path under {GOAL_PATH_MS:,.0f} ms, a month under {GOAL_SITE_MONTH_MS:,.0f} ms"
    show(machine(), alone, coupled, goals)
    return 0 if max(paths) < GOAL_PATH_MS and month < GOAL_SITE_MONTH_MS else 1


if __name__ == "__main__":
    raise SystemExit(main())
