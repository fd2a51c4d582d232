"""What goes live, and to whom."""

import json
from dataclasses import replace

import pytest

from hcp.model.commands import DecisionAction
from hcp.model.workloads import WorkloadEventType, WorkloadStatus
from sinks.live.messages import FLEET, PRICES, customer_channel, message_of
from sinks.operational.model import status_after
from tests import examples


@pytest.mark.parametrize(
    ("record", "channel"),
    [
        (examples.EVENT, customer_channel(examples.CUSTOMER)),
        (examples.USAGE, customer_channel(examples.CUSTOMER)),
        (examples.PRICE, PRICES),
        (examples.ALERT, FLEET),
        (replace(examples.DECISION, action=DecisionAction.SWITCH), FLEET),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_each_record_goes_to_its_channel_as_json(record: object, channel: str) -> None:
    """A customer's goes to that customer alone; field names are those of the record."""
    message = message_of(record)
    assert message is not None
    assert message[0] == channel
    assert set(json.loads(message[1])) == set(type(record).__slots__)  # type: ignore[attr-defined]  # a slotted record


def test_a_shard_s_state_is_counted() -> None:
    """Sent device by device it would be fifty kilobytes."""
    message = message_of(examples.STATE)
    assert message is not None
    counts = json.loads(message[1])
    assert sum(counts["mode_counts"].values()) == counts["device_count"] == len(examples.STATE.device_indexes)


def test_a_hold_and_telemetry_are_not_sent() -> None:
    """Nobody watches for what does not happen, nor for every reading."""
    assert message_of(replace(examples.DECISION, action=DecisionAction.HOLD)) is None
    assert message_of(examples.GPU_TELEMETRY) is None


def test_the_router_s_word_behind_the_placement_is_late() -> None:
    """It must not undo it; the Resource Manager's own word, which knows the run, may."""
    queued = replace(examples.EVENT, event_type=WorkloadEventType.QUEUED, run_number=0)
    assert status_after(WorkloadStatus.PLACED, queued) is None
    assert status_after(WorkloadStatus.PLACED, replace(queued, run_number=1)) is WorkloadStatus.QUEUED
