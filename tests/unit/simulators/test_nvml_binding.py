"""NVIDIA's own binding, unmodified, against the simulated library: every function that is simulated, and its errors."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hcp.model.units import Celsius, Ratio, Watts
from simulators.nvml.layout import Call, NvmlReturn
from simulators.nvml.models import A100, H100, L40S
from simulators.nvml.state import NvmlSimulator, Process
from tests.nvml_lab import host, loaded, nvml

GIB = 2**30
EVENT_TYPES = 11


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[NvmlSimulator]:
    """Two idle H100, initialised."""
    with host(tmp_path) as made:
        nvml.nvmlInit()
        yield made


@pytest.fixture
def handle(simulator: NvmlSimulator) -> Any:
    """Hand out the first GPU."""
    assert simulator.gpus
    return nvml.nvmlDeviceGetHandleByIndex(0)


READS: list[tuple[str, tuple[Any, ...], Any]] = [
    ("nvmlDeviceGetName", (), "NVIDIA H100 80GB HBM3"),
    ("nvmlDeviceGetUUID", (), "GPU-00000000-4843-5000-8000-000000000000"),
    ("nvmlDeviceGetSerial", (), "1654923000000"),
    ("nvmlDeviceGetIndex", (), 0),
    ("nvmlDeviceGetPowerUsage", (), 70_000),
    ("nvmlDeviceGetPowerManagementMode", (), 1),
    ("nvmlDeviceGetPowerManagementLimit", (), 700_000),
    ("nvmlDeviceGetPowerManagementDefaultLimit", (), 700_000),
    ("nvmlDeviceGetPowerManagementLimitConstraints", (), [200_000, 700_000]),
    ("nvmlDeviceGetEnforcedPowerLimit", (), 700_000),
    ("nvmlDeviceGetTemperature", (nvml.NVML_TEMPERATURE_GPU,), 34),
    ("nvmlDeviceGetTemperatureV", (nvml.NVML_TEMPERATURE_GPU,), 34),
    ("nvmlDeviceGetMarginTemperature", (), 51),
    ("nvmlDeviceGetTemperatureThreshold", (nvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN,), 87),
    ("nvmlDeviceGetTemperatureThreshold", (nvml.NVML_TEMPERATURE_THRESHOLD_SHUTDOWN,), 92),
    ("nvmlDeviceGetTemperatureThreshold", (nvml.NVML_TEMPERATURE_THRESHOLD_MEM_MAX,), 95),
    ("nvmlDeviceGetTemperatureThreshold", (nvml.NVML_TEMPERATURE_THRESHOLD_GPU_MAX,), 85),
    ("nvmlDeviceGetClockInfo", (nvml.NVML_CLOCK_SM,), 345),
    ("nvmlDeviceGetMaxClockInfo", (nvml.NVML_CLOCK_SM,), 1_980),
    ("nvmlDeviceGetMaxClockInfo", (nvml.NVML_CLOCK_MEM,), 2_619),
    ("nvmlDeviceGetEccMode", (), [1, 1]),
    ("nvmlDeviceGetTotalEccErrors", (0, 0), 0),
    ("nvmlDeviceGetPerformanceState", (), 0),
    ("nvmlDeviceGetCurrentClocksEventReasons", (), nvml.nvmlClocksEventReasonGpuIdle),
    ("nvmlDeviceGetCurrentClocksThrottleReasons", (), nvml.nvmlClocksEventReasonGpuIdle),
    ("nvmlDeviceGetMigMode", (), [0, 0]),
    ("nvmlDeviceGetNvLinkState", (17,), 1),
    ("nvmlDeviceGetComputeMode", (), 0),
    ("nvmlDeviceGetPersistenceMode", (), 1),
    ("nvmlDeviceGetComputeRunningProcesses", (), []),
    ("nvmlDeviceGetGraphicsRunningProcesses", (), []),
    ("nvmlDeviceGetSupportedEventTypes", (), EVENT_TYPES),
]


@pytest.mark.parametrize(("function", "arguments", "expected"), READS)
def test_an_idle_gpu_reads_as_its_model(handle: Any, function: str, arguments: tuple[Any, ...], expected: Any) -> None:
    """Each function returns what the model says, through the binding's own structures."""
    assert getattr(nvml, function)(handle, *arguments) == expected


