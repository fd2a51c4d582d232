"""The optimizer's transformation: a price re-scores its whole site."""

from hcp.model.facilities import Fleet
from hcp.model.markets import MarketPrice
from hcp.model.rejections import Rejected, RejectReason
from hcp.model.steps import Cause, Step
from streams.market import MarketState, apply_price
from streams.recommendation import recommend


def on_price(
    state: MarketState | None, price: MarketPrice, *, fleet: Fleet, cause: Cause
) -> Step[MarketState] | Rejected:
    """Take in one price and output one recommendation for its facility; the table's key is the facility."""
    facility = fleet.facility(price.facility_id)
    if facility is None:
        return Rejected(
            reason=RejectReason.UNKNOWN_FACILITY,
            detail=f"facility_id must be one of the fleet, was {price.facility_id}",
        )
    market, ignored = apply_price(state, price)
    if ignored is not None:
        return Step(ignored=ignored)
    recommendation = recommend(market, fleet=fleet, facility=facility, cause=cause)
    if isinstance(recommendation, Rejected):
        return recommendation
    return Step(updates=((facility.facility_id, market),), outputs=(recommendation,))
