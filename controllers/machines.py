"""Which driver drives which device of the fleet; machines are made when first asked for."""

from pathlib import Path
from typing import assert_never

from controllers.drivers.hardware import SimulatedHardware
from controllers.drivers.simulated_asic import SimulatedAsic
from controllers.drivers.simulated_gpu import SimulatedGpu
from controllers.ports import Machine
from hcp.model.devices import DeviceKind
from hcp.model.facilities import Fleet, Shard
from hcp.model.ids import device_id


def hardware_directory(state_dir: Path) -> Path:
    """Return where the simulated hardware keeps its rows."""
    return state_dir / "hardware"


class Machines:
    """Every machine of some facilities, by shard."""

    def __init__(self, *, fleet: Fleet, facilities: tuple[str, ...], state_dir: Path) -> None:
        """Drive the named facilities, all of them when none is named."""
        self.sites = tuple(site for site in fleet.facilities if not facilities or site.facility_id in facilities)
        clusters = tuple(cluster for site in self.sites for cluster in site.clusters)
        self.fleet = fleet
        self.hardware = SimulatedHardware(directory=hardware_directory(state_dir), clusters=clusters)
        self.shards: dict[str, Shard] = {shard.shard_id: shard for cluster in clusters for shard in cluster.shards()}
        self._made: dict[str, dict[int, Machine]] = {}

    def of_shard(self, shard_id: str) -> dict[int, Machine]:
        """Return the shard's machines by device index."""
        if shard_id not in self._made:
            shard = self.shards[shard_id]
            self._made[shard_id] = {index: self._machine(shard, index) for index in range(shard.device_count)}
        return self._made[shard_id]

    def by_device_id(self, shard_id: str) -> dict[str, Machine]:
        """Return the shard's machines by device id."""
        return {
            device_id(shard_id=shard_id, device_index=index): machine
            for index, machine in self.of_shard(shard_id).items()
        }

    def _machine(self, shard: Shard, index: int) -> Machine:
        device_class = self.fleet.device_class(shard.device_class)
        assert device_class is not None, "load_fleet checks the class of every cluster"
        rows = self.hardware.shard(shard.shard_id)
        match device_class.kind:
            case DeviceKind.GPU:
                return SimulatedGpu(rows=rows, index=index, device_class=device_class)
            case DeviceKind.ASIC:
                return SimulatedAsic(rows=rows, index=index, device_class=device_class)
            case _:
                assert_never(device_class.kind)
