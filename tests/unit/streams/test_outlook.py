"""The probability of a coming switch: near the threshold it is high, far from it nil, and said only when it changes."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcp.model.devices import DeviceMode
from hcp.model.outlook import Outlook
from hcp.model.units import DurationMs, UsdPerHour
from streams.outlook import LIKELY, UNLIKELY, _probability, _Rival
from tests.examples import RECOMMENDATION

ROW = RECOMMENDATION.classes[0].scores[1]


def _rival(gain: float, *, sure: float, row_gain: float = 1.0, payback_minutes: int = 60) -> _Rival:
    row = replace(
        ROW,
        gain_usd_per_hour=UsdPerHour(row_gain),
        confidence=sure,
        payback_ms=DurationMs(payback_minutes * 60_000),
    )
    return _Rival(mode=DeviceMode.MINING, gain=gain, row=row)


@given(
    gain=st.floats(min_value=-5.0, max_value=5.0),
    more=st.floats(min_value=0.0, max_value=5.0),
    threshold=st.floats(min_value=0.0, max_value=5.0),
    sure=st.floats(min_value=0.5, max_value=1.0),
)
def test_more_gain_is_never_less_likely_and_a_higher_threshold_never_more(
    gain: float, more: float, threshold: float, sure: float
) -> None:
    """Monotone in both, and a probability whatever the confidence."""
    here = _probability(_rival(gain, sure=sure), threshold)
    assert 0.0 <= here <= 1.0
    assert here <= _probability(_rival(gain + more, sure=sure), threshold)
    assert here >= _probability(_rival(gain, sure=sure), threshold + more)


def test_a_gain_at_the_threshold_is_a_toss_up() -> None:
    """Half of all ways lead above it, whatever the volatility."""
    for sure in (0.6, 0.9, 0.999):
        assert _probability(_rival(2.0, sure=sure), 2.0) == pytest.approx(0.5)


def test_what_moves_little_is_less_likely_to_get_there() -> None:
    """The surer the present order, the less the gain moves in an hour."""
    restless, calm = (_probability(_rival(-1.0, sure=sure), 0.5) for sure in (0.6, 0.99))
    assert restless > LIKELY > UNLIKELY > calm


@pytest.mark.parametrize("sure", [0.5, 1.0])
def test_an_order_that_is_sure_or_none_gives_no_outlook(sure: float) -> None:
    """Nothing tells how far the gain moves."""
    assert _probability(_rival(-1.0, sure=sure), 0.5) == 0.0


def test_the_record_names_what_it_is_for() -> None:
    """No mode means that nothing is likely any more."""
    assert {"to_mode", "probability", "horizon_ms"} <= set(Outlook.__slots__)
