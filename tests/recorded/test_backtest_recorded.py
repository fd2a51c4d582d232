"""Backtests over two recorded years, found by HCP_DATA_DIR: accounts worked out anew, yardsticks, whole folders."""

import csv
import json
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from backtest.engine import BacktestRun, run_backtest
from backtest.history import History, open_history, prices_of
from backtest.results import BEST_FIXED, HINDSIGHT, BacktestResult, evaluate
from backtest.series import FloatArray, IntArray
from hcp.cli.main import main
from hcp.fleet import load_fleet
from hcp.model.devices import DeviceMode
from hcp.model.facilities import Fleet
from hcp.model.units import MS_PER_DAY, MS_PER_HOUR
from hcp.settings import load_settings
from streams.policies import POLICIES, policy_named

pytestmark = pytest.mark.recorded
ROOT = Path(__file__).parents[2]
ERCOT = "electricity/ercot_rt_15min_hubs_2023-2024.parquet"
MISO = "electricity/miso_rt_hourly_hubs_2023-2024.parquet"
BTC = "btc/btcusdt_spot_1h_2023-2024.csv"
DIFFICULTY = "btc/btc_difficulty_epochs.csv"
FLEET = load_fleet(ROOT / "fleet.toml")
NAMES = [policy.name for policy in POLICIES]
YEAR_MS = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp()) * 1_000
MARCH_MS = int(datetime(2024, 3, 1, tzinfo=UTC).timestamp()) * 1_000
"""Summer time begins on the tenth."""
FEES_BTC, SUBSIDIES = 0.2, ((1_713_571_767_000, 3.125), (0, 6.25))
"""As docs/market-data.md states them."""


def path_of(name: str) -> Path:
    """Return a recorded file; without it the test fails, never skips."""
    data_dir = load_settings().data_dir
    if data_dir is None or not (data_dir / name).exists():
        pytest.fail(f"HCP_DATA_DIR must hold {name}, was {data_dir}", pytrace=False)
    return data_dir / name


@pytest.fixture(scope="module")
def history() -> History:
    """Both Texan hubs, MISO's, bitcoin and difficulty."""
    return open_history([path_of(name) for name in (ERCOT, MISO, BTC, DIFFICULTY)], fleet=FLEET)


def ran(history: History, *, from_ms: int, days: int, names: list[str], fleet: Fleet = FLEET) -> BacktestRun:
    """Run policies over some days."""
    return run_backtest(
        prices_of(replace(history.market, fleet=fleet), from_ms=from_ms, until_ms=from_ms + days * MS_PER_DAY),
        fleet=fleet,
        policies=[policy_named(name) for name in names],
        settle_from_ms=from_ms,
    )


@pytest.fixture(scope="module")
def march(history: History) -> tuple[BacktestRun, BacktestResult]:
    """Every policy over March 2024, and what it came to."""
    run = ran(history, from_ms=MARCH_MS, days=31, names=NAMES)
    return run, evaluate(run, fleet=FLEET, policies=NAMES)


def test_a_month_is_settled_whole_whatever_the_clocks_do(march: tuple[BacktestRun, BacktestResult]) -> None:
    """Every quarter in Texas and every hour in Minnesota once, through the change to summer time."""
    lengths = {(each.facility_id, each.device_class): each.interval_ms for each in march[0].series}
    assert len(lengths) == 8
    for (facility_id, _), interval_ms in lengths.items():
        step_ms = MS_PER_HOUR if facility_id == "nd-fargo" else MS_PER_HOUR // 4
        assert set(interval_ms.tolist()) == {step_ms}
        assert len(interval_ms) == 31 * MS_PER_DAY // step_ms
    assert march[0].passed_over_count == 0


def test_nobody_who_keeps_the_cap_beats_hindsight(march: tuple[BacktestRun, BacktestResult]) -> None:
    """At every site; a linear programme's windows and tolerances may cost it a millionth."""
    for site in march[1].sites:
        rows = {row.contender: row for row in site.rows}
        assert set(rows) == {*NAMES, HINDSIGHT, BEST_FIXED}
        best = rows[HINDSIGHT]
        assert best.over_cap_hours == 0.0
        assert best.profit_usd > rows[BEST_FIXED].profit_usd
        for row in rows.values():
            if row.over_cap_hours == 0.0:
                assert row.profit_usd <= best.profit_usd * (1.0 + 1e-6), row.contender


def test_device_hours_add_up_to_the_fleets(march: tuple[BacktestRun, BacktestResult]) -> None:
    """Each contender keeps every device in one mode at a time: 39,152 of them for 31 days."""
    total = FLEET.device_count * 31 * 24
    for row in march[1].rows:
        if row.facility_id == "fleet":
            assert sum(row.device_hours.values()) == pytest.approx(total, rel=1e-6)


