"""The fleet monitor's transformation: telemetry of a shard becomes its mode and health, reported when they change."""

from dataclasses import dataclass
from typing import Final

from hcp.model.devices import DeviceMode, DeviceState
from hcp.model.facilities import Fleet
from hcp.model.ids import device_id, id_from_record
from hcp.model.ledger import Alert, AlertSeverity, AlertType
from hcp.model.rejections import Rejected
from hcp.model.resources import ResourceState, StateReporter, state_key
from hcp.model.steps import Cause, Step
from hcp.model.telemetry import AsicTelemetry, GpuTelemetry
from hcp.model.units import MS_PER_MINUTE
from streams.rejecting import check_indexes, known_shard

HEARTBEAT_MS: Final = 5 * MS_PER_MINUTE
"""Event time after which an unchanged shard is reported again, so that silence and sameness differ."""
GPU_CELSIUS_MAX: Final = 90.0
"""NVIDIA throttles data-centre GPUs at 85 to 92 degC (nvidia-smi -q -d TEMPERATURE, "GPU Slowdown Temp")."""
GPU_MEMORY_CELSIUS_MAX: Final = 105.0
ASIC_CHIP_CELSIUS_MAX: Final = 95.0
"""Antminers stop themselves between 95 and 105 degC at the chip, by model and firmware."""
COOLED_CELSIUS: Final = 5.0
"""A device counts as cooled this far below its limit, so that one alert is not ten."""
_NAMED_MAX: Final = 8
"""Devices an alert names; the rest are counted."""

Batch = GpuTelemetry | AsicTelemetry


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardState:
    """One shard as its telemetry shows it; columns are sorted by device index.

    Attributes:
        shard_id: The shard.
        observed_at_ms: Event time of the last batch taken in.
        reported_at_ms: Event time of the last report.
        device_indexes: Every device ever seen.
        modes: Mode of each.
        states: `unreachable` for those that were missing from the last batch or measured nothing.
        overheated: Indexes of those too hot, sorted.
    """

    shard_id: str
    observed_at_ms: int
    reported_at_ms: int
    device_indexes: tuple[int, ...]
    modes: tuple[DeviceMode, ...]
    states: tuple[DeviceState, ...]
    overheated: tuple[int, ...] = ()


def on_telemetry(state: ShardState | None, batch: Batch, *, fleet: Fleet, cause: Cause) -> Step[ShardState] | Rejected:
    """Take in one tick of a shard; the table's key is the shard.

    Reports when a mode, a health or the membership changed, and every `HEARTBEAT_MS` of event time.
    """
    shard = known_shard(fleet, facility_id=batch.facility_id, shard_id=batch.shard_id, device_class=batch.device_class)
    if isinstance(shard, Rejected):
        return shard
    rejected = check_indexes(shard, batch.device_indexes)
    if rejected is not None:
        return rejected
    if state is not None and batch.observed_at_ms < state.observed_at_ms:
        return Step(ignored="late")
    if state is not None and batch.observed_at_ms == state.observed_at_ms:
        return Step(ignored="duplicate")
    indexes, modes, states = _columns(state, batch)
    is_changed = state is None or (state.device_indexes, state.modes, state.states) != (indexes, modes, states)
    is_due = state is None or batch.observed_at_ms - state.reported_at_ms >= HEARTBEAT_MS
    after = ShardState(
        shard_id=batch.shard_id,
        observed_at_ms=batch.observed_at_ms,
        reported_at_ms=batch.observed_at_ms if is_changed or is_due or state is None else state.reported_at_ms,
        device_indexes=indexes,
        modes=modes,
        states=states,
        overheated=_overheated(batch, before=state.overheated if state is not None else ()),
    )
    outputs: list[object] = [_report(after, batch)] if is_changed or is_due else []
    outputs.extend(_alerts(state, after, batch=batch, cause=cause))
    return Step(updates=((batch.shard_id, after),), outputs=tuple(outputs))


def _columns(
    state: ShardState | None, batch: Batch
) -> tuple[tuple[int, ...], tuple[DeviceMode, ...], tuple[DeviceState, ...]]:
    """Return index, mode and health of every device known, sorted by index."""
    is_complete = state is None or state.device_indexes == batch.device_indexes
    is_sorted = all(low < high for low, high in zip(batch.device_indexes, batch.device_indexes[1:], strict=False))
    if is_complete and is_sorted and None not in batch.power_watts:  # every tick of a healthy shard
        return batch.device_indexes, batch.modes, (DeviceState.ACTIVE,) * len(batch.device_indexes)
    known: dict[int, tuple[DeviceMode, DeviceState]] = {}
    if state is not None:
        known = {
            index: (mode, DeviceState.UNREACHABLE)
            for index, mode in zip(state.device_indexes, state.modes, strict=True)
        }
    for index, mode, is_silent in zip(batch.device_indexes, batch.modes, _silent(batch), strict=True):
        known[index] = (mode, DeviceState.UNREACHABLE if is_silent else DeviceState.ACTIVE)
    indexes = tuple(sorted(known))
    return indexes, tuple(known[index][0] for index in indexes), tuple(known[index][1] for index in indexes)


