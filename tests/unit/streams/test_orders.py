"""People's orders in the books: holds stand against results, locks against others, and each leaves an audit event."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcp.model.commands import ControllerCommand, DeviceOutcome
from hcp.model.devices import DeviceMode, DeviceState
from hcp.model.ids import id_from_content
from hcp.model.ledger import AuditEvent
from hcp.model.orders import OperatorOrder, OrderAction
from hcp.model.rejections import Rejected, RejectReason
from hcp.model.steps import Step
from streams.allocation import ATTEMPTS_MAX, on_command, on_observed, on_result
from streams.orders import on_order
from streams.shards import ShardAllocation
from tests import examples
from tests.unit.streams.test_allocation import DECISION, opened, ordered
from tests.unit.streams.world import ASICS, DEMO_FLEET, GPUS, a_cause, a_report, a_result, step

Shards = dict[str, ShardAllocation]


def an_order(
    action: OrderAction, *indexes: int, by: str = "j.diaz", to_mode: DeviceMode | None = None, number: int = 0
) -> OperatorOrder:
    """Return an order for some ASICs."""
    return replace(
        examples.ORDER,
        order_id=id_from_content("order", action, str(indexes), by, number),
        facility_id="tx-south",
        cluster_id="tx-south.asic-1",
        shard_id=ASICS,
        action=action,
        to_mode=to_mode,
        device_indexes=indexes,
        operator=by,
    )


def obeyed(shards: Shards, order: OperatorOrder) -> Step[ShardAllocation]:
    """Let the Resource Manager take an order, and keep what it changed."""
    done = step(on_order(shards, order, fleet=DEMO_FLEET, cause=a_cause(7)))
    shards.update(done.updates)
    return done


def states(shards: Shards) -> list[DeviceState]:
    """Return the ASICs' states."""
    return list(shards[ASICS].states)


def audit_of(done: Step[ShardAllocation]) -> AuditEvent:
    """Return the one audit event of a step."""
    (event,) = (record for record in done.outputs if isinstance(record, AuditEvent))
    return event


@pytest.mark.parametrize(
    ("action", "state", "mode"),
    [
        (OrderAction.MAINTENANCE, DeviceState.MAINTENANCE, DeviceMode.MINING),
        (OrderAction.PAUSE, DeviceState.PAUSED, DeviceMode.SLEEP),
        (OrderAction.LOCK_OUT, DeviceState.LOCKED_OUT, DeviceMode.SLEEP),
    ],
)
def test_a_hold_keeps_devices_from_decisions_and_telemetry_until_released(
    action: OrderAction, state: DeviceState, mode: DeviceMode
) -> None:
    """Held devices are in no command, stay held whatever telemetry shows, and are active again once released."""
    shards = opened()
    obeyed(shards, an_order(action, 0, 3))
    assert [(states(shards)[index], shards[ASICS].modes[index]) for index in (0, 3)] == [(state, mode)] * 2
    done = step(on_command(shards, DECISION, fleet=DEMO_FLEET, cause=a_cause(8)))
    (command,) = (record for record in done.outputs if isinstance(record, ControllerCommand))
    assert command.device_indexes == tuple(index for index in range(12) if index not in {0, 3})
    seen = step(on_observed(shards, a_report(ASICS), fleet=DEMO_FLEET, cause=a_cause(9)))
    shards.update(seen.updates)
    assert states(shards)[0] is state
    obeyed(shards, an_order(OrderAction.RELEASE, 0, 3))
    assert states(shards)[0] is states(shards)[3] is DeviceState.ACTIVE


