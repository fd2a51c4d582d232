"""A decision in words: direction and price of what would have flipped it, percentiles, reasons; all of it pure."""

from dataclasses import replace
from statistics import quantiles

import pytest

from hcp.cli.explaining import (
    REASONS,
    DeviceResult,
    Explained,
    against_threshold,
    cause_command,
    cause_text,
    counterfactual,
    devices_text,
    outcome_counts,
    percentile,
    phase_times,
    prices,
    sentence,
)
from hcp.model.commands import DecisionAction, DecisionReason, DeviceOutcome, OrchestratorCommand
from hcp.model.devices import DeviceMode
from hcp.model.recommendations import Recommendation
from hcp.model.units import EpochMs
from streams.policies import policy_named
from tests.examples import DECISION, RECOMMENDATION
from tests.unit.streams.world import MINUTE_MS, START_MS, Plane

HOLD = replace(DECISION, action=DecisionAction.HOLD, to_mode=DECISION.from_mode, device_count=0)


def decided(prices: list[float], *, policy: str = "threshold") -> tuple[OrchestratorCommand, Recommendation]:
    """Return the last decision on the S21s under these prices, an hour apart, with its recommendation."""
    plane = Plane(policy=policy_named(policy))
    plane.see_devices()
    plane.see_prices()
    for place, price in enumerate(prices, start=1):
        plane.energy(price, at_ms=START_MS + place * 60 * MINUTE_MS)
    decision = [each for each in plane.decisions if each.device_class == "s21"][-1]
    (advice,) = [each for each in plane.recommendations if each.recommendation_id == decision.recommendation_id]
    return decision, advice


def said(prices: list[float], *, policy: str = "threshold") -> str:
    """Return the counterfactual of the last decision."""
    decision, advice = decided(prices, policy=policy)
    return counterfactual(Explained(decision=decision, recommendation=advice, results=()))


def test_a_sentence_says_what_when_by_whom_and_why() -> None:
    """A switch and a hold read alike."""
    assert sentence(DECISION) == (
        "At 2023-08-20 01:00:00Z policy threshold ordered up to 12 s21 from sleep to mining at tx-north: "
        "the gain pays the switch (gain_pays)."
    )
    assert sentence(replace(HOLD, reason=DecisionReason.DWELL)) == (
        "At 2023-08-20 01:00:00Z policy threshold kept s21 in sleep at tx-north: "
        "the class has switched too recently (dwell)."
    )


def test_every_reason_has_its_words() -> None:
    """A new reason without words fails here, not at a user's terminal."""
    assert set(REASONS) == set(DecisionReason)


@pytest.mark.parametrize(
    ("prices", "policy", "expected"),
    [
        ([30.0], "threshold", "sleep would have been the best mode at > 104.56 USD/MWh."),
        ([300.0], "greedy", "Would have held at < 104.56 USD/MWh."),
        ([104.7], "threshold", "Would have switched to sleep at > 104.97 USD/MWh."),
        ([300.0, 103.0], "threshold", "Would have switched to mining at < 90.62 USD/MWh."),
        ([300.0, 20.0], "greedy", "Would have held at > 104.56 USD/MWh."),
        ([30.0], "never", "No energy price alone would have changed it."),
    ],
)
def test_dear_energy_speaks_for_the_mode_that_draws_less(prices: list[float], policy: str, expected: str) -> None:
    """To mine needs a lower price, to sleep a higher one; a switch would have been held on the other side."""
    assert said(prices, policy=policy) == expected


@pytest.mark.parametrize("price", [-50.0, 20.0, 90.0, 100.0, 104.7, 106.0, 400.0])
@pytest.mark.parametrize("before", [30.0, 300.0])
def test_the_price_there_was_is_on_the_other_side_of_the_flip(before: float, price: float) -> None:
    """Whatever was decided, the price that day does not fulfil what the counterfactual asks for."""
    decision, advice = decided([before, price])
    words = counterfactual(Explained(decision=decision, recommendation=advice, results=()))
    energy = advice.market.energy_price_usd_per_mwh
    assert energy is not None
    if " at < " in words:
        assert decision.flip_usd_per_mwh is not None
        assert energy >= decision.flip_usd_per_mwh
    elif " at > " in words:
        assert decision.flip_usd_per_mwh is not None
        assert energy <= decision.flip_usd_per_mwh
    else:
        assert decision.flip_usd_per_mwh is None


