"""A controller's NVML on a simulated host: opened before, closed after."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from controllers.drivers.nvml import NvmlDevice
from controllers.drivers.nvml_host import NvmlHost, open_nvml
from simulators.nvml.models import H100, GpuModel
from simulators.nvml.state import NvmlSimulator
from tests.nvml_lab import host

EVENTUALLY_S = 20.0


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds; fail when it does not within 20 s."""
    until_s = time.monotonic() + EVENTUALLY_S
    while not condition():  # what is waited for happens in another thread or in the file
        assert time.monotonic() < until_s, "condition must come to hold, did not"
        await asyncio.sleep(0.001)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Both sides: what the simulator is told, and what the driver makes of it."""

    simulator: NvmlSimulator
    nvml: NvmlHost

    def device(self, index: int = 0, *, read_deadline_ms: int = 5_000) -> NvmlDevice:
        """Return the device of a GPU, with time enough for a machine that is busy with other things."""
        uuid = self.simulator.gpu(index).uuid
        return NvmlDevice(host=self.nvml, uuid=uuid, read_deadline_ms=read_deadline_ms)


@asynccontextmanager
async def world(directory: Path, models: Sequence[GpuModel] = (H100,) * 2) -> AsyncIterator[World]:
    """Open NVML on such GPUs; what hangs is mended before closing."""
    with host(directory, models) as simulator:
        opened = await open_nvml()
        assert isinstance(opened, NvmlHost), opened
        try:
            yield World(simulator=simulator, nvml=opened)
        finally:
            for gpu in simulator.gpus:
                gpu.mend()
            await opened.close(deadline_ms=10_000)
