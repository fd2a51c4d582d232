"""How long a backtest takes: one device class over a year of 15-minute prices, and the whole fleet over two years.

Run: `python -m bench.bench_backtest`; no service is needed. With HCP_DATA_DIR set the prices are the recorded ones of
2023 and 2024, else a synthetic market of the same length. One core: nothing here runs in parallel. Beside each figure
stands what the same run cannot be faster than, the time in which its prices are only made and not decided on.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.table import Table

from backtest.engine import BacktestRun, run_backtest
from backtest.history import History, open_history, prices_of
from backtest.results import evaluate
from bench.report import machine, show, table
from hcp.fleet import load_fleet
from hcp.market_data.replay import Market
from hcp.model.facilities import Fleet
from hcp.model.units import MS_PER_DAY
from hcp.settings import load_settings
from simulators.synthetic import synthetic_market
from streams.policies import POLICIES, Policy

FLEET = Path(__file__).resolve().parents[1] / "fleet.toml"
RECORDED = (
    "electricity/ercot_rt_15min_hubs_2023-2024.parquet",
    "electricity/miso_rt_hourly_hubs_2023-2024.parquet",
    "btc/btcusdt_spot_1h_2023-2024.csv",
    "btc/btc_difficulty_epochs.csv",
)
START_MS = 1_672_552_800_000
"""2023-01-01T06:00Z, midnight in Texas."""
YEAR_MS, TWO_YEARS_MS = 365 * MS_PER_DAY, 731 * MS_PER_DAY
SITE, DEVICE_CLASS = "tx-north", "s21"
GOAL_CLASS_S, GOAL_FLEET_S = 1.0, 30.0
SEED = 20_231_125


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What is replayed: a fleet's market up to a time, and what a policy may take for it."""

    name: str
    fleet: Fleet
    market: Market
    until_ms: int
    goal_s: float


def market_of(fleet: Fleet, data_dir: Path | None) -> Market:
    """Return the recorded market of a fleet's hubs, or a synthetic one."""
    if data_dir is None:
        return synthetic_market(seed=SEED, fleet=fleet, start_ms=START_MS)
    history: History = open_history([data_dir / name for name in RECORDED], fleet=fleet)
    return history.market


def scopes(data_dir: Path | None) -> tuple[Scope, Scope]:
    """Return one class for a year, and the fleet for two."""
    fleet = load_fleet(FLEET)
    site = fleet.facility(SITE)
    assert site is not None
    clusters = tuple(cluster for cluster in site.clusters if cluster.device_class == DEVICE_CLASS)
    alone = replace(fleet, facilities=(replace(site, clusters=clusters),))
    return (
        Scope(
            name=f"{alone.device_count:,} {DEVICE_CLASS}, a year",
            fleet=alone,
            market=market_of(alone, data_dir),
            until_ms=START_MS + YEAR_MS,
            goal_s=GOAL_CLASS_S,
        ),
        Scope(
            name=f"{fleet.device_count:,} devices, two years",
            fleet=fleet,
            market=market_of(fleet, data_dir),
            until_ms=START_MS + TWO_YEARS_MS,
            goal_s=GOAL_FLEET_S,
        ),
    )


def decided(scope: Scope, policies: Sequence[Policy]) -> tuple[BacktestRun, float]:
    """Return a run and its seconds."""
    begun = time.perf_counter()
    run = run_backtest(
        prices_of(scope.market, from_ms=START_MS, until_ms=scope.until_ms),
        fleet=scope.fleet,
        policies=policies,
        settle_from_ms=START_MS,
    )
    return run, time.perf_counter() - begun


def made_s(scope: Scope) -> float:
    """Return the seconds in which the prices are made and nothing is done with them."""
    begun = time.perf_counter()
    for _ in prices_of(scope.market, from_ms=START_MS, until_ms=scope.until_ms):
        pass
    return time.perf_counter() - begun


def _cells(scope: Scope, taken_s: float, *, floor_s: float, run: BacktestRun) -> tuple[str, ...]:
    goal, share = f"{scope.goal_s:.0f}", f"{taken_s / scope.goal_s:.2f}"
    return (
        f"{taken_s:.2f}",
        goal,
        share,
        f"{floor_s:.2f}",
        f"{taken_s / run.price_count * 1e6:.1f}",
        f"{run.price_count:,}",
    )


def add_rows(to: Table, scope: Scope, *, alone: Sequence[Policy]) -> float:
    """Add one row a policy alone, one for all in one run; return the most seconds a policy took alone."""
    floor_s = made_s(scope)
    worst_s = 0.0
    for policy in alone:
        run, taken_s = decided(scope, [policy])
        worst_s = max(worst_s, taken_s)
        to.add_row(f"{scope.name}: {policy.name}", *_cells(scope, taken_s, floor_s=floor_s, run=run))
    run, taken_s = decided(scope, POLICIES)
    shared_s = taken_s / len(POLICIES)
    shared = _cells(scope, shared_s, floor_s=floor_s / len(POLICIES), run=run)
    to.add_row(f"{scope.name}: each of {len(POLICIES)} in one run", *shared)
    begun = time.perf_counter()
    evaluate(run, fleet=scope.fleet, policies=[policy.name for policy in POLICIES])
    settled_s = time.perf_counter() - begun
    to.add_row(f"{scope.name}: settling all, hindsight, best fixed", f"{settled_s:.2f}", "", "", "", "", "")
    return worst_s


def main() -> int:
    """Print the table; return 1 when a goal is missed."""
    data_dir = load_settings().data_dir
    one, whole = scopes(data_dir)
    columns = ("s a policy", "goal s", "share of goal", "prices alone s", "us a price", "prices")
    printed = table("policies over " + ("recorded prices" if data_dir else "synthetic prices"), "what", *columns)
    worst = [add_rows(printed, one, alone=POLICIES), add_rows(printed, whole, alone=POLICIES[:1])]
    show(machine(), printed)
    return 0 if worst[0] < one.goal_s and worst[1] < whole.goal_s else 1


if __name__ == "__main__":
    sys.exit(main())
