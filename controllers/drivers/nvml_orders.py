"""Orders to a GPU through NVML, each answered with one of the five values and never with a code alone."""

import time
from collections.abc import Callable
from typing import Final

import pynvml  # type: ignore[import-untyped]

from controllers.drivers.nvml_api import FATAL_CODES, UNSUPPORTED_CODES, Budget, Handle, NvmlError, call, code_of
from controllers.drivers.nvml_host import Gpu, GpuUnreachableError
from controllers.drivers.nvml_reading import GpuFacts
from controllers.ports import Ack, Applied, NotConfirmed, Refused, Unreachable, Unsupported
from hcp.model.units import Watts

READ_BACK_ATTEMPTS_MAX: Final = 3
READ_BACK_WAIT_S: Final = 0.005
LIMIT_TOLERANCE_WATTS: Final = 1.0
"""Some drivers keep the limit in whole watts."""
_MILLIWATTS_PER_WATT: Final = 1_000


class Orders:
    """What may be ordered of one GPU, from within its lane."""

    def __init__(self, *, budget: Budget, handle: Handle, facts: GpuFacts) -> None:
        """Order with that handle until the budget is spent."""
        self._budget = budget
        self._handle = handle
        self._facts = facts

    def limit(self, limit_watts: Watts) -> Ack:
        """Set the power limit and read it back.

        Raises:
            NvmlError: With a code that leaves open whether it took effect, and nothing could be read back.
        """
        try:
            call(
                self._budget,
                "nvmlDeviceSetPowerManagementLimit",
                self._handle,
                round(limit_watts * _MILLIWATTS_PER_WATT),
            )
        except NvmlError as error:
            if code_of(error) in FATAL_CODES:
                raise
            return self._refusal(error, limit_watts) or self._read_back(limit_watts, said=str(error))
        return self._read_back(limit_watts, said=None)

    def lowest_limit(self) -> Ack:
        """Set the lowest limit there is; raises as `limit` does."""
        lowest_watts = self._facts.power_limit_min_watts
        if lowest_watts is None:
            return Unsupported(detail=f"{self._facts.name} must have a power limit, has none")
        return self.limit(lowest_watts)

    def _refusal(self, error: Exception, limit_watts: Watts) -> Ack | None:
        """Return what a code says for certain; None when it may have taken the limit all the same."""
        code = code_of(error)
        if code in UNSUPPORTED_CODES:
            return Unsupported(detail=f"{self._facts.name} must take a power limit, said: {error}")
        if code == pynvml.NVML_ERROR_NO_PERMISSION:
            return Refused(detail=f"the controller must be root to limit power, said: {error}")
        if code == pynvml.NVML_ERROR_INVALID_ARGUMENT:
            low, high = self._facts.power_limit_min_watts, self._facts.power_limit_max_watts
            return Refused(detail=f"power limit must be {low} to {high} W, was {limit_watts} W")
        return None

    def _read_back(self, limit_watts: Watts, *, said: str | None) -> Ack:
        shown = limit_watts
        for attempt in range(READ_BACK_ATTEMPTS_MAX):
            try:
                shown = Watts(
                    call(self._budget, "nvmlDeviceGetPowerManagementLimit", self._handle) / _MILLIWATTS_PER_WATT
                )
            except NvmlError as error:
                if said is None and code_of(error) in UNSUPPORTED_CODES:
                    return Applied()  # it was taken, and this product does not show it
                raise
            if abs(shown - limit_watts) <= LIMIT_TOLERANCE_WATTS:
                return Applied()
            if attempt + 1 == READ_BACK_ATTEMPTS_MAX or self._budget.left_s <= READ_BACK_WAIT_S:
                break
            time.sleep(READ_BACK_WAIT_S)
        if said is not None:
            return Refused(detail=f"power limit must be {limit_watts} W, is {shown} W, said: {said}")
        return NotConfirmed(detail=f"power limit must be read back as {limit_watts} W, was {shown} W")


async def ordered(gpu: Gpu, order: Callable[[Orders], Ack], *, deadline_ms: int) -> Ack:
    """Give one order in the GPU's lane, before every reading that waits.

    What began may take effect after an Unreachable; what had not begun by the deadline never will.
    """
    try:
        return await gpu.run(
            lambda budget, handle: order(Orders(budget=budget, handle=handle, facts=gpu.facts(budget, handle))),
            deadline_ms=deadline_ms,
            is_order=True,
        )
    except GpuUnreachableError as error:
        return Unreachable(detail=str(error))
