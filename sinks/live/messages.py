"""Which channel hears of a record, and what: pure."""

from collections import Counter
from typing import Any, Final

import msgspec

from hcp.model.commands import DecisionAction, OrchestratorCommand
from hcp.model.ledger import Alert, BillingUsage
from hcp.model.markets import MarketPrice
from hcp.model.resources import ResourceState
from hcp.model.workloads import WorkloadEvent

CHANNEL: Final = "hcp:live"
FLEET: Final = f"{CHANNEL}:fleet"
PRICES: Final = f"{CHANNEL}:prices"


def customer_channel(customer_id: str) -> str:
    """Return the channel of one customer's workloads."""
    return f"{CHANNEL}:customer:{customer_id}"


def message_of(value: object) -> tuple[str, bytes] | None:
    """Return the channel and the JSON of a record; None when nobody listens for it.

    A shard's state is sent as counts: a page needs no 512 columns, and whoever does reads the topic.
    """
    match value:
        case WorkloadEvent() | BillingUsage():
            return customer_channel(value.customer_id), msgspec.json.encode(value)
        case MarketPrice():
            return PRICES, msgspec.json.encode(value)
        case ResourceState():
            return FLEET, msgspec.json.encode(_counts(value))
        case Alert():
            return FLEET, msgspec.json.encode(value)
        case OrchestratorCommand():
            return (FLEET, msgspec.json.encode(value)) if value.action is DecisionAction.SWITCH else None
        case _:
            return None


def _counts(state: ResourceState) -> dict[str, Any]:
    return {
        "facility_id": state.facility_id,
        "cluster_id": state.cluster_id,
        "shard_id": state.shard_id,
        "device_class": state.device_class,
        "reported_by": state.reported_by,
        "observed_at_ms": state.observed_at_ms,
        "device_count": len(state.device_indexes),
        "mode_counts": dict(sorted(Counter(state.modes).items())),
        "state_counts": dict(sorted(Counter(state.states).items())),
        "held_count": sum(1 for owner in state.owners if owner),
    }