def test_the_host_is_described(simulator: NvmlSimulator) -> None:
    """Versions, count and every way to a handle."""
    assert nvml.nvmlSystemGetDriverVersion() == "580.95.05"
    assert nvml.nvmlSystemGetNVMLVersion() == "13.580.95.05"
    assert nvml.nvmlSystemGetCudaDriverVersion_v2() == 13_000
    assert nvml.nvmlDeviceGetCount() == 2
    ways = (
        nvml.nvmlDeviceGetHandleByIndex(1),
        nvml.nvmlDeviceGetHandleByUUID(simulator.gpu(1).uuid),
        nvml.nvmlDeviceGetHandleBySerial("1654923000001"),
        nvml.nvmlDeviceGetHandleByPciBusId("00000000:11:00.0"),
        nvml.nvmlDeviceGetHandleByPciBusId("11:00.0"),
    )
    assert [nvml.nvmlDeviceGetIndex(way) for way in ways] == [1] * len(ways)
    pci = nvml.nvmlDeviceGetPciInfo(ways[0])
    assert (pci.busId, pci.bus, pci.pciDeviceId) == ("00000000:11:00.0", 0x11, 0x233010DE)
    assert nvml.nvmlErrorString(15) == "GPU is lost"


def test_what_is_not_there_is_not_found(simulator: NvmlSimulator) -> None:
    """A wrong index is an invalid argument, a wrong UUID not found, as in the real library."""
    assert len(simulator.gpus) == 2
    with pytest.raises(nvml.NVMLError_InvalidArgument):
        nvml.nvmlDeviceGetHandleByIndex(2)
    with pytest.raises(nvml.NVMLError_NotFound):
        nvml.nvmlDeviceGetHandleByUUID("GPU-none")


def test_load_shows_at_once_and_averages_slide(simulator: NvmlSimulator, handle: Any) -> None:
    """The instant field follows the load; average power and utilisation are between old and new within their window."""
    simulator.gpu(0).set_load(power_watts=Watts(600.0), utilisation_ratio=Ratio(1.0), memory_used_bytes=GIB)
    instant, average = nvml.nvmlDeviceGetFieldValues(
        handle, [nvml.NVML_FI_DEV_POWER_INSTANT, nvml.NVML_FI_DEV_POWER_AVERAGE]
    )
    assert instant.value.uiVal == 600_000
    assert 70_000 <= average.value.uiVal < 600_000
    assert 0 <= nvml.nvmlDeviceGetUtilizationRates(handle).gpu < 100
    deadline_s = time.monotonic() + 60
    while nvml.nvmlDeviceGetUtilizationRates(handle).gpu < 100 and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert nvml.nvmlDeviceGetPowerUsage(handle) == 600_000
    assert nvml.nvmlDeviceGetCurrentClocksEventReasons(handle) == 0


