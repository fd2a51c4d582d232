"""THE layout of the mapped state, for both sides: ctypes here, and the C header that is written from it.

One source, so that the two cannot drift apart; a library built from an older one is found when it opens the file, for
the file begins with `LAYOUT_WORD`.
"""

import ctypes
import zlib
from enum import IntEnum
from typing import Any, Final

GPUS_MAX: Final = 16
PROCESSES_MAX: Final = 32
XIDS_MAX: Final = 64
"""Ring of the last Xids; who waits more slowly than they come loses the oldest."""
WINDOW_US: Final = 1_000_000
"""Utilisation and average power look back this far: up to a second, as the real library says."""
FOREVER: Final = 0xFFFF_FFFF
"""Times a fault is met that never count down."""


class Call(IntEnum):
    """Calls, or groups of them, that a fault or a lack of support may be asked for."""

    ANY = 0
    HANDLE = 1
    IDENTITY = 2
    PCI = 3
    POWER_USAGE = 4
    FIELDS = 5
    FIELD_POWER_INSTANT = 6
    FIELD_POWER_AVERAGE = 7
    LIMIT = 8
    LIMIT_CONSTRAINTS = 9
    LIMIT_DEFAULT = 10
    LIMIT_ENFORCED = 11
    SET_LIMIT = 12
    TEMPERATURE = 13
    THRESHOLD = 14
    MARGIN = 15
    UTILIZATION = 16
    MEMORY = 17
    CLOCK = 18
    MAX_CLOCK = 19
    ECC_MODE = 20
    ECC_ERRORS = 21
    PERFORMANCE_STATE = 22
    EVENT_REASONS = 23
    MIG = 24
    NVLINK = 25
    FAN = 26
    COMPUTE_PROCESSES = 27
    GRAPHICS_PROCESSES = 28
    COMPUTE_MODE = 29
    PERSISTENCE = 30
    SET_PERSISTENCE = 31
    ENERGY = 32
    EVENT_TYPES = 33
    REGISTER_EVENTS = 34
    EVENT_WAIT = 35
    FIELD_MEMORY_TEMPERATURE = 36
    FIELD_RECOVERY_ACTION = 37
    LIMIT_MODE = 38


class NvmlReturn(IntEnum):
    """Codes that a fault may answer with; numbers as in NVML's nvmlReturn_t."""

    SUCCESS = 0
    UNINITIALIZED = 1
    INVALID_ARGUMENT = 2
    NOT_SUPPORTED = 3
    NO_PERMISSION = 4
    NOT_FOUND = 6
    INSUFFICIENT_SIZE = 7
    INSUFFICIENT_POWER = 8
    DRIVER_NOT_LOADED = 9
    TIMEOUT = 10
    IRQ_ISSUE = 11
    CORRUPTED_INFOROM = 14
    GPU_IS_LOST = 15
    RESET_REQUIRED = 16
    OPERATING_SYSTEM = 17
    LIB_RM_VERSION_MISMATCH = 18
    IN_USE = 19
    MEMORY = 20
    NO_DATA = 21
    ARGUMENT_VERSION_MISMATCH = 25
    UNKNOWN = 999


class ProcessState(ctypes.Structure):
    """One process on a GPU; `is_graphics` is 0 for compute."""

    _fields_ = (("pid", ctypes.c_uint32), ("is_graphics", ctypes.c_uint32), ("used_bytes", ctypes.c_uint64))


class XidState(ctypes.Structure):
    """One Xid of the ring."""

    _fields_ = (("gpu", ctypes.c_uint32), ("xid", ctypes.c_uint32), ("at_us", ctypes.c_uint64))


