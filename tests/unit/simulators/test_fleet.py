"""The fleet simulator's pure parts: plausible physics, batches that pass the edge, faults that do what they say."""

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcp.codecs import decode, encode
from hcp.errors import FleetError
from hcp.fleet import load_fleet
from hcp.model.devices import DeviceKind, DeviceMode, modes_of_kind
from hcp.model.rejections import Rejected, RejectReason
from hcp.model.telemetry import AsicTelemetry, GpuTelemetry
from hcp.model.units import EpochMs
from hcp.model.validation import check
from simulators.faults import Batch, Fault, FaultKind, corrupted, parse_fault
from simulators.market import sample_start_ms
from simulators.telemetry import fleet_physics, tick

DEMO = load_fleet(Path(__file__).parents[3] / "fleet.demo.toml")
AT = sample_start_ms()
ASIC = "tx-north.asic-1/00"
GPU = "tx-north.gpu-1/00"


def _tick(shards: dict, *, seconds: float, faults: tuple[Fault, ...] = ()) -> dict[str, Batch]:  # type: ignore[type-arg]
    batches = tick(shards, passed_ms=seconds * 1_000, at_ms=AT, seed=7, faults=faults)
    return {batch.shard_id: batch for batch in batches}


def _asic(batch: Batch) -> AsicTelemetry:
    assert isinstance(batch, AsicTelemetry)
    return batch


def _gpu(batch: Batch) -> GpuTelemetry:
    assert isinstance(batch, GpuTelemetry)
    return batch


def test_settled_devices_draw_what_their_profile_says() -> None:
    """Before anybody decides, a device runs its initial mode within a few percent of its profile."""
    batches = _tick(fleet_physics(DEMO, seed=7), seconds=1)
    assert len(batches) == len(list(DEMO.shards()))
    for power in _asic(batches[ASIC]).power_watts:
        assert power == pytest.approx(3_500.0, rel=0.06)
    gpu = _gpu(batches[GPU])
    assert all(power == pytest.approx(715.0, rel=0.06) for power in gpu.power_watts if power is not None)
    assert gpu.hash_rate_mh_per_s == (None,) * 8
    assert all(tokens is not None and tokens > 0.0 for tokens in gpu.tokens_per_s)


def test_an_asic_sheds_power_in_seconds_and_earns_again_in_minutes() -> None:
    """Down below 5 % of the difference within 5 s; back up it takes minutes, hash rate following power."""
    shards = fleet_physics(DEMO, seed=7)
    shards[ASIC].set_mode(0, DeviceMode.SLEEP, epoch=1)
    down = _asic(_tick(shards, seconds=5)[ASIC])
    assert down.power_watts[0] is not None
    assert down.power_watts[0] < 25.0 + 0.05 * 3_475.0
    assert down.hash_rate_th_per_s[0] == 0.0
    assert down.reject_ratio[0] is None
    shards[ASIC].set_mode(0, DeviceMode.MINING, epoch=2)
    soon = _asic(_tick(shards, seconds=30)[ASIC])
    late = _asic(_tick(shards, seconds=300)[ASIC])
    assert soon.power_watts[0] is not None
    assert late.power_watts[0] is not None
    assert soon.power_watts[0] < 0.6 * late.power_watts[0]
    assert soon.hash_rate_th_per_s[0] is not None
    assert soon.hash_rate_th_per_s[0] < 0.6 * 200.0
    assert late.hash_rate_th_per_s[0] == pytest.approx(200.0, rel=0.06)


def test_an_older_epoch_moves_nothing() -> None:
    """A result that a higher epoch has overtaken does not bring the old mode back."""
    physics = fleet_physics(DEMO, seed=7)[ASIC]
    physics.set_mode(0, DeviceMode.SLEEP, epoch=5)
    physics.set_mode(0, DeviceMode.MINING, epoch=4)
    assert physics.codes[0] == tuple(DeviceMode).index(DeviceMode.SLEEP)


