"""simulators.market: order, information time, speed and determinism of what is published."""

import os
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from hcp.errors import MarketDataError
from hcp.fleet import load_fleet
from hcp.market_data.legs import subsidy_btc, utilisation_ratio
from hcp.model.devices import DeviceMode
from hcp.model.markets import MarketPrice, PriceSeries
from hcp.model.recommendations import Recommendation
from hcp.model.rejections import Rejected
from hcp.model.steps import Cause
from hcp.model.units import EpochMs
from hcp.model.validation import check
from simulators.market import market_prices, open_market, sample_start_ms
from simulators.run_clock import RunClock
from streams.market import MarketState
from streams.optimizer import on_price

ROOT = Path(__file__).parents[3]
DEMO = load_fleet(ROOT / "fleet.demo.toml")
FULL = load_fleet(ROOT / "fleet.toml")
START_MS = sample_start_ms()
HOUR_MS = 3_600_000
WEEK_RECORDS = 2_766


def _week() -> list[MarketPrice]:
    market = open_market(fleet=DEMO, source=None, synthetic_seed=None, start_ms=None)
    return list(market_prices(market, start_ms=market.start_ms, end_ms=market.end_ms, loop=False))


def test_the_week_is_whole_ordered_and_in_range() -> None:
    """Every record of the sample passes the edge, and event time never goes back at a facility."""
    prices = _week()
    assert len(prices) == WEEK_RECORDS
    assert [check(price) for price in prices if check(price) is not None] == []
    assert [price.observed_at_ms for price in prices] == sorted(price.observed_at_ms for price in prices)
    keys = {(price.facility_id, price.series, price.instrument, price.observed_at_ms) for price in prices}
    assert len(keys) == len(prices)


def test_scoring_can_begin_at_once() -> None:
    """What is known at the origin comes first: every series of each site before any later price."""
    early = [price for price in _week() if price.observed_at_ms <= START_MS]
    for site in DEMO.facilities:
        seen = {price.series for price in early if price.facility_id == site.facility_id}
        assert seen == set(PriceSeries) - {PriceSeries.ENERGY_DAY_AHEAD}


def test_nothing_is_known_before_its_interval_ends() -> None:
    """Information time holds for every record."""
    assert all(price.observed_at_ms >= price.interval_start_ms + price.interval_ms for price in _week())


def test_starting_later_begins_with_the_latest_values() -> None:
    """A start in mid-week sends one record an instrument as of then, and from there on the same records."""
    later_ms = START_MS + 50 * HOUR_MS
    market = open_market(fleet=DEMO, source=None, synthetic_seed=None, start_ms=later_ms)
    part = list(market_prices(market, start_ms=later_ms, end_ms=market.end_ms, loop=False))
    whole = [price for price in _week() if price.observed_at_ms > later_ms]
    assert [price for price in part if price.observed_at_ms > later_ms] == whole
    first = [price for price in part if price.observed_at_ms <= later_ms]
    assert len({(price.facility_id, price.series, price.instrument) for price in first}) == len(first)


def test_a_facility_without_recorded_prices_is_skipped() -> None:
    """Fargo's hub is not in the sample: the Texan sites go on."""
    market = open_market(fleet=FULL, source=None, synthetic_seed=None, start_ms=None)
    assert [site.facility_id for site in market.skipped] == ["nd-fargo"]
    assert [site.facility_id for site in market.facilities] == ["tx-north", "tx-south"]


def test_no_facility_served_is_an_error(tmp_path: Path) -> None:
    """A source without any hub of the fleet is a user's mistake and says so."""
    path = tmp_path / "e.csv"
    path.write_text("interval_start_utc,location,price_usd_per_mwh\n2023-08-20T00:00:00Z,ELSEWHERE,1\n")
    with pytest.raises(MarketDataError, match="must hold one of"):
        open_market(fleet=DEMO, source=path, synthetic_seed=None, start_ms=None)


def test_a_recorded_leg_replaces_its_stand_in(tmp_path: Path) -> None:
    """Demand that was recorded is sent as recorded; the synthetic one stays away, other legs stay."""
    rows = (
        "energy_real_time,HB_WEST,20",
        "btc,BTC/USD,26000",
        "difficulty,bitcoin,5e13",
        "inference_utilisation,h100,0.5",
    )
    text = "time,series,instrument,value\n" + "".join(f"2023-08-20T00:00:00Z,{row}\n" for row in rows)
    (tmp_path / "all.csv").write_text(text)
    market = open_market(fleet=DEMO, source=tmp_path, synthetic_seed=None, start_ms=None)
    prices = list(market_prices(market, start_ms=START_MS, end_ms=START_MS + 5 * HOUR_MS, loop=False))
    demand = [price for price in prices if price.series is PriceSeries.INFERENCE_UTILISATION]
    assert [(price.instrument, price.value) for price in demand] == [("h100", 0.5)]
    assert demand[0].source == "recorded:all.csv"
    assert {price.series for price in prices} >= {PriceSeries.GPU_RENTAL, PriceSeries.GPU_HASH_PRICE}


