"""The optimizer: prices in, one explained recommendation out."""

from dataclasses import replace

import msgspec
import pytest

from hcp.codecs import decode, encode
from hcp.model.devices import DeviceMode
from hcp.model.ids import id_from_record
from hcp.model.markets import PriceSeries
from hcp.model.recommendations import ClassRecommendation, Recommendation
from hcp.model.rejections import Rejected, RejectReason
from streams.market import QUOTES_MAX, MarketState, apply_price
from streams.optimizer import on_price
from tests.unit.streams.world import (
    DEFAULTS,
    DEMO_FLEET,
    MINUTE_MS,
    START_MS,
    a_cause,
    a_price,
    an_energy_price,
    step,
)


def priced(**changed: float) -> tuple[MarketState, Recommendation]:
    """Publish every default price, some of them changed by series name, and return the last recommendation."""
    state: MarketState | None = None
    outputs: tuple[object, ...] = ()
    for offset, ((series, instrument), value) in enumerate(DEFAULTS.items()):
        price = a_price(series, instrument, changed.get(series.value, value))
        done = step(on_price(state, price, fleet=DEMO_FLEET, cause=a_cause(offset)))
        state, outputs = done.updates[0][1], done.outputs
    assert state is not None
    (recommendation,) = outputs
    assert isinstance(recommendation, Recommendation)
    return state, recommendation


def of_class(recommendation: Recommendation, device_class: str) -> ClassRecommendation:
    """Return one class's scores."""
    return next(scored for scored in recommendation.classes if scored.device_class == device_class)


def test_the_worked_example_of_the_documentation_holds() -> None:
    """An S21 at 30 USD/MWh: 0.39968 revenue, 0.1155 energy, 0.28418 profit, asleep from 105 USD/MWh on."""
    _, recommendation = priced()
    scored = of_class(recommendation, "s21")
    mining, sleep = scored.scores
    assert mining.revenue_usd_per_hour == pytest.approx(0.39968, abs=1e-5)
    assert mining.energy_cost_usd_per_hour == pytest.approx(0.1155)
    assert mining.profit_usd_per_hour == pytest.approx(0.28418, abs=1e-5)
    assert scored.best_mode is DeviceMode.MINING
    assert sleep.profit_usd_per_hour == pytest.approx(-0.000825)
    assert sleep.switch_cost_usd == pytest.approx(0.39968 / 12 + 0.02, abs=1e-5)
    assert sleep.break_even_usd_per_mwh == pytest.approx(104.561, abs=0.01)


def test_every_term_of_a_score_adds_up_to_its_profit() -> None:
    """Revenue less energy, demand and wear is the profit, for every mode of every class."""
    _, recommendation = priced()
    for scored in recommendation.classes:
        for row in scored.scores:
            costs = row.energy_cost_usd_per_hour + row.demand_cost_usd_per_hour + row.wear_usd_per_hour
            assert row.profit_usd_per_hour == pytest.approx(row.revenue_usd_per_hour - costs)


def test_a_high_energy_price_puts_asics_to_sleep_and_leaves_inference_alone() -> None:
    """At 500 USD/MWh mining loses, an H100 at 1.40 USD/h of inference does not."""
    _, recommendation = priced(energy_real_time=500.0)
    assert of_class(recommendation, "s21").best_mode is DeviceMode.SLEEP
    assert of_class(recommendation, "h100").best_mode is DeviceMode.AI_INFERENCE


def test_a_class_with_a_missing_price_is_left_out() -> None:
    """Zero is never put in place of a price that has not been seen."""
    done = step(on_price(None, an_energy_price(30.0, at_ms=START_MS), fleet=DEMO_FLEET, cause=a_cause()))
    (recommendation,) = done.outputs
    assert isinstance(recommendation, Recommendation)
    assert recommendation.classes == ()
    assert recommendation.market.btc_price_usd is None


def test_the_recommendation_is_named_after_its_price_and_survives_the_wire() -> None:
    """Its id derives from the record, and its bytes decode to the same value."""
    _, recommendation = priced()
    assert recommendation.recommendation_id == id_from_record(
        topic="market.price", partition=0, offset=len(DEFAULTS) - 1
    )
    assert decode(encode(recommendation)) == recommendation


def test_the_market_state_survives_json() -> None:
    """The table's changelog holds it as JSON."""
    state, _ = priced()
    assert msgspec.json.decode(msgspec.json.encode(state), type=MarketState) == state


def test_late_and_duplicate_prices_change_nothing() -> None:
    """Out of order and twice delivered prices are ignored, each with its word."""
    state, _ = priced()
    for at_ms, word in ((START_MS - 1, "late"), (START_MS, "duplicate")):
        done = step(on_price(state, an_energy_price(99.0, at_ms=at_ms), fleet=DEMO_FLEET, cause=a_cause(50)))
        assert (done.updates, done.outputs, done.ignored) == ((), (), word)


def test_an_unknown_facility_is_refused() -> None:
    """It has no row in fleet.toml."""
    price = a_price(PriceSeries.BTC, "BTC-USD", 60_000.0, facility_id="atlantis")
    rejected = on_price(None, price, fleet=DEMO_FLEET, cause=a_cause())
    assert isinstance(rejected, Rejected)
    assert rejected.reason is RejectReason.UNKNOWN_FACILITY


def test_prices_that_together_are_absurd_are_refused() -> None:
    """Each is in its range, but a difficulty of 1 would make every ASIC earn billions an hour."""
    state, _ = priced()
    others = tuple(quote for quote in state.quotes if quote.series is not PriceSeries.DIFFICULTY)
    absurd = a_price(PriceSeries.DIFFICULTY, "BTC", 1.0, at_ms=START_MS + 1)
    rejected = on_price(replace(state, quotes=others), absurd, fleet=DEMO_FLEET, cause=a_cause(50))
    assert isinstance(rejected, Rejected)
    assert rejected.reason is RejectReason.OUT_OF_RANGE


def test_volatility_lowers_confidence() -> None:
    """The same gain is less certain after a restless day than after a calm one."""
    confidences = []
    for swing in (1.0, 200.0):
        state, _ = priced()
        outputs: tuple[object, ...] = ()
        for tick in range(1, 21):
            price = an_energy_price(100.0 + (swing if tick % 2 else 0.0), at_ms=START_MS + tick * 5 * MINUTE_MS)
            done = step(on_price(state, price, fleet=DEMO_FLEET, cause=a_cause(tick)))
            state, outputs = done.updates[0][1], done.outputs
        (recommendation,) = outputs
        assert isinstance(recommendation, Recommendation)
        confidences.append(of_class(recommendation, "s21").confidence)
    assert confidences[0] > confidences[1] >= 0.5


def test_the_state_of_a_site_is_bounded() -> None:
    """A feed that invents instruments cannot fill the table."""
    state: MarketState | None = None
    for number in range(QUOTES_MAX + 10):
        state, _ = apply_price(state, a_price(PriceSeries.GPU_RENTAL, f"gpu{number}", 1.0, at_ms=START_MS + number))
    assert state is not None
    assert len(state.quotes) == QUOTES_MAX
    assert state.quote(PriceSeries.GPU_RENTAL, "gpu0") is None