def test_memory_comes_in_both_versions(simulator: NvmlSimulator, handle: Any) -> None:
    """The first version counts the driver's reserve as used, the second tells it apart; another version is refused."""
    simulator.gpu(0).set_load(power_watts=Watts(100.0), utilisation_ratio=Ratio(0.5), memory_used_bytes=GIB)
    first = nvml.nvmlDeviceGetMemoryInfo(handle)
    second = nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
    assert (first.total, first.used) == (80 * GIB, GIB + GIB // 2)
    assert (second.used, second.reserved, second.free) == (GIB, GIB // 2, 80 * GIB - GIB - GIB // 2)
    with pytest.raises(nvml.NVMLError_ArgumentVersionMismatch):
        nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2 + 1)


def test_fields_carry_a_code_each(simulator: NvmlSimulator, handle: Any) -> None:
    """One unsupported value spoils no other; margins may be negative; a link is chosen by scope."""
    simulator.gpu(0).set_nvlinks_active(3)
    simulator.gpu(0).set_ecc_errors(corrected=5, uncorrected=1)
    asked = [
        nvml.NVML_FI_DEV_ECC_SBE_VOL_TOTAL,
        nvml.NVML_FI_DEV_ECC_DBE_AGG_TOTAL,
        (nvml.NVML_FI_DEV_NVLINK_GET_STATE, 2),
        (nvml.NVML_FI_DEV_NVLINK_GET_STATE, 3),
        nvml.NVML_FI_DEV_TEMPERATURE_SLOWDOWN_TLIMIT,
        nvml.NVML_FI_DEV_NVLINK_LINK_COUNT,
        nvml.NVML_FI_DEV_RETIRED_DBE,
    ]
    values = nvml.nvmlDeviceGetFieldValues(handle, asked)
    assert [value.nvmlReturn for value in values] == [0, 0, 0, 0, 0, 0, nvml.NVML_ERROR_NOT_SUPPORTED]
    assert (values[0].value.ullVal, values[1].value.ullVal) == (5, 1)
    assert [value.value.uiVal for value in values[2:4]] == [1, 0]
    assert values[4].value.siVal == -2
    assert values[5].value.uiVal == 18


def test_a_limit_is_taken_within_its_constraints(simulator: NvmlSimulator, handle: Any) -> None:
    """Out of range is an invalid argument and changes nothing; in range bounds the draw and is shown as the reason."""
    for wrong in (199_999, 700_001):
        with pytest.raises(nvml.NVMLError_InvalidArgument):
            nvml.nvmlDeviceSetPowerManagementLimit(handle, wrong)
    assert nvml.nvmlDeviceGetPowerManagementLimit(handle) == 700_000
    simulator.gpu(0).set_load(power_watts=Watts(650.0), utilisation_ratio=Ratio(1.0))
    nvml.nvmlDeviceSetPowerManagementLimit(handle, 300_000)
    assert simulator.gpu(0).power_limit_watts == 300.0
    assert simulator.gpu(0).power_watts == 300.0
    assert nvml.nvmlDeviceGetEnforcedPowerLimit(handle) == 300_000
    assert nvml.nvmlDeviceGetCurrentClocksEventReasons(handle) == nvml.nvmlClocksEventReasonSwPowerCap


def test_energy_never_runs_backwards(simulator: NvmlSimulator, handle: Any) -> None:
    """The counter goes on from where it is when load or limit change."""
    seen = [nvml.nvmlDeviceGetTotalEnergyConsumption(handle)]
    for limit_mw, power_watts in ((700_000, 700.0), (200_000, 300.0), (500_000, 90.0)):
        nvml.nvmlDeviceSetPowerManagementLimit(handle, limit_mw)
        time.sleep(0.02)
        simulator.gpu(0).set_load(power_watts=Watts(power_watts), utilisation_ratio=Ratio(1.0))
        seen.append(nvml.nvmlDeviceGetTotalEnergyConsumption(handle))
    assert seen == sorted(seen)
    assert seen[-1] > seen[0]


def test_the_second_form_of_setting_a_limit_hides_refusals(simulator: NvmlSimulator, handle: Any) -> None:
    """A trap of the binding (13.615): it drops the code of this one call, so a driver must not use it."""
    assert nvml.nvmlDeviceSetPowerManagementLimit_v2(handle, 0, 900_000) == nvml.NVML_SUCCESS
    assert simulator.gpu(0).power_limit_watts == 700.0
    nvml.nvmlDeviceSetPowerManagementLimit_v2(handle, 0, 400_000)
    assert simulator.gpu(0).power_limit_watts == 400.0


def test_processes_are_listed_by_kind(simulator: NvmlSimulator, handle: Any) -> None:
    """Compute and graphics apart, as many as there are, with their memory."""
    compute = [Process(pid=100 + number, used_bytes=number * GIB) for number in range(20)]
    simulator.gpu(0).set_processes([*compute, Process(pid=7, used_bytes=GIB, is_graphics=True)])
    found = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    assert [(one.pid, one.usedGpuMemory) for one in found] == [(one.pid, one.used_bytes) for one in compute]
    assert [one.pid for one in nvml.nvmlDeviceGetGraphicsRunningProcesses(handle)] == [7]
    with pytest.raises(ValueError, match="at most 32"):
        simulator.gpu(0).set_processes([Process(pid=1, used_bytes=0)] * 33)


def test_persistence_and_temperature_follow(simulator: NvmlSimulator, handle: Any) -> None:
    """What either side sets, the other reads."""
    nvml.nvmlDeviceSetPersistenceMode(handle, 0)
    simulator.gpu(0).set_temperature(Celsius(91.0), memory_celsius=Celsius(88.0))
    assert nvml.nvmlDeviceGetPersistenceMode(handle) == 0
    assert nvml.nvmlDeviceGetMarginTemperature(handle) == -6
    assert nvml.nvmlDeviceGetFieldValues(handle, [nvml.NVML_FI_DEV_MEMORY_TEMP])[0].value.uiVal == 88


def test_models_differ_as_products_do(tmp_path: Path) -> None:
    """GA100 shows instant power as usage; an L40S has neither NVLink nor thresholds by number, but margins."""
    with host(tmp_path, (A100, L40S)) as simulator:
        nvml.nvmlInit()
        a100, l40s = (nvml.nvmlDeviceGetHandleByIndex(index) for index in range(2))
        simulator.gpu(0).set_load(power_watts=Watts(390.0), utilisation_ratio=Ratio(1.0))
        assert nvml.nvmlDeviceGetPowerUsage(a100) == 390_000
        lacking: tuple[Callable[[], Any], ...] = (
            lambda: nvml.nvmlDeviceGetNvLinkState(l40s, 0),
            lambda: nvml.nvmlDeviceGetTemperatureThreshold(l40s, 1),
            lambda: nvml.nvmlDeviceGetMigMode(l40s),
            lambda: nvml.nvmlDeviceGetFanSpeed(a100),
        )
        for missing in lacking:
            with pytest.raises(nvml.NVMLError_NotSupported):
                missing()
        assert nvml.nvmlDeviceGetMarginTemperature(l40s) == 56


@pytest.mark.parametrize("code", [code for code in NvmlReturn if code is not NvmlReturn.SUCCESS])
def test_every_code_can_be_asked_for(simulator: NvmlSimulator, handle: Any, code: NvmlReturn) -> None:
    """A fault meets as many calls of its kind as were asked for, and no other GPU."""
    gpu = simulator.gpu(0)
    gpu.ask_fault(code, call=Call.TEMPERATURE, times=2)
    assert nvml.nvmlDeviceGetPowerUsage(handle) == 70_000
    for _ in range(2):
        with pytest.raises(nvml.NVMLError) as caught:
            nvml.nvmlDeviceGetTemperature(handle, 0)
        assert caught.value.value == code
    assert nvml.nvmlDeviceGetTemperature(handle, 0) == 34
    assert nvml.nvmlDeviceGetTemperature(nvml.nvmlDeviceGetHandleByIndex(1), 0) == 34


def test_a_lost_gpu_needs_a_new_handle(simulator: NvmlSimulator, handle: Any) -> None:
    """Lost answers so to all; after a reset the old handle stays lost, a new one works, the limit is the default."""
    nvml.nvmlDeviceSetPowerManagementLimit(handle, 250_000)
    simulator.gpu(0).lose()
    calls: tuple[Callable[[], Any], ...] = (
        lambda: nvml.nvmlDeviceGetPowerUsage(handle),
        lambda: nvml.nvmlDeviceGetHandleByIndex(0),
    )
    for call in calls:
        with pytest.raises(nvml.NVMLError_GpuIsLost):
            call()
    simulator.gpu(0).recover()
    with pytest.raises(nvml.NVMLError_GpuIsLost):
        nvml.nvmlDeviceGetPowerUsage(handle)
    fresh = nvml.nvmlDeviceGetHandleByUUID(simulator.gpu(0).uuid)
    assert nvml.nvmlDeviceGetPowerManagementLimit(fresh) == 700_000


def test_a_search_fails_while_any_gpu_is_lost(simulator: NvmlSimulator) -> None:
    """As nvml.h says of UUID and serial; an index or a PCI address concerns its own GPU alone."""
    simulator.gpu(1).lose()
    searches: tuple[Callable[[], Any], ...] = (
        lambda: nvml.nvmlDeviceGetHandleByUUID(simulator.gpu(0).uuid),
        lambda: nvml.nvmlDeviceGetHandleBySerial("1654923000000"),
    )
    for search in searches:
        with pytest.raises(nvml.NVMLError_GpuIsLost):
            search()
    for found in (nvml.nvmlDeviceGetHandleByIndex(0), nvml.nvmlDeviceGetHandleByPciBusId("00000000:10:00.0")):
        assert nvml.nvmlDeviceGetIndex(found) == 0


def test_a_slow_call_takes_its_time(simulator: NvmlSimulator, handle: Any) -> None:
    """At least as long as asked for; calls of other kinds are answered, also beside one that never is."""
    simulator.gpu(0).ask_slow(60, call=Call.MIG)
    begun_s = time.monotonic()
    assert nvml.nvmlDeviceGetMigMode(handle) == [0, 0]
    assert time.monotonic() - begun_s >= 0.06
    simulator.gpu(0).ask_hang(call=Call.MIG)
    hung = threading.Thread(target=nvml.nvmlDeviceGetMigMode, args=(handle,), daemon=True)
    hung.start()
    assert nvml.nvmlDeviceGetPowerUsage(handle) == 70_000
    assert hung.is_alive()
    simulator.gpu(0).mend()
    hung.join(10)
    assert not hung.is_alive()


def test_init_can_fail_and_is_counted(tmp_path: Path) -> None:
    """Without a driver nvmlInit says so; calls before it are uninitialised; as many shutdowns as inits."""
    with host(tmp_path) as simulator:
        simulator.refuse_init(NvmlReturn.DRIVER_NOT_LOADED)
        with pytest.raises(nvml.NVMLError_DriverNotLoaded):
            nvml.nvmlInit()
        with pytest.raises(nvml.NVMLError_Uninitialized):
            nvml.nvmlDeviceGetCount()
        simulator.refuse_init(NvmlReturn.SUCCESS)
        nvml.nvmlInit()
        nvml.nvmlInit()
        nvml.nvmlShutdown()
        assert nvml.nvmlDeviceGetCount() == 2
        nvml.nvmlShutdown()
        with pytest.raises(nvml.NVMLError_Uninitialized):
            nvml.nvmlShutdown()


def test_xids_reach_whoever_registered(simulator: NvmlSimulator) -> None:
    """An event set tells Xids of its GPUs in order, none from before it was made, and times out when there is none."""
    simulator.raise_xid(0, 13)
    events = nvml.nvmlEventSetCreate()
    handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(2)]
    nvml.nvmlDeviceRegisterEvents(handles[0], nvml.nvmlEventTypeXidCriticalError, events)
    with pytest.raises(nvml.NVMLError_Timeout):
        nvml.nvmlEventSetWait(events, 5)
    for index, xid in ((0, 48), (1, 31), (0, 94)):
        simulator.raise_xid(index, xid)
    seen = [nvml.nvmlEventSetWait(events, 100) for _ in range(2)]
    assert [(event.eventData, nvml.nvmlDeviceGetIndex(event.device)) for event in seen] == [(48, 0), (94, 0)]
    simulator.gpu(0).fall_off_the_bus()
    assert nvml.nvmlEventSetWait(events, 100).eventData == 79
    with pytest.raises(nvml.NVMLError_GpuIsLost):
        nvml.nvmlEventSetWait(events, 100)
    nvml.nvmlEventSetFree(events)
    with pytest.raises(nvml.NVMLError_InvalidArgument):
        nvml.nvmlEventSetFree(events)
    with pytest.raises(nvml.NVMLError_InvalidArgument):
        nvml.nvmlEventSetWait(events, 0)
    assert loaded().hcp_nvml_event_sets_open() == 0


