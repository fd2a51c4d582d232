"""What a scorer keeps between prices changes no score: it gives what one that has seen nothing gives."""

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from hcp.model.devices import DeviceClass
from hcp.model.facilities import DemandWindow, Facility, Fleet
from hcp.model.markets import MarketPrice, PriceSeries
from hcp.model.recommendations import Recommendation
from hcp.model.units import UsdPerKwh, UsdPerMwh, usd_per_kwh
from streams import economics
from streams.market import MarketState
from streams.optimizer import on_price
from streams.recommendation import recommend_class, site_prices
from streams.scoring import ClassScorer
from tests.unit.streams.world import DEFAULTS, DEMO_FLEET, MINUTE_MS, SITE, START_MS, a_cause, a_price, step

QUICK = settings(max_examples=60, deadline=None)
Change = tuple[tuple[PriceSeries, str], float]
OTHER_HUB, OTHER_FEED = (PriceSeries.ENERGY_REAL_TIME, "HB_WEST"), (PriceSeries.BTC, "BTC/USD")
STARTS = {**DEFAULTS, OTHER_HUB: 25.0, OTHER_FEED: 61_000.0}
CHANGES = st.lists(
    st.tuples(
        st.sampled_from([*STARTS, *[(PriceSeries.ENERGY_REAL_TIME, "HB_HOUSTON")] * 6]),
        st.sampled_from([0.9, 0.97, 1.0, 1.03]),
    ),
    min_size=1,
    max_size=40,
)
"""Which price moves next, energy's most often, and by what factor."""
WINDOW = DemandWindow(
    months=(11,), start_hour=14.0, end_hour=18.0, utc_offset_hours=-6.0, adder_usd_per_kwh=UsdPerKwh(0.05)
)


def prices_after(changes: Sequence[Change]) -> list[MarketPrice]:
    """Return every default price, then one price a quarter of an hour; utilisation stays a share."""
    values = dict(STARTS)
    prices = [a_price(series, instrument, value) for (series, instrument), value in DEFAULTS.items()]
    for number, ((series, instrument), factor) in enumerate(changes, start=1):
        value = values[series, instrument] * factor
        values[series, instrument] = min(value, 1.0) if series is PriceSeries.INFERENCE_UTILISATION else value
        at_ms = START_MS + number * 15 * MINUTE_MS
        prices.append(a_price(series, instrument, values[series, instrument], at_ms=at_ms))
    return prices


def the_site(fleet: Fleet) -> Facility:
    """Return the site all prices are for."""
    site = fleet.facility(SITE)
    assert site is not None
    return site


def classes_of(fleet: Fleet) -> list[DeviceClass]:
    """Return the classes of that site in the order of a recommendation."""
    found = [fleet.device_class(name) for name in the_site(fleet).device_classes()]
    return [each for each in found if each is not None]


def advised(market: MarketState | None, price: MarketPrice, *, fleet: Fleet, offset: int) -> Recommendation:
    """Return what a price makes the optimizer recommend."""
    advice = step(on_price(market, price, fleet=fleet, cause=a_cause(offset))).outputs[0]
    assert isinstance(advice, Recommendation)
    return advice


def taken_in(market: MarketState | None, price: MarketPrice, *, fleet: Fleet = DEMO_FLEET) -> MarketState:
    """Return the market after a price."""
    return dict(step(on_price(market, price, fleet=fleet, cause=a_cause())).updates)[SITE]


@QUICK
@given(changes=CHANGES, has_window=st.booleans())
def test_what_is_kept_between_prices_changes_no_score(changes: list[Change], *, has_window: bool) -> None:
    """After any history every class scores as a fresh scorer does, to the last bit; so does the site."""
    site = replace(the_site(DEMO_FLEET), demand_windows=(WINDOW,) if has_window else ())
    fleet = replace(DEMO_FLEET, facilities=(site,))
    kept = [ClassScorer(known, facility=site) for known in classes_of(fleet)]
    market: MarketState | None = None
    for offset, price in enumerate(prices_after(changes)):
        advice = advised(market, price, fleet=fleet, offset=offset)
        market = taken_in(market, price, fleet=fleet)
        prices = site_prices(market, facility=site)
        fresh = [recommend_class(known, prices=prices, facility=site) for known in classes_of(fleet)]
        again = [scorer.score(prices) for scorer in kept]
        assert repr([None if each is None else each.scores for each in again]) == repr(fresh)
        assert repr(list(advice.classes)) == repr([each for each in fresh if each is not None])
    assert market is not None
    assert len(market.quotes) >= len(DEFAULTS)


def test_two_histories_taken_in_turns_do_not_mix() -> None:
    """The same site replayed twice at once, at other prices: each has its own scores."""
    dear = {**DEFAULTS, (PriceSeries.ENERGY_REAL_TIME, "HB_HOUSTON"): 300.0, (PriceSeries.BTC, "BTC-USD"): 20_000.0}
    markets: dict[str, MarketState | None] = {"usual": None, "dear": None}
    last: dict[str, Recommendation] = {}
    for offset, (series, instrument) in enumerate(DEFAULTS):
        for name, values in (("usual", DEFAULTS), ("dear", dear)):
            price = a_price(series, instrument, values[series, instrument])
            last[name] = advised(markets[name], price, fleet=DEMO_FLEET, offset=offset)
            markets[name] = taken_in(markets[name], price)
    site = the_site(DEMO_FLEET)
    for name, market in markets.items():
        assert market is not None
        prices = site_prices(market, facility=site)
        fresh = [recommend_class(known, prices=prices, facility=site) for known in classes_of(DEMO_FLEET)]
        assert list(last[name].classes) == fresh
    assert last["usual"].classes != last["dear"].classes


def test_costs_and_profit_are_those_of_the_economics() -> None:
    """The scorer multiplies kilowatts it knows; the formulas give the same to the last bit."""
    market: MarketState | None = None
    for (series, instrument), value in DEFAULTS.items():
        market = taken_in(market, a_price(series, instrument, value))
    assert market is not None
    site = the_site(DEMO_FLEET)
    prices = site_prices(market, facility=site)
    scored = [recommend_class(known, prices=prices, facility=site) for known in classes_of(DEMO_FLEET)]
    rows = [row for each in scored if each is not None for row in each.scores]
    assert len(rows) == sum(len(known.modes) for known in classes_of(DEMO_FLEET))
    for row in rows:
        energy_cost = economics.energy_cost_usd_per_hour(
            power_watts=row.power_watts, pue=site.pue, price_usd_per_kwh=usd_per_kwh(UsdPerMwh(30.0))
        )
        assert row.energy_cost_usd_per_hour == energy_cost
        assert row.profit_usd_per_hour == economics.profit_usd_per_hour(
            revenue=row.revenue_usd_per_hour,
            energy_cost=energy_cost,
            demand_cost=row.demand_cost_usd_per_hour,
            wear=row.wear_usd_per_hour,
        )
