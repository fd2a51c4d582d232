"""Which tables agents keep, and the pure function that each is a fold of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from hcp.model.facilities import Fleet
from hcp.model.rejections import Rejected
from hcp.model.steps import Cause, Step
from hcp.topics import (
    MARKET_PRICE,
    METRICS_ASIC,
    METRICS_GPU,
    OPTIMIZER_RECOMMENDATION,
    RESOURCE_STATE,
    WORKLOAD_EVENTS,
    Topic,
)
from streams.billing import on_metered
from streams.fleet_monitor import on_telemetry
from streams.inventory import on_resource_state
from streams.optimizer import on_price
from streams.orchestrator import on_recommendation
from streams.policies import Policy
from streams.regret import on_recommendation_settled
from streams.rents import on_rent


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What agents are started with."""

    fleet: Fleet
    policy: Policy


Fold = Callable[[Any, Any, Cause, Rules], Step[Any] | Rejected]
"""(state or None, record, cause, rules) -> step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldedTable:
    """A table that follows from topics alone: of each key the records lie in one partition of one of them.

    Attributes:
        agent: Whose it is.
        name: Its name.
        topics: Its inputs.
        key_of: Names the state that a record changes.
        fold: What one record does to it.
    """

    agent: str
    name: str
    topics: tuple[Topic, ...]
    key_of: Callable[[Any], str]
    fold: Fold

    @property
    def group(self) -> str:
        """The agent's consumer group."""
        return group_of(self.agent)

    @property
    def changelog(self) -> str:
        """The topic that the agent recovers the table from."""
        return f"{self.group}-{self.name}-changelog"


def group_of(agent: str) -> str:
    """Return the consumer group of an agent, which begins the names of its changelogs."""
    return f"hcp-{agent}"


def _facility(record: Any) -> str:  # noqa: ANN401  # any record of a site
    return str(record.facility_id)


def _table(agent: str, name: str, *topics: Topic, fold: Fold, key_of: Callable[[Any], str] = _facility) -> FoldedTable:
    return FoldedTable(agent=agent, name=name, topics=topics, key_of=key_of, fold=fold)


def _inventory(state: Any, report: Any, cause: Cause, rules: Rules) -> Step[Any] | Rejected:  # noqa: ANN401  # as Fold
    return on_resource_state(state, report, fleet=rules.fleet, cause=cause)


FOLDED: Final[tuple[FoldedTable, ...]] = (
    _table(
        "optimizer",
        "markets",
        MARKET_PRICE,
        fold=lambda state, price, cause, rules: on_price(state, price, fleet=rules.fleet, cause=cause),
    ),
    _table("optimizer", "inventories", RESOURCE_STATE, fold=_inventory),
    _table(
        "fleet_monitor",
        "shards",
        METRICS_GPU,
        METRICS_ASIC,
        key_of=lambda batch: str(batch.shard_id),
        fold=lambda state, batch, cause, rules: on_telemetry(state, batch, fleet=rules.fleet, cause=cause),
    ),
    _table(
        "orchestrator",
        "sites",
        OPTIMIZER_RECOMMENDATION,
        fold=lambda state, advice, cause, rules: on_recommendation(
            state, advice, fleet=rules.fleet, policy=rules.policy, cause=cause
        ),
    ),
    _table(
        "regret",
        "regrets",
        OPTIMIZER_RECOMMENDATION,
        fold=lambda state, advice, _, rules: on_recommendation_settled(state, advice, fleet=rules.fleet),
    ),
    _table(
        "billing",
        "meters",
        WORKLOAD_EVENTS,
        key_of=lambda event: str(event.workload_id),
        fold=lambda state, event, cause, _: on_metered(state, event, cause=cause),
    ),
    _table("router", "inventories", RESOURCE_STATE, fold=_inventory),
    _table(
        "router",
        "rents",
        MARKET_PRICE,
        fold=lambda state, price, _, rules: on_rent(state, price, fleet=rules.fleet),
    ),
)
MERGED: Final = {"router": ("workloads",), "resources": ("allocations", "tickets")}
"""Tables that several topics feed together: which record came first no topic says, so only their changelog knows."""
AGENTS: Final = tuple(dict.fromkeys([*(each.agent for each in FOLDED), *MERGED]))


def tables_of(agent: str) -> tuple[FoldedTable, ...]:
    """Return the tables of an agent that follow from topics."""
    return tuple(each for each in FOLDED if each.agent == agent)
