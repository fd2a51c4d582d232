"""Score a site: every mode of every device class, at the prices known now; one score serves all devices of a class."""

from dataclasses import dataclass
from typing import Final

from hcp.model.devices import DeviceClass
from hcp.model.facilities import Facility, Fleet
from hcp.model.ids import id_from_record
from hcp.model.markets import PriceSeries
from hcp.model.recommendations import RATE_MAX, ClassDevices, ClassRecommendation, MarketSnapshot, Recommendation
from hcp.model.rejections import Rejected, RejectReason
from hcp.model.steps import Cause
from hcp.model.units import MS_PER_HOUR, Btc, EpochMs
from streams import economics
from streams.day_ahead import hour_of
from streams.market import MarketState, Quote
from streams.scoring import ClassScorer, Scored, SitePrices

_ENERGY: Final = PriceSeries.ENERGY_REAL_TIME
_WORDS_MAX: Final = 1_000
DAY_AHEAD_HOURS: Final = 5
"""Hours of day-ahead prices that a snapshot has fields for: sixteen intervals of 15 minutes lie within them."""
_NOT_PUBLISHED: Final[tuple[None, ...]] = (None,) * DAY_AHEAD_HOURS
_SITES_MAX: Final = 1_024
"""Sites whose scorers are kept; when one more comes, all are begun anew."""


@dataclass(slots=True, kw_only=True)
class _Site:
    """The scorers of one site, and the prices it was last scored at."""

    fleet: Fleet
    facility: Facility
    scorers: tuple[ClassScorer, ...]
    known: tuple[tuple[Quote, ...], SitePrices] | None = None


_sites: dict[int, _Site] = {}
"""By identity of the facility, which is held here and so cannot be another's: hashing one takes longer than a score."""


def recommend(
    market: MarketState,
    *,
    fleet: Fleet,
    facility: Facility,
    cause: Cause,
    devices: tuple[ClassDevices, ...] = (),
    resource_state_offset: int | None = None,
) -> Recommendation | Rejected:
    """Score all classes whose prices are all known, or say that the prices together are beyond any documented rate.

    Args:
        market: The prices known now.
        fleet: Whose classes.
        facility: The site.
        cause: The record of the newest price.
        devices: The site's devices as counted now.
        resource_state_offset: How far in resource.state that was.
    """
    site = _site(fleet, facility)
    prices = _prices(site, market)
    scored = [each for each in [scorer.score(prices) for scorer in site.scorers] if each is not None]
    worst = _worst(scored)
    if not max(worst, prices.hash_price or 0.0) <= RATE_MAX:
        return Rejected(
            reason=RejectReason.OUT_OF_RANGE,
            detail=f"prices together must give rates up to {RATE_MAX:g} USD/h, was {worst:g}",
        )
    return Recommendation(
        recommendation_id=id_from_record(topic=cause.topic, partition=cause.partition, offset=cause.offset),
        facility_id=facility.facility_id,
        observed_at_ms=EpochMs(market.observed_at_ms),
        market=_snapshot(prices, market),
        classes=tuple([each.scores for each in scored]),
        cause_topic=cause.topic,
        cause_partition=cause.partition,
        cause_offset=cause.offset,
        cause_timestamp_ms=max(cause.timestamp_ms, 0),
        devices=devices,
        resource_state_offset=resource_state_offset,
    )


def recommend_class(device_class: DeviceClass, *, prices: SitePrices, facility: Facility) -> ClassRecommendation | None:
    """Score one class by itself; None when a price it depends on has not been seen."""
    scored = ClassScorer(device_class, facility=facility).score(prices)
    return None if scored is None else scored.scores


def site_prices(market: MarketState, *, facility: Facility) -> SitePrices:
    """Look up the prices that all classes of a site share."""
    btc = market.latest(PriceSeries.BTC)
    difficulty = market.latest(PriceSeries.DIFFICULTY)
    subsidy = market.latest(PriceSeries.BLOCK_SUBSIDY)
    fees = market.latest(PriceSeries.BLOCK_FEES)
    hash_price = None
    if btc is not None and difficulty is not None and subsidy is not None and fees is not None:
        hash_price = economics.hash_price_usd_per_th_hour(
            difficulty=difficulty.value,
            subsidy_btc=Btc(subsidy.value),
            fees_btc_per_block=Btc(fees.value),
            btc_price_usd=btc.value,
        )
    energy = market.quote(_ENERGY, facility.energy_market)
    began_at_ms = market.observed_at_ms if energy is None else energy.observed_at_ms - energy.interval_ms
    return SitePrices(
        energy=energy,
        btc=btc,
        difficulty=difficulty,
        subsidy=subsidy,
        fees=fees,
        hash_price=hash_price,
        demand_adder=economics.demand_adder_usd_per_kwh(facility, at_ms=began_at_ms),
        quotes=market.quotes,
    )