def test_same_seed_same_telemetry() -> None:
    """Telemetry is a function of seed and time."""
    first, again = (_tick(fleet_physics(DEMO, seed=7), seconds=3) for _ in range(2))
    assert first == again
    assert _tick(fleet_physics(DEMO, seed=8), seconds=3) != first


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    steps=st.lists(st.tuples(st.integers(0, 3), st.floats(0.0, 1e9), st.integers(0, 10**12)), min_size=1, max_size=5),
)
def test_every_batch_passes_the_edge(seed: int, steps: list[tuple[int, float, int]]) -> None:
    """Whatever mode, step and hour: each batch is within its ranges and decodes to itself."""
    shards = fleet_physics(DEMO, seed=seed)
    for number, (choice, passed_ms, later_ms) in enumerate(steps):
        for physics in shards.values():
            modes = modes_of_kind(DeviceKind.GPU if physics.is_gpu else DeviceKind.ASIC)
            physics.set_mode(0, modes[choice % len(modes)], epoch=number)
        for batch in tick(shards, passed_ms=passed_ms, at_ms=EpochMs(AT + later_ms), seed=seed):
            assert check(batch) is None
            assert decode(encode(batch)) == batch


def test_overheat_is_seen_at_one_device() -> None:
    """The faulty device runs far above its neighbours; nothing else changes."""
    fault = parse_fault(f"overheat:{ASIC}/3", fleet=DEMO)
    batch = _asic(_tick(fleet_physics(DEMO, seed=7, faults=(fault,)), seconds=600, faults=(fault,))[ASIC])
    hot, normal = batch.chip_temperature_celsius[3], batch.chip_temperature_celsius[2]
    assert hot is not None
    assert normal is not None
    assert hot > normal + 40.0


def test_a_silent_device_measures_nothing() -> None:
    """Silence is None in every column, not zero; its neighbours speak."""
    fault = parse_fault(f"silent:{GPU}/1", fleet=DEMO)
    batch = _gpu(_tick(fleet_physics(DEMO, seed=7), seconds=1, faults=(fault,))[GPU])
    assert (batch.power_watts[1], batch.temperature_celsius[1], batch.tokens_per_s[1]) == (None, None, None)
    assert batch.power_watts[0] is not None


@pytest.mark.parametrize(
    ("text", "reason"),
    [(f"nan:{ASIC}/3", RejectReason.OUT_OF_RANGE), (f"unequal:{ASIC}", RejectReason.UNEQUAL_COLUMNS)],
)
def test_corrupt_batches_are_refused_by_the_codec(text: str, reason: RejectReason) -> None:
    """The bytes sent on purpose are those that the edge must catch."""
    batch = _tick(fleet_physics(DEMO, seed=7), seconds=1)[ASIC]
    data = corrupted(batch, [parse_fault(text, fleet=DEMO)])
    assert data is not None
    value = decode(data)
    assert isinstance(value, Rejected)
    assert value.reason is reason
    assert corrupted(batch, []) is None


def test_dropout_loses_its_share() -> None:
    """Half of the batches are lost at 0.5, the same ones for the same seed; none at 0 and all at 1."""
    shards = fleet_physics(DEMO, seed=7)

    def sent(ratio: float) -> int:
        faults = (Fault(kind=FaultKind.DROPOUT, ratio=ratio),)
        return sum(
            len(list(tick(shards, passed_ms=1_000, at_ms=EpochMs(AT + at), seed=7, faults=faults)))
            for at in range(0, 50_000, 1_000)
        )

    total = 50 * len(shards)
    assert (sent(0.0), sent(1.0)) == (total, 0)
    assert math.isclose(sent(0.5), total / 2, rel_tol=0.25)


@pytest.mark.parametrize(
    "text", ["burn:x", "silent", "silent:nowhere.asic-1/00", f"nan:{ASIC}/99", "dropout:2", "dropout:x"]
)
def test_a_wrong_fault_is_one_line(text: str) -> None:
    """A fault that names nothing of the fleet is a user's error that says what must be."""
    with pytest.raises(FleetError, match="must"):
        parse_fault(text, fleet=DEMO)
