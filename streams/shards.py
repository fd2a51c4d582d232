"""The Resource Manager's books of one shard: mode, state, epoch and owner of every device, and what is under way."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from hcp.model.commands import ControllerCommand
from hcp.model.devices import DeviceMode, DeviceState
from hcp.model.facilities import Shard
from hcp.model.ids import id_from_content
from hcp.model.resources import ResourceState, StateReporter, state_key
from hcp.model.units import EpochMs

FINISHED_MAX: Final = 64
"""Decisions a shard remembers, to tell a duplicate."""
ATTEMPTS_MAX: Final = 3
"""Times a decision's command is sent, unless it says otherwise."""
FAILURES_MAX: Final = 100
_ADOPTABLE: Final = frozenset({DeviceState.ACTIVE, DeviceState.UNREACHABLE})
"""Only these follow the telemetry; the others end by a person's word."""
HELD: Final = frozenset({DeviceState.MAINTENANCE, DeviceState.PAUSED, DeviceState.LOCKED_OUT})
"""Kept from being switched by a person; a command under way does not end that."""
STOPPED: Final = HELD - {DeviceState.MAINTENANCE}
"""Stopped by a person as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingCommand:
    """A controller command that has no result yet.

    Attributes:
        command_id: Derived from decision, shard and attempt.
        decision_id: The orchestrator's command.
        from_mode: Mode left.
        to_mode: Mode wanted.
        attempt: Counted from 1.
        device_indexes: Devices commanded, sorted.
        sent_wall_ms: Broker timestamp of the record that caused it.
        observed_at_ms: Event time of the decision.
        attempts_max: Attempts in all; a placement tries the next best device instead.
    """

    command_id: str
    decision_id: str
    from_mode: DeviceMode
    to_mode: DeviceMode
    attempt: int
    device_indexes: tuple[int, ...]
    sent_wall_ms: int
    observed_at_ms: int
    attempts_max: int = ATTEMPTS_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardAllocation:
    """One shard; columns are in the order of `device_indexes`.

    Attributes:
        shard_id: The shard.
        cluster_id: Its cluster.
        facility_id: Its site.
        device_class: Of its devices.
        device_indexes: Devices seen, sorted.
        modes: Mode of each.
        states: Whether each may be switched.
        epochs: Fencing token of each; rises with every command.
        owners: Customer workload that holds each; empty for none.
        pending: The command under way; a shard has one at a time.
        finished: Decisions already acted on, oldest first, `FINISHED_MAX` at most.
        observed_at_ms: Event time of the last change.
        settled_at_ms: Event time of the last verified switch; 0 before the first.
        settled_wall_ms: Broker timestamp of its result.
        locks: Who locked each device that is locked out, by device index, sorted.
        failures: Failed switches of each device that had any, less those that succeeded since, by index, sorted.
    """

    shard_id: str
    cluster_id: str
    facility_id: str
    device_class: str
    device_indexes: tuple[int, ...]
    modes: tuple[DeviceMode, ...]
    states: tuple[DeviceState, ...]
    epochs: tuple[int, ...]
    owners: tuple[str, ...]
    pending: PendingCommand | None = None
    finished: tuple[str, ...] = ()
    observed_at_ms: int = 0
    settled_at_ms: int = 0
    settled_wall_ms: int = 0
    locks: tuple[tuple[int, str], ...] = ()
    failures: tuple[tuple[int, int], ...] = ()

    def indexes_in(self, states: frozenset[DeviceState]) -> frozenset[int]:
        """Return the devices in one of these states."""
        return frozenset(
            index for index, state in zip(self.device_indexes, self.states, strict=True) if state in states
        )

    def knows(self, decision_id: str) -> bool:
        """Say whether a decision has been acted on here."""
        return decision_id in self.finished or (self.pending is not None and self.pending.decision_id == decision_id)


def first_sight(shard: Shard, report: ResourceState) -> ShardAllocation:
    """Open the books of a shard from what the fleet monitor sees."""
    order = sorted(range(len(report.device_indexes)), key=lambda row: report.device_indexes[row])
    return ShardAllocation(
        shard_id=shard.shard_id,
        cluster_id=shard.cluster_id,
        facility_id=shard.facility_id,
        device_class=shard.device_class,
        device_indexes=tuple(report.device_indexes[row] for row in order),
        modes=tuple(report.modes[row] for row in order),
        states=tuple(report.states[row] for row in order),
        epochs=(0,) * len(order),
        owners=("",) * len(order),
        observed_at_ms=report.observed_at_ms,
    )


def joined(shard: ShardAllocation, seen: ShardAllocation) -> ShardAllocation:
    """Return the books with newly seen devices in their places, and mode and reachability as seen.

    What is neither active nor unreachable stays as it is in the books.
    """
    if shard.device_indexes == seen.device_indexes and (shard.modes, shard.states) == (seen.modes, seen.states):
        return shard
    modes = dict(zip(shard.device_indexes, shard.modes, strict=True))
    states = dict(zip(shard.device_indexes, shard.states, strict=True))
    for index, mode, state in zip(seen.device_indexes, seen.modes, seen.states, strict=True):
        if states.get(index, DeviceState.ACTIVE) in _ADOPTABLE:
            modes[index], states[index] = mode, state
    epochs = dict(zip(shard.device_indexes, shard.epochs, strict=True))
    owners = dict(zip(shard.device_indexes, shard.owners, strict=True))
    indexes = tuple(sorted(modes))
    return replace(
        shard,
        device_indexes=indexes,
        modes=tuple(modes[index] for index in indexes),
        states=tuple(states[index] for index in indexes),
        epochs=tuple(epochs.get(index, 0) for index in indexes),
        owners=tuple(owners.get(index, "") for index in indexes),
    )


def movable_indexes(shard: ShardAllocation, *, mode: DeviceMode, count_max: int) -> tuple[int, ...]:
    """Return up to `count_max` devices that may leave a mode: active and held by nobody; lowest index first."""
    found = [
        index
        for index, known, state, owner in zip(
            shard.device_indexes, shard.modes, shard.states, shard.owners, strict=True
        )
        if known is mode and state is DeviceState.ACTIVE and not owner
    ]
    return tuple(found[: max(count_max, 0)])


def send(
    shard: ShardAllocation,
    *,
    decision_id: str,
    from_mode: DeviceMode,
    to_mode: DeviceMode,
    attempt: int,
    device_indexes: tuple[int, ...],
    epoch_floor: int,
    sent_wall_ms: int,
    observed_at_ms: int,
    attempts_max: int = ATTEMPTS_MAX,
) -> tuple[ShardAllocation, ControllerCommand]:
    """Mark devices as switching under a new epoch and word the command.

    Args:
        shard: Its books.
        decision_id: The orchestrator's command.
        from_mode: Mode left.
        to_mode: Mode wanted.
        attempt: Counted from 1.
        device_indexes: Which devices; sorted, all in the books.
        epoch_floor: Highest epoch anybody has shown for them; the new ones are above it.
        sent_wall_ms: Broker timestamp of the cause.
        observed_at_ms: Event time of the decision.
        attempts_max: Attempts in all.
    """
    chosen = frozenset(device_indexes)
    rows = [index in chosen for index in shard.device_indexes]
    epochs = tuple(
        max(epoch, epoch_floor) + 1 if moves else epoch for epoch, moves in zip(shard.epochs, rows, strict=True)
    )
    command = ControllerCommand(
        command_id=id_from_content(decision_id, shard.shard_id, attempt),
        decision_id=decision_id,
        facility_id=shard.facility_id,
        cluster_id=shard.cluster_id,
        shard_id=shard.shard_id,
        device_class=shard.device_class,
        from_mode=from_mode,
        to_mode=to_mode,
        attempt=attempt,
        device_indexes=device_indexes,
        epochs=tuple(epoch for epoch, moves in zip(epochs, rows, strict=True) if moves),
        observed_at_ms=EpochMs(observed_at_ms),
    )
    pending = PendingCommand(
        command_id=command.command_id,
        decision_id=decision_id,
        from_mode=from_mode,
        to_mode=to_mode,
        attempt=attempt,
        device_indexes=device_indexes,
        sent_wall_ms=sent_wall_ms,
        observed_at_ms=observed_at_ms,
        attempts_max=attempts_max,
    )
    states = tuple(DeviceState.SWITCHING if moves else state for state, moves in zip(shard.states, rows, strict=True))
    after = replace(
        shard,
        epochs=epochs,
        states=states,
        pending=pending,
        observed_at_ms=max(shard.observed_at_ms, observed_at_ms),
    )
    return after, command


def finish(shard: ShardAllocation, *, decision_id: str) -> ShardAllocation:
    """Close a decision: nothing is pending, and it is remembered."""
    finished = tuple(known for known in shard.finished if known != decision_id)
    return replace(shard, pending=None, finished=(*finished, decision_id)[-FINISHED_MAX:])


def with_columns(
    shard: ShardAllocation,
    *,
    modes: dict[int, DeviceMode] | None = None,
    states: dict[int, DeviceState] | None = None,
    owners: dict[int, str] | None = None,
) -> ShardAllocation:
    """Change what is given, by device index, and keep the rest."""
    return replace(
        shard,
        modes=_changed(shard.device_indexes, shard.modes, modes or {}),
        states=_changed(shard.device_indexes, shard.states, states or {}),
        owners=_changed(shard.device_indexes, shard.owners, owners or {}),
    )


def with_history(shard: ShardAllocation, *, failed: frozenset[int], succeeded: frozenset[int]) -> ShardAllocation:
    """Count a failure to each device that failed, and take one from each that succeeded."""
    counts = dict(shard.failures)
    for index in failed:
        counts[index] = min(counts.get(index, 0) + 1, FAILURES_MAX)
    for index in succeeded & counts.keys():
        counts[index] -= 1
    failures = tuple(sorted((index, count) for index, count in counts.items() if count > 0))
    return shard if failures == shard.failures else replace(shard, failures=failures)


def report_of(shard: ShardAllocation) -> ResourceState:
    """Word the Resource Manager's report of a shard."""
    return ResourceState(
        state_key=state_key(shard_id=shard.shard_id, reported_by=StateReporter.RESOURCES),
        facility_id=shard.facility_id,
        cluster_id=shard.cluster_id,
        shard_id=shard.shard_id,
        device_class=shard.device_class,
        reported_by=StateReporter.RESOURCES,
        device_indexes=shard.device_indexes,
        modes=shard.modes,
        states=shard.states,
        epochs=shard.epochs,
        owners=shard.owners,
        observed_at_ms=EpochMs(shard.observed_at_ms),
    )


_Value = TypeVar("_Value")


def _changed(indexes: Sequence[int], column: tuple[_Value, ...], changes: dict[int, _Value]) -> tuple[_Value, ...]:
    if not changes:
        return column
    return tuple(changes.get(index, value) for index, value in zip(indexes, column, strict=True))
