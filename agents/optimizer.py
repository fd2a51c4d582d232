"""The optimizer: a price in, a recommendation for its site out."""

import faust

from agents.deps import Deps, guard, source
from agents.states import States
from hcp.topics import DECISION_PARTITIONS, MARKET_PRICE
from streams.market import MarketState
from streams.optimizer import on_price


def register(app: faust.App, deps: Deps) -> None:
    """Add the optimizer's table and agent to its app."""
    markets = States(app, "markets", state=MarketState, partitions=DECISION_PARTITIONS)
    prices = guard(app, MARKET_PRICE, deps=deps, states=markets)

    @app.agent(source(app, MARKET_PRICE), name="optimizer.prices")
    async def on_prices(stream: "faust.StreamT[bytes]") -> None:
        async for event in stream.events():
            await prices.handle(
                event,
                lambda price, cause: on_price(markets.get(price.facility_id), price, fleet=deps.fleet, cause=cause),
            )
