"""The optimizer: a price in, a recommendation for its site and the devices counted there out."""

import faust

from agents.deps import Deps, guard, source
from agents.states import States
from hcp.topics import DECISION_PARTITIONS, MARKET_PRICE, RESOURCE_STATE
from streams.inventory import SiteInventory, on_resource_state
from streams.market import MarketState
from streams.optimizer import on_price


def register(app: faust.App, deps: Deps) -> None:
    """Add the optimizer's tables and agents to its app."""
    markets = States(app, "markets", state=MarketState, partitions=DECISION_PARTITIONS)
    inventories = States(app, "inventories", state=SiteInventory, partitions=DECISION_PARTITIONS)
    prices = guard(app, MARKET_PRICE, deps=deps, states=markets)
    reports = guard(app, RESOURCE_STATE, deps=deps, states=inventories)

    @app.agent(source(app, MARKET_PRICE), name="optimizer.prices")
    async def on_prices(stream: "faust.StreamT[bytes]") -> None:
        async for event in stream.events():
            await prices.handle(
                event,
                lambda price, cause: on_price(
                    markets.get(price.facility_id),
                    price,
                    inventory=inventories.get(price.facility_id),
                    fleet=deps.fleet,
                    cause=cause,
                ),
            )

    @app.agent(source(app, RESOURCE_STATE), name="optimizer.reports")
    async def on_reports(stream: "faust.StreamT[bytes]") -> None:
        async for event in stream.events():
            await reports.handle(
                event,
                lambda report, cause: on_resource_state(
                    inventories.get(report.facility_id), report, fleet=deps.fleet, cause=cause
                ),
            )
