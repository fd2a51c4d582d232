"""The readers and the replay on two full years of recorded data, found by HCP_DATA_DIR."""

from collections import Counter
from itertools import islice, pairwise
from pathlib import Path

import pytest

from hcp.fleet import load_fleet
from hcp.market_data.replay import recorded_market
from hcp.market_data.series import Recording, read_sample, read_source
from hcp.model.markets import PriceSeries
from hcp.model.validation import check
from hcp.settings import load_settings
from simulators.market import market_prices, sample_start_ms

pytestmark = pytest.mark.recorded
ROOT = Path(__file__).parents[2]
HUBS = frozenset({"HB_WEST", "HB_HOUSTON"})
QUARTERS = 731 * 96
"""Of the years 2023 and 2024; the file begins and ends at midnight in Texas."""
ERCOT = "electricity/ercot_rt_15min_hubs_2023-2024.parquet"
BTC = "btc/btcusdt_spot_1h_2023-2024.csv"
DIFFICULTY = "btc/btc_difficulty_epochs.csv"


def _path(name: str) -> Path:
    data_dir = load_settings().data_dir
    if data_dir is None or not (data_dir / name).is_file():
        pytest.fail(f"HCP_DATA_DIR must hold {name}, was {data_dir}", pytrace=False)
    return data_dir / name


@pytest.fixture(scope="module")
def ercot() -> Recording:
    """The two hubs of the fleet's Texan sites."""
    return read_source(_path(ERCOT), HUBS)


def test_two_years_of_ercot_have_no_gap(ercot: Recording) -> None:
    """Every interval of both hubs is there, 15 minutes apart, summer time or not."""
    counts = Counter(point.instrument for point in ercot.points)
    assert counts == {"HB_WEST": QUARTERS, "HB_HOUSTON": QUARTERS}
    assert (ercot.empty_rows, ercot.repeated_rows) == (0, 0)
    west = [point.observed_at_ms for point in ercot.points if point.instrument == "HB_WEST"]
    assert {after - before for before, after in pairwise(west)} == {900_000}
    negative = sum(point.value < 0 for point in ercot.points if point.instrument == "HB_WEST")
    assert negative / QUARTERS == pytest.approx(0.093, abs=0.002)


def test_the_sample_is_a_part_of_the_recording(ercot: Recording) -> None:
    """What is shipped is what was recorded, to the last digit, BTC and difficulty included."""
    full = {
        (point.series, point.instrument, point.observed_at_ms): point.value
        for recording in (ercot, read_source(_path(BTC)), read_source(_path(DIFFICULTY)))
        for point in recording.points
    }
    for point in read_sample().points:
        assert full[point.series, point.instrument, point.observed_at_ms] == point.value


def test_btc_gaps_stay_gaps() -> None:
    """One hour is missing (2023-03-24 13:00, an outage): nothing is put in its place."""
    points = read_source(_path(BTC)).points
    assert {point.series for point in points} == {PriceSeries.BTC}
    assert len(points) == 731 * 24 - 1
    steps = Counter(after.observed_at_ms - before.observed_at_ms for before, after in pairwise(points))
    assert steps == {3_600_000: len(points) - 2, 7_200_000: 1}


def test_epochs_without_a_start_are_counted_not_guessed() -> None:
    """Epochs before 2021 have no recorded start: they are skipped."""
    recording = read_source(_path(DIFFICULTY))
    assert recording.empty_rows > 300
    assert all(point.interval_ms == 0 for point in recording.points)


def test_two_years_replay_in_order_and_in_range(ercot: Recording) -> None:
    """The whole recording becomes valid records in event-time order."""
    recordings = (ercot, read_source(_path(BTC)), read_source(_path(DIFFICULTY)))
    points = sorted(
        (point for recording in recordings for point in recording.points),
        key=lambda point: (point.observed_at_ms, point.series, point.instrument),
    )
    merged = Recording(points=tuple(points), empty_rows=0, repeated_rows=0)
    market = recorded_market(merged, fleet=load_fleet(ROOT / "fleet.demo.toml"))
    last_ms, seen = 0, 0
    prices = market_prices(market, start_ms=market.start_ms, end_ms=market.end_ms, loop=False)
    for price in prices:
        assert price.observed_at_ms >= last_ms
        last_ms, seen = price.observed_at_ms, seen + 1
        if seen % 50 == 0:
            assert check(price) is None
    assert seen > 2 * QUARTERS
    assert last_ms > sample_start_ms()


def test_a_day_of_miso_replays_for_fargo() -> None:
    """With MISO's recording the northern site has prices; the others are the ones left out."""
    fleet = load_fleet(ROOT / "fleet.toml")
    recording = read_source(_path("electricity/miso_rt_hourly_hubs_2023-2024.parquet"), frozenset({"MINNESOTA.HUB"}))
    market = recorded_market(recording, fleet=fleet)
    assert [site.facility_id for site in market.facilities] == ["nd-fargo"]
    first = list(islice(market_prices(market, start_ms=market.start_ms, end_ms=market.end_ms, loop=False), 100))
    energy = [price for price in first if price.series is PriceSeries.ENERGY_REAL_TIME]
    assert {price.interval_ms for price in energy} == {3_600_000}
