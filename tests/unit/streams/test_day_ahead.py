"""streams.day_ahead and what the optimizer makes of it: hours known once published, few of them, and bounded."""

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcp.model.ledger import Alert
from hcp.model.markets import MarketPrice, PriceSeries, day_ahead_instrument
from hcp.model.recommendations import Recommendation
from hcp.model.units import MS_PER_HOUR, EpochMs
from streams.day_ahead import HOURS_MAX, DayAhead
from streams.market import MarketState, apply_price
from streams.optimizer import on_price
from streams.recommendation import DAY_AHEAD_HOURS
from tests.unit.streams.world import DEFAULTS, DEMO_FLEET, MINUTE_MS, SITE, a_cause, a_price, an_energy_price, step

HUB = "HB_HOUSTON"
NOON_MS = 1_699_963_200_000
"""2023-11-14T12:00:00Z."""
HALF_HOUR_MS = 30 * MINUTE_MS


def a_day_ahead_price(hour: int, value: float, *, at_ms: int = NOON_MS, hub: str = HUB) -> MarketPrice:
    """Make the day-ahead price of the hour that many hours after noon, published at noon."""
    start_ms = NOON_MS + hour * MS_PER_HOUR
    made = a_price(PriceSeries.ENERGY_DAY_AHEAD, day_ahead_instrument(hub, start_ms), value, at_ms=at_ms)
    return replace(made, interval_start_ms=EpochMs(start_ms), interval_ms=MS_PER_HOUR)


def taken(*prices: MarketPrice) -> MarketState:
    """Take in every price, each of which must be one."""
    state = MarketState(facility_id=SITE)
    for price in prices:
        state, ignored = apply_price(state, price)
        assert ignored is None
    return state


def published(state: MarketState | None) -> DayAhead:
    """Return a state's day-ahead prices."""
    assert state is not None
    assert state.day_ahead is not None
    return state.day_ahead


def recommended(state: MarketState | None, *, at_ms: int) -> Recommendation:
    """Return what the site's next energy price leads to, all other prices known."""
    for (series, instrument), value in DEFAULTS.items():
        state, _ = apply_price(state, a_price(series, instrument, value, at_ms=NOON_MS - MS_PER_HOUR))
    outputs = step(on_price(state, an_energy_price(31.0, at_ms=at_ms), fleet=DEMO_FLEET, cause=a_cause())).outputs
    (recommendation,) = outputs
    assert isinstance(recommendation, Recommendation)
    return recommendation


def ahead(recommendation: Recommendation) -> list[float | None]:
    """Return a snapshot's day-ahead prices."""
    names = [f"day_ahead_{hour}h_usd_per_mwh" for hour in range(DAY_AHEAD_HOURS)]
    return [getattr(recommendation.market, name) for name in names]


def test_a_recommendation_carries_the_hours_from_that_of_its_energy_price_on() -> None:
    """A decision depends on this record alone, so what was known of the coming hours is in it; gaps stay gaps."""
    state = taken(*(a_day_ahead_price(hour, 10.0 + hour) for hour in (0, 1, 3, 4, 5)))
    assert ahead(recommended(state, at_ms=NOON_MS + 5 * MINUTE_MS)) == [10.0, 11.0, None, 13.0, 14.0]
    # The interval that ends at one o'clock is of the hour before.
    assert ahead(recommended(state, at_ms=NOON_MS + MS_PER_HOUR)) == [10.0, 11.0, None, 13.0, 14.0]
    assert ahead(recommended(state, at_ms=NOON_MS + MS_PER_HOUR + 5 * MINUTE_MS)) == [11.0, None, 13.0, 14.0, 15.0]
    assert ahead(recommended(None, at_ms=NOON_MS)) == [None] * DAY_AHEAD_HOURS


def test_no_price_is_seen_before_it_was_published() -> None:
    """Even where a record came early: event time decides."""
    state = taken(a_day_ahead_price(0, 20.0), a_day_ahead_price(1, 21.0, at_ms=NOON_MS + HALF_HOUR_MS))
    assert ahead(recommended(state, at_ms=NOON_MS + HALF_HOUR_MS - 1))[:2] == [20.0, None]
    assert ahead(recommended(state, at_ms=NOON_MS + HALF_HOUR_MS))[:2] == [20.0, 21.0]


def test_a_day_ahead_price_scores_nothing_by_itself() -> None:
    """It moves no quote and no event time, and leads to no recommendation: the next energy price carries it."""
    state = taken(a_price(PriceSeries.BTC, "BTC-USD", 60_000.0, at_ms=NOON_MS - 1))
    done = step(on_price(state, a_day_ahead_price(1, 30.0), fleet=DEMO_FLEET, cause=a_cause()))
    ((_, market),) = done.updates
    assert done.outputs == ()
    assert (market.quotes, market.observed_at_ms) == (state.quotes, state.observed_at_ms)
    assert published(market).known(NOON_MS + MS_PER_HOUR, at_ms=NOON_MS) == 30.0


