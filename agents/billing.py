"""Billing: workloads' events in, priced usage out."""

import faust

from agents.deps import Deps, guard, source
from agents.states import States
from hcp.topics import DECISION_PARTITIONS, WORKLOAD_EVENTS
from streams.billing import Meter, on_metered


def register(app: faust.App, deps: Deps) -> None:
    """Add billing's table and agent to its app."""
    meters = States(app, "meters", state=Meter, partitions=DECISION_PARTITIONS)
    events = guard(app, WORKLOAD_EVENTS, deps=deps, states=meters)

    @app.agent(source(app, WORKLOAD_EVENTS), name="billing.events")
    async def on_events(stream: "faust.StreamT[bytes]") -> None:
        async for event in stream.events():
            await events.handle(event, lambda told, cause: on_metered(meters.get(told.workload_id), told, cause=cause))
