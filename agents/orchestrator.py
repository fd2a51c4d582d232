"""The orchestrator: recommendations and states in, decisions out."""

import faust

from agents.deps import Deps, guard, source
from agents.states import States
from hcp.topics import DECISION_PARTITIONS, OPTIMIZER_RECOMMENDATION, RESOURCE_STATE
from streams.orchestrator import SiteState, on_recommendation, on_resource_state


def register(app: faust.App, deps: Deps) -> None:
    """Add the orchestrator's table and agents to its app."""
    sites = States(app, "sites", state=SiteState, partitions=DECISION_PARTITIONS)
    recommendations = guard(app, OPTIMIZER_RECOMMENDATION, deps=deps, states=sites)
    reports = guard(app, RESOURCE_STATE, deps=deps, states=sites)

    @app.agent(source(app, OPTIMIZER_RECOMMENDATION), name="orchestrator.recommendations")
    async def on_recommendations(stream: "faust.StreamT[bytes]") -> None:
        async for event in stream.events():
            await recommendations.handle(
                event,
                lambda advice, cause: on_recommendation(
                    sites.get(advice.facility_id), advice, fleet=deps.fleet, policy=deps.policy, cause=cause
                ),
            )

    @app.agent(source(app, RESOURCE_STATE), name="orchestrator.reports")
    async def on_reports(stream: "faust.StreamT[bytes]") -> None:
        async for event in stream.events():
            await reports.handle(
                event,
                lambda report, cause: on_resource_state(
                    sites.get(report.facility_id), report, fleet=deps.fleet, cause=cause
                ),
            )
