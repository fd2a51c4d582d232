"""Table states as bytes: what is written is read back, another version is refused."""

from typing import Any, cast

import pytest

from agents.states import STATE_VERSION, States, View
from hcp.model.markets import PriceSeries
from streams.market import MarketState, Quote
from tests.examples import AT

STATE = MarketState(
    facility_id="tx-north",
    quotes=(
        Quote(series=PriceSeries.BTC, instrument="BTC/USD", value=26_000.0, observed_at_ms=AT, variance_per_hour=None),
        Quote(
            series=PriceSeries.ENERGY_REAL_TIME,
            instrument="HB_WEST",
            value=-12.5,
            observed_at_ms=AT,
            variance_per_hour=0.25,
        ),
    ),
)


class _App:
    """Offers tables that are plain dictionaries."""

    def __init__(self) -> None:
        self.table: dict[bytes, bytes] = {}

    def Table(self, _name: str, **_: object) -> dict[bytes, bytes]:  # noqa: N802  # as faust
        """Return the one table."""
        return self.table


def _states() -> tuple[States[MarketState], dict[bytes, bytes]]:
    app = _App()
    return States(cast("Any", app), "markets", state=MarketState, partitions=12), app.table


def test_a_state_is_read_back_as_it_was_written() -> None:
    """The table holds bytes only, and they hold everything."""
    states, table = _states()
    states.set("tx-north", STATE)
    assert list(table) == [b"tx-north"]
    assert table[b"tx-north"][:1] == STATE_VERSION
    assert states.get("tx-north") == STATE


def test_an_unknown_key_has_no_state() -> None:
    """None says that nothing is known yet."""
    states, _ = _states()
    assert states.get("tx-north") is None


def test_a_state_of_another_version_is_refused() -> None:
    """A changelog of another release must not be taken for ours."""
    states, table = _states()
    states.set("tx-north", STATE)
    table[b"tx-north"] = b"\x02" + table[b"tx-north"][1:]
    with pytest.raises(AssertionError, match="must be of version"):
        states.get("tx-north")


def test_a_state_that_is_dropped_is_gone() -> None:
    """Also to a second one who drops it."""
    states, table = _states()
    states.set("tx-north", STATE)
    states.drop("tx-north")
    states.drop("tx-north")
    assert (states.get("tx-north"), states.keys(), table) == (None, [], {})


def test_a_view_shows_the_states_of_its_keys_as_they_are_now() -> None:
    """A key without a state is not there; one that is written again shows what was written last."""
    states, _ = _states()
    view = View(states, ["tx-north", "tx-south"])
    assert dict(view) == {}
    states.set("tx-north", STATE)
    assert dict(view) == {"tx-north": STATE}
    states.set("tx-north", MarketState(facility_id="tx-north", quotes=()))
    assert (view["tx-north"].quotes, len(view), "tx-south" in view) == ((), 1, False)
