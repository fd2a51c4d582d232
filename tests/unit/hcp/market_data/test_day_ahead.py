"""Day-ahead prices of a recording: whose hour each is, when it became known, and what a replay makes of them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from hcp.errors import MarketDataError
from hcp.fleet import load_fleet
from hcp.market_data.publication import ercot_day_ahead_published_ms
from hcp.market_data.replay import recorded_market, replay
from hcp.market_data.series import merged, read_file, read_sample
from hcp.model.markets import PriceSeries
from hcp.model.units import MS_PER_DAY, MS_PER_HOUR, EpochMs
from hcp.model.validation import check
from simulators.market import market_prices, open_market, sample_start_ms

DEMO = load_fleet(Path(__file__).parents[4] / "fleet.demo.toml")
HEADER = "interval_start_utc,location,dam_price_usd_per_mwh\n"
CHICAGO = ZoneInfo("America/Chicago")


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1_000)


def _file(folder: Path, text: str) -> Path:
    path = folder / "ahead.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_an_hour_is_known_since_the_afternoon_before(tmp_path: Path) -> None:
    """ERCOT's day begins at midnight in Texas, and all of its hours are known at 13:30 the day before."""
    text = (
        HEADER + "2024-07-02T04:00:00Z,HB_WEST,50\n2024-07-02T05:00:00Z,HB_WEST,40\n2024-07-03T04:00:00Z,HB_WEST,45\n"
    )
    first, second, third = read_file(_file(tmp_path, text)).points
    assert first.instrument == f"HB_WEST/{_ms('2024-07-02T04:00:00Z') // MS_PER_HOUR}"
    assert (first.series, first.market, first.interval_ms) == (PriceSeries.ENERGY_DAY_AHEAD, "HB_WEST", MS_PER_HOUR)
    assert first.observed_at_ms == _ms("2024-06-30T18:30:00Z")
    assert second.observed_at_ms == third.observed_at_ms == _ms("2024-07-01T18:30:00Z")


def test_summer_time_moves_publication_as_the_time_zone_says() -> None:
    """Every hour of four years, both nights of change among them, against the time zone database."""
    hour = datetime(2023, 1, 1, tzinfo=UTC)
    while hour.year < 2027:
        before = hour.astimezone(CHICAGO).date() - timedelta(days=1)
        wanted = datetime(before.year, before.month, before.day, 13, 30, tzinfo=CHICAGO)
        assert ercot_day_ahead_published_ms(round(hour.timestamp() * 1_000)) == round(wanted.timestamp() * 1_000), hour
        hour += timedelta(hours=1)


def test_a_row_may_say_itself_when_it_was_published(tmp_path: Path) -> None:
    """Then any market can be read; without it only those whose rule is known."""
    said = HEADER.replace("\n", ",published_at_utc\n") + "2026-03-02T05:00:00Z,CZ,50,2026-03-01T11:57:00Z\n"
    (point,) = read_file(_file(tmp_path, said)).points
    assert point.observed_at_ms == _ms("2026-03-01T11:57:00Z")
    with pytest.raises(MarketDataError, match=r"line 2, location: must begin with HB_ or LZ_ .* was 'CZ'"):
        read_file(_file(tmp_path, HEADER + "2026-03-02T05:00:00Z,CZ,50\n"))


def test_a_replay_begins_with_the_hours_that_are_not_over(tmp_path: Path) -> None:
    """Whoever joins at noon knows the rest of the day, nothing of what is over, and tomorrow only later."""
    start_ms = sample_start_ms()
    rows = "".join(
        f"{datetime.fromtimestamp((start_ms + hour * MS_PER_HOUR) / 1_000, UTC).isoformat()},HB_WEST,{hour}\n"
        for hour in range(72)
    )
    recording = merged([read_sample(), read_file(_file(tmp_path, HEADER + rows))])
    market = recorded_market(recording, fleet=DEMO)
    noon_ms = start_ms + 36 * MS_PER_HOUR
    prices = [
        price
        for price in replay(market, start_ms=noon_ms, end_ms=market.end_ms)
        if price.series is PriceSeries.ENERGY_DAY_AHEAD
    ]
    early = [price for price in prices if price.observed_at_ms <= noon_ms]
    assert [price.value for price in early] == [float(hour) for hour in range(35, 53)]  # Texas' day ends at 05:00 UTC
    assert [price.value for price in prices if price not in early] == [float(hour) for hour in range(53, 72)]
    assert all(price.instrument.startswith("HB_WEST/") for price in prices)
    assert {price.facility_id for price in prices} == {
        site.facility_id for site in DEMO.facilities if site.energy_market == "HB_WEST"
    }
    assert [check(price) for price in prices if check(price) is not None] == []


def test_day_ahead_prices_alone_make_no_market(tmp_path: Path) -> None:
    """Nobody is charged them: a site needs its real-time price, and the market ends with the last of those."""
    alone = read_file(_file(tmp_path, HEADER + "2030-01-01T05:00:00Z,HB_WEST,50\n"))
    assert recorded_market(alone, fleet=DEMO).facilities == ()
    with_it = recorded_market(merged([read_sample(), alone]), fleet=DEMO)
    assert with_it.end_ms == recorded_market(read_sample(), fleet=DEMO).end_ms


def test_a_synthetic_market_publishes_days_ahead() -> None:
    """Every hour of real-time prices has had its day-ahead price since the day before."""
    start_ms = sample_start_ms()
    market = open_market(fleet=DEMO, source=None, synthetic_seed=3, start_ms=start_ms)
    prices = list(market_prices(market, start_ms=start_ms, end_ms=start_ms + 5 * MS_PER_DAY, loop=False))
    known = {
        (price.facility_id, price.interval_start_ms): price.observed_at_ms
        for price in prices
        if price.series is PriceSeries.ENERGY_DAY_AHEAD
    }
    energy = [price for price in prices if price.series is PriceSeries.ENERGY_REAL_TIME]
    for price in energy[len(DEMO.facilities) :]:  # the first of each site is of the day before
        hour_ms = price.interval_start_ms // MS_PER_HOUR * MS_PER_HOUR
        assert known[price.facility_id, EpochMs(hour_ms)] <= hour_ms - 5 * MS_PER_HOUR
    assert [check(price) for price in prices if check(price) is not None] == []
