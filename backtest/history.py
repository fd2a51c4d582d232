"""What a backtest is fed: recorded files as the market simulator would publish them, each price with its cause."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hcp.errors import MarketDataError
from hcp.market_data.replay import Market, recorded_market, replay
from hcp.market_data.series import Recording, merged, read_sample, read_source
from hcp.model.facilities import Fleet
from hcp.model.markets import MarketPrice, PriceSeries
from hcp.model.steps import Cause
from hcp.topics import MARKET_PRICE


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Recorded markets, opened.

    Attributes:
        market: What can be replayed, and for which sites.
        passed_over: Files of a folder whose columns are no documented shape.
    """

    market: Market
    passed_over: tuple[Path, ...]


def open_history(sources: Sequence[Path], *, fleet: Fleet) -> History:
    """Read files and folders; none is the week that HCP ships.

    Raises:
        MarketDataError: A source cannot be read, no site has prices, or BTC or difficulty are missing for its ASICs.
    """
    hubs = frozenset(site.energy_market for site in fleet.facilities)
    passed_over: list[Path] = []
    recordings: list[Recording] = [] if sources else [read_sample(hubs)]
    recordings.extend(read_source(source, hubs, passed_over=passed_over) for source in sources)
    market = recorded_market(merged(recordings), fleet=fleet)
    named = ", ".join(str(source) for source in sources) or "the shipped week"
    if not market.facilities:
        raise MarketDataError(f"{named} must hold energy prices of one of {', '.join(sorted(hubs))}, was without")
    if market.lacking:
        lacking = " and ".join(series.value for series in market.lacking)
        raise MarketDataError(f"{named} must hold {lacking} too, was without")
    return History(market=market, passed_over=tuple(passed_over))


def with_causes(prices: Iterable[MarketPrice]) -> Iterator[tuple[MarketPrice, Cause]]:
    """Give each price the record it would have come in: one partition, offsets counted, stamped at its event time."""
    topic = MARKET_PRICE.name
    for offset, price in enumerate(prices):
        yield price, Cause(topic=topic, partition=0, offset=offset, timestamp_ms=price.observed_at_ms)


def prices_of(market: Market, *, from_ms: int, until_ms: float) -> Iterator[tuple[MarketPrice, Cause]]:
    """Yield the latest of each instrument as of `from_ms`, then every price up to `until_ms`."""
    return with_causes(replay(market, start_ms=from_ms, end_ms=until_ms))


def energy_span_ms(market: Market) -> tuple[int, int]:
    """Return from when to when all that is needed is recorded."""
    assert PriceSeries.ENERGY_REAL_TIME not in market.lacking
    return market.start_ms, int(market.end_ms)
