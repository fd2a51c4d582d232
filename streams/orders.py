"""The Resource Manager's transformation of people's orders: devices held, stopped, released or switched by hand."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from hcp.model.devices import DeviceClass, DeviceMode, DeviceState, resting_mode
from hcp.model.facilities import Fleet
from hcp.model.ids import device_id, id_from_content
from hcp.model.ledger import AuditEvent
from hcp.model.orders import OperatorOrder, OrderAction
from hcp.model.rejections import Rejected, RejectReason
from hcp.model.steps import Cause, Step
from streams.rejecting import check_indexes, known_shard
from streams.shards import HELD, ShardAllocation, finish, report_of, send, with_columns

Shards = Mapping[str, ShardAllocation]
Outcome = tuple[ShardAllocation, tuple[object, ...]]
_HOLDS: Final = {
    OrderAction.MAINTENANCE: DeviceState.MAINTENANCE,
    OrderAction.PAUSE: DeviceState.PAUSED,
    OrderAction.LOCK_OUT: DeviceState.LOCKED_OUT,
}
_STOPS: Final = frozenset({OrderAction.PAUSE, OrderAction.LOCK_OUT})
_RELEASABLE: Final = HELD | {DeviceState.QUARANTINED}


def on_order(shards: Shards, order: OperatorOrder, *, fleet: Fleet, cause: Cause) -> Step[ShardAllocation] | Rejected:
    """Do what a person ordered, and say in an audit event what was and what is.

    A device that somebody locked out obeys only whoever locked it: it stays as it is for everybody else. A switch is
    for active devices that no customer holds, on a shard with nothing under way.
    """
    known = known_shard(fleet, facility_id=order.facility_id, shard_id=order.shard_id, device_class=order.device_class)
    if isinstance(known, Rejected):
        return known
    device_class = fleet.device_class(order.device_class)
    assert device_class is not None, "a known shard's class is the fleet's"
    rejected = check_indexes(known, order.device_indexes) or _misfit(order, device_class)
    if rejected is not None:
        return rejected
    shard = shards.get(order.shard_id)
    if shard is None:
        return Step(ignored="unseen_shard")
    if shard.knows(order.order_id):
        return Step(ignored="duplicate")
    locks = dict(shard.locks)
    indexes = tuple(
        index
        for index in sorted(order.device_indexes)
        if index in shard.device_indexes and locks.get(index, order.operator) == order.operator
    )
    after, outputs = _obeyed(shard, order, indexes, device_class=device_class, cause=cause)
    if not after.knows(order.order_id):
        after = finish(after, decision_id=order.order_id) if after.pending is None else _remembered(after, order)
    audit = _audit(shard, after, order)
    return Step(updates=((after.shard_id, after),), outputs=(*outputs, report_of(after), audit))


def _misfit(order: OperatorOrder, device_class: DeviceClass) -> Rejected | None:
    modes = [profile.mode for profile in device_class.modes]
    if (order.action is OrderAction.SWITCH) is (order.to_mode in modes):
        return None
    wanted = f"one of {', '.join(modes)}" if order.action is OrderAction.SWITCH else f"null to {order.action}"
    return Rejected(reason=RejectReason.OUT_OF_RANGE, detail=f"to_mode must be {wanted}, was {order.to_mode}")


def _obeyed(
    shard: ShardAllocation, order: OperatorOrder, indexes: tuple[int, ...], *, device_class: DeviceClass, cause: Cause
) -> Outcome:
    states = dict(zip(shard.device_indexes, shard.states, strict=True))
    locks = {index: who for index, who in shard.locks if index not in indexes}
    if order.action is OrderAction.SWITCH:
        return _switched(shard, order, indexes, cause=cause)
    if order.action is OrderAction.RELEASE:
        released = {index: DeviceState.ACTIVE for index in indexes if states[index] in _RELEASABLE}
        return replace(with_columns(shard, states=released), locks=tuple(sorted(locks.items()))), ()
    if order.action is OrderAction.LOCK_OUT:
        locks |= dict.fromkeys(indexes, order.operator)
    modes: dict[int, DeviceMode] = {}
    if order.action in _STOPS:
        # Nothing runs any more, which is next to resting: released, a device is woken when that pays.
        modes = dict.fromkeys(indexes, resting_mode(device_class.kind))
    held = with_columns(shard, modes=modes, states=dict.fromkeys(indexes, _HOLDS[order.action]))
    return replace(held, locks=tuple(sorted(locks.items()))), ()


def _switched(shard: ShardAllocation, order: OperatorOrder, indexes: tuple[int, ...], *, cause: Cause) -> Outcome:
    """Send those to another mode that may go; a device in a mode unlike the first one's is told by the controller."""
    assert order.to_mode is not None, "checked"
    going = {
        index: mode
        for index, mode, state, owner in zip(shard.device_indexes, shard.modes, shard.states, shard.owners, strict=True)
        if index in indexes and state is DeviceState.ACTIVE and not owner and mode is not order.to_mode
    }
    if shard.pending is not None or not going:
        return shard, ()
    after, command = send(
        shard,
        decision_id=order.order_id,
        from_mode=next(iter(going.values())),
        to_mode=order.to_mode,
        attempt=1,
        device_indexes=tuple(going),
        epoch_floor=0,
        sent_wall_ms=cause.timestamp_ms,
        observed_at_ms=shard.observed_at_ms or order.observed_at_ms,
    )
    return after, (command,)


def _remembered(shard: ShardAllocation, order: OperatorOrder) -> ShardAllocation:
    """Remember an order without closing the command under way."""
    return replace(finish(shard, decision_id=order.order_id), pending=shard.pending)


def _audit(before: ShardAllocation, after: ShardAllocation, order: OperatorOrder) -> AuditEvent:
    one = order.device_indexes[0] if len(order.device_indexes) == 1 else None
    return AuditEvent(
        audit_id=id_from_content(order.order_id, "audit"),
        actor=order.operator,
        action=f"device.{order.action}",
        subject=order.shard_id if one is None else device_id(shard_id=order.shard_id, device_index=one),
        origin=order.origin,
        before=_words(before, order),
        after=_words(after, order, why=order.why),
        observed_at_ms=order.observed_at_ms,
    )


def _words(shard: ShardAllocation, order: OperatorOrder, **more: str) -> str:
    """Word the state and mode of the ordered devices as JSON, by device index."""
    wanted = frozenset(order.device_indexes)
    devices = {
        str(index): [state, mode]
        for index, state, mode in zip(shard.device_indexes, shard.states, shard.modes, strict=True)
        if index in wanted
    }
    return json.dumps({"devices": devices, **more}, sort_keys=True)
