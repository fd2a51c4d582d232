"""The Resource Manager's transformations: decisions become commands per shard, results become modes or retries."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from hcp.model.commands import ControllerResult, DecisionAction, DeviceOutcome, OrchestratorCommand
from hcp.model.devices import DeviceMode, DeviceState
from hcp.model.facilities import Facility, Fleet, Shard
from hcp.model.ids import device_id, id_from_content
from hcp.model.ledger import Alert, AlertSeverity, AlertType
from hcp.model.rejections import Rejected, RejectReason
from hcp.model.resources import ResourceState, StateReporter
from hcp.model.steps import Cause, Step
from hcp.model.units import MS_PER_MINUTE, MS_PER_SECOND, EpochMs
from streams.rejecting import check_indexes, known_facility, known_shard
from streams.shards import (
    ATTEMPTS_MAX,
    FINISHED_MAX,
    HELD,
    STOPPED,
    PendingCommand,
    ShardAllocation,
    finish,
    first_sight,
    joined,
    movable_indexes,
    report_of,
    send,
    with_columns,
    with_history,
)

PENDING_MS_MAX: Final = 30 * MS_PER_SECOND
"""Broker time after which a command without a result is tried again or given up, on the shard's next event."""
SETTLING_MS: Final = MS_PER_MINUTE
"""Event time after a verified switch in which telemetry may still show the mode before."""
SETTLING_WALL_MS: Final = 5 * MS_PER_SECOND
"""The same by broker timestamps, for replays faster than life; both must have passed."""
_SETTLED: Final = frozenset({DeviceOutcome.COMMITTED, DeviceOutcome.ALREADY_THERE, DeviceOutcome.LIMITED})
"""Done, or given back: asked again at once, the hardware's own limits would refuse it again."""

Shards = Mapping[str, ShardAllocation]
__all__ = ["ATTEMPTS_MAX", "ShardAllocation", "on_command", "on_observed", "on_result"]
Outcome = tuple[ShardAllocation, tuple[object, ...]]


def on_command(
    shards: Shards, command: OrchestratorCommand, *, fleet: Fleet, cause: Cause
) -> Step[ShardAllocation] | Rejected:
    """Expand a decision into one command per shard; the table's key is the shard.

    A hold and a decision seen before have no effect. Devices with an owner, and such as are not active, never move.
    """
    facility = known_facility(fleet, command.facility_id)
    if isinstance(facility, Rejected):
        return facility
    if command.device_class not in facility.device_classes():
        return _unknown_class(command.facility_id, command.device_class)
    if command.action is DecisionAction.HOLD:
        return Step(ignored="hold")
    known = _known(shards, facility, command.device_class)
    if any(shard.knows(command.command_id) for shard in known):
        return Step(ignored="duplicate")
    updates: list[tuple[str, ShardAllocation]] = []
    outputs: list[object] = []
    left = command.device_count
    for shard in known:
        after, records = expired(shard, cause=cause)
        indexes: tuple[int, ...] = ()
        if after.pending is None:
            indexes = movable_indexes(after, mode=command.from_mode, count_max=left)
        if indexes:
            after, order = send(
                after,
                decision_id=command.command_id,
                from_mode=command.from_mode,
                to_mode=command.to_mode,
                attempt=1,
                device_indexes=indexes,
                epoch_floor=0,
                sent_wall_ms=cause.timestamp_ms,
                observed_at_ms=command.observed_at_ms,
            )
            left -= len(indexes)
            records = (*records, order)
        if after is not shard:
            updates.append((shard.shard_id, after))
            outputs.extend((*records, report_of(after)))
    if left == command.device_count and known:
        return _nothing_to_move(updates, outputs, known=known, decision_id=command.command_id)
    return Step(updates=tuple(updates), outputs=tuple(outputs), ignored=None if known else "no_shards")


def on_result(
    shards: Shards, result: ControllerResult, *, fleet: Fleet, cause: Cause
) -> Step[ShardAllocation] | Rejected:
    """Commit the modes a controller verified; what failed is tried again, `ATTEMPTS_MAX` times in all."""
    known = known_shard(
        fleet, facility_id=result.facility_id, shard_id=result.shard_id, device_class=result.device_class
    )
    if isinstance(known, Rejected):
        return known
    rejected = check_indexes(known, result.device_indexes)
    if rejected is not None:
        return rejected
    shard = shards.get(result.shard_id)
    if shard is None or shard.pending is None or shard.pending.command_id != result.command_id:
        return Step(ignored="late")
    after, outputs = _settle(shard, shard.pending, result=result, cause=cause)
    return Step(updates=((shard.shard_id, after),), outputs=(*outputs, report_of(after)))


