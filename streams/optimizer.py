"""The optimizer's transformation: a price re-scores its whole site, for the devices counted there."""

from hcp.model.facilities import Fleet
from hcp.model.ids import id_from_content
from hcp.model.ledger import Alert, AlertSeverity, AlertType
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
    alerts = _alerts(state, market, price, cause=cause)
    if not market.quotes:
        return Step(updates=((facility.facility_id, market),), outputs=alerts)
    recommendation = recommend(
        market,
        fleet=fleet,
        facility=facility,
        cause=cause,
        devices=count_site(inventory, now_ms=market.observed_at_ms, wall_ms=cause.timestamp_ms),
        resource_state_offset=None if inventory is None else inventory.offset,
    )
    if isinstance(recommendation, Rejected):
        return recommendation
    return Step(updates=((facility.facility_id, market),), outputs=(recommendation, *alerts))


def _alerts(state: MarketState | None, market: MarketState, price: MarketPrice, *, cause: Cause) -> tuple[Alert, ...]:
    """Return an alert when an instrument's price begins not to be believed."""
    if not market.doubts:
        return ()
    known = () if state is None else state.doubts
    if any(doubt.series is price.series and doubt.instrument == price.instrument for doubt in known):
        return ()
    begun = [doubt for doubt in market.doubts if doubt not in known]
    return tuple(
        Alert(
            alert_id=id_from_content(cause.topic, cause.partition, cause.offset, doubt.series, doubt.instrument),
            facility_id=price.facility_id,
            severity=AlertSeverity.WARNING,
            alert_type=AlertType.PRICE_IMPLAUSIBLE,
            subject=price.facility_id,
            message=f"{doubt.words}: held back, and every class of {price.facility_id} holds its mode.",
            observed_at_ms=price.observed_at_ms,
        )
        for doubt in begun
    )
