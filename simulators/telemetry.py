"""Turn readings into telemetry batches, and results of controllers into modes; no clock and no Kafka."""

import random
from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np

from hcp.model.commands import ControllerResult, DeviceOutcome
from hcp.model.facilities import Fleet
from hcp.model.telemetry import AsicTelemetry, GpuTelemetry
from hcp.model.units import EpochMs
from simulators.faults import Batch, Fault, FaultKind
from simulators.physics import MODES, Floats, Readings, ShardPhysics

_VERIFIED: Final = frozenset({DeviceOutcome.COMMITTED, DeviceOutcome.ALREADY_THERE, DeviceOutcome.ROLLED_BACK})
"""Outcomes whose mode was read back from the device."""
_DECIMALS: Final = 3
_RATIO_DECIMALS: Final = 5


def fleet_physics(fleet: Fleet, *, seed: int, faults: tuple[Fault, ...] = ()) -> dict[str, ShardPhysics]:
    """Return the state of every shard, settled in its cluster's initial mode, overheating devices marked."""
    shards: dict[str, ShardPhysics] = {}
    for site in fleet.facilities:
        for cluster in site.clusters:
            device_class = fleet.device_class(cluster.device_class)
            assert device_class is not None, "a fleet's clusters are of its classes"
            for shard in cluster.shards():
                shards[shard.shard_id] = ShardPhysics(shard, device_class, cluster.initial_mode, seed)
    for fault in faults:
        if fault.kind is FaultKind.OVERHEAT:
            shards[fault.shard_id].overheated[slice(None) if fault.index is None else fault.index] = True
    return shards


def apply_result(shards: Mapping[str, ShardPhysics], result: ControllerResult) -> int:
    """Let devices whose mode was verified ramp to it; return how many were told. An unknown shard is passed over."""
    physics = shards.get(result.shard_id)
    if physics is None:
        return 0
    told = 0
    rows = zip(result.device_indexes, result.outcomes, result.modes, result.epochs, strict=True)
    for index, outcome, mode, epoch in rows:
        if outcome in _VERIFIED and index < physics.shard.device_count:
            physics.set_mode(index, mode, epoch=epoch)
            told += 1
    return told


def tick(
    shards: Mapping[str, ShardPhysics],
    *,
    passed_ms: float,
    at_ms: EpochMs,
    seed: int,
    faults: tuple[Fault, ...] = (),
) -> Iterator[Batch]:
    """Let time pass and yield the batch of every shard that is not dropped."""
    dropout = max((fault.ratio for fault in faults if fault.kind is FaultKind.DROPOUT), default=0.0)
    for shard_id, physics in shards.items():
        readings = physics.step(passed_ms=passed_ms, at_ms=at_ms)
        if dropout and random.Random(f"{seed}/{shard_id}/{at_ms}").random() < dropout:
            continue
        here = [fault for fault in faults if fault.shard_id == shard_id and fault.kind is FaultKind.SILENT]
        silent = np.zeros(physics.shard.device_count, dtype=np.bool_)
        for fault in here:
            silent[slice(None) if fault.index is None else fault.index] = True
        yield batch_of(physics, readings, at_ms=at_ms, silent=silent if here else None)


def batch_of(
    physics: ShardPhysics,
    readings: Readings,
    *,
    at_ms: EpochMs,
    silent: np.typing.NDArray[np.bool_] | None = None,
) -> Batch:
    """Return the record of one tick; a silent device has measured nothing."""
    shard = physics.shard

    def column(values: Floats, decimals: int = _DECIMALS) -> tuple[float | None, ...]:
        heard = values if silent is None else np.where(silent, np.nan, values)
        return _column(np.round(heard, decimals))

    names = {
        "facility_id": shard.facility_id,
        "cluster_id": shard.cluster_id,
        "shard_id": shard.shard_id,
        "device_class": shard.device_class,
    }
    indexes = tuple(range(shard.device_count))
    modes = tuple([MODES[code] for code in readings.codes.tolist()])
    if physics.is_gpu:
        return GpuTelemetry(
            **names,
            observed_at_ms=at_ms,
            device_indexes=indexes,
            modes=modes,
            power_watts=column(readings.power_watts),
            temperature_celsius=column(readings.temperature_celsius),
            memory_temperature_celsius=column(readings.second_temperature_celsius),
            utilisation_ratio=column(readings.utilisation_ratio, _RATIO_DECIMALS),
            hash_rate_mh_per_s=column(readings.hash_rate),
            tokens_per_s=column(readings.tokens_per_s),
        )
    return AsicTelemetry(
        **names,
        observed_at_ms=at_ms,
        device_indexes=indexes,
        modes=modes,
        power_watts=column(readings.power_watts),
        chip_temperature_celsius=column(readings.temperature_celsius),
        inlet_temperature_celsius=column(readings.second_temperature_celsius),
        hash_rate_th_per_s=column(readings.hash_rate),
        fan_speed_rpm=column(readings.fan_speed_rpm),
        reject_ratio=column(readings.reject_ratio, _RATIO_DECIMALS),
    )


def _column(values: Floats) -> tuple[float | None, ...]:
    plain: list[float] = values.tolist()
    if not np.isnan(values).any():
        return tuple(plain)
    return tuple([None if value != value else value for value in plain])  # noqa: PLR0124  # NaN is not itself