def on_observed(
    shards: Shards, report: ResourceState, *, fleet: Fleet, cause: Cause
) -> Step[ShardAllocation] | Rejected:
    """Open a shard's books at first sight; later adopt what telemetry shows, unless a command is under way.

    The books are published each time, changed or not: a report that a crash has swallowed is made up for by the next
    heartbeat, or the orchestrator would count the shard's devices as switching for ever.
    """
    known = known_shard(
        fleet, facility_id=report.facility_id, shard_id=report.shard_id, device_class=report.device_class
    )
    if isinstance(known, Rejected):
        return known
    rejected = check_indexes(known, report.device_indexes)
    if rejected is not None:
        return rejected
    if report.reported_by is StateReporter.RESOURCES:
        return Step(ignored="own_report")
    shard = shards.get(report.shard_id)
    if shard is None:
        after = first_sight(known, report)
        return Step(updates=((after.shard_id, after),), outputs=(report_of(after),))
    after, outputs = expired(shard, cause=cause)
    if after.pending is None:
        after, adopted = _adopted(known, after, report=report, cause=cause)
        outputs = (*outputs, *adopted)
    updates = () if after is shard else ((after.shard_id, after),)
    return Step(updates=updates, outputs=(*outputs, report_of(after)))


def expired(shard: ShardAllocation, *, cause: Cause) -> Outcome:
    """Try a command again whose result is overdue, or give it up; the shard itself when none is."""
    pending = shard.pending
    if pending is None or cause.timestamp_ms - pending.sent_wall_ms <= PENDING_MS_MAX:
        return shard, ()
    return _again(shard, pending, failed=pending.device_indexes, epoch_floor=0, cause=cause)


def _settle(shard: ShardAllocation, pending: PendingCommand, *, result: ControllerResult, cause: Cause) -> Outcome:
    """Take in each device's outcome, then try the failed ones again or close the decision."""
    ordered = frozenset(pending.device_indexes)
    modes: dict[int, DeviceMode] = {}
    states: dict[int, DeviceState] = {}
    held, stopped = shard.indexes_in(HELD), shard.indexes_in(STOPPED)
    for index, outcome, mode in zip(result.device_indexes, result.outcomes, result.modes, strict=True):
        if index not in ordered:
            continue
        if index in held:  # a person's word came in between, and stands
            if index not in stopped:
                modes[index] = mode
            continue
        modes[index] = mode
        if outcome in _SETTLED or (outcome is DeviceOutcome.DUPLICATE and mode is pending.to_mode):
            states[index] = DeviceState.ACTIVE
        elif outcome is DeviceOutcome.QUARANTINED:
            states[index] = DeviceState.QUARANTINED
        elif outcome is DeviceOutcome.UNKNOWN_DEVICE:
            states[index] = DeviceState.UNREACHABLE
    after = replace(
        with_columns(shard, modes=modes, states=states),
        observed_at_ms=max(shard.observed_at_ms, result.observed_at_ms),
        settled_at_ms=max(shard.settled_at_ms, result.observed_at_ms),
        settled_wall_ms=max(shard.settled_wall_ms, cause.timestamp_ms),
    )
    quarantined = tuple(index for index, state in states.items() if state is DeviceState.QUARANTINED)
    alerts: tuple[object, ...] = ()
    if quarantined:
        alerts = (_alert(after, AlertType.DEVICE_QUARANTINED, indexes=quarantined, name=result.command_id),)
    failed = tuple(index for index in pending.device_indexes if index not in states and index not in held)
    bad = frozenset(failed).union(quarantined)
    after = with_history(after, failed=bad, succeeded=frozenset(states) - bad)
    if not failed:
        return finish(after, decision_id=pending.decision_id), alerts
    shown = max(result.epochs, default=0)
    after, outputs = _again(after, pending, failed=failed, epoch_floor=shown, cause=cause)
    return after, (*alerts, *outputs)