def _site(fleet: Fleet, facility: Facility) -> _Site:
    """Return a site's scorers: those kept of this very facility and fleet, or new ones."""
    site = _sites.get(id(facility))
    if site is not None and site.facility is facility and site.fleet is fleet:
        return site
    classes = (fleet.device_class(name) for name in facility.device_classes())
    scorers = tuple(ClassScorer(each, facility=facility) for each in classes if each is not None)
    site = _Site(fleet=fleet, facility=facility, scorers=scorers)
    if len(_sites) >= _SITES_MAX:
        _sites.clear()
    _sites[id(facility)] = site
    return site


def _prices(site: _Site, market: MarketState) -> SitePrices:
    """Return the site's prices; when only its energy price is new, the others as they were found last time."""
    known, quotes = site.known, market.quotes
    if known is not None and len(known[0]) == len(quotes):
        changed = [new for old, new in zip(known[0], quotes, strict=True) if old is not new]
        if not changed:
            return known[1]
        energy, last = changed[0], known[1]
        if len(changed) == 1 and energy.series is _ENERGY and energy.instrument == site.facility.energy_market:
            began_at_ms = energy.observed_at_ms - energy.interval_ms
            prices = SitePrices(
                energy=energy,
                btc=last.btc,
                difficulty=last.difficulty,
                subsidy=last.subsidy,
                fees=last.fees,
                hash_price=last.hash_price,
                demand_adder=economics.demand_adder_usd_per_kwh(site.facility, at_ms=began_at_ms),
                quotes=last.quotes,
            )
            site.known = (quotes, prices)
            return prices
    prices = site_prices(market, facility=site.facility)
    site.known = (quotes, prices)
    return prices


def _worst(scored: list[Scored]) -> float:
    worst = 0.0
    for each in scored:
        worst = max(worst, each.rate_max)
    return worst


def _snapshot(prices: SitePrices, market: MarketState) -> MarketSnapshot:
    energy, btc = prices.energy, prices.btc
    ahead = _day_ahead(market, energy)
    return MarketSnapshot(
        energy_price_usd_per_mwh=None if energy is None else energy.value,
        energy_observed_at_ms=None if energy is None else energy.observed_at_ms,
        btc_price_usd=None if btc is None else btc.value,
        btc_observed_at_ms=None if btc is None else btc.observed_at_ms,
        difficulty=None if prices.difficulty is None else prices.difficulty.value,
        subsidy_btc=None if prices.subsidy is None else prices.subsidy.value,
        fees_btc_per_block=None if prices.fees is None else prices.fees.value,
        hash_price_usd_per_th_hour=prices.hash_price,
        energy_interval_ms=None if energy is None else energy.interval_ms,
        implausible="; ".join(_doubted(market))[:_WORDS_MAX] if market.doubts else "",
        day_ahead_0h_usd_per_mwh=ahead[0],
        day_ahead_1h_usd_per_mwh=ahead[1],
        day_ahead_2h_usd_per_mwh=ahead[2],
        day_ahead_3h_usd_per_mwh=ahead[3],
        day_ahead_4h_usd_per_mwh=ahead[4],
    )


def _doubted(market: MarketState) -> list[str]:
    """Return what is held back and was to be scored; a day-ahead price is not."""
    return [doubt.words for doubt in market.doubts if doubt.series is not PriceSeries.ENERGY_DAY_AHEAD]


def _day_ahead(market: MarketState, energy: Quote | None) -> tuple[float | None, ...]:
    """Return the day-ahead prices from the hour in which the energy price's interval began, as published by its end."""
    known = market.day_ahead
    if known is None or energy is None or known.market != energy.instrument:
        return _NOT_PUBLISHED
    first_ms, at_ms = hour_of(energy.observed_at_ms - energy.interval_ms), energy.observed_at_ms
    return tuple([known.known(first_ms + hour * MS_PER_HOUR, at_ms=at_ms) for hour in range(DAY_AHEAD_HOURS)])
