"""The fleet monitor: reports what changed, once, and a heartbeat; alarms when something begins."""

from dataclasses import fields, replace

import msgspec
import pytest

from hcp.codecs import decode, encode
from hcp.model.devices import DeviceMode, DeviceState
from hcp.model.ledger import Alert, AlertType
from hcp.model.rejections import Rejected, RejectReason
from hcp.model.resources import ResourceState, StateReporter
from hcp.model.telemetry import AsicTelemetry
from hcp.model.units import EpochMs
from streams.fleet_monitor import HEARTBEAT_MS, ShardState, on_telemetry
from tests import examples
from tests.unit.streams.world import DEMO_FLEET, START_MS, a_cause, step

COUNT = 8


def a_batch(at_ms: int = START_MS, **columns: object) -> AsicTelemetry:
    """Return a tick of eight ASICs of tx-north's first ASIC shard, all mining at 68 degC."""
    full: dict[str, object] = {
        "observed_at_ms": EpochMs(at_ms),
        "device_indexes": tuple(range(COUNT)),
        "modes": (DeviceMode.MINING,) * COUNT,
        "power_watts": (3_480.0,) * COUNT,
        "chip_temperature_celsius": (68.0,) * COUNT,
        "inlet_temperature_celsius": (30.0,) * COUNT,
        "hash_rate_th_per_s": (200.0,) * COUNT,
        "fan_speed_rpm": (5_000.0,) * COUNT,
        "reject_ratio": (0.0,) * COUNT,
    }
    return replace(examples.ASIC_TELEMETRY, **{**full, **columns})  # type: ignore[arg-type]


def fields_of(batch: AsicTelemetry) -> list[str]:
    """Name the fields of a batch."""
    return [field.name for field in fields(batch)]


def seen(*batches: AsicTelemetry) -> tuple[ShardState | None, list[object]]:
    """Run batches in order; return the state and all outputs."""
    state: ShardState | None = None
    outputs: list[object] = []
    for offset, batch in enumerate(batches):
        done = step(on_telemetry(state, batch, fleet=DEMO_FLEET, cause=a_cause(offset, topic="metrics.asic")))
        state = dict(done.updates).get(batch.shard_id, state)
        outputs.extend(done.outputs)
    return state, outputs


def reports(outputs: list[object]) -> list[ResourceState]:
    """Return the reports among outputs."""
    return [record for record in outputs if isinstance(record, ResourceState)]


def test_the_first_tick_is_reported_and_survives_the_wire() -> None:
    """Epochs 0 and no owners: the monitor knows neither."""
    state, outputs = seen(a_batch())
    (report,) = reports(outputs)
    assert report.reported_by is StateReporter.FLEET_MONITOR
    assert set(report.states) == {DeviceState.ACTIVE}
    assert decode(encode(report)) == report
    assert msgspec.json.decode(msgspec.json.encode(state), type=ShardState) == state


def test_an_unchanged_shard_is_silent_but_for_its_heartbeat() -> None:
    """Temperatures move every tick and are nobody's hard state."""
    ticks = [a_batch(START_MS + second * 10_000, fan_speed_rpm=(5_000.0 + second,) * COUNT) for second in range(61)]
    _, outputs = seen(*ticks)
    assert [report.observed_at_ms - START_MS for report in reports(outputs)] == [0, HEARTBEAT_MS, 2 * HEARTBEAT_MS]


def test_a_changed_mode_is_reported_at_once() -> None:
    """Hard state does not wait for the heartbeat."""
    _, outputs = seen(a_batch(), a_batch(START_MS + 1, modes=(DeviceMode.SLEEP, *(DeviceMode.MINING,) * 7)))
    assert reports(outputs)[-1].modes[0] is DeviceMode.SLEEP


def test_a_device_that_measures_nothing_or_is_missing_is_unreachable() -> None:
    """Nothing measured is not zero; its last mode is kept."""
    silent = a_batch(
        START_MS + 1,
        power_watts=(None, *(3_480.0,) * 7),
        chip_temperature_celsius=(None, *(68.0,) * 7),
    )
    full = a_batch()
    columns = {name: column for name in fields_of(full) if isinstance(column := getattr(full, name), tuple)}
    gone = a_batch(START_MS + 2, **{name: column[1:] for name, column in columns.items()})
    for batch in (silent, gone):
        _, outputs = seen(a_batch(), batch)
        report = reports(outputs)[-1]
        assert report.states == (DeviceState.UNREACHABLE, *(DeviceState.ACTIVE,) * 7)
        assert report.modes[0] is DeviceMode.MINING
        assert [record.alert_type for record in outputs if isinstance(record, Alert)] == [AlertType.DEVICE_SILENT]


def test_overheating_alarms_once_when_it_begins() -> None:
    """Around the limit it does not ring again until the device has cooled by five degrees."""
    temperatures = (68.0, 96.0, 97.0, 94.0, 96.0, 80.0, 96.0)
    ticks = [
        a_batch(START_MS + tick, chip_temperature_celsius=(celsius, *(68.0,) * 7))
        for tick, celsius in enumerate(temperatures)
    ]
    _, outputs = seen(*ticks)
    alerts = [record for record in outputs if isinstance(record, Alert)]
    assert [alert.observed_at_ms - START_MS for alert in alerts] == [1, 6]
    assert {alert.subject for alert in alerts} == {"tx-north.asic-1/00/000"}
    assert decode(encode(alerts[0])) == alerts[0]


def test_order_of_devices_in_a_batch_does_not_matter() -> None:
    """Columns are sorted by device before they are compared or reported."""
    backwards = replace(
        a_batch(modes=(*(DeviceMode.MINING,) * 7, DeviceMode.SLEEP)), device_indexes=tuple(range(COUNT))[::-1]
    )
    _, outputs = seen(backwards)
    (report,) = reports(outputs)
    assert report.device_indexes == tuple(range(COUNT))
    assert report.modes[0] is DeviceMode.SLEEP


def test_late_and_duplicate_batches_change_nothing() -> None:
    """Out of order telemetry is ignored with its word."""
    state, _ = seen(a_batch())
    for at_ms, word in ((START_MS - 1, "late"), (START_MS, "duplicate")):
        done = step(on_telemetry(state, a_batch(at_ms), fleet=DEMO_FLEET, cause=a_cause(9)))
        assert (done.updates, done.outputs, done.ignored) == ((), (), word)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"shard_id": "tx-north.asic-1/77"}, RejectReason.UNKNOWN_SHARD),
        ({"device_class": "s19xp"}, RejectReason.UNKNOWN_DEVICE_CLASS),
        ({"device_indexes": (*range(COUNT - 1), 12)}, RejectReason.UNKNOWN_DEVICE),
        ({"device_indexes": (*range(COUNT - 1), 0)}, RejectReason.UNEQUAL_COLUMNS),
    ],
)
def test_telemetry_of_unknown_devices_is_refused(changed: dict[str, object], reason: RejectReason) -> None:
    """fleet.toml says what there is."""
    rejected = on_telemetry(None, a_batch(**changed), fleet=DEMO_FLEET, cause=a_cause())  # type: ignore[arg-type]
    assert isinstance(rejected, Rejected)
    assert rejected.reason is reason
