"""Merge the legs of a market into `MarketPrice` records in event-time order; pure, no clock and no Kafka."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from heapq import merge
from itertools import chain
from typing import Final

from hcp.market_data.legs import (
    DEMAND_SEED,
    constant_points,
    demand_points,
    gpu_classes,
    hash_price_point,
    rental_points,
)
from hcp.market_data.series import Point, Recording
from hcp.model.facilities import Facility, Fleet
from hcp.model.markets import SERIES_RULES, MarketPrice, PriceSeries
from hcp.model.units import MS_PER_HOUR, EpochMs

_ENERGY: Final = PriceSeries.ENERGY_REAL_TIME
_NEEDED: Final = (PriceSeries.BTC, PriceSeries.DIFFICULTY)

Order = tuple[int, str, PriceSeries, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """What can be replayed for a fleet.

    Attributes:
        fleet: Whose sites see it.
        facilities: Sites with an energy price.
        skipped: Sites whose market the recording does not have.
        lacking: Global series the recording does not have.
        recorded: Series that have points of their own, so that no stand-in is made for them.
        start_ms: Event time from which on all of it is known.
        end_ms: Of the last energy price; infinite for a synthetic market.
        demand_seed: Seed of the synthetic inference demand.
        points_from: The recorded or synthetic points of a site's hub, or of the global series for "".
    """

    fleet: Fleet
    facilities: tuple[Facility, ...]
    skipped: tuple[Facility, ...]
    lacking: tuple[PriceSeries, ...]
    recorded: frozenset[PriceSeries]
    start_ms: int
    end_ms: float
    demand_seed: int
    points_from: Callable[[str, int, float], Iterator[Point]]


def recorded_market(recording: Recording, *, fleet: Fleet) -> Market:
    """Make a market of recorded points; a site whose hub is not recorded is skipped."""
    by_hub: dict[str, list[Point]] = {}
    for point in recording.points:
        by_hub.setdefault(point.market, []).append(point)
    ends_ms = {point.market: point.observed_at_ms for point in recording.points if point.series is _ENERGY}
    served = tuple(site for site in fleet.facilities if site.energy_market in ends_ms)
    series = {point.series for point in by_hub.get("", [])}
    firsts = {(point.series, point.instrument): point.observed_at_ms for point in reversed(recording.points)}
    return Market(
        fleet=fleet,
        facilities=served,
        skipped=tuple(site for site in fleet.facilities if site.energy_market not in ends_ms),
        lacking=tuple(needed for needed in _NEEDED if needed not in series),
        recorded=frozenset(series),
        start_ms=max(firsts.values(), default=0) if not served else _known_from(firsts, served),
        end_ms=max((ends_ms[site.energy_market] for site in served), default=0),
        demand_seed=DEMAND_SEED,
        points_from=lambda hub, _from_ms, until_ms: (
            point for point in by_hub.get(hub, []) if point.observed_at_ms <= until_ms
        ),
    )


def _known_from(firsts: dict[tuple[PriceSeries, str], int], served: tuple[Facility, ...]) -> int:
    hubs = {site.energy_market for site in served}
    return max(
        first
        for (series, instrument), first in firsts.items()
        if series in _NEEDED or (series is _ENERGY and instrument in hubs)
    )


def replay(market: Market, *, start_ms: int, end_ms: float) -> Iterator[MarketPrice]:
    """Yield the latest price of each instrument as of `start_ms`, then every later one up to `end_ms`, in order."""
    streams = [_of_facility(market, site, start_ms=start_ms, end_ms=end_ms) for site in market.facilities]
    prices = merge(*streams, key=_order)
    latest: dict[tuple[str, PriceSeries, str], MarketPrice] = {}
    first: list[MarketPrice] = []
    for price in prices:
        if price.observed_at_ms > start_ms:
            first.append(price)
            break
        latest[price.facility_id, price.series, price.instrument] = price
    yield from sorted((price for price in latest.values() if not _is_over(price, start_ms)), key=_order)
    yield from chain(first, prices)


def _is_over(price: MarketPrice, at_ms: int) -> bool:
    """Say whether a day-ahead price is of an hour so long over that it tells nothing any more."""
    ended_ms = price.interval_start_ms + price.interval_ms
    return price.series is PriceSeries.ENERGY_DAY_AHEAD and ended_ms + MS_PER_HOUR <= at_ms


def _of_facility(market: Market, site: Facility, *, start_ms: int, end_ms: float) -> Iterator[MarketPrice]:
    """Yield what one site sees; global series once for each site, GPU classes the site has."""
    present = set(site.device_classes())
    classes = tuple(name for name in gpu_classes(market.fleet) if name in present)
    made = merge(
        constant_points(from_ms=start_ms, until_ms=end_ms),
        (
            point
            for point in rental_points(market.fleet, from_ms=start_ms, until_ms=end_ms)
            if point.instrument in present
        ),
        demand_points(site, classes=classes, seed=market.demand_seed, from_ms=start_ms, until_ms=end_ms),
        key=point_order,
    )
    has_stand_in = bool(classes) and PriceSeries.GPU_HASH_PRICE not in market.recorded
    streams: list[Iterable[Point]] = [
        market.points_from(site.energy_market, start_ms, end_ms),
        _with_hash_price(market.points_from("", start_ms, end_ms), is_made=has_stand_in),
        (point for point in made if point.series not in market.recorded),
    ]
    for point in merge(*streams, key=point_order):
        yield _price(point, site)


def _with_hash_price(points: Iterable[Point], *, is_made: bool) -> Iterator[Point]:
    for point in points:
        yield point
        if is_made and point.series is PriceSeries.BTC:
            yield hash_price_point(point)


def _price(point: Point, site: Facility) -> MarketPrice:
    return MarketPrice(
        facility_id=site.facility_id,
        series=point.series,
        instrument=point.instrument,
        value=point.value,
        unit=SERIES_RULES[point.series].unit,
        interval_start_ms=EpochMs(point.interval_start_ms),
        interval_ms=point.interval_ms,
        observed_at_ms=EpochMs(point.observed_at_ms),
        source=point.source,
    )


def point_order(point: Point) -> tuple[int, PriceSeries, str]:
    """Return what points are ordered by: event time, then series and instrument."""
    return point.observed_at_ms, point.series, point.instrument


def _order(price: MarketPrice) -> Order:
    return price.observed_at_ms, price.facility_id, price.series, price.instrument
