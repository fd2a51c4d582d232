"""Which driver drives which device of the fleet; machines are made when first asked for."""

from hashlib import sha256
from pathlib import Path
from typing import Final, assert_never

from controllers.drivers.hardware import SimulatedHardware
from controllers.drivers.simulated_asic import SimulatedAsic
from controllers.drivers.simulated_gpu import SimulatedGpu
from controllers.hardware_file import HardwareFile
from controllers.ports import Machine
from controllers.real_hardware import RealHardware
from hcp.model.devices import DeviceKind
from hcp.model.facilities import Fleet, Shard
from hcp.model.ids import device_id

_GROUP_DIGITS: Final = 8


def hardware_directory(state_dir: Path) -> Path:
    """Return where the simulated hardware keeps its rows."""
    return state_dir / "hardware"


class Machines:
    """Every machine of some facilities, by shard."""

    def __init__(
        self,
        *,
        fleet: Fleet,
        facilities: tuple[str, ...],
        state_dir: Path,
        described: HardwareFile | None = None,
        real: RealHardware | None = None,
    ) -> None:
        """Drive the named facilities, all of them when none is named.

        Args:
            fleet: What there is.
            facilities: Sites.
            state_dir: Where simulated hardware keeps its rows.
            described: Which shards are driven and which of them are real; None: all, all simulated.
            real: Opened for `described`.
        """
        self.sites = tuple(site for site in fleet.facilities if not facilities or site.facility_id in facilities)
        clusters = tuple(cluster for site in self.sites for cluster in site.clusters)
        self.fleet = fleet
        self.hardware = SimulatedHardware(directory=hardware_directory(state_dir), clusters=clusters)
        driven = {shard.shard_id: shard for cluster in clusters for shard in cluster.shards()}
        self.real: dict[str, Shard] = {}
        if described is not None:
            named = {shard.shard_id for shard in (*described.simulated, *described.real)}
            driven = {shard_id: shard for shard_id, shard in driven.items() if shard_id in named}
            self.real = {shard.shard_id: shard for shard in described.real if shard.shard_id in driven}
        self.shards: dict[str, Shard] = driven
        self._facilities = facilities
        self._is_described = described is not None
        self._opened = real
        self._made: dict[str, dict[int, Machine]] = {}

    @property
    def group_suffix(self) -> str:
        """Return what tells controllers of other devices apart, and is the same for copies that drive the same ones."""
        suffix = "".join(f".{name}" for name in sorted(self._facilities))
        if self._is_described:
            suffix += f".{sha256(' '.join(sorted(self.shards)).encode()).hexdigest()[:_GROUP_DIGITS]}"
        return suffix

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
        if shard.shard_id in self.real:
            assert self._opened is not None, "described hardware is opened first"
            return self._opened.machine(device_id(shard_id=shard.shard_id, device_index=index))
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
