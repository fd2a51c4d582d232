"""The router: workloads' events in; requests for devices, and where each waits, out.

Sites' devices and prices are kept from every partition that this worker has: run one router, which is enough for
thousands of submissions a second, or several of which each knows the sites of its own partitions only.
"""

import faust

from agents.deps import Deps, guard, source
from agents.states import States
from hcp.topics import DECISION_PARTITIONS, MARKET_PRICE, RESOURCE_STATE, WORKLOAD_EVENTS
from streams.inventory import SiteInventory, on_resource_state
from streams.rents import SiteRents, on_rent
from streams.router import Routed, Site, on_workload_event


def register(app: faust.App, deps: Deps) -> None:
    """Add the router's tables and agents to its app."""
    workloads = States(app, "workloads", state=Routed, partitions=DECISION_PARTITIONS)
    inventories = States(app, "inventories", state=SiteInventory, partitions=DECISION_PARTITIONS)
    rents = States(app, "rents", state=SiteRents, partitions=DECISION_PARTITIONS)
    events = guard(app, WORKLOAD_EVENTS, deps=deps, states=workloads)
    reports = guard(app, RESOURCE_STATE, deps=deps, states=inventories)
    prices = guard(app, MARKET_PRICE, deps=deps, states=rents)

    def sites() -> list[Site]:
        return [
            Site(facility=site, inventory=inventories.get(site.facility_id), rents=rents.get(site.facility_id))
            for site in deps.fleet.facilities
        ]

    @app.agent(source(app, WORKLOAD_EVENTS), name="router.events")
    async def on_events(stream: "faust.StreamT[bytes]") -> None:
        async for event in stream.events():
            await events.handle(
                event,
                lambda told, cause: on_workload_event(
                    workloads.get(told.workload_id), told, sites=sites(), fleet=deps.fleet, cause=cause
                ),
            )

    @app.agent(source(app, RESOURCE_STATE), name="router.reports")
    async def on_reports(stream: "faust.StreamT[bytes]") -> None:
        async for event in stream.events():
            await reports.handle(
                event,
                lambda report, cause: on_resource_state(
                    inventories.get(report.facility_id), report, fleet=deps.fleet, cause=cause
                ),
            )

    @app.agent(source(app, MARKET_PRICE), name="router.prices")
    async def on_prices(stream: "faust.StreamT[bytes]") -> None:
        async for event in stream.events():
            await prices.handle(event, lambda price, _: on_rent(rents.get(price.facility_id), price, fleet=deps.fleet))