def _again(
    shard: ShardAllocation, pending: PendingCommand, *, failed: tuple[int, ...], epoch_floor: int, cause: Cause
) -> Outcome:
    """Send the next attempt for the failed devices; after the last one give them back and say so."""
    held = shard.indexes_in(HELD)
    failed = tuple(index for index in failed if index not in held)
    if not failed:
        return finish(shard, decision_id=pending.decision_id), ()
    if pending.attempt < pending.attempts_max:
        after, command = send(
            shard,
            decision_id=pending.decision_id,
            from_mode=pending.from_mode,
            to_mode=pending.to_mode,
            attempt=pending.attempt + 1,
            device_indexes=failed,
            epoch_floor=epoch_floor,
            sent_wall_ms=cause.timestamp_ms,
            observed_at_ms=pending.observed_at_ms,
            attempts_max=pending.attempts_max,
        )
        return after, (command,)
    after = with_columns(shard, states=dict.fromkeys(failed, DeviceState.ACTIVE))
    after = finish(after, decision_id=pending.decision_id)
    return after, (_alert(after, AlertType.SWITCH_FAILED, indexes=failed, name=pending.command_id),)


def _adopted(known: Shard, shard: ShardAllocation, *, report: ResourceState, cause: Cause) -> Outcome:
    """Take over modes and reachability that telemetry shows and that differ from the books."""
    is_settling = shard.settled_at_ms > 0 and (
        report.observed_at_ms < shard.settled_at_ms + SETTLING_MS
        or cause.timestamp_ms < shard.settled_wall_ms + SETTLING_WALL_MS
    )
    if report.observed_at_ms < shard.observed_at_ms or is_settling:
        return shard, ()
    after = joined(shard, first_sight(known, report))
    if after == shard:
        return shard, ()
    after = replace(after, observed_at_ms=report.observed_at_ms)
    before = dict(zip(shard.device_indexes, shard.modes, strict=True))
    mismatched = tuple(
        index
        for index, mode in zip(after.device_indexes, after.modes, strict=True)
        if before.get(index, mode) is not mode
    )
    if not mismatched or shard.settled_at_ms == 0:
        return after, ()
    name = f"{cause.topic}/{cause.partition}/{cause.offset}"
    return after, (_alert(after, AlertType.MODE_MISMATCH, indexes=mismatched, name=name),)


def _known(shards: Shards, facility: Facility, device_class: str) -> list[ShardAllocation]:
    """Return the books of a class's shards, in the order of the fleet; shards not seen yet have none."""
    found = (shards.get(shard.shard_id) for shard in facility.shards() if shard.device_class == device_class)
    return [shard for shard in found if shard is not None]


def _nothing_to_move(
    updates: list[tuple[str, ShardAllocation]],
    outputs: list[object],
    *,
    known: list[ShardAllocation],
    decision_id: str,
) -> Step[ShardAllocation]:
    """Remember a decision that found no device, so that it moves none when it is delivered again later."""
    pending = dict(updates)
    first = pending.get(known[0].shard_id, known[0])
    remembered = replace(first, finished=(*first.finished, decision_id)[-FINISHED_MAX:])
    pending[first.shard_id] = remembered
    return Step(updates=tuple(pending.items()), outputs=tuple(outputs))


def _unknown_class(facility_id: str, device_class: str) -> Rejected:
    return Rejected(
        reason=RejectReason.UNKNOWN_DEVICE_CLASS,
        detail=f"device_class must be one of {facility_id}, was {device_class}",
    )


_WORDS: Final = {
    AlertType.DEVICE_QUARANTINED: (AlertSeverity.CRITICAL, "were quarantined: their rollback failed twice"),
    AlertType.SWITCH_FAILED: (AlertSeverity.WARNING, "did not switch, whatever was tried"),
    AlertType.MODE_MISMATCH: (AlertSeverity.WARNING, "show another mode than was last verified"),
}


def _alert(shard: ShardAllocation, kind: AlertType, *, indexes: tuple[int, ...], name: str) -> Alert:
    severity, what = _WORDS[kind]
    return Alert(
        alert_id=id_from_content(shard.shard_id, kind, name),
        facility_id=shard.facility_id,
        severity=severity,
        alert_type=kind,
        subject=shard.shard_id if len(indexes) > 1 else device_id(shard_id=shard.shard_id, device_index=indexes[0]),
        message=f"{len(indexes)} of {len(shard.device_indexes)} devices of {shard.shard_id} {what}.",
        observed_at_ms=EpochMs(shard.observed_at_ms),
    )