def test_a_policy_that_remembers_is_asked_for_its_choice_at_other_prices() -> None:
    """An hour at 300 sends lcp's ASICs to sleep at once; the advantage of sleep and what it had to reach are said."""
    decision, advice = decided([30.0, 30.0, 300.0], policy="lcp")
    words = counterfactual(Explained(decision=decision, recommendation=advice, results=()))
    assert decision.flip_usd_per_mwh is not None
    assert 104.6 < decision.flip_usd_per_mwh < 300.0
    assert words == f"Would have held at < {decision.flip_usd_per_mwh:,.2f} USD/MWh."
    assert against_threshold(decision).startswith(f"advantage {decision.advantage_usd:.4f} USD a device")
    assert counterfactual(Explained(decision=decision, recommendation=None, results=())).startswith(
        "Would have held at"
    )
    assert "No other energy price" in counterfactual(
        Explained(decision=replace(decision, flip_usd_per_mwh=None), recommendation=advice, results=())
    )


def test_without_its_recommendation_the_direction_is_left_open() -> None:
    """What is no longer kept is not guessed."""
    known = Explained(decision=DECISION, recommendation=None, results=())
    assert counterfactual(known) == "The decision would flip at 71.50 USD/MWh."


def test_a_policy_that_ignores_prices_has_no_flip() -> None:
    """`always_mine` holds a mode that is not the best: no price would change that."""
    held = replace(HOLD, reason=DecisionReason.ALREADY_BEST, policy="always_mine", from_mode=DeviceMode.SLEEP)
    known = Explained(decision=held, recommendation=RECOMMENDATION, results=())
    assert counterfactual(known) == "Policy always_mine does not look at the energy price."


def test_prices_devices_and_cause_are_named() -> None:
    """Ages are in event time; the cause is topic, partition and offset, with a command that shows it."""
    later = replace(RECOMMENDATION, observed_at_ms=EpochMs(RECOMMENDATION.observed_at_ms + 7 * MINUTE_MS))
    assert prices(later).startswith("energy -12.50 USD/MWh (7 min old), bitcoin 26,100.00 USD (7 min old)")
    assert devices_text(RECOMMENDATION.devices[0]) == "movable 10 in mining, 2 in sleep; switching 1; stale 3"
    assert devices_text(None) == "none counted"
    assert cause_text(DECISION) == "market.price[3]@42"
    assert cause_command(DECISION).startswith("hcp topics tail market.price ")


def test_percentiles_are_those_of_the_database() -> None:
    """Linear between neighbours, as percentile_cont; one value is all of them."""
    values = [float(value) for value in range(1, 101)]
    assert percentile(values, 0.99) == pytest.approx(quantiles(values, n=100, method="inclusive")[98])
    assert percentile([7.0], 0.99) == 7.0


def test_results_are_counted_and_only_committed_ones_timed() -> None:
    """A device that was rolled back took its time, but says nothing of how long a switch takes."""
    results = [
        DeviceResult(outcome=DeviceOutcome.ROLLED_BACK, phases_ms={"total": 900.0}),
        DeviceResult(outcome=DeviceOutcome.COMMITTED, phases_ms={"total": 30.0, "commit": None}),
        DeviceResult(outcome=DeviceOutcome.COMMITTED, phases_ms={"total": 50.0, "commit": None}),
    ]
    assert outcome_counts(results) == {"committed": 2, "rolled_back": 1}
    (total,) = phase_times(results)
    assert (total.phase, total.p50_ms) == ("total", 40.0)