def _silent(batch: Batch) -> tuple[bool, ...]:
    """Say of each device whether neither power nor temperature was measured: then nobody answered."""
    heat = _heat(batch)[0][0]
    return tuple(power is None and hot is None for power, hot in zip(batch.power_watts, heat, strict=True))


def _heat(batch: Batch) -> tuple[tuple[tuple[float | None, ...], float], ...]:
    """Return the temperatures that count, each with its limit."""
    if isinstance(batch, GpuTelemetry):
        return (
            (batch.temperature_celsius, GPU_CELSIUS_MAX),
            (batch.memory_temperature_celsius, GPU_MEMORY_CELSIUS_MAX),
        )
    return ((batch.chip_temperature_celsius, ASIC_CHIP_CELSIUS_MAX),)


def _overheated(batch: Batch, *, before: tuple[int, ...]) -> tuple[int, ...]:
    """Return the devices above a limit, and those that were and have not cooled by `COOLED_CELSIUS` yet."""
    was_hot = frozenset(before)
    hot: set[int] = set()
    for column, limit in _heat(batch):
        hottest = max((value for value in column if value is not None), default=None)
        if hottest is None or hottest <= limit - COOLED_CELSIUS:
            continue
        for index, value in zip(batch.device_indexes, column, strict=True):
            if value is not None and (value > limit or (index in was_hot and value > limit - COOLED_CELSIUS)):
                hot.add(index)
    hot.update(was_hot.difference(batch.device_indexes))  # nobody has said that they cooled
    return tuple(sorted(hot))


def _report(after: ShardState, batch: Batch) -> ResourceState:
    count = len(after.device_indexes)
    return ResourceState(
        state_key=state_key(shard_id=batch.shard_id, reported_by=StateReporter.FLEET_MONITOR),
        facility_id=batch.facility_id,
        cluster_id=batch.cluster_id,
        shard_id=batch.shard_id,
        device_class=batch.device_class,
        reported_by=StateReporter.FLEET_MONITOR,
        device_indexes=after.device_indexes,
        modes=after.modes,
        states=after.states,
        epochs=(0,) * count,
        owners=("",) * count,
        observed_at_ms=batch.observed_at_ms,
    )


def _alerts(before: ShardState | None, after: ShardState, *, batch: Batch, cause: Cause) -> list[Alert]:
    """Return one alert for what became too hot, one for what fell silent; each once, when it begins."""
    was_hot = before.overheated if before is not None else ()
    was_silent = _silent_indexes(before) if before is not None else ()
    hot = tuple(index for index in after.overheated if index not in was_hot)
    silent = tuple(index for index in _silent_indexes(after) if index not in was_silent)
    begun = (
        (hot, AlertType.DEVICE_OVERHEATED, AlertSeverity.CRITICAL, "too hot; check cooling"),
        (silent, AlertType.DEVICE_SILENT, AlertSeverity.WARNING, "silent; nothing was measured"),
    )
    return [
        Alert(
            alert_id=id_from_record(topic=cause.topic, partition=cause.partition, offset=cause.offset, ordinal=ordinal),
            facility_id=batch.facility_id,
            severity=severity,
            alert_type=kind,
            subject=_subject(batch.shard_id, indexes),
            message=f"{len(indexes)} of {len(after.device_indexes)} devices of {batch.shard_id} became {what}: "
            f"{_named(indexes)}.",
            observed_at_ms=batch.observed_at_ms,
        )
        for ordinal, (indexes, kind, severity, what) in enumerate(begun)
        if indexes
    ]


def _silent_indexes(state: ShardState) -> tuple[int, ...]:
    if DeviceState.UNREACHABLE not in state.states:
        return ()
    return tuple(
        index
        for index, health in zip(state.device_indexes, state.states, strict=True)
        if health is DeviceState.UNREACHABLE
    )


def _subject(shard_id: str, indexes: tuple[int, ...]) -> str:
    return device_id(shard_id=shard_id, device_index=indexes[0]) if len(indexes) == 1 else shard_id


def _named(indexes: tuple[int, ...]) -> str:
    named = ", ".join(f"{index:03d}" for index in indexes[:_NAMED_MAX])
    return named if len(indexes) <= _NAMED_MAX else f"{named} and {len(indexes) - _NAMED_MAX} more"
