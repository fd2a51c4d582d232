"""The Resource Manager: decisions expanded, results settled, retried or given up, customers left alone."""

from dataclasses import replace

import msgspec
import pytest

from hcp.codecs import decode, encode
from hcp.model.commands import ControllerCommand, DecisionAction, DecisionReason, DeviceOutcome, OrchestratorCommand
from hcp.model.devices import DeviceMode, DeviceState
from hcp.model.ids import id_from_content
from hcp.model.ledger import Alert, AlertType
from hcp.model.rejections import Rejected, RejectReason
from hcp.model.resources import ResourceState, StateReporter
from hcp.model.units import EpochMs
from streams.allocation import (
    ATTEMPTS_MAX,
    PENDING_MS_MAX,
    SETTLING_MS,
    SETTLING_WALL_MS,
    on_command,
    on_observed,
    on_result,
)
from streams.shards import ShardAllocation
from tests import examples
from tests.unit.streams.world import (
    ASICS,
    DEMO_FLEET,
    GPUS,
    START_MS,
    a_cause,
    a_report,
    a_result,
    step,
)

DECISION = replace(
    examples.DECISION,
    facility_id="tx-south",
    from_mode=DeviceMode.MINING,
    to_mode=DeviceMode.SLEEP,
    device_count=12,
    observed_at_ms=EpochMs(START_MS + 1),
)


def opened(*shard_ids: str) -> dict[str, ShardAllocation]:
    """Return the books of these shards at first sight."""
    shards: dict[str, ShardAllocation] = {}
    for shard_id in shard_ids or (ASICS, GPUS):
        seen = step(on_observed(shards, a_report(shard_id), fleet=DEMO_FLEET, cause=a_cause()))
        shards.update(seen.updates)
    return shards


def ordered(decision: OrchestratorCommand = DECISION) -> tuple[dict[str, ShardAllocation], ControllerCommand]:
    """Return the books after a decision, and the command it gave the ASICs."""
    shards = opened()
    done = step(on_command(shards, decision, fleet=DEMO_FLEET, cause=a_cause()))
    shards.update(done.updates)
    (command,) = (record for record in done.outputs if isinstance(record, ControllerCommand))
    return shards, command


def alerts_of(outputs: tuple[object, ...]) -> list[AlertType]:
    """Return the alerts among outputs."""
    return [record.alert_type for record in outputs if isinstance(record, Alert)]


def test_first_sight_opens_the_books_and_says_so() -> None:
    """Epochs start at 0, owners empty, and the Resource Manager's own report follows."""
    done = step(on_observed({}, a_report(ASICS), fleet=DEMO_FLEET, cause=a_cause()))
    ((key, shard),) = done.updates
    assert (key, set(shard.epochs), set(shard.owners)) == (ASICS, {0}, {""})
    (report,) = done.outputs
    assert isinstance(report, ResourceState)
    assert report.reported_by is StateReporter.RESOURCES


def test_a_decision_becomes_one_command_a_shard_under_a_new_epoch() -> None:
    """Every device of the command has its epoch raised by one and is switching until a result comes."""
    shards, command = ordered()
    assert command.device_indexes == tuple(range(12))
    assert set(command.epochs) == {1}
    assert command.command_id == id_from_content(DECISION.command_id, ASICS, 1)
    assert set(shards[ASICS].states) == {DeviceState.SWITCHING}
    assert decode(encode(command)) == command


def test_no_more_devices_move_than_the_decision_says() -> None:
    """The lowest indexes go first."""
    _, command = ordered(replace(DECISION, device_count=5))
    assert command.device_indexes == (0, 1, 2, 3, 4)


def test_the_books_survive_json() -> None:
    """The table's changelog holds them as JSON."""
    shards, _ = ordered()
    encoded = msgspec.json.encode(shards[ASICS])
    assert msgspec.json.decode(encoded, type=ShardAllocation) == shards[ASICS]


def test_a_decision_seen_before_has_no_effect() -> None:
    """Neither while it is under way nor after it has ended."""
    shards, command = ordered()
    again = step(on_command(shards, DECISION, fleet=DEMO_FLEET, cause=a_cause(1)))
    assert (again.updates, again.outputs, again.ignored) == ((), (), "duplicate")
    shards.update(step(on_result(shards, a_result(command), fleet=DEMO_FLEET, cause=a_cause(2))).updates)
    assert step(on_command(shards, DECISION, fleet=DEMO_FLEET, cause=a_cause(3))).ignored == "duplicate"


