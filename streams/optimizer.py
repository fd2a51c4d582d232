"""The optimizer's transformation: a price re-scores its whole site, for the devices counted there."""

from dataclasses import replace

from hcp.model.facilities import Fleet
from hcp.model.markets import MarketPrice
from hcp.model.rejections import Rejected
from hcp.model.steps import Cause, Step
from streams.inventory import SiteInventory, count_site
from streams.market import MarketState, apply_price
from streams.recommendation import recommend
from streams.rejecting import known_facility


def on_price(
    state: MarketState | None,
    price: MarketPrice,
    *,
    inventory: SiteInventory | None = None,
    fleet: Fleet,
    cause: Cause,
) -> Step[MarketState] | Rejected:
    """Take in one price and output one recommendation for its facility; the table's key is the facility.

    The recommendation carries the devices as counted now, and how far in resource.state that was: what is decided on
    it depends on no other topic.
    """
    facility = known_facility(fleet, price.facility_id)
    if isinstance(facility, Rejected):
        return facility
    market, ignored = apply_price(state, price)
    if ignored is not None:
        return Step(ignored=ignored)
    recommendation = recommend(market, fleet=fleet, facility=facility, cause=cause)
    if isinstance(recommendation, Rejected):
        return recommendation
    recommendation = replace(
        recommendation,
        devices=count_site(inventory, now_ms=recommendation.observed_at_ms, wall_ms=cause.timestamp_ms),
        resource_state_offset=None if inventory is None else inventory.offset,
    )
    return Step(updates=((facility.facility_id, market),), outputs=(recommendation,))
