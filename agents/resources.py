"""The Resource Manager: decisions, results, observations and requests in; device commands and hard state out."""

from collections.abc import Callable
from typing import Any

import faust

from agents.deps import Deps, guard, source
from agents.states import States
from hcp.model.rejections import Rejected
from hcp.model.steps import Cause, Step
from hcp.topics import (
    ALLOCATION_REQUEST,
    CONTROLLER_RESULT,
    DECISION_PARTITIONS,
    OPERATOR_ORDER,
    ORCHESTRATOR_COMMAND,
    RESOURCE_STATE,
    Topic,
)
from streams.allocation import on_allocation, on_command, on_observed, on_result
from streams.orders import on_order
from streams.shards import ShardAllocation

Handler = Callable[..., Step[ShardAllocation] | Rejected]
"""(known shards, record, fleet, cause) -> step."""
HANDLERS: tuple[tuple[Topic, Handler], ...] = (
    (ORCHESTRATOR_COMMAND, on_command),
    (CONTROLLER_RESULT, on_result),
    (RESOURCE_STATE, on_observed),
    (ALLOCATION_REQUEST, on_allocation),
    (OPERATOR_ORDER, on_order),
)


def register(app: faust.App, deps: Deps) -> None:
    """Add the Resource Manager's table and one agent per input topic to its app."""
    shards = States(app, "allocations", state=ShardAllocation, partitions=DECISION_PARTITIONS)
    for topic, handler in HANDLERS:
        _register(app, topic, handler=handler, deps=deps, shards=shards)


def _register(app: faust.App, topic: Topic, *, handler: Handler, deps: Deps, shards: States[ShardAllocation]) -> None:
    records = guard(app, topic, deps=deps, states=shards)

    def transform(record: Any, cause: Cause) -> Step[ShardAllocation] | Rejected:  # noqa: ANN401  # by topic
        site = deps.fleet.facility(record.facility_id)
        names = [shard.shard_id for shard in site.shards()] if site is not None else []
        known = {name: state for name in names if (state := shards.get(name)) is not None}
        return handler(known, record, fleet=deps.fleet, cause=cause)

    @app.agent(source(app, topic), name=f"resources.{topic.name}")
    async def on_records(stream: "faust.StreamT[bytes]") -> None:
        async for event in stream.events():
            await records.handle(event, transform)
