"""The one door to NVIDIA's binding: its functions by name under a budget, its codes, its values of many types.

Functions are the binding's own. Not used: nvmlDeviceSetPowerManagementLimit_v2, which in 13.615 drops the code it gets
and so reports every refusal as success (tests/unit/simulators/test_nvml_binding.py shows it).
"""

import time
from collections.abc import Sequence
from typing import Any, Final, NewType

import pynvml  # type: ignore[import-untyped]

from hcp.errors import HcpError

Handle = NewType("Handle", object)
"""An nvmlDevice_t; opaque."""
NvmlError: Final[type[Exception]] = pynvml.NVMLError

LOST_CODES: Final = frozenset({pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_NOT_FOUND})
"""The handle is of no more use: the GPU fell off the bus, or is not there."""
FATAL_CODES: Final = LOST_CODES | {
    pynvml.NVML_ERROR_UNINITIALIZED,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
    pynvml.NVML_ERROR_TIMEOUT,
    pynvml.NVML_ERROR_RESET_REQUIRED,
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
}
"""No value of this GPU can be had now; with any other code only the value asked for cannot."""
UNSUPPORTED_CODES: Final = frozenset(
    {
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
        pynvml.NVML_ERROR_DEPRECATED,
    }
)
"""This product or driver has no such thing, now or later."""
_CLEAR_CODES: Final = UNSUPPORTED_CODES | {pynvml.NVML_ERROR_NO_PERMISSION}
"""With these, asking again changes nothing."""
_MEMBERS: Final = {
    pynvml.NVML_VALUE_TYPE_DOUBLE: "dVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_INT: "uiVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG: "ulVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG: "ullVal",
    pynvml.NVML_VALUE_TYPE_SIGNED_LONG_LONG: "sllVal",
    pynvml.NVML_VALUE_TYPE_SIGNED_INT: "siVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_SHORT: "usVal",
}

Field = int | tuple[int, int]
"""Id of a field value, or id and scope (which link)."""


class AbandonedError(HcpError):
    """Whoever wanted this work gave up: its deadline passed before the next call."""


class Budget:
    """How long a piece of work may still make calls, and which one it is in."""

    def __init__(self, *, deadline_ms: int) -> None:
        """Begin now."""
        self.begun_s = time.monotonic()
        self._until_s = self.begun_s + deadline_ms / 1_000
        self.call_name = "the queue"
        self.is_unclear = False
        """Whether a value was refused for another reason than that there is none: asking again may give it."""

    @property
    def left_s(self) -> float:
        """Return the seconds left, 0 or less when there are none."""
        return self._until_s - time.monotonic()

    def enter(self, name: str) -> None:
        """Note the call that comes now.

        Raises:
            AbandonedError: The deadline has passed, so nobody waits for it.
        """
        if self.left_s <= 0:
            raise AbandonedError(f"{name} must begin before the deadline, was late")
        self.call_name = name


def code_of(error: Exception) -> int:
    """Return the NVML code of an NvmlError."""
    value: int = error.value  # type: ignore[attr-defined]  # the untyped binding's attribute
    return value


def call(budget: Budget, name: str, *arguments: object) -> Any:  # noqa: ANN401  # as untyped as the binding
    """Call a function of the binding by name.

    Raises:
        NvmlError: What the library answered.
        AbandonedError: The budget was spent before.
    """
    budget.enter(name)
    return getattr(pynvml, name)(*arguments)


def optional(budget: Budget, *ways: tuple[Any, ...]) -> Any:  # noqa: ANN401  # as untyped as the binding
    """Return the first of some calls (name and arguments) that is answered; None when none can be.

    Raises:
        NvmlError: With a code that concerns the whole GPU (FATAL_CODES).
        AbandonedError: The budget was spent before.
    """
    for name, *arguments in ways:
        try:
            return call(budget, name, *arguments)
        except NvmlError as error:
            if code_of(error) in FATAL_CODES:
                raise
            budget.is_unclear |= code_of(error) not in _CLEAR_CODES
    return None


def find_handle(budget: Budget, uuid: str, index: int | None) -> Handle:
    """Return the handle of a GPU, by the index it had while it still has it, else by a search for its UUID.

    The search initialises other GPUs on its way and fails when any of them has fallen off the bus (nvml.h on
    nvmlDeviceGetHandleByUUID): it would let one GPU's trouble be another's. An index concerns its own GPU alone.

    Raises:
        NvmlError: It is lost or not found.
        AbandonedError: The budget was spent on the way.
    """
    if index is not None:
        try:
            handle: Handle = call(budget, "nvmlDeviceGetHandleByIndex", index)
            if call(budget, "nvmlDeviceGetUUID", handle) == uuid:
                return handle
        except NvmlError as error:
            if code_of(error) != pynvml.NVML_ERROR_INVALID_ARGUMENT:  # there are fewer GPUs than there were
                raise
    found: Handle = call(budget, "nvmlDeviceGetHandleByUUID", uuid)
    return found


def fields(budget: Budget, handle: Handle, wanted: Sequence[Field]) -> dict[Field, float | None]:
    """Return many field values of one call; None where this product or driver has none.

    Raises:
        NvmlError: With a code that concerns the whole GPU.
        AbandonedError: The budget was spent before.
    """
    answered = optional(budget, ("nvmlDeviceGetFieldValues", handle, list(wanted)))
    if answered is None:
        return dict.fromkeys(wanted)
    return {field: _value(row) for field, row in zip(wanted, answered, strict=True)}


def _value(row: Any) -> float | None:  # noqa: ANN401  # a ctypes structure of the binding
    if row.nvmlReturn != pynvml.NVML_SUCCESS or row.valueType not in _MEMBERS:
        return None
    value: float = getattr(row.value, _MEMBERS[row.valueType])
    return value
