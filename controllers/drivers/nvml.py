"""An NVIDIA GPU behind the Device port: read, bounded and stopped through NVML.

What runs on it are workloads of their own (a miner, an inference server); whoever builds the machine hands in how they
are stopped and which mode they are in.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from controllers.drivers.nvml_host import NvmlHost
from controllers.drivers.nvml_orders import ordered
from controllers.drivers.nvml_reading import GpuFacts, GpuReading
from controllers.ports import Ack, Applied, Identity, Refused, Telemetry, Unreachable
from hcp.clock import seconds
from hcp.model.devices import DeviceMode
from hcp.model.units import Watts

log = structlog.get_logger()

READ_DEADLINE_MS: Final = 500
STOP_DEADLINE_MS: Final = 2_000
"""For each stop of a workload, and for the limit, side by side."""

Stop = Callable[[], Awaitable[Ack]]
ModeOf = Callable[[], Awaitable[DeviceMode | None]]


async def _unknown_mode() -> DeviceMode | None:
    return None


class NvmlDevice:
    """One GPU of a host."""

    def __init__(
        self,
        *,
        host: NvmlHost,
        uuid: str,
        stops: Sequence[Stop] = (),
        mode_of: ModeOf = _unknown_mode,
        read_deadline_ms: int = READ_DEADLINE_MS,
    ) -> None:
        """Drive the GPU with that UUID.

        Args:
            host: From `open_nvml`.
            uuid: As `nvidia-smi -L` prints it; indexes change with reboots and cables.
            stops: Stops every workload that may run on it, for `safe_stop`.
            mode_of: Asks the workloads which mode the GPU is in; NVML cannot tell.
            read_deadline_ms: Bound of a reading.
        """
        self.uuid = uuid
        self._host = host
        self._stops = tuple(stops)
        self._mode_of = mode_of
        self._read_deadline_ms = read_deadline_ms

    async def identify(self) -> Identity:
        """Return product, driver and what it can do.

        Raises:
            GpuUnreachableError: It is lost or late.
        """
        gpu = self._host.gpu(self.uuid)
        facts = await gpu.run(gpu.facts, deadline_ms=self._read_deadline_ms)
        return Identity(
            vendor="NVIDIA",
            product=facts.name,
            firmware=f"driver {self._host.driver}",
            capabilities=_capabilities(facts),
        )

    async def reading(self) -> GpuReading:
        """Return everything that NVML measures.

        Raises:
            GpuUnreachableError: It is lost or late.
            NoReadingError: It answered with nothing of use.
        """
        return await self._host.read(self.uuid, deadline_ms=self._read_deadline_ms)

    async def telemetry(self) -> Telemetry:
        """Return mode, board power and temperature; raises as `reading` does."""
        reading, mode = await asyncio.gather(self.reading(), self._mode_of())
        power = reading.power
        return Telemetry(
            mode=mode,
            power_watts=power.average_watts if power.instant_watts is None else power.instant_watts,
            temperature_celsius=reading.heat.temperature_celsius,
            temperature_max_celsius=reading.facts.temperature_slowdown_celsius,
            memory_temperature_celsius=reading.heat.memory_temperature_celsius,
            utilisation_ratio=reading.load.utilisation_ratio,
        )

    async def set_power_limit(self, *, limit_watts: Watts, deadline_ms: int) -> Ack:
        """Set the limit and read it back; needs root on real hardware.

        Where the driver's answer leaves open whether it took the limit, what is read back decides.
        """
        if not (math.isfinite(limit_watts) and limit_watts > 0):
            return Refused(detail=f"power limit must be above 0 W, was {limit_watts}")
        gpu = self._host.gpu(self.uuid)
        return await ordered(gpu, lambda orders: orders.limit(limit_watts), deadline_ms=deadline_ms)

    async def safe_stop(self, *, reason: str) -> Ack:
        """Stop every workload and bound the power as low as it goes, side by side; neither waits for the other.

        The worst of the stops counts. Once they all did, a limit that this product or user may not set changes
        nothing, for what runs is stopped; a GPU that does not answer is told as such.
        """
        log.warning("gpu_safe_stop", uuid=self.uuid, reason=reason)
        gpu = self._host.gpu(self.uuid)
        lowest, *stopped = await asyncio.gather(
            ordered(gpu, lambda orders: orders.lowest_limit(), deadline_ms=STOP_DEADLINE_MS),
            *(_stopped(stop) for stop in self._stops),
        )
        for ack in stopped:
            if not isinstance(ack, Applied):
                return ack
        is_open = isinstance(lowest, Unreachable) or not stopped
        return lowest if is_open else Applied()


async def _stopped(stop: Stop) -> Ack:
    try:
        async with asyncio.timeout(seconds(STOP_DEADLINE_MS)):
            return await stop()
    except TimeoutError:
        return Unreachable(detail=f"workload must stop within {STOP_DEADLINE_MS} ms, did not")
    except Exception as error:  # noqa: BLE001  # whatever a workload raises, the others and the limit must be tried
        return Unreachable(detail=f"workload must stop, was: {error!r}")


def _capabilities(facts: GpuFacts) -> tuple[str, ...]:
    known = {
        "power_limit": facts.power_limit_min_watts is not None,
        "temperature_slowdown": facts.temperature_slowdown_celsius is not None,
        "nvlink": facts.nvlinks > 0,
    }
    return tuple(name for name, has_it in known.items() if has_it)
