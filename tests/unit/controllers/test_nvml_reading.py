"""What the driver reads of a GPU: everything that is there, None for what is not, and never a zero in its place."""

from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from controllers.drivers.nvml import NvmlDevice
from controllers.drivers.nvml_host import GpuUnreachableError
from controllers.drivers.nvml_reader import NoReadingError
from controllers.drivers.nvml_reading import GpuProcess, RecoveryAction
from hcp.model.devices import DeviceMode
from hcp.model.units import Celsius, Ratio, Watts
from simulators.nvml.layout import Call, NvmlReturn
from simulators.nvml.models import A100, H100, L40S
from simulators.nvml.state import Process
from tests.unit.controllers.nvml_world import World, world

GIB = 2**30


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[World]:
    """Two H100."""
    async with world(tmp_path) as made:
        yield made


async def test_an_idle_gpu_is_read_whole(two: World) -> None:
    """Facts, power, heat, load, clocks, ECC, MIG, NVLink and processes, in our units."""
    reading = await two.device().reading()
    facts = asdict(reading.facts)
    assert facts == {
        "name": "NVIDIA H100 80GB HBM3",
        "uuid": two.simulator.gpu(0).uuid,
        "serial": "1654923000000",
        "pci_bus_id": "00000000:10:00.0",
        "power_limit_min_watts": 200.0,
        "power_limit_max_watts": 700.0,
        "power_limit_default_watts": 700.0,
        "temperature_slowdown_celsius": 87.0,
        "temperature_shutdown_celsius": 92.0,
        "clock_sm_max_mhz": 1_980,
        "clock_memory_max_mhz": 2_619,
        "nvlinks": 18,
    }
    assert (reading.power.instant_watts, reading.power.average_watts) == (70.0, 70.0)
    assert (reading.power.limit_watts, reading.power.limit_enforced_watts) == (700.0, 700.0)
    assert reading.power.energy_millijoules is not None
    assert (reading.heat.temperature_celsius, reading.heat.memory_temperature_celsius) == (34.0, 34.0)
    assert reading.heat.fan_ratio is None
    assert (reading.load.utilisation_ratio, reading.load.memory_total_bytes, reading.load.processes) == (
        0.0,
        80 * GIB,
        (),
    )
    assert (reading.clocks.sm_mhz, reading.clocks.memory_mhz, reading.clocks.performance_state) == (345, 2_619, 0)
    assert asdict(reading.ecc) == {
        "is_enabled": True,
        "corrected_volatile": 0,
        "uncorrected_volatile": 0,
        "corrected_aggregate": 0,
        "uncorrected_aggregate": 0,
    }
    assert (reading.mig_is_enabled, reading.nvlinks_active) == (False, 18)
    assert reading.recovery_action is RecoveryAction.NONE
    assert reading.observed_at_ms > 1_700_000_000_000


async def test_what_the_simulator_sets_is_read(two: World) -> None:
    """Load, limits from elsewhere, errors, links and processes reach the reading."""
    gpu = two.simulator.gpu(1)
    gpu.set_load(power_watts=Watts(640.0), utilisation_ratio=Ratio(0.9), memory_used_bytes=3 * GIB)
    gpu.set_external_limit(Watts(500.0))
    gpu.set_temperature(Celsius(81.0), memory_celsius=Celsius(90.0))
    gpu.set_ecc_errors(corrected=7, uncorrected=2)
    gpu.set_nvlinks_active(5)
    gpu.set_processes([Process(pid=11, used_bytes=GIB), Process(pid=12, used_bytes=2, is_graphics=True)])
    reading = await two.device(1).reading()
    assert reading.power.instant_watts == 500.0
    assert (reading.power.limit_watts, reading.power.limit_enforced_watts) == (700.0, 500.0)
    assert reading.load.memory_used_bytes == 3 * GIB
    assert (reading.heat.temperature_celsius, reading.heat.memory_temperature_celsius) == (81.0, 90.0)
    assert (reading.ecc.corrected_aggregate, reading.ecc.uncorrected_volatile) == (7, 2)
    assert reading.nvlinks_active == 5
    assert reading.load.processes == (
        GpuProcess(pid=11, memory_used_bytes=GIB, is_graphics=False),
        GpuProcess(pid=12, memory_used_bytes=2, is_graphics=True),
    )
    other = await two.device(0).reading()
    assert (other.power.instant_watts, other.load.processes) == (70.0, ())


LACKS: list[tuple[Call, str]] = [
    (Call.FIELD_POWER_INSTANT, "power.instant_watts"),
    (Call.LIMIT, "power.limit_watts"),
    (Call.LIMIT_ENFORCED, "power.limit_enforced_watts"),
    (Call.LIMIT_CONSTRAINTS, "facts.power_limit_min_watts"),
    (Call.LIMIT_DEFAULT, "facts.power_limit_default_watts"),
    (Call.TEMPERATURE, "heat.temperature_celsius"),
    (Call.FIELD_MEMORY_TEMPERATURE, "heat.memory_temperature_celsius"),
    (Call.UTILIZATION, "load.utilisation_ratio"),
    (Call.MEMORY, "load.memory_total_bytes"),
    (Call.COMPUTE_PROCESSES, "load.processes"),
    (Call.CLOCK, "clocks.sm_mhz"),
    (Call.MAX_CLOCK, "facts.clock_sm_max_mhz"),
    (Call.PERFORMANCE_STATE, "clocks.performance_state"),
    (Call.EVENT_REASONS, "clocks.event_reasons"),
    (Call.ECC_MODE, "ecc.is_enabled"),
    (Call.ECC_ERRORS, "ecc.uncorrected_aggregate"),
    (Call.MIG, "mig_is_enabled"),
    (Call.NVLINK, "nvlinks_active"),
    (Call.FIELD_RECOVERY_ACTION, "recovery_action"),
    (Call.PCI, "facts.pci_bus_id"),
]