class GpuState(ctypes.Structure):
    """One GPU; times are microseconds of CLOCK_MONOTONIC, which every process of a host shares."""

    _fields_ = (
        ("name", ctypes.c_char * 96),
        ("uuid", ctypes.c_char * 80),
        ("serial", ctypes.c_char * 32),
        ("pci_domain", ctypes.c_uint32),
        ("pci_bus", ctypes.c_uint32),
        ("pci_device", ctypes.c_uint32),
        ("pci_device_id", ctypes.c_uint32),
        ("pci_subsystem_id", ctypes.c_uint32),
        ("generation", ctypes.c_uint32),
        ("is_lost", ctypes.c_uint32),
        ("ignores_limit", ctypes.c_uint32),
        ("usage_is_instant", ctypes.c_uint32),
        ("demand_mw", ctypes.c_uint32),
        ("limit_mw", ctypes.c_uint32),
        ("limit_min_mw", ctypes.c_uint32),
        ("limit_max_mw", ctypes.c_uint32),
        ("limit_default_mw", ctypes.c_uint32),
        ("limit_external_mw", ctypes.c_uint32),
        ("draw_before_mw", ctypes.c_uint32),
        ("utilization_percent", ctypes.c_uint32),
        ("utilization_before_percent", ctypes.c_uint32),
        ("memory_utilization_percent", ctypes.c_uint32),
        ("temperature_c", ctypes.c_int32),
        ("memory_temperature_c", ctypes.c_int32),
        ("slowdown_c", ctypes.c_int32),
        ("shutdown_c", ctypes.c_int32),
        ("memory_max_c", ctypes.c_int32),
        ("gpu_max_c", ctypes.c_int32),
        ("clock_mhz", ctypes.c_uint32 * 4),
        ("clock_max_mhz", ctypes.c_uint32 * 4),
        ("performance_state", ctypes.c_uint32),
        ("fan_percent", ctypes.c_uint32),
        ("compute_mode", ctypes.c_uint32),
        ("persistence", ctypes.c_uint32),
        ("ecc_current", ctypes.c_uint32),
        ("ecc_pending", ctypes.c_uint32),
        ("mig_current", ctypes.c_uint32),
        ("mig_pending", ctypes.c_uint32),
        ("nvlinks", ctypes.c_uint32),
        ("recovery_action", ctypes.c_uint32),
        ("fault_code", ctypes.c_uint32),
        ("fault_call", ctypes.c_uint32),
        ("fault_left", ctypes.c_uint32),
        ("slow_ms", ctypes.c_uint32),
        ("slow_call", ctypes.c_uint32),
        ("process_count", ctypes.c_uint32),
        ("nvlink_active_mask", ctypes.c_uint64),
        ("event_reasons", ctypes.c_uint64),
        ("unsupported_mask", ctypes.c_uint64),
        ("memory_total_bytes", ctypes.c_uint64),
        ("memory_used_bytes", ctypes.c_uint64),
        ("memory_reserved_bytes", ctypes.c_uint64),
        ("draw_changed_us", ctypes.c_uint64),
        ("utilization_changed_us", ctypes.c_uint64),
        ("energy_mj", ctypes.c_uint64),
        ("ecc_errors", ctypes.c_uint64 * 4),
        ("processes", ProcessState * PROCESSES_MAX),
    )


class HostState(ctypes.Structure):
    """The whole file: one host."""

    _fields_ = (
        ("layout_word", ctypes.c_uint64),
        ("gpu_count", ctypes.c_uint32),
        ("init_code", ctypes.c_uint32),
        ("cuda_version", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("driver_version", ctypes.c_char * 80),
        ("nvml_version", ctypes.c_char * 80),
        ("xid_count", ctypes.c_uint64),
        ("xids", XidState * XIDS_MAX),
        ("gpus", GpuState * GPUS_MAX),
    )


STRUCTURES: Final[tuple[tuple[str, type[ctypes.Structure]], ...]] = (
    ("process_state", ProcessState),
    ("xid_state", XidState),
    ("gpu_state", GpuState),
    ("host_state", HostState),
)
_SCALARS: Final[dict[Any, str]] = {
    ctypes.c_uint32: "uint32_t",
    ctypes.c_int32: "int32_t",
    ctypes.c_uint64: "uint64_t",
    ctypes.c_char: "char",
    **{structure: f"struct {name}" for name, structure in STRUCTURES},
}


def _declared(field: str, kind: Any) -> str:  # noqa: ANN401  # ctypes has no public type for the types of fields
    if issubclass(kind, ctypes.Array):
        return f"  {_SCALARS[kind._type_]} {field}[{kind._length_}];"
    return f"  {_SCALARS[kind]} {field};"


def _structure(name: str, structure: type[ctypes.Structure]) -> list[str]:
    fields = [(field[0], field[1]) for field in structure._fields_]
    asserted = [
        f'_Static_assert(offsetof(struct {name}, {field}) == {getattr(structure, field).offset}, "{field}");'
        for field, _ in fields
    ]
    size = f'_Static_assert(sizeof(struct {name}) == {ctypes.sizeof(structure)}, "{name}");'
    return [f"struct {name} {{", *(_declared(field, kind) for field, kind in fields), "};", *asserted, size]


def _declarations() -> str:
    numbers = {"GPUS_MAX": GPUS_MAX, "PROCESSES_MAX": PROCESSES_MAX, "XIDS_MAX": XIDS_MAX, "WINDOW_US": WINDOW_US}
    lines = [f"#define {name} {value}u" for name, value in {**numbers, "FOREVER": FOREVER}.items()]
    lines += [f"#define CALL_{call.name} {call.value}u" for call in Call]
    for name, structure in STRUCTURES:
        lines += _structure(name, structure)
    return "\n".join(lines)


LAYOUT_WORD: Final = zlib.crc32(_declarations().encode()) << 32 | ctypes.sizeof(HostState)
"""First word of the file: a checksum of everything that the two sides must agree on, and the file's size."""


def header() -> str:
    """Return layout.h: the structures, whose offsets the compiler checks, the calls and the word."""
    head = "/* Written from layout.py; do not edit. */\n#pragma once\n#include <stddef.h>\n#include <stdint.h>"
    return f"{head}\n#define LAYOUT_WORD {LAYOUT_WORD:#x}ull\n{_declarations()}\n"