def test_a_year_of_mining_earns_what_the_files_say(history: History) -> None:
    """`never` over 2024 for S21 at HB_WEST, computed anew from the files: prices, candles known at their close."""
    site = FLEET.facility("tx-north")
    assert site is not None
    clusters = tuple(cluster for cluster in site.clusters if cluster.device_class == "s21")
    fleet = replace(FLEET, facilities=(replace(site, clusters=clusters),))
    served = replace(history.market, facilities=fleet.facilities)
    run = ran(replace(history, market=served), from_ms=YEAR_MS, days=366, names=["never"], fleet=fleet)
    result = evaluate(run, fleet=fleet, policies=["never"])
    starts_ms, energy = recorded_energy("HB_WEST", from_ms=YEAR_MS, days=366)
    assert run.series[0].starts_ms.tolist() == starts_ms.tolist()
    ends_ms = starts_ms + MS_PER_HOUR // 4
    profile = next(mode for mode in run.series[0].modes if mode.mode is DeviceMode.MINING)
    subsidy = np.where(ends_ms >= SUBSIDIES[0][0], SUBSIDIES[0][1], SUBSIDIES[1][1])
    # A halving between two midnights is published at its own time: known from then on, as `subsidy` has it.
    hash_price = 1e12 * 3_600 / (known_difficulty(ends_ms) * 2**32) * (subsidy + FEES_BTC) * known_btc(ends_ms)
    kept = (1.0 - site.pool_fee_ratio) * (1.0 - site.reject_ratio) * site.uptime_ratio
    cost = profile.power_watts / 1e3 * site.pue * (energy / 1e3 + site.demand_adder_usd_per_kwh)
    profit = ((profile.hash_rate_th_per_s or 0.0) * hash_price * kept - cost) * 0.25 * 10_000
    assert site.demand_windows == ()
    assert result.row("never", "tx-north").profit_usd == pytest.approx(float(profit.sum()), rel=1e-9)


def test_whole_folders_serve_as_a_market(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--market` takes the folders as they are: what is no documented shape is named and passed over."""
    folders = [str(path_of(name)) for name in ("electricity", "btc")]
    markets = [part for folder in folders for part in ("--market", folder)]
    window = ["--from", "2024-03-08", "--to", "2024-03-10", "--policy", "greedy", "--json", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["hcp", "backtest", "--fleet", str(ROOT / "fleet.toml"), *markets, *window])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    assert ended.value.code == 0, printed.err
    sites = {row["facility_id"] for row in json.loads(printed.out)}
    assert sites == {"tx-north", "tx-south", "nd-fargo", "fleet"}
    assert "passed over:" in printed.err
    assert pq.read_metadata(tmp_path / "decisions.parquet").num_rows > 0


def recorded_energy(hub: str, *, from_ms: int, days: int) -> tuple[IntArray, FloatArray]:
    """Return starts and prices of a hub straight from the file, in order."""
    table = pq.read_table(path_of(ERCOT), filters=[("location", "==", hub)]).sort_by("interval_start_utc")
    starts = np.array([round(at.timestamp() * 1e3) for at in table["interval_start_utc"].to_pylist()], dtype=np.int64)
    prices = table["price_usd_per_mwh"].to_numpy()
    is_in = (starts >= from_ms) & (starts < from_ms + days * MS_PER_DAY)
    return starts[is_in], np.asarray(prices[is_in], dtype=np.float64)


def known_btc(at_ms: IntArray) -> FloatArray:
    """Return the last close known at each time: a candle is known an hour after it opened."""
    return last_known(BTC, time="open_time_utc", value="close_usdt", delay_ms=MS_PER_HOUR, at_ms=at_ms)


def known_difficulty(at_ms: IntArray) -> FloatArray:
    """Return the difficulty in force at each time: known at the start of its epoch."""
    return last_known(DIFFICULTY, time="start_time_utc", value="difficulty", delay_ms=0, at_ms=at_ms)


def last_known(name: str, *, time: str, value: str, delay_ms: int, at_ms: IntArray) -> FloatArray:
    """Return the last value of a CSV file's column that was known at each time."""
    with path_of(name).open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row[time]]
    known_ms = np.array([round(datetime.fromisoformat(row[time]).timestamp() * 1e3) + delay_ms for row in rows])
    values = np.array([float(row[value]) for row in rows])
    order = np.argsort(known_ms, kind="stable")
    return np.asarray(values[order][np.searchsorted(known_ms[order], at_ms, side="right") - 1])