def test_a_decision_that_found_no_device_finds_none_later_either() -> None:
    """Delivered a second time it must not move devices that have changed since."""
    shards = opened()
    empty = replace(DECISION, from_mode=DeviceMode.SLEEP, to_mode=DeviceMode.MINING)
    done = step(on_command(shards, empty, fleet=DEMO_FLEET, cause=a_cause()))
    assert done.outputs == () or all(isinstance(record, ResourceState) for record in done.outputs)
    shards.update(done.updates)
    assert step(on_command(shards, empty, fleet=DEMO_FLEET, cause=a_cause(1))).ignored == "duplicate"


def test_a_hold_moves_nothing() -> None:
    """It is a decision for the analysts."""
    hold = replace(DECISION, action=DecisionAction.HOLD, reason=DecisionReason.DWELL, device_count=0)
    assert step(on_command(opened(), hold, fleet=DEMO_FLEET, cause=a_cause())).ignored == "hold"


def test_customers_devices_and_sick_ones_never_move() -> None:
    """A device with an owner or not active is not in any command."""
    shards = opened(ASICS)
    states = (DeviceState.QUARANTINED, DeviceState.UNREACHABLE, *(DeviceState.ACTIVE,) * 10)
    owners = (*("",) * 10, *(examples.WORKLOAD,) * 2)
    shards[ASICS] = replace(shards[ASICS], states=states, owners=owners)
    done = step(on_command(shards, DECISION, fleet=DEMO_FLEET, cause=a_cause()))
    (command,) = (record for record in done.outputs if isinstance(record, ControllerCommand))
    assert command.device_indexes == tuple(range(2, 10))


def test_a_verified_result_commits_the_modes() -> None:
    """Active again, in the new mode, nothing pending."""
    shards, command = ordered()
    done = step(on_result(shards, a_result(command), fleet=DEMO_FLEET, cause=a_cause(1)))
    ((_, shard),) = done.updates
    assert (set(shard.modes), set(shard.states)) == ({DeviceMode.SLEEP}, {DeviceState.ACTIVE})
    assert shard.pending is None
    assert isinstance(done.outputs[-1], ResourceState)


def test_a_result_delivered_twice_is_late() -> None:
    """The second time nothing is pending any more."""
    shards, command = ordered()
    shards.update(step(on_result(shards, a_result(command), fleet=DEMO_FLEET, cause=a_cause(1))).updates)
    again = step(on_result(shards, a_result(command), fleet=DEMO_FLEET, cause=a_cause(2)))
    assert (again.updates, again.outputs, again.ignored) == ((), (), "late")


def test_what_failed_is_tried_again_under_a_new_epoch() -> None:
    """Only the failed devices, attempt 2, another id, a higher epoch than anybody has shown."""
    shards, command = ordered()
    mixed = replace(
        a_result(command),
        outcomes=(*(DeviceOutcome.COMMITTED,) * 10, DeviceOutcome.ROLLED_BACK, DeviceOutcome.FENCED),
        modes=(*(DeviceMode.SLEEP,) * 10, DeviceMode.MINING, DeviceMode.MINING),
        epochs=(*(1,) * 11, 7),
    )
    done = step(on_result(shards, mixed, fleet=DEMO_FLEET, cause=a_cause(1)))
    (retry,) = (record for record in done.outputs if isinstance(record, ControllerCommand))
    assert (retry.attempt, retry.device_indexes, set(retry.epochs)) == (2, (10, 11), {8})
    assert retry.command_id != command.command_id
    assert retry.decision_id == command.decision_id


def test_after_the_last_attempt_devices_are_given_back_with_an_alert() -> None:
    """Three attempts in all; then the next decision may take them again."""
    shards, command = ordered()
    outputs: tuple[object, ...] = ()
    for attempt in range(1, ATTEMPTS_MAX + 1):
        assert command.attempt == attempt
        failed = a_result(command, outcome=DeviceOutcome.ROLLED_BACK)
        done = step(on_result(shards, failed, fleet=DEMO_FLEET, cause=a_cause(attempt)))
        shards.update(done.updates)
        outputs = done.outputs
        command = next((record for record in outputs if isinstance(record, ControllerCommand)), command)
    assert shards[ASICS].pending is None
    assert set(shards[ASICS].states) == {DeviceState.ACTIVE}
    assert set(shards[ASICS].modes) == {DeviceMode.MINING}
    assert alerts_of(outputs) == [AlertType.SWITCH_FAILED]


