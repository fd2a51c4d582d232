"""hardware.toml: which real devices a controller drives, and which clusters it simulates.

```toml
simulated = ["tx-north.asic-2"]

[[gpu]]       # one GPU of this host, as controllers.drivers.gpu_config words it
device_id = "tx-north.gpu-7/00/000"

[[asic]]      # all miners of a cluster, as controllers.drivers.asic.config words it
cluster_id = "tx-north.asic-1"
```

A shard has one controller: a file names all devices of a shard or none. What it does not name, another controller
drives.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from controllers.drivers.asic.config import AsicEntry, AsicPlaces, asic_places
from controllers.drivers.gpu_config import GpuEntry, GpuWorkloads, gpu_workloads
from hcp.errors import SettingsError
from hcp.model.devices import DeviceClass, DeviceKind, DeviceMode
from hcp.model.facilities import Cluster, Fleet, Shard
from hcp.model.ids import device_id


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    simulated: tuple[str, ...] = ()
    gpu: tuple[GpuEntry, ...] = ()
    asic: tuple[AsicEntry, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuPlace:
    """A GPU by its UUID on this host, and the programs that work on it."""

    uuid: str
    workloads: GpuWorkloads


@dataclass(frozen=True, slots=True, kw_only=True)
class HardwareFile:
    """What a controller drives.

    Attributes:
        simulated: Shards without hardware.
        real: Shards whose every device is described.
        gpus: By device id.
        asics: By cluster.
    """

    simulated: tuple[Shard, ...]
    real: tuple[Shard, ...]
    gpus: Mapping[str, GpuPlace]
    asics: Mapping[str, AsicPlaces]


def read_hardware_file(path: Path, fleet: Fleet) -> HardwareFile:
    """Read the file and hold it against the fleet.

    Raises:
        SettingsError: It, or a file that it names, cannot be read; it names what the fleet does not have, a device
            twice, a part of a shard, or hardware that has no way to do one of its modes.
    """
    try:
        given = msgspec.toml.decode(path.read_bytes(), type=_File)
    except (OSError, msgspec.MsgspecError) as error:
        raise SettingsError(f"{path.name} must describe hardware, was unreadable: {error}") from error
    simulated = tuple(_simulated(given.simulated, fleet))
    gpus = dict(_gpus(given.gpu))
    asics = dict(_asics(given.asic, fleet))
    real = (*_real(gpus, fleet), *(shard for shard in fleet.shards() if shard.cluster_id in asics))
    both = {shard.shard_id for shard in simulated} & {shard.shard_id for shard in real}
    if both:
        raise SettingsError(f"{min(both)} must be simulated or described, was both")
    if not simulated and not real:
        raise SettingsError(f"{path.name} must name a device or a simulated cluster, named none")
    return HardwareFile(simulated=simulated, real=real, gpus=gpus, asics=asics)


def _simulated(names: tuple[str, ...], fleet: Fleet) -> Iterator[Shard]:
    clusters = _clusters(fleet)
    for name in dict.fromkeys(names):
        if name not in clusters:
            raise SettingsError(f"simulated must name clusters of the fleet, was {name}")
        yield from clusters[name].shards()


def _clusters(fleet: Fleet) -> dict[str, Cluster]:
    return {cluster.cluster_id: cluster for site in fleet.facilities for cluster in site.clusters}


def _asics(entries: tuple[AsicEntry, ...], fleet: Fleet) -> Iterator[tuple[str, AsicPlaces]]:
    clusters = _clusters(fleet)
    seen: set[str] = set()
    for entry in entries:
        cluster = clusters.get(entry.cluster_id)
        if cluster is None:
            raise SettingsError(f"cluster_id must be of the fleet, was {entry.cluster_id}")
        device_class = fleet.device_class(cluster.device_class)
        assert device_class is not None, "load_fleet checks the class of every cluster"
        places = asic_places(entry, cluster=cluster, device_class=device_class)
        for name in (entry.cluster_id, *places.hosts):
            if name in seen:
                raise SettingsError(f"a device must be described once, was twice: {name}")
            seen.add(name)
        yield entry.cluster_id, places


def _gpus(entries: tuple[GpuEntry, ...]) -> Iterator[tuple[str, GpuPlace]]:
    seen: set[str] = set()
    for entry in entries:
        for name in (entry.device_id, entry.uuid):
            if name in seen:
                raise SettingsError(f"a device must be described once, was twice: {name}")
            seen.add(name)
        yield entry.device_id, GpuPlace(uuid=entry.uuid, workloads=gpu_workloads(entry))


def _real(gpus: Mapping[str, GpuPlace], fleet: Fleet) -> Iterator[Shard]:
    """Yield every shard that has a described device, all of whose devices are."""
    left = dict(gpus)
    for shard in fleet.shards():
        ids = [device_id(shard_id=shard.shard_id, device_index=index) for index in range(shard.device_count)]
        named = {name: left.pop(name) for name in ids if name in left}
        if not named:
            continue
        missing = [name for name in ids if name not in named]
        if missing:
            raise SettingsError(
                f"{shard.shard_id} must be described whole: {shard.device_count} devices, {len(missing)} were not, "
                f"the first {missing[0]}"
            )
        device_class = fleet.device_class(shard.device_class)
        assert device_class is not None, "load_fleet checks the class of every cluster"
        for name, place in named.items():
            _check_programs(name, place.workloads, device_class)
        yield shard
    if left:
        raise SettingsError(f"device_id must be of the fleet, was {min(left)}")


def _check_programs(name: str, workloads: GpuWorkloads, device_class: DeviceClass) -> None:
    if device_class.kind is not DeviceKind.GPU:
        raise SettingsError(f"{name} must be of a class of GPUs, was {device_class.device_class}")
    has = {DeviceMode.MINING: workloads.xmrig, DeviceMode.AI_INFERENCE: workloads.vllm}
    for profile in device_class.modes:
        if profile.mode in has and has[profile.mode] is None:
            raise SettingsError(f"{name} must have a program for {profile.mode}, has none")
