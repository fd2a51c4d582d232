"""The real hardware of a controller, open: sessions, NVML, and the machines that drive through them."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Self

import aiohttp
import structlog

from controllers.drivers.gpu_config import gpu_machine
from controllers.drivers.http import open_session
from controllers.drivers.nvml import NvmlDevice
from controllers.drivers.nvml_host import NvmlAbsent, NvmlHost, open_nvml
from controllers.hardware_file import HardwareFile
from controllers.ports import Machine
from hcp.errors import SettingsError
from hcp.model.facilities import Shard
from hcp.model.ids import device_id

_log = structlog.get_logger(__name__)


class RealHardware:
    """Opened by `open_real_hardware`; `close` it."""

    def __init__(
        self, described: HardwareFile, *, session: aiohttp.ClientSession, nvml: NvmlHost | None, stack: AsyncExitStack
    ) -> None:
        """Take over what was opened."""
        self.nvml = nvml
        self._described = described
        self._session = session
        self._stack = stack

    def machine(self, name: str) -> Machine:
        """Return a new machine for a described device by its id; KeyError when it is none."""
        place = self._described.gpus[name]
        assert self.nvml is not None, "a file with GPUs opens NVML or nothing"
        return gpu_machine(place.workloads, device=NvmlDevice(host=self.nvml, uuid=place.uuid), session=self._session)

    def places(self, shards: Mapping[str, Shard]) -> dict[str, tuple[Shard, int]]:
        """Return shard and device index of every described GPU of `shards`, by UUID."""
        return {
            self._described.gpus[name].uuid: (shard, index)
            for shard in shards.values()
            for index in range(shard.device_count)
            if (name := device_id(shard_id=shard.shard_id, device_index=index)) in self._described.gpus
        }

    async def close(self) -> None:
        """Close sessions and NVML."""
        await self._stack.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def open_real_hardware(described: HardwareFile) -> RealHardware:
    """Open what the described devices are driven through.

    A GPU that is not there now is no error: its calls fail until it is.

    Raises:
        SettingsError: GPUs are described and this host has no NVML.
    """
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(open_session())
        nvml: NvmlHost | None = None
        if described.gpus:
            opened = await open_nvml()
            if isinstance(opened, NvmlAbsent):
                raise SettingsError(f"a host with described GPUs must have NVML: {opened.detail}")
            nvml = opened
            stack.push_async_callback(nvml.close)
            for place in described.gpus.values():
                if place.uuid not in nvml.uuids:
                    _log.warning("gpu_not_found", uuid=place.uuid, found=nvml.uuids)
                nvml.gpu(place.uuid)  # so that it is watched too
        return RealHardware(described, session=session, nvml=nvml, stack=stack.pop_all())
    raise AssertionError("unreachable: an exit stack swallows nothing here")
