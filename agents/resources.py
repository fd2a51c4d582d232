"""The Resource Manager: decisions, results, observations, requests in; commands, hard state, workloads' events out."""

from collections.abc import Callable
from itertools import islice
from typing import Any, Final

import faust

from agents.deps import Deps, guard, source
from agents.readings import Readings, follow
from agents.states import States, View
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
from streams.allocation import on_command, on_observed, on_result
from streams.desk import Books, is_over
from streams.orders import on_order
from streams.placement import attend, on_request
from streams.shards import ShardAllocation
from streams.tickets import Ticket

Handler = Callable[..., Step[Any] | Rejected]
"""(known shards, record, fleet, cause) -> step."""
ENDED_LOOKED_AT_MAX: Final = 64
"""Four times what one step forgets."""
HANDLERS: tuple[tuple[Topic, Handler], ...] = (
    (ORCHESTRATOR_COMMAND, on_command),
    (CONTROLLER_RESULT, on_result),
    (RESOURCE_STATE, on_observed),
    (OPERATOR_ORDER, on_order),
)


class Tables:
    """Shards and workloads, written under one lock."""

    def __init__(self, app: faust.App) -> None:
        """Make both tables."""
        self.shards = States(app, "allocations", state=ShardAllocation, partitions=DECISION_PARTITIONS)
        self.tickets = States(app, "tickets", state=Ticket, partitions=DECISION_PARTITIONS)
        self.lock = self.shards.lock
        self._living: dict[str, None] | None = None
        self._ended: dict[str, None] = {}
        self.tickets.on_recover(self._look_again)

    def set(self, key: str, state: Books) -> None:
        """Keep the books of a shard or a workload; None closes a workload's."""
        if state is None:
            self.tickets.drop(key)
            self._ended.pop(key, None)
        elif isinstance(state, Ticket):
            self.tickets.set(key, state)
            self._sort_in(key, state)
        else:
            self.shards.set(key, state)

    def tickets_to_attend(self) -> list[str]:
        """Name the workloads that are not over, and of those that are the ones to be forgotten first.

        An event need not go through all that ended within the hour: at a hundred submissions a second that is most of a
        core.
        """
        if self._living is None:
            self._living, self._ended = {}, {}
            for key in self.tickets.keys():  # noqa: SIM118  # no mapping
                state = self.tickets.get(key)
                if state is not None:
                    self._sort_in(key, state)
        return [*self._living, *islice(self._ended, ENDED_LOOKED_AT_MAX)]

    def _sort_in(self, key: str, ticket: Ticket) -> None:
        if self._living is None:
            return  # nobody has asked yet
        if is_over(ticket) and not ticket.devices:
            self._living.pop(key, None)
            self._ended[key] = None
        else:
            self._living[key] = None

    def _look_again(self) -> None:
        """Forget which workloads there are: partitions have come or gone."""
        self._living = None


def register(app: faust.App, deps: Deps) -> None:
    """Add the Resource Manager's tables and one agent per input topic to its app."""
    tables, readings = Tables(app), follow(app)
    for topic, handler in HANDLERS:
        _register(app, topic, handler=handler, deps=deps, tables=tables, readings=readings)
    _register(app, ALLOCATION_REQUEST, handler=None, deps=deps, tables=tables, readings=readings)


def _register(
    app: faust.App, topic: Topic, *, handler: Handler | None, deps: Deps, tables: Tables, readings: Readings
) -> None:
    """Let `handler` act on a topic's records, without one open and close workloads' books; then attend to them all."""
    records = guard(app, topic, deps=deps, states=tables)

    def transform(record: Any, cause: Cause) -> Step[Books] | Rejected:  # noqa: ANN401  # by topic
        site = deps.fleet.facility(record.facility_id)
        shards = View(tables.shards, [shard.shard_id for shard in site.shards()] if site is not None else [])
        tickets = View(tables.tickets, tables.tickets_to_attend())
        step = (
            on_request(tickets, record, fleet=deps.fleet, cause=cause)
            if handler is None
            else handler(shards, record, fleet=deps.fleet, cause=cause)
        )
        if isinstance(step, Rejected) or site is None:
            return step
        return attend(step, shards, tickets, facility=site, fleet=deps.fleet, cause=cause, readings=readings)

    @app.agent(source(app, topic), name=f"resources.{topic.name}")
    async def on_records(stream: "faust.StreamT[bytes]") -> None:
        async for event in stream.events():
            await records.handle(event, transform)