def test_only_whoever_locked_a_device_out_releases_it() -> None:
    """Nor may others weaken the lock; everybody's try is in the audit with what was and is."""
    shards = opened()
    obeyed(shards, an_order(OrderAction.LOCK_OUT, 2))
    for action in (OrderAction.RELEASE, OrderAction.MAINTENANCE, OrderAction.PAUSE, OrderAction.LOCK_OUT):
        tried = obeyed(shards, an_order(action, 2, by="somebody.else"))
        assert states(shards)[2] is DeviceState.LOCKED_OUT
        event = audit_of(tried)
        assert (event.actor, event.action, event.subject) == ("somebody.else", f"device.{action}", f"{ASICS}/002")
        assert json.loads(str(event.before))["devices"] == json.loads(str(event.after))["devices"]
    done = obeyed(shards, an_order(OrderAction.RELEASE, 2))
    assert states(shards)[2] is DeviceState.ACTIVE
    assert json.loads(str(audit_of(done).before))["devices"] == {"2": ["locked_out", "sleep"]}
    assert json.loads(str(audit_of(done).after)) == {"devices": {"2": ["active", "sleep"]}, "why": examples.ORDER.why}
    assert shards[ASICS].locks == ()


def test_a_release_ends_a_quarantine() -> None:
    """Quarantine ends by a person's word, and by nothing else."""
    shards, command = ordered()
    result = a_result(command, outcome=DeviceOutcome.QUARANTINED)
    shards.update(step(on_result(shards, result, fleet=DEMO_FLEET, cause=a_cause(1))).updates)
    assert set(states(shards)) == {DeviceState.QUARANTINED}
    obeyed(shards, an_order(OrderAction.RELEASE, *range(12)))
    assert set(states(shards)) == {DeviceState.ACTIVE}


@pytest.mark.parametrize("outcome", [DeviceOutcome.COMMITTED, DeviceOutcome.ROLLED_BACK, DeviceOutcome.HELD])
def test_a_hold_stands_against_the_result_of_a_command_under_way(outcome: DeviceOutcome) -> None:
    """What a controller answers to a command of before does not set a held device free, nor is it tried again."""
    shards, command = ordered()
    obeyed(shards, an_order(OrderAction.LOCK_OUT, 4))
    assert shards[ASICS].pending is not None
    for _ in range(ATTEMPTS_MAX):
        done = step(on_result(shards, a_result(command, outcome=outcome), fleet=DEMO_FLEET, cause=a_cause(1)))
        shards.update(done.updates)
        again = [record for record in done.outputs if isinstance(record, ControllerCommand)]
        if not again:
            break
        (command,) = again
        assert 4 not in command.device_indexes
    assert (states(shards)[4], shards[ASICS].modes[4]) == (DeviceState.LOCKED_OUT, DeviceMode.SLEEP)
    assert shards[ASICS].pending is None


def test_what_the_limits_of_the_hardware_refuse_is_given_back_at_once() -> None:
    """No second attempt: the orchestrator decides again when it sees the device where it was."""
    shards, command = ordered()
    result = replace(
        a_result(command, outcome=DeviceOutcome.LIMITED), modes=(DeviceMode.MINING,) * len(command.device_indexes)
    )
    done = step(on_result(shards, result, fleet=DEMO_FLEET, cause=a_cause(1)))
    shards.update(done.updates)
    assert not [record for record in done.outputs if isinstance(record, ControllerCommand)]
    assert set(states(shards)) == {DeviceState.ACTIVE}
    assert set(shards[ASICS].modes) == {DeviceMode.MINING}