def test_every_class_has_reason_to_switch_each_few_hours() -> None:
    """In the sample week the best mode of each class changes tens of times: there is something to decide."""
    states: dict[str, MarketState] = {}
    best: dict[tuple[str, str], DeviceMode] = {}
    flips: Counter[tuple[str, str]] = Counter()
    for offset, price in enumerate(_week()):
        cause = Cause(topic="market.price", partition=0, offset=offset, timestamp_ms=0)
        step = on_price(states.get(price.facility_id), price, fleet=DEMO, cause=cause)
        assert not isinstance(step, Rejected)
        states.update(step.updates)
        for recommendation in step.outputs:
            assert isinstance(recommendation, Recommendation)
            for scored in recommendation.classes:
                key = (recommendation.facility_id, scored.device_class)
                flips[key] += best.get(key, scored.best_mode) is not scored.best_mode
                best[key] = scored.best_mode
    assert len(flips) == 7
    assert all(14 <= count <= 140 for count in flips.values()), flips


def test_looping_moves_event_time_on() -> None:
    """A second lap repeats the values with event time a week later, never back."""
    market = open_market(fleet=DEMO, source=None, synthetic_seed=None, start_ms=None)
    prices = list(
        islice(market_prices(market, start_ms=market.start_ms, end_ms=market.end_ms, loop=True), WEEK_RECORDS + 500)
    )
    times = [price.observed_at_ms for price in prices]
    assert times == sorted(times)
    assert times[-1] > market.end_ms


def test_synthetic_market_is_bounded_by_nothing_but_the_caller() -> None:
    """Any length, every record within its range, spikes and negative prices both there."""
    market = open_market(fleet=DEMO, source=None, synthetic_seed=3, start_ms=START_MS)
    prices = list(market_prices(market, start_ms=START_MS, end_ms=START_MS + 30 * 24 * HOUR_MS, loop=False))
    assert [check(price) for price in prices if check(price) is not None] == []
    energy = [price.value for price in prices if price.series is PriceSeries.ENERGY_REAL_TIME]
    assert min(energy) < 0.0
    assert max(energy) > 250.0
    assert [price.observed_at_ms for price in prices] == sorted(price.observed_at_ms for price in prices)


def test_same_seed_same_records_whatever_the_hash_seed() -> None:
    """Two processes with different hash seeds print the same records; another seed prints others."""
    script = (
        "import sys, hashlib; from pathlib import Path; from itertools import islice\n"
        "from hcp.fleet import load_fleet; from simulators.market import *\n"
        "m = open_market(fleet=load_fleet(Path('fleet.demo.toml')), source=None, synthetic_seed=int(sys.argv[1]),"
        " start_ms=None)\n"
        "prices = islice(market_prices(m, start_ms=m.start_ms, end_ms=m.end_ms, loop=False), 2000)\n"
        "print(hashlib.sha256(repr(list(prices)).encode()).hexdigest())"
    )

    def run(seed: str, hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}  # noqa: TID251  # a child needs the whole of it
        command = [sys.executable, "-c", script, seed]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        return done.stdout

    assert run("3", "1") == run("3", "2")
    assert run("4", "1") != run("3", "1")


def test_demand_has_lulls_at_night_for_small_cards() -> None:
    """Some night hours are so quiet that mining wins, and days are not: else GPUs would never switch."""
    hours = range(START_MS // HOUR_MS, START_MS // HOUR_MS + 24 * 28)
    by_hour = {hour: utilisation_ratio("tx-north", "l40s", seed=7, hour=hour) for hour in hours}
    night = [value for hour, value in by_hour.items() if hour % 24 in range(5, 12)]
    evening = [value for hour, value in by_hour.items() if hour % 24 in range(18, 23)]
    assert sum(value < 0.02 for value in night) > len(night) / 2
    assert sum(value < 0.02 for value in evening) < len(evening) / 5


def test_subsidy_follows_the_halvings() -> None:
    """6.25 in 2023, 3.125 from block 840,000 on, 50 at the beginning."""
    assert subsidy_btc(START_MS) == 6.25
    assert (subsidy_btc(1_713_571_766_999), subsidy_btc(1_713_571_767_000)) == (6.25, 3.125)
    assert subsidy_btc(1_231_006_505_000) == 50.0


def test_events_are_due_by_speed() -> None:
    """An hour of events takes a second at 3,600; what is older than the origin is due at once; 0 never waits."""
    run = RunClock(origin_ms=EpochMs(START_MS), started_ms=EpochMs(1_000), speed_ratio=3_600.0)
    assert run.due_ms(START_MS + HOUR_MS) == 2_000
    assert run.due_ms(START_MS - HOUR_MS) == 1_000
    assert run.clock(lambda: EpochMs(2_000))() == START_MS + HOUR_MS
    for unpaced in (0.0, float("inf")):
        free = RunClock(origin_ms=EpochMs(START_MS), started_ms=EpochMs(1_000), speed_ratio=unpaced)
        assert free.due_ms(START_MS + HOUR_MS) == 1_000
        with pytest.raises(ValueError, match="speed_ratio"):
            free.clock()
