"""What each device class rents for at a site: the last price of each, in integer micro-dollars."""

from dataclasses import dataclass

from hcp.model.facilities import Fleet
from hcp.model.markets import MarketPrice, PriceSeries
from hcp.model.rejections import Rejected
from hcp.model.steps import Step
from hcp.model.units import Usd, usd_micros
from streams.rejecting import known_facility


@dataclass(frozen=True, slots=True, kw_only=True)
class Rent:
    """One class's price.

    Attributes:
        device_class: The class.
        price_usd_micros_per_device_hour: What a device costs its customer.
        observed_at_ms: Event time of the price.
    """

    device_class: str
    price_usd_micros_per_device_hour: int
    observed_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteRents:
    """A site's prices, sorted by class."""

    facility_id: str
    rents: tuple[Rent, ...] = ()

    def price_of(self, device_class: str) -> int | None:
        """Return a class's price in micro-dollars a device-hour; None when none is known."""
        for rent in self.rents:
            if rent.device_class == device_class:
                return rent.price_usd_micros_per_device_hour
        return None


def on_rent(state: SiteRents | None, price: MarketPrice, *, fleet: Fleet) -> Step[SiteRents] | Rejected:
    """Take in a price; the table's key is the site. Only GPU rental matters here, and only what is not older."""
    facility = known_facility(fleet, price.facility_id)
    if isinstance(facility, Rejected):
        return facility
    if price.series is not PriceSeries.GPU_RENTAL:
        return Step(ignored="other_series")
    site = state or SiteRents(facility_id=price.facility_id)
    known = {rent.device_class: rent for rent in site.rents}
    before = known.get(price.instrument)
    if before is not None and price.observed_at_ms < before.observed_at_ms:
        return Step(ignored="late")
    known[price.instrument] = Rent(
        device_class=price.instrument,
        price_usd_micros_per_device_hour=max(usd_micros(Usd(price.value)), 0),
        observed_at_ms=price.observed_at_ms,
    )
    rents = tuple(known[name] for name in sorted(known))
    return Step(updates=((site.facility_id, SiteRents(facility_id=site.facility_id, rents=rents)),))