def test_a_switch_by_hand_is_a_command_for_those_that_may_go() -> None:
    """Held devices and those already there stay; while it is under way another is not begun, and the audit says so."""
    shards = opened()
    obeyed(shards, an_order(OrderAction.MAINTENANCE, 1))
    done = obeyed(shards, an_order(OrderAction.SWITCH, 0, 1, 2, to_mode=DeviceMode.SLEEP))
    (command,) = (record for record in done.outputs if isinstance(record, ControllerCommand))
    assert (command.device_indexes, command.from_mode, command.to_mode) == (
        (0, 2),
        DeviceMode.MINING,
        DeviceMode.SLEEP,
    )
    busy = obeyed(shards, an_order(OrderAction.SWITCH, 5, to_mode=DeviceMode.SLEEP))
    assert not [record for record in busy.outputs if isinstance(record, ControllerCommand)]
    assert json.loads(str(audit_of(busy).after))["devices"] == {"5": ["active", "mining"]}
    result = a_result(command, outcome=DeviceOutcome.COMMITTED)
    shards.update(step(on_result(shards, result, fleet=DEMO_FLEET, cause=a_cause(1))).updates)
    assert [shards[ASICS].modes[index] for index in (0, 1, 2)] == [
        DeviceMode.SLEEP,
        DeviceMode.MINING,
        DeviceMode.SLEEP,
    ]
    assert step(on_order(shards, an_order(OrderAction.SWITCH, 0, 1, 2, to_mode=DeviceMode.SLEEP), fleet=DEMO_FLEET,
                         cause=a_cause(9))).ignored == "duplicate"  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"to_mode": DeviceMode.AI_INFERENCE, "action": OrderAction.SWITCH}, RejectReason.OUT_OF_RANGE),
        ({"to_mode": None, "action": OrderAction.SWITCH}, RejectReason.OUT_OF_RANGE),
        ({"to_mode": DeviceMode.SLEEP, "action": OrderAction.PAUSE}, RejectReason.OUT_OF_RANGE),
        ({"device_indexes": (12,)}, RejectReason.UNKNOWN_DEVICE),
        ({"device_indexes": (1, 1)}, RejectReason.UNEQUAL_COLUMNS),
        ({"shard_id": "tx-south.asic-9/00"}, RejectReason.UNKNOWN_SHARD),
        ({"facility_id": "mars"}, RejectReason.UNKNOWN_FACILITY),
        ({"device_class": "h100"}, RejectReason.UNKNOWN_DEVICE_CLASS),
    ],
)
def test_an_order_that_does_not_fit_the_fleet_is_refused(changes: dict[str, object], reason: RejectReason) -> None:
    """It goes to the dead letters with what must be and what was."""
    order = replace(an_order(OrderAction.PAUSE, 0), **changes)  # type: ignore[arg-type]  # one field of any kind
    refused = on_order(opened(), order, fleet=DEMO_FLEET, cause=a_cause())
    assert isinstance(refused, Rejected)
    assert refused.reason is reason
    assert "must be" in refused.detail or "must name" in refused.detail


def test_an_order_for_a_shard_nobody_has_seen_changes_nothing() -> None:
    """The books are opened by telemetry; the controller holds the device all the same."""
    assert (
        step(on_order({}, an_order(OrderAction.PAUSE, 0), fleet=DEMO_FLEET, cause=a_cause())).ignored == "unseen_shard"
    )


ANY_ORDER = st.builds(
    lambda action, indexes, by, number: an_order(
        action,
        *sorted(indexes),
        by=by,
        to_mode=DeviceMode.SLEEP if action is OrderAction.SWITCH else None,
        number=number,
    ),
    st.sampled_from(OrderAction),
    st.sets(st.integers(min_value=0, max_value=11), min_size=1),
    st.sampled_from(["a", "b"]),
    st.integers(min_value=0, max_value=5),
)


@given(st.lists(ANY_ORDER, max_size=12))
def test_whatever_is_ordered_the_books_stay_whole(orders: list[OperatorOrder]) -> None:
    """Columns keep their length, locks name exactly the locked devices, and others' devices are never touched."""
    shards = opened(ASICS, GPUS)
    untouched = shards[GPUS]
    for order in orders:
        obeyed(shards, order)
        books = shards[ASICS]
        locked = {index for index, state in enumerate(books.states) if state is DeviceState.LOCKED_OUT}
        assert {index for index, _ in books.locks} == locked
        assert len(books.states) == len(books.modes) == len(books.epochs) == 12
        switching = {index for index, state in enumerate(books.states) if state is DeviceState.SWITCHING}
        assert switching <= set(books.pending.device_indexes if books.pending is not None else ())
    assert shards[GPUS] == untouched
