"""The fleet monitor: telemetry in, changes of hard state and alerts out."""

import faust

from agents.deps import Deps, guard, source
from agents.states import States
from hcp.topics import METRICS_ASIC, METRICS_GPU, TELEMETRY_PARTITIONS
from streams.fleet_monitor import ShardState, on_telemetry


def register(app: faust.App, deps: Deps) -> None:
    """Add the fleet monitor's table and agents to its app."""
    shards = States(app, "shards", state=ShardState, partitions=TELEMETRY_PARTITIONS)
    for topic in (METRICS_GPU, METRICS_ASIC):
        batches = guard(app, topic, deps=deps, states=shards)

        @app.agent(source(app, topic), name=f"fleet_monitor.{topic.name}")
        async def on_batches(stream: "faust.StreamT[bytes]", batches=batches) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001  # bound per topic
            async for event in stream.events():
                await batches.handle(
                    event,
                    lambda batch, cause: on_telemetry(shards.get(batch.shard_id), batch, fleet=deps.fleet, cause=cause),
                )
