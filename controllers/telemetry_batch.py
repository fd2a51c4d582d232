"""Readings of a shard of real devices become the record that its site's simulators would send."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, get_type_hints

from controllers.ports import Telemetry
from hcp.model.devices import DeviceKind, DeviceMode
from hcp.model.facilities import Shard
from hcp.model.telemetry import AsicTelemetry, GpuTelemetry
from hcp.model.units import EpochMs
from hcp.model.validation import unwrap

_H_PER_MH: Final = 1e6
_H_PER_TH: Final = 1e12

Batch = GpuTelemetry | AsicTelemetry
Read = tuple[DeviceMode, Telemetry]


def batch_of(
    shard: Shard, readings: Mapping[int, Telemetry], *, kind: DeviceKind, observed_at_ms: EpochMs
) -> Batch | None:
    """Return the record of one round; None when no device of the shard said which mode it is in.

    A device that did not answer, or not in which mode it is, is left out: the fleet monitor takes it for unreachable.
    A value outside the record's documented range is none, so that one broken sensor costs its own reading alone.
    """
    read = {index: (each.mode, each) for index, each in sorted(readings.items()) if each.mode is not None}
    if not read:
        return None
    names: dict[str, Any] = {
        "facility_id": shard.facility_id,
        "cluster_id": shard.cluster_id,
        "shard_id": shard.shard_id,
        "device_class": shard.device_class,
        "observed_at_ms": observed_at_ms,
        "device_indexes": tuple(read),
        "modes": tuple(mode for mode, _ in read.values()),
    }
    record, columns = (GpuTelemetry, _GPU) if kind is DeviceKind.GPU else (AsicTelemetry, _ASIC)
    rows = [telemetry for _, telemetry in read.values()]
    ranges = _RANGES[kind]
    names.update({name: _column(rows, of, *ranges[name]) for name, of in columns.items()})
    return record(**names)


_GPU: Final[Mapping[str, Callable[[Telemetry], float | None]]] = {
    "power_watts": lambda of: of.power_watts,
    "temperature_celsius": lambda of: of.temperature_celsius,
    "memory_temperature_celsius": lambda of: of.memory_temperature_celsius,
    "utilisation_ratio": lambda of: of.utilisation_ratio,
    "hash_rate_mh_per_s": lambda of: _scaled(of.hash_rate_h_per_s, _H_PER_MH),
    "tokens_per_s": lambda _: None,  # no driver measures it
}
_ASIC: Final[Mapping[str, Callable[[Telemetry], float | None]]] = {
    "power_watts": lambda of: of.power_watts,
    "chip_temperature_celsius": lambda of: of.temperature_celsius,
    "inlet_temperature_celsius": lambda of: of.inlet_temperature_celsius,
    "hash_rate_th_per_s": lambda of: _scaled(of.hash_rate_h_per_s, _H_PER_TH),
    "fan_speed_rpm": lambda of: of.fan_speed_rpm,
    "reject_ratio": lambda of: of.reject_ratio,
}


def _column(
    rows: Sequence[Telemetry], of: Callable[[Telemetry], float | None], lowest: float, highest: float
) -> tuple[float | None, ...]:
    values = [of(row) for row in rows]
    # Chained so that NaN is outside too.
    return tuple([None if value is None or not lowest <= value <= highest else float(value) for value in values])


def _scaled(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit


def _ranges(record: type, names: Iterable[str]) -> dict[str, tuple[float, float]]:
    """Return the documented range of some of a record's columns."""
    hints: dict[str, Any] = get_type_hints(record, include_extras=True)
    found: dict[str, tuple[float, float]] = {}
    for name in names:
        spec, _ = unwrap(hints[name])
        assert spec is not None, f"{name} has a range"
        assert spec.minimum is not None, f"{name} has a lower bound"
        assert spec.maximum is not None, f"{name} has an upper bound"
        found[name] = (spec.minimum, spec.maximum)
    return found


_RANGES: Final = {DeviceKind.GPU: _ranges(GpuTelemetry, _GPU), DeviceKind.ASIC: _ranges(AsicTelemetry, _ASIC)}
