"""The orchestrator: recommendations in, decisions out; one input topic, so decisions follow from its order alone."""

import faust

from agents.deps import Deps, guard, source
from agents.states import States
from hcp.topics import DECISION_PARTITIONS, OPTIMIZER_RECOMMENDATION
from streams.orchestrator import SiteState, on_recommendation


def register(app: faust.App, deps: Deps) -> None:
    """Add the orchestrator's table and agent to its app."""
    sites = States(app, "sites", state=SiteState, partitions=DECISION_PARTITIONS)
    recommendations = guard(app, OPTIMIZER_RECOMMENDATION, deps=deps, states=sites)

    @app.agent(source(app, OPTIMIZER_RECOMMENDATION), name="orchestrator.recommendations")
    async def on_recommendations(stream: "faust.StreamT[bytes]") -> None:
        async for event in stream.events():
            await recommendations.handle(
                event,
                lambda advice, cause: on_recommendation(
                    sites.get(advice.facility_id), advice, fleet=deps.fleet, policy=deps.policy, cause=cause
                ),
            )
