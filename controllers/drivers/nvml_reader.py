"""Reads a GPU through NVML: which calls, in which order, and what to make of a product that lacks one."""

from collections.abc import Mapping
from typing import Any, Final

import pynvml  # type: ignore[import-untyped]

from controllers.drivers.nvml_api import Budget, Field, Handle, call, fields, optional
from controllers.drivers.nvml_reading import (
    GpuClocks,
    GpuEcc,
    GpuFacts,
    GpuHeat,
    GpuLoad,
    GpuPower,
    GpuProcess,
    GpuReading,
    RecoveryAction,
)
from controllers.drivers.nvml_xid import XidSeen
from hcp.errors import HcpError
from hcp.model.units import Celsius, EpochMs, Ratio, Watts

MILLIWATTS_PER_WATT: Final = 1_000.0
PERCENT: Final = 100.0
NVLINKS_MAX: Final = 36
"""As NVML_NVLINK_MAX_LINKS of the binding."""
_INSTANT: Final[Field] = pynvml.NVML_FI_DEV_POWER_INSTANT
_AVERAGE: Final[Field] = pynvml.NVML_FI_DEV_POWER_AVERAGE
_ENERGY: Final[Field] = pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION
_MEMORY_TEMPERATURE: Final[Field] = pynvml.NVML_FI_DEV_MEMORY_TEMP
_RECOVERY: Final[Field] = pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION
_LINKS: Final[Field] = pynvml.NVML_FI_DEV_NVLINK_LINK_COUNT
_SLOWDOWN_MARGIN: Final[Field] = pynvml.NVML_FI_DEV_TEMPERATURE_SLOWDOWN_TLIMIT
_FIELDS: Final[tuple[Field, ...]] = (_INSTANT, _AVERAGE, _ENERGY, _MEMORY_TEMPERATURE, _RECOVERY)
_ACTIONS: Final = tuple(RecoveryAction)
"""The first five in the numbering of nvmlDeviceGpuRecoveryAction_t."""

Values = Mapping[Field, float | None]


class NoReadingError(HcpError):
    """The GPU answered and yet told neither power, nor temperature, nor memory."""


def _watts(milliwatts: float | None) -> Watts | None:
    return None if milliwatts is None else Watts(milliwatts / MILLIWATTS_PER_WATT)


def _celsius(degrees: float | None) -> Celsius | None:
    return None if degrees is None else Celsius(float(degrees))


def _ratio(percent: float | None) -> Ratio | None:
    return None if percent is None else Ratio(min(1.0, percent / PERCENT))  # a fan may be told to run at over 100 %


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _flag(pair: list[int] | None) -> bool | None:
    return None if pair is None else bool(pair[0])


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _temperature(budget: Budget, handle: Handle) -> float | None:
    """Return the core's temperature; older drivers know only the older call."""
    sensor = pynvml.NVML_TEMPERATURE_GPU
    found: float | None = optional(
        budget, ("nvmlDeviceGetTemperatureV", handle, sensor), ("nvmlDeviceGetTemperature", handle, sensor)
    )
    return found


def _slowdown(budget: Budget, handle: Handle) -> float | None:
    """Return the slowdown threshold: by number, or where margins replace numbers, from what is left to it.

    The margin counts down from the GPU's highest normal temperature; the slowdown's own margin, -2 on an H100, is how
    far below zero that must go.
    """
    wanted = pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN
    known: float | None = optional(budget, ("nvmlDeviceGetTemperatureThreshold", handle, wanted))
    if known is not None:
        return known
    margin: int | None = optional(budget, ("nvmlDeviceGetMarginTemperature", handle))
    slowdown_margin = fields(budget, handle, [_SLOWDOWN_MARGIN])[_SLOWDOWN_MARGIN]
    now = _temperature(budget, handle)
    return None if margin is None or slowdown_margin is None or now is None else now + margin - slowdown_margin


def read_facts(budget: Budget, handle: Handle) -> GpuFacts:
    """Read what stays.

    Raises:
        NvmlError: The GPU cannot be asked, or has no name or UUID.
        AbandonedError: The budget was spent on the way.
    """
    constraints = optional(budget, ("nvmlDeviceGetPowerManagementLimitConstraints", handle)) or (None, None)
    shutdown = pynvml.NVML_TEMPERATURE_THRESHOLD_SHUTDOWN
    pci = optional(budget, ("nvmlDeviceGetPciInfo", handle))
    return GpuFacts(
        name=call(budget, "nvmlDeviceGetName", handle),
        uuid=call(budget, "nvmlDeviceGetUUID", handle),
        serial=optional(budget, ("nvmlDeviceGetSerial", handle)),
        pci_bus_id=None if pci is None else _text(pci.busId),
        power_limit_min_watts=_watts(constraints[0]),
        power_limit_max_watts=_watts(constraints[1]),
        power_limit_default_watts=_watts(optional(budget, ("nvmlDeviceGetPowerManagementDefaultLimit", handle))),
        temperature_slowdown_celsius=_celsius(_slowdown(budget, handle)),
        temperature_shutdown_celsius=_celsius(
            optional(budget, ("nvmlDeviceGetTemperatureThreshold", handle, shutdown))
        ),
        clock_sm_max_mhz=optional(budget, ("nvmlDeviceGetMaxClockInfo", handle, pynvml.NVML_CLOCK_SM)),
        clock_memory_max_mhz=optional(budget, ("nvmlDeviceGetMaxClockInfo", handle, pynvml.NVML_CLOCK_MEM)),
        nvlinks=min(int(fields(budget, handle, [_LINKS])[_LINKS] or 0), NVLINKS_MAX),
    )