def _at(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = getattr(value, name)
    return value


@pytest.mark.parametrize("code", [NvmlReturn.NOT_SUPPORTED, NvmlReturn.NO_PERMISSION, NvmlReturn.UNKNOWN])
@pytest.mark.parametrize(("lacking", "path"), LACKS)
async def test_what_cannot_be_had_is_none_and_spoils_nothing(
    two: World, lacking: Call, path: str, code: NvmlReturn
) -> None:
    """One value that NVML does not give is None; power or temperature, at least, are still read."""
    gpu = two.simulator.gpu(0)
    if code is NvmlReturn.NOT_SUPPORTED or lacking.name.startswith(("FIELD_", "NVLINK")):
        gpu.lack(lacking)
    else:
        gpu.ask_fault(code, call=lacking)
    reading = await two.device().reading()
    assert _at(reading, path) is None
    assert (reading.power.average_watts, reading.heat.temperature_celsius) != (None, None)
    assert _at(await two.device(1).reading(), path) is not None


async def test_average_power_has_a_second_way(two: World) -> None:
    """Drivers without the field are asked by nvmlDeviceGetPowerUsage; without both there is none."""
    gpu = two.simulator.gpu(0)
    gpu.lack(Call.FIELD_POWER_AVERAGE)
    assert (await two.device().reading()).power.average_watts == 70.0
    gpu.lack(Call.FIELD_POWER_AVERAGE, Call.POWER_USAGE)
    assert (await two.device().reading()).power.average_watts is None


async def test_thresholds_are_found_from_margins(tmp_path: Path) -> None:
    """A product that no longer tells thresholds tells how far it is from them; what tells neither has none."""
    async with world(tmp_path, (L40S, A100, H100)) as made:
        made.simulator.gpu(0).set_temperature(Celsius(61.0))
        made.simulator.gpu(2).lack(Call.THRESHOLD, Call.MARGIN)
        facts = [(await made.device(index).reading()).facts for index in range(3)]
        assert [one.temperature_slowdown_celsius for one in facts] == [92.0, 89.0, None]
        assert [one.temperature_shutdown_celsius for one in facts] == [None, 92.0, None]
        l40s = await made.device(0).reading()
        assert (l40s.facts.nvlinks, l40s.nvlinks_active, l40s.mig_is_enabled) == (0, None, None)


async def test_a_gpu_that_tells_nothing_is_an_error(two: World) -> None:
    """A reading without power, temperature and memory is none."""
    calls = (
        Call.FIELDS,
        Call.POWER_USAGE,
        Call.TEMPERATURE,
        Call.MEMORY,
        Call.FIELD_POWER_INSTANT,
        Call.FIELD_POWER_AVERAGE,
    )
    two.simulator.gpu(0).lack(*calls)
    with pytest.raises(NoReadingError, match="must tell power, temperature or memory, told none"):
        await two.device().reading()


@pytest.mark.parametrize(
    "code", [NvmlReturn.TIMEOUT, NvmlReturn.RESET_REQUIRED, NvmlReturn.GPU_IS_LOST, NvmlReturn.DRIVER_NOT_LOADED]
)
async def test_what_concerns_the_whole_gpu_ends_the_reading(two: World, code: NvmlReturn) -> None:
    """A code that says nothing can be had is an error with that code, not a reading of Nones."""
    two.simulator.gpu(0).ask_fault(code, call=Call.UTILIZATION)
    with pytest.raises(GpuUnreachableError) as caught:
        await two.device().reading()
    assert caught.value.code == code
    assert (await two.device(1).reading()).power.instant_watts == 70.0


async def test_telemetry_is_instant_power_and_where_slowing_begins(two: World) -> None:
    """The port's telemetry: mode from the workloads, the draw of the moment, the slowdown threshold."""

    async def mining() -> DeviceMode:
        return DeviceMode.MINING

    gpu = two.simulator.gpu(0)
    gpu.set_load(power_watts=Watts(444.0), utilisation_ratio=Ratio(1.0))
    device = NvmlDevice(host=two.nvml, uuid=gpu.uuid, mode_of=mining, read_deadline_ms=5_000)
    telemetry = await device.telemetry()
    assert (telemetry.mode, telemetry.power_watts) == (DeviceMode.MINING, 444.0)
    assert (telemetry.temperature_celsius, telemetry.temperature_max_celsius) == (34.0, 87.0)
    gpu.lack(Call.FIELD_POWER_INSTANT)
    assert (await two.device().telemetry()).power_watts is not None
    assert (await two.device().telemetry()).mode is None


async def test_identity_names_product_driver_and_abilities(tmp_path: Path) -> None:
    """Vendor, product, driver version, and what the product can do."""
    async with world(tmp_path, (H100, L40S)) as made:
        made.simulator.gpu(1).lack(*L40S.lacks, Call.LIMIT_CONSTRAINTS)
        first, second = await made.device(0).identify(), await made.device(1).identify()
        assert (first.vendor, first.product, first.firmware) == (
            "NVIDIA",
            "NVIDIA H100 80GB HBM3",
            "driver 580.95.05",
        )
        assert first.capabilities == ("power_limit", "temperature_slowdown", "nvlink")
        assert second.capabilities == ("temperature_slowdown",)
