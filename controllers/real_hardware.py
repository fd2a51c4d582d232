"""The real hardware of a controller, open: sessions, NVML, pollers, and the machines that drive through them."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Final, Self

import aiohttp
import structlog
from pyasic_rs import MinerFactory

from controllers.drivers.asic.connect import Connection
from controllers.drivers.asic.machine import AsicMachine
from controllers.drivers.asic.poller import AsicPoller
from controllers.drivers.asic.unit import AsicUnit
from controllers.drivers.gpu_config import gpu_machine
from controllers.drivers.http import open_session
from controllers.drivers.nvml import NvmlDevice
from controllers.drivers.nvml_host import NvmlAbsent, NvmlHost, open_nvml
from controllers.hardware_file import HardwareFile
from controllers.ports import Machine
from hcp.errors import SettingsError
from hcp.model.facilities import Cluster, Fleet, Shard
from hcp.model.ids import device_id

FIRST_ROUND_MS_MAX: Final = 10_000
"""To find out what answers; thousands of miners take longer: the start goes on, and each is read when it answers."""

_log = structlog.get_logger(__name__)


class RealHardware:
    """Opened by `open_real_hardware`; `close` it."""

    def __init__(self, described: HardwareFile) -> None:
        """Open nothing yet."""
        self.nvml: NvmlHost | None = None
        self._described = described
        self._stack = AsyncExitStack()
        self._session: aiohttp.ClientSession | None = None
        self._units: dict[str, AsicUnit] = {}
        self._pollers: list[AsicPoller] = []

    async def open(self, fleet: Fleet) -> None:
        """Open what the described devices are driven through.

        Raises:
            SettingsError: GPUs are described and this host has no NVML.
        """
        if self._described.gpus:
            self._session = await self._stack.enter_async_context(open_session())
            self.nvml = await self._open_nvml()
        factory = MinerFactory()
        for site in fleet.facilities:
            for cluster in site.clusters:
                if cluster.cluster_id in self._described.asics:
                    self._add_asics(cluster, fleet, factory)
        await asyncio.gather(*(poller.start(first_round_ms_max=FIRST_ROUND_MS_MAX) for poller in self._pollers))

    def machine(self, name: str) -> Machine:
        """Return a new machine for a described device by its id; KeyError when it is none."""
        if name in self._units:
            return AsicMachine(self._units[name])
        place = self._described.gpus[name]
        assert self.nvml is not None, "a file with GPUs opens NVML or nothing"
        assert self._session is not None, "a file with GPUs opens a session"
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
        """Close sessions, NVML and pollers."""
        await self._stack.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _open_nvml(self) -> NvmlHost:
        opened = await open_nvml()
        if isinstance(opened, NvmlAbsent):
            raise SettingsError(f"a host with described GPUs must have NVML: {opened.detail}")
        self._stack.push_async_callback(opened.close)
        for place in self._described.gpus.values():
            if place.uuid not in opened.uuids:
                _log.warning("gpu_not_found", uuid=place.uuid, found=opened.uuids)
            opened.gpu(place.uuid)  # so that it is watched too
        return opened

    def _add_asics(self, cluster: Cluster, fleet: Fleet, factory: MinerFactory) -> None:
        places = self._described.asics[cluster.cluster_id]
        device_class = fleet.device_class(cluster.device_class)
        assert device_class is not None, "load_fleet checks the class of every cluster"
        hosts = iter(places.hosts)
        units: list[AsicUnit] = []
        for shard in cluster.shards():
            for index in range(shard.device_count):
                connection = Connection(
                    next(hosts), factory=factory, credentials=places.credentials, firmware=places.firmware
                )
                units.append(AsicUnit(connection, device_class=device_class))
                self._units[device_id(shard_id=shard.shard_id, device_index=index)] = units[-1]
        poller = AsicPoller(units)
        self._stack.push_async_callback(poller.close)
        self._pollers.append(poller)


async def open_real_hardware(described: HardwareFile, fleet: Fleet) -> RealHardware:
    """Open what the described devices are driven through.

    A device that is not there now is no error: its calls fail until it is.

    Raises:
        SettingsError: GPUs are described and this host has no NVML.
    """
    opened = RealHardware(described)
    try:
        await opened.open(fleet)
    except BaseException:
        await opened.close()
        raise
    return opened
