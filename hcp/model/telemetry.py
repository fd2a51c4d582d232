"""Telemetry: one columnar record per shard and tick; None means not measured, never zero."""

from dataclasses import dataclass
from typing import Annotated

from hcp.model.devices import DeviceMode
from hcp.model.fields import Field
from hcp.model.types import ClusterId, DeviceClassId, DeviceIndexes, FacilityId, ObservedAtMs, ShardId

Modes = Annotated[tuple[DeviceMode, ...], Field("Mode each device reports.", column=True)]
Power = Annotated[
    tuple[float | None, ...],
    Field("Draw at the wall.", unit="W", minimum=0.0, maximum=20_000.0, column=True),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuTelemetry:
    """One tick of the GPUs of a shard."""

    facility_id: FacilityId
    cluster_id: ClusterId
    shard_id: ShardId
    device_class: DeviceClassId
    observed_at_ms: ObservedAtMs
    device_indexes: DeviceIndexes
    modes: Modes
    power_watts: Power
    temperature_celsius: Annotated[
        tuple[float | None, ...],
        Field("GPU core.", unit="degC", minimum=-40.0, maximum=150.0, column=True),
    ]
    memory_temperature_celsius: Annotated[
        tuple[float | None, ...],
        Field("Memory junction.", unit="degC", minimum=-40.0, maximum=150.0, column=True),
    ]
    utilisation_ratio: Annotated[
        tuple[float | None, ...],
        Field("Share of time a kernel ran.", unit="1", minimum=0.0, maximum=1.0, column=True),
    ]
    hash_rate_mh_per_s: Annotated[
        tuple[float | None, ...],
        Field("Rate of the algorithm mined.", unit="MH/s", minimum=0.0, maximum=1e9, column=True),
    ]
    tokens_per_s: Annotated[
        tuple[float | None, ...],
        Field("Tokens generated.", unit="1/s", minimum=0.0, maximum=1e7, column=True),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class AsicTelemetry:
    """One tick of the ASICs of a shard."""

    facility_id: FacilityId
    cluster_id: ClusterId
    shard_id: ShardId
    device_class: DeviceClassId
    observed_at_ms: ObservedAtMs
    device_indexes: DeviceIndexes
    modes: Modes
    power_watts: Power
    chip_temperature_celsius: Annotated[
        tuple[float | None, ...],
        Field("Hottest chip.", unit="degC", minimum=-40.0, maximum=200.0, column=True),
    ]
    inlet_temperature_celsius: Annotated[
        tuple[float | None, ...],
        Field("Air at the inlet.", unit="degC", minimum=-60.0, maximum=100.0, column=True),
    ]
    hash_rate_th_per_s: Annotated[
        tuple[float | None, ...],
        Field("SHA-256 rate.", unit="TH/s", minimum=0.0, maximum=10_000.0, column=True),
    ]
    fan_speed_rpm: Annotated[
        tuple[float | None, ...],
        Field("Mean of the fans.", unit="1/min", minimum=0.0, maximum=30_000.0, column=True),
    ]
    reject_ratio: Annotated[
        tuple[float | None, ...],
        Field("Shares the pool refused.", unit="1", minimum=0.0, maximum=1.0, column=True),
    ]
