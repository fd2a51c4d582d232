"""The optimizer's transformation: a price re-scores its whole site, for the devices counted there."""

from hcp.model.facilities import Fleet
from hcp.model.ids import id_from_content
from hcp.model.ledger import Alert, AlertSeverity, AlertType
from hcp.model.markets import MarketPrice, PriceSeries
from hcp.model.rejections import Rejected
from hcp.model.steps import Cause, Step
from streams.day_ahead import market_of
from streams.inventory import SiteInventory, count_site
from streams.market import MarketState, apply_price, is_about
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
    it depends on no other topic. A day-ahead price leads to none: it changes no score, and the next one carries it.
    """
    facility = known_facility(fleet, price.facility_id)
    if isinstance(facility, Rejected):
        return facility
    is_day_ahead = price.series is PriceSeries.ENERGY_DAY_AHEAD
    if is_day_ahead and market_of(price) != facility.energy_market:
        return Step(ignored="other_market")
    market, ignored = apply_price(state, price)
    if ignored is not None:
        return Step(ignored=ignored)
    alerts = _alerts(state, market, price, cause=cause)
    if is_day_ahead or not market.quotes:
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
    if any(is_about(doubt, price) for doubt in known):
        return ()
    begun = [doubt for doubt in market.doubts if doubt not in known]
    return tuple(
        Alert(
            alert_id=id_from_content(cause.topic, cause.partition, cause.offset, doubt.series, doubt.instrument),
            facility_id=price.facility_id,
            severity=AlertSeverity.WARNING,
            alert_type=AlertType.PRICE_IMPLAUSIBLE,
            subject=price.facility_id,
            message=f"{doubt.words}: held back{_meaning(price)}.",
            observed_at_ms=price.observed_at_ms,
        )
        for doubt in begun
    )


def _meaning(price: MarketPrice) -> str:
    """Say what a doubt means for decisions: without a day-ahead price they are made as if it were not published."""
    if price.series is PriceSeries.ENERGY_DAY_AHEAD:
        return ", and decisions are made without it"
    return f", and every class of {price.facility_id} holds its mode"
