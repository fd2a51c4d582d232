"""The regret job: recommendations in, one record a site, device class and hour out."""

import faust

from agents.deps import Deps, guard, source
from agents.states import States
from hcp.topics import DECISION_PARTITIONS, OPTIMIZER_RECOMMENDATION
from streams.regret import RegretState, on_recommendation_settled


def register(app: faust.App, deps: Deps) -> None:
    """Add the regret job's table and agent to its app."""
    regrets = States(app, "regrets", state=RegretState, partitions=DECISION_PARTITIONS)
    recommendations = guard(app, OPTIMIZER_RECOMMENDATION, deps=deps, states=regrets)

    @app.agent(source(app, OPTIMIZER_RECOMMENDATION), name="regret.recommendations")
    async def on_recommendations(stream: "faust.StreamT[bytes]") -> None:
        async for event in stream.events():
            await recommendations.handle(
                event,
                lambda advice, _: on_recommendation_settled(regrets.get(advice.facility_id), advice, fleet=deps.fleet),
            )