def test_a_correction_replaces_its_hour_only_when_it_is_newer() -> None:
    """Twice delivered and older records change nothing, each with its word; other hours are left alone."""
    state = taken(a_day_ahead_price(1, 30.0, at_ms=NOON_MS + 1), a_day_ahead_price(2, 40.0))
    for at_ms, word in ((NOON_MS + 1, "duplicate"), (NOON_MS, "late")):
        assert apply_price(state, a_day_ahead_price(1, 99.0, at_ms=at_ms)) == (state, word)
    corrected, ignored = apply_price(state, a_day_ahead_price(1, 31.0, at_ms=NOON_MS + 2))
    assert ignored is None
    assert published(corrected).usd_per_mwh[-2:] == (31.0, 40.0)


@pytest.mark.parametrize(
    ("price", "word"),
    [
        (replace(a_day_ahead_price(1, 30.0), interval_ms=15 * MINUTE_MS), "not_hourly"),
        (replace(a_day_ahead_price(1, 30.0), interval_start_ms=EpochMs(NOON_MS + MINUTE_MS)), "not_hourly"),
        (replace(a_day_ahead_price(1, 30.0), instrument=HUB), "not_hourly"),
        (a_day_ahead_price(-2, 30.0), "late"),
        (a_day_ahead_price(HOURS_MAX, 30.0), "too_early"),
    ],
)
def test_what_tells_nothing_of_a_coming_hour_is_ignored(price: MarketPrice, word: str) -> None:
    """Other lengths, hours that are over, and hours further off than are kept."""
    state = MarketState(facility_id=SITE)
    assert apply_price(state, price) == (state, word)


def test_another_hub_is_ignored() -> None:
    """A site is charged its own market's price."""
    done = step(on_price(None, a_day_ahead_price(1, 30.0, hub="HB_WEST"), fleet=DEMO_FLEET, cause=a_cause()))
    assert (done.updates, done.outputs, done.ignored) == ((), (), "other_market")


def test_a_price_not_believed_is_left_out_and_nobody_holds_for_it() -> None:
    """A print of 50,000 gives one alert and no price; decisions go on as if the hour were not published."""
    state = taken(a_day_ahead_price(0, 30.0))
    done = step(on_price(state, a_day_ahead_price(1, 50_000.0), fleet=DEMO_FLEET, cause=a_cause(1)))
    ((_, doubting),) = done.updates
    (alert,) = done.outputs
    assert isinstance(alert, Alert)
    assert "energy_day_ahead" in alert.message
    assert "without it" in alert.message
    again = step(on_price(doubting, a_day_ahead_price(2, 50_000.0), fleet=DEMO_FLEET, cause=a_cause(2)))
    ((_, doubting),) = again.updates
    assert again.outputs == ()
    assert len(doubting.doubts) == 1
    recommendation = recommended(doubting, at_ms=NOON_MS + 5 * MINUTE_MS)
    assert (ahead(recommendation)[:3], recommendation.market.implausible) == ([30.0, None, None], "")
    assert apply_price(doubting, a_day_ahead_price(3, 30.0))[0].doubts == ()


def test_a_quote_keeps_what_was_published() -> None:
    """Taking in an energy price loses nothing of the day-ahead prices."""
    state = taken(a_day_ahead_price(1, 30.0), an_energy_price(31.0, at_ms=NOON_MS + 5 * MINUTE_MS))
    assert published(state).known(NOON_MS + MS_PER_HOUR, at_ms=NOON_MS) == 30.0


@given(
    hours=st.lists(st.tuples(st.integers(-3, 200), st.integers(0, 150), st.floats(-50.0, 5_000.0)), max_size=80),
)
def test_the_state_is_bounded_whatever_comes(hours: list[tuple[int, int, float]]) -> None:
    """Never more than two days of hours, columns of one length, none twice; and it survives the table's bytes."""
    state = MarketState(facility_id=SITE)
    for hour, published_hour, value in hours:
        price = a_day_ahead_price(hour, value, at_ms=NOON_MS + published_hour * MS_PER_HOUR)
        state, ignored = apply_price(state, price)
        if ignored is None:
            assert published(state).known(price.interval_start_ms, at_ms=price.observed_at_ms) == value
    if state.day_ahead is not None:
        assert len(state.day_ahead.usd_per_mwh) == len(state.day_ahead.published_ms) <= HOURS_MAX
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=MarketState) == state


def test_two_days_take_less_than_a_kilobyte() -> None:
    """It is written to the changelog with every price of the site."""
    prices = [a_day_ahead_price(hour, 30.123 + hour) for hour in range(-1, HOURS_MAX - 1)]
    assert len(msgspec.msgpack.encode(published(taken(*prices)))) < 1_024