def test_a_quarantined_device_stays_so_whatever_telemetry_says() -> None:
    """A person is called; a healthy looking tick does not bring it back."""
    shards, command = ordered()
    done = step(
        on_result(shards, a_result(command, outcome=DeviceOutcome.QUARANTINED), fleet=DEMO_FLEET, cause=a_cause(1))
    )
    assert alerts_of(done.outputs) == [AlertType.DEVICE_QUARANTINED]
    shards.update(done.updates)
    later = a_report(ASICS, at_ms=START_MS + 10 * SETTLING_MS)
    cause = a_cause(2, timestamp_ms=START_MS + SETTLING_WALL_MS)
    shards.update(step(on_observed(shards, later, fleet=DEMO_FLEET, cause=cause)).updates)
    assert set(shards[ASICS].states) == {DeviceState.QUARANTINED}


def test_an_overdue_command_is_tried_again_on_the_next_event() -> None:
    """A controller that died leaves no shard switching for ever."""
    shards, command = ordered()
    late = a_cause(1, timestamp_ms=START_MS + PENDING_MS_MAX + 1)
    done = step(on_observed(shards, a_report(ASICS, at_ms=START_MS + 5), fleet=DEMO_FLEET, cause=late))
    (retry,) = (record for record in done.outputs if isinstance(record, ControllerCommand))
    assert (retry.attempt, set(retry.epochs)) == (2, {2})
    shards.update(done.updates)
    assert step(on_result(shards, a_result(command), fleet=DEMO_FLEET, cause=a_cause(2))).ignored == "late"


def test_telemetry_is_adopted_only_while_nothing_is_pending() -> None:
    """A device that changed by itself is taken over, but not under a running command nor right after it."""
    shards, command = ordered()
    asleep = a_report(ASICS, modes=(DeviceMode.SLEEP,) * 12, at_ms=START_MS + 5)
    assert step(on_observed(shards, asleep, fleet=DEMO_FLEET, cause=a_cause(1))).updates == ()
    shards.update(step(on_result(shards, a_result(command), fleet=DEMO_FLEET, cause=a_cause(2))).updates)
    mining = a_report(ASICS, at_ms=START_MS + 10)
    assert step(on_observed(shards, mining, fleet=DEMO_FLEET, cause=a_cause(3))).updates == ()
    mining = a_report(ASICS, at_ms=START_MS + 2 * SETTLING_MS)
    assert step(on_observed(shards, mining, fleet=DEMO_FLEET, cause=a_cause(4))).updates == ()
    later = a_cause(5, timestamp_ms=START_MS + SETTLING_WALL_MS)
    done = step(on_observed(shards, mining, fleet=DEMO_FLEET, cause=later))
    assert set(done.updates[0][1].modes) == {DeviceMode.MINING}
    assert alerts_of(done.outputs) == [AlertType.MODE_MISMATCH]


def test_every_heartbeat_publishes_the_books_again() -> None:
    """A crash between a state's write and its report must not leave the orchestrator with a switch that never ends."""
    shards, command = ordered()
    shards.update(step(on_result(shards, a_result(command), fleet=DEMO_FLEET, cause=a_cause(1))).updates)
    done = step(on_observed(shards, a_report(ASICS, at_ms=START_MS + 10), fleet=DEMO_FLEET, cause=a_cause(2)))
    (report,) = done.outputs
    assert isinstance(report, ResourceState)
    assert (set(report.modes), set(report.states)) == ({DeviceMode.SLEEP}, {DeviceState.ACTIVE})


def test_the_manager_ignores_its_own_reports() -> None:
    """Otherwise the topic would feed itself."""
    own = a_report(ASICS, reported_by=StateReporter.RESOURCES)
    assert step(on_observed({}, own, fleet=DEMO_FLEET, cause=a_cause())).ignored == "own_report"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"shard_id": "tx-south.asic-9/00"}, RejectReason.UNKNOWN_SHARD),
        ({"device_class": "h100"}, RejectReason.UNKNOWN_DEVICE_CLASS),
        ({"facility_id": "atlantis"}, RejectReason.UNKNOWN_FACILITY),
        ({"device_indexes": (*range(11), 500)}, RejectReason.UNKNOWN_DEVICE),
        ({"device_indexes": (*range(11), 0)}, RejectReason.UNEQUAL_COLUMNS),
    ],
)
def test_a_result_from_nowhere_is_refused(changed: dict[str, object], reason: RejectReason) -> None:
    """It goes to the dead letters with the reason."""
    shards, command = ordered()
    wrong = replace(a_result(command), **changed)  # type: ignore[arg-type]
    rejected = on_result(shards, wrong, fleet=DEMO_FLEET, cause=a_cause())
    assert isinstance(rejected, Rejected)
    assert rejected.reason is reason