def read_gpu(
    budget: Budget, handle: Handle, *, facts: GpuFacts, observed_at_ms: EpochMs, xids: tuple[XidSeen, ...] = ()
) -> GpuReading:
    """Read a GPU: some 20 calls; powers, energy and every NVLink in one of them.

    Raises:
        NvmlError: The GPU cannot be asked.
        NoReadingError: It answered, and with nothing of use.
        AbandonedError: The budget was spent on the way.
    """
    links: list[Field] = [(pynvml.NVML_FI_DEV_NVLINK_GET_STATE, link) for link in range(facts.nvlinks)]
    many = fields(budget, handle, [*_FIELDS, *links])
    reading = GpuReading(
        observed_at_ms=observed_at_ms,
        facts=facts,
        power=_power(budget, handle, many),
        heat=_heat(budget, handle, many),
        load=_load(budget, handle),
        clocks=_clocks(budget, handle),
        ecc=_ecc(budget, handle),
        mig_is_enabled=_flag(optional(budget, ("nvmlDeviceGetMigMode", handle))),
        nvlinks_active=_active(many, links),
        recovery_action=_action(many[_RECOVERY]),
        xids=xids,
    )
    told = (reading.power.instant_watts, reading.power.average_watts, reading.heat.temperature_celsius)
    if all(value is None for value in (*told, reading.load.memory_total_bytes)):
        raise NoReadingError(f"{facts.uuid} must tell power, temperature or memory, told none")
    return reading


def _power(budget: Budget, handle: Handle, many: Values) -> GpuPower:
    average = many[_AVERAGE]
    return GpuPower(
        instant_watts=_watts(many[_INSTANT]),
        average_watts=_watts(optional(budget, ("nvmlDeviceGetPowerUsage", handle)) if average is None else average),
        limit_watts=_watts(optional(budget, ("nvmlDeviceGetPowerManagementLimit", handle))),
        limit_enforced_watts=_watts(optional(budget, ("nvmlDeviceGetEnforcedPowerLimit", handle))),
        energy_millijoules=_whole(many[_ENERGY]),
    )


def _heat(budget: Budget, handle: Handle, many: Values) -> GpuHeat:
    return GpuHeat(
        temperature_celsius=_celsius(_temperature(budget, handle)),
        memory_temperature_celsius=_celsius(many[_MEMORY_TEMPERATURE]),
        fan_ratio=_ratio(optional(budget, ("nvmlDeviceGetFanSpeed", handle))),
    )


def _load(budget: Budget, handle: Handle) -> GpuLoad:
    rates = optional(budget, ("nvmlDeviceGetUtilizationRates", handle))
    memory = optional(
        budget, ("nvmlDeviceGetMemoryInfo", handle, pynvml.nvmlMemory_v2), ("nvmlDeviceGetMemoryInfo", handle)
    )
    return GpuLoad(
        utilisation_ratio=_ratio(None if rates is None else rates.gpu),
        memory_utilisation_ratio=_ratio(None if rates is None else rates.memory),
        memory_total_bytes=None if memory is None else memory.total,
        memory_used_bytes=None if memory is None else memory.used,
        processes=_processes(budget, handle),
    )


def _processes(budget: Budget, handle: Handle) -> tuple[GpuProcess, ...] | None:
    compute = optional(budget, ("nvmlDeviceGetComputeRunningProcesses", handle))
    graphics = optional(budget, ("nvmlDeviceGetGraphicsRunningProcesses", handle))
    if compute is None:
        return None
    return (
        *(_process(row, is_graphics=False) for row in compute),
        *(_process(row, is_graphics=True) for row in graphics or ()),
    )


def _process(row: Any, *, is_graphics: bool) -> GpuProcess:  # noqa: ANN401  # an object of the untyped binding
    return GpuProcess(pid=row.pid, memory_used_bytes=row.usedGpuMemory, is_graphics=is_graphics)


def _clocks(budget: Budget, handle: Handle) -> GpuClocks:
    return GpuClocks(
        sm_mhz=optional(budget, ("nvmlDeviceGetClockInfo", handle, pynvml.NVML_CLOCK_SM)),
        memory_mhz=optional(budget, ("nvmlDeviceGetClockInfo", handle, pynvml.NVML_CLOCK_MEM)),
        performance_state=optional(budget, ("nvmlDeviceGetPerformanceState", handle)),
        event_reasons=optional(
            budget,
            ("nvmlDeviceGetCurrentClocksEventReasons", handle),
            ("nvmlDeviceGetCurrentClocksThrottleReasons", handle),
        ),
    )


def _ecc(budget: Budget, handle: Handle) -> GpuEcc:
    def count(kind: int, counter: int) -> int | None:
        found: int | None = optional(budget, ("nvmlDeviceGetTotalEccErrors", handle, kind, counter))
        return found

    corrected, uncorrected = pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED
    return GpuEcc(
        is_enabled=_flag(optional(budget, ("nvmlDeviceGetEccMode", handle))),
        corrected_volatile=count(corrected, pynvml.NVML_VOLATILE_ECC),
        uncorrected_volatile=count(uncorrected, pynvml.NVML_VOLATILE_ECC),
        corrected_aggregate=count(corrected, pynvml.NVML_AGGREGATE_ECC),
        uncorrected_aggregate=count(uncorrected, pynvml.NVML_AGGREGATE_ECC),
    )


def _active(many: Values, links: list[Field]) -> int | None:
    states = [state for link in links if (state := many[link]) is not None]
    return sum(state == pynvml.NVML_NVLINK_STATE_ACTIVE for state in states) if states else None


def _action(code: float | None) -> RecoveryAction | None:
    if code is None:
        return None
    known = int(code)
    return _ACTIONS[known] if 0 <= known < len(_ACTIONS) else RecoveryAction.OTHER
