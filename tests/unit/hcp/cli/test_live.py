"""What `hcp live` says of a workload, from the frames that the gateway sends."""

import json
from typing import Any

import msgspec
import pytest

from hcp.cli.live import ENDS, NAMES, told_of
from hcp.errors import HcpError
from hcp.model.workloads import WorkloadEventType
from tests.examples import EVENT, USAGE


def frame_of(topic: str, record: Any) -> str:
    """Word a record as the gateway does."""
    data = json.loads(msgspec.json.encode(record))
    return json.dumps({"type": "event", "subscription": "workloads", "id": "1-0", "topic": topic, "data": data})


def test_an_event_is_one_line_with_its_time_name_place_and_reason() -> None:
    """A person sees when what happened, and why."""
    told = told_of(frame_of("workload.events", EVENT), workload_id=EVENT.workload_id)
    assert told is not None
    assert told.name == str(EVENT.event_type).removeprefix("workload.")
    assert EVENT.reason in str(told)
    assert told.name in str(told)


def test_a_usage_is_told_in_device_seconds_and_usd() -> None:
    """What it costs ticks as usages come."""
    told = told_of(frame_of("billing.usage", USAGE), workload_id=USAGE.workload_id)
    assert told is not None
    assert told.name == "usage"
    assert f"{USAGE.device_seconds} device-seconds, {USAGE.amount_usd_micros / 1e6:.6f} USD" in str(told)


def test_what_is_of_another_workload_or_no_event_is_not_told() -> None:
    """Other workloads of the customer, heartbeats and answers are passed over."""
    assert told_of(frame_of("workload.events", EVENT), workload_id=USAGE.usage_id) is None
    assert told_of('{"type":"heartbeat","at_ms":1}', workload_id=EVENT.workload_id) is None


@pytest.mark.parametrize("frame", ["", "{}", '{"type":"event","data":{"workload_id":1}}'])
def test_what_is_no_frame_is_an_error(frame: str) -> None:
    """Something else than the gateway answers there."""
    with pytest.raises(HcpError, match="frame must be the gateway's"):
        told_of(frame, workload_id=EVENT.workload_id)


def test_every_event_may_be_waited_for() -> None:
    """Names follow from the event types; three of them end a workload."""
    assert len(NAMES) == len(WorkloadEventType) + 1
    assert set(NAMES) > ENDS
    assert len(ENDS) == 3
