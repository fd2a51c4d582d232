"""The calls of one NVML reading, twice: as the binding makes them, and bare, with every argument made beforehand."""

import ctypes
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

nvml: Any = importlib.import_module("pynvml")
PROCESSES_MAX: Final = 64
SUCCESS: Final = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One call.

    Attributes:
        name: The binding's function, with what tells two calls of it apart.
        bound: Makes it through the binding; raises what the binding raises.
        bare: Makes it through a function pointer alone; returns NVML's code.
    """

    name: str
    bound: Callable[[], object]
    bare: Callable[[], int]


def _pair(handle: object, function: str, *arguments: object, bare: tuple[object, ...]) -> Pair:
    bound, pointer = getattr(nvml, function), _pointer(function)
    label = " ".join([function.removeprefix("nvmlDevice"), *(str(one) for one in arguments if isinstance(one, int))])
    return Pair(name=label, bound=lambda: bound(handle, *arguments), bare=lambda: int(pointer(handle, *bare)))


def _pointer(symbol: str) -> Callable[..., int]:
    found: Callable[..., int] = getattr(nvml.nvmlLib, symbol, _missing)
    return found


def _missing(*_: object) -> int:
    return int(nvml.NVML_ERROR_FUNCTION_NOT_FOUND)


def _uint() -> object:
    return ctypes.byref(ctypes.c_uint())


def _long() -> object:
    return ctypes.byref(ctypes.c_ulonglong())


def _fields(handle: object, nvlinks: int) -> Pair:
    links = [(nvml.NVML_FI_DEV_NVLINK_GET_STATE, link) for link in range(nvlinks)]
    wanted = [
        nvml.NVML_FI_DEV_POWER_INSTANT,
        nvml.NVML_FI_DEV_POWER_AVERAGE,
        nvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION,
        nvml.NVML_FI_DEV_MEMORY_TEMP,
        nvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION,
        *links,
    ]
    rows = (nvml.c_nvmlFieldValue_t * len(wanted))()
    for row, field in zip(rows, wanted, strict=True):
        row.fieldId, row.scopeId = field if isinstance(field, tuple) else (field, 0)
    bare = (ctypes.c_int32(len(wanted)), ctypes.byref(rows))
    return _pair(handle, "nvmlDeviceGetFieldValues", wanted, bare=bare)


def _processes(handle: object, kind: str) -> Pair:
    rows, count = (nvml.c_nvmlProcessInfo_v3_t * PROCESSES_MAX)(), ctypes.c_uint()
    pointer = _pointer(f"nvmlDeviceGet{kind}RunningProcesses_v3")

    def bare() -> int:
        count.value = PROCESSES_MAX
        return int(pointer(handle, ctypes.byref(count), rows))

    bound = getattr(nvml, f"nvmlDeviceGet{kind}RunningProcesses")
    return Pair(name=f"Get{kind}RunningProcesses", bound=lambda: bound(handle), bare=bare)


def _temperature(handle: object) -> Pair:
    if not hasattr(nvml.nvmlLib, "nvmlDeviceGetTemperatureV"):
        return _pair(handle, "nvmlDeviceGetTemperature", 0, bare=(0, _uint()))
    asked = nvml.c_nvmlTemperature_v1_t()
    asked.version = nvml.nvmlTemperature_v1
    return _pair(handle, "nvmlDeviceGetTemperatureV", 0, bare=(ctypes.byref(asked),))


def _memory(handle: object) -> Pair:
    asked = nvml.c_nvmlMemory_v2_t()
    asked.version = nvml.nvmlMemory_v2
    pointer, to = _pointer("nvmlDeviceGetMemoryInfo_v2"), ctypes.byref(asked)
    return Pair(
        name="GetMemoryInfo_v2",
        bound=lambda: nvml.nvmlDeviceGetMemoryInfo(handle, nvml.nvmlMemory_v2),
        bare=lambda: int(pointer(handle, to)),
    )


def reading(handle: object, *, nvlinks: int) -> tuple[Pair, ...]:
    """Return the calls that a reading makes of a GPU with so many NVLinks, in its order."""
    return (
        _fields(handle, nvlinks),
        _pair(handle, "nvmlDeviceGetPowerManagementLimit", bare=(_uint(),)),
        _pair(handle, "nvmlDeviceGetEnforcedPowerLimit", bare=(_uint(),)),
        _temperature(handle),
        _pair(handle, "nvmlDeviceGetFanSpeed", bare=(_uint(),)),
        _pair(handle, "nvmlDeviceGetUtilizationRates", bare=(ctypes.byref(nvml.c_nvmlUtilization_t()),)),
        _memory(handle),
        _processes(handle, "Compute"),
        _processes(handle, "Graphics"),
        *(_pair(handle, "nvmlDeviceGetClockInfo", kind, bare=(kind, _uint())) for kind in (1, 2)),
        _pair(handle, "nvmlDeviceGetPerformanceState", bare=(_uint(),)),
        _pair(handle, "nvmlDeviceGetCurrentClocksEventReasons", bare=(_long(),)),
        _pair(handle, "nvmlDeviceGetEccMode", bare=(_uint(), _uint())),
        *(
            _pair(handle, "nvmlDeviceGetTotalEccErrors", kind, counter, bare=(kind, counter, _long()))
            for counter in (0, 1)
            for kind in (0, 1)
        ),
        _pair(handle, "nvmlDeviceGetMigMode", bare=(_uint(), _uint())),
    )


def limit(handle: object) -> Pair | None:
    """Return the setting of the power limit to what it is already, so that measuring changes nothing.

    None where the GPU has no limit.
    """
    try:
        now_mw: int = nvml.nvmlDeviceGetPowerManagementLimit(handle)
    except nvml.NVMLError:
        return None
    pair = _pair(handle, "nvmlDeviceSetPowerManagementLimit", now_mw, bare=(ctypes.c_uint(now_mw),))
    return Pair(name="SetPowerManagementLimit, as it is", bound=pair.bound, bare=pair.bare)


def one_by_one(pairs: tuple[Pair, ...]) -> Callable[[], None]:
    """Return the bare calls of a whole reading as one piece of work."""
    calls = [pair.bare for pair in pairs]

    def work() -> None:
        for call in calls:
            call()

    return work
