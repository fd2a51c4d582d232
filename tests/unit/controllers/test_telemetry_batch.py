"""Readings of real devices become records that pass every check of the edge, whatever the sensors say."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from controllers.ports import Telemetry
from controllers.telemetry_batch import batch_of
from hcp.model.devices import DeviceKind, DeviceMode
from hcp.model.telemetry import AsicTelemetry, GpuTelemetry
from hcp.model.units import Celsius, EpochMs, Ratio, Watts
from hcp.model.validation import check
from tests.unit.controllers.world import ASIC, GPU, SHARDS

AT = EpochMs(1_764_000_000_000)
GPU_READING = Telemetry(
    mode=DeviceMode.MINING,
    power_watts=Watts(440.0),
    temperature_celsius=Celsius(61.0),
    memory_temperature_celsius=Celsius(80.0),
    utilisation_ratio=Ratio(0.9),
    hash_rate_h_per_s=115e6,
)
ASIC_READING = Telemetry(
    mode=DeviceMode.MINING,
    power_watts=Watts(3_500.0),
    temperature_celsius=Celsius(70.0),
    inlet_temperature_celsius=Celsius(24.0),
    hash_rate_h_per_s=200e12,
    fan_speed_rpm=5_000.0,
    reject_ratio=Ratio(0.002),
)


def test_every_value_arrives_in_its_unit() -> None:
    """A GPU's hashes are told in MH/s, an ASIC's in TH/s."""
    gpu = batch_of(SHARDS[GPU], {1: GPU_READING}, kind=DeviceKind.GPU, observed_at_ms=AT)
    assert isinstance(gpu, GpuTelemetry)
    assert (gpu.shard_id, gpu.device_indexes, gpu.modes) == (GPU, (1,), (DeviceMode.MINING,))
    assert (gpu.power_watts, gpu.temperature_celsius, gpu.memory_temperature_celsius) == ((440.0,), (61.0,), (80.0,))
    assert (gpu.utilisation_ratio, gpu.hash_rate_mh_per_s, gpu.tokens_per_s) == ((0.9,), (115.0,), (None,))
    asic = batch_of(SHARDS[ASIC], {0: ASIC_READING}, kind=DeviceKind.ASIC, observed_at_ms=AT)
    assert isinstance(asic, AsicTelemetry)
    assert (asic.power_watts, asic.chip_temperature_celsius, asic.inlet_temperature_celsius) == (
        (3_500.0,),
        (70.0,),
        (24.0,),
    )
    assert (asic.hash_rate_th_per_s, asic.fan_speed_rpm, asic.reject_ratio) == ((200.0,), (5_000.0,), (0.002,))


def test_device_that_does_not_say_its_mode_is_left_out() -> None:
    """No mode is made up; a shard in which nobody said one sends nothing."""
    unknown = replace(GPU_READING, mode=None)
    batch = batch_of(SHARDS[GPU], {3: GPU_READING, 0: unknown}, kind=DeviceKind.GPU, observed_at_ms=AT)
    assert batch is not None
    assert batch.device_indexes == (3,)
    assert batch_of(SHARDS[GPU], {0: unknown}, kind=DeviceKind.GPU, observed_at_ms=AT) is None
    assert batch_of(SHARDS[GPU], {}, kind=DeviceKind.GPU, observed_at_ms=AT) is None


NUMBERS = st.none() | st.floats() | st.integers(min_value=-(10**400), max_value=10**400)


@given(power=NUMBERS, heat=NUMBERS, ratio=NUMBERS, rate=st.none() | st.floats(), kind=st.sampled_from(DeviceKind))
def test_broken_sensor_costs_its_own_reading_alone(
    power: float | None, heat: float | None, ratio: float | None, rate: float | None, kind: DeviceKind
) -> None:
    """Whatever is measured, the record is valid and the neighbour's values are untouched."""
    sound, shard_id = (GPU_READING, GPU) if kind is DeviceKind.GPU else (ASIC_READING, ASIC)
    broken = Telemetry(
        mode=DeviceMode.MINING,
        power_watts=None if power is None else Watts(power),
        temperature_celsius=None if heat is None else Celsius(heat),
        utilisation_ratio=None if ratio is None else Ratio(ratio),
        reject_ratio=None if ratio is None else Ratio(ratio),
        hash_rate_h_per_s=rate,
    )
    batch = batch_of(SHARDS[shard_id], {0: broken, 1: sound}, kind=kind, observed_at_ms=AT)
    assert batch is not None
    assert check(batch) is None
    assert batch.power_watts[1] == sound.power_watts
    is_measured = power is not None and 0 <= power <= 20_000
    assert batch.power_watts[0] == (power if is_measured else None)