def test_event_types_beyond_the_supported_are_refused(simulator: NvmlSimulator, handle: Any) -> None:
    """Power-state events are not simulated, and said to be so."""
    assert simulator.gpus
    events = nvml.nvmlEventSetCreate()
    with pytest.raises(nvml.NVMLError_NotSupported):
        nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypePState, events)
    nvml.nvmlEventSetFree(events)


def test_a_reader_that_slept_gets_the_newest(simulator: NvmlSimulator, handle: Any) -> None:
    """The ring holds 64: who waits more slowly loses the oldest, never the order."""
    events = nvml.nvmlEventSetCreate()
    nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypeXidCriticalError, events)
    for xid in range(100, 200):
        simulator.raise_xid(0, xid)
    seen = [nvml.nvmlEventSetWait(events, 50).eventData for _ in range(64)]
    nvml.nvmlEventSetFree(events)
    assert seen == list(range(136, 200))


def test_sixteen_gpus_are_the_most(tmp_path: Path) -> None:
    """One to sixteen GPUs a host."""
    with host(tmp_path, (H100,) * 16):
        nvml.nvmlInit()
        uuids = {nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetHandleByIndex(index)) for index in range(16)}
        assert len(uuids) == 16
    with pytest.raises(ValueError, match="1 to 16, were 17"):
        NvmlSimulator.create(tmp_path / "more", models=(H100,) * 17)
