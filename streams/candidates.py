"""Which devices a workload gets: each free one scored 0 to 100 by terms that explain themselves."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from hcp.model.devices import DeviceClass, DeviceMode, DeviceState
from hcp.model.facilities import PlacementWeights
from hcp.model.units import MS_PER_MINUTE
from streams.shards import ShardAllocation
from streams.tickets import Place

COOL_CELSIUS: Final = 40.0
HOT_CELSIUS: Final = 85.0
"""NVIDIA's data-centre GPUs begin to throttle a little above (see streams.fleet_monitor)."""
UNKNOWN: Final = 0.5
"""A term that nobody has measured neither helps nor harms."""
ENTER_MS_MAX: Final = MS_PER_MINUTE
CLUSTER_PROXIMITY: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What telemetry last said of a device; None is not measured."""

    temperature_celsius: float | None = None
    utilisation_ratio: float | None = None


NOT_READ: Final = Reading()
Readings = Mapping[Place, Reading]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A free device and its score.

    Attributes:
        place: The device.
        mode: What it does now; serving inference already, it is warm.
        terms: Points of temperature, utilisation, proximity, switching and health.
        points: Their sum, 0 to 100.
    """

    place: Place
    mode: DeviceMode
    terms: tuple[float, float, float, float, float]
    points: float

    @property
    def is_warm(self) -> bool:
        """Say whether it serves inference already."""
        return self.mode is DeviceMode.AI_INFERENCE


def candidates_of(
    shards: Iterable[ShardAllocation],
    *,
    device_class: DeviceClass,
    device_count: int,
    holder: str,
    weights: PlacementWeights,
    readings: Readings,
) -> list[Candidate]:
    """Return the devices that could be had, best first; equal ones in the order of their names.

    A device that does something else can be had only where its shard has no command under way. What `holder` holds
    already counts as free to it.
    """
    free = [(shard, _free(shard, holder=holder)) for shard in shards]
    clusters: dict[str, int] = {}
    for shard, found in free:
        clusters[shard.cluster_id] = clusters.get(shard.cluster_id, 0) + len(found)
    cold = _switching_ratio(device_class)
    scored: list[Candidate] = []
    for shard, found in free:
        proximity = 1.0 if len(found) >= device_count else 0.0
        if not proximity and clusters[shard.cluster_id] >= device_count:
            proximity = CLUSTER_PROXIMITY
        failures = dict(shard.failures)
        for index, mode in found:
            ratios = (
                *_read_ratios(readings.get((shard.shard_id, index), NOT_READ)),
                proximity,
                1.0 if mode is DeviceMode.AI_INFERENCE else cold,
                1.0 / (1 + failures.get(index, 0)),
            )
            scored.append(_candidate((shard.shard_id, index), mode, ratios=ratios, weights=weights))
    scored.sort(key=lambda each: (-each.points, each.place))
    return scored


def explain(chosen: Iterable[Candidate], *, weights: PlacementWeights) -> str:
    """Say of the worst device chosen how its score came about."""
    worst = min(chosen, key=lambda each: (each.points, each.place))
    names = zip(weights.named(), worst.terms, strict=True)
    terms = ", ".join(f"{name} {points:.1f} of {most:.0f}" for (name, most), points in names)
    state = "warm" if worst.is_warm else f"was {worst.mode}"
    return f"{worst.place[0]}/{worst.place[1]:03d} scored {worst.points:.1f} of 100 ({state}): {terms}"


def _free(shard: ShardAllocation, *, holder: str) -> list[tuple[int, DeviceMode]]:
    return [
        (index, mode)
        for index, mode, state, owner in zip(shard.device_indexes, shard.modes, shard.states, shard.owners, strict=True)
        if state is DeviceState.ACTIVE
        and owner in {"", holder}
        and (mode is DeviceMode.AI_INFERENCE or shard.pending is None)
    ]


def _switching_ratio(device_class: DeviceClass) -> float:
    """Return what is left of the switching term for a device that must be switched: less for a longer entry."""
    profile = device_class.profile(DeviceMode.AI_INFERENCE)
    return 0.5 * (1.0 - min(profile.enter_ms / ENTER_MS_MAX, 1.0))


def _read_ratios(reading: Reading) -> tuple[float, float]:
    celsius, used = reading.temperature_celsius, reading.utilisation_ratio
    cool = UNKNOWN
    if celsius is not None:
        cool = min(max((HOT_CELSIUS - celsius) / (HOT_CELSIUS - COOL_CELSIUS), 0.0), 1.0)
    return cool, UNKNOWN if used is None else min(max(1.0 - used, 0.0), 1.0)


def _candidate(
    place: Place, mode: DeviceMode, *, ratios: tuple[float, float, float, float, float], weights: PlacementWeights
) -> Candidate:
    cool, idle, near, quick, sound = ratios
    terms = (
        cool * weights.temperature,
        idle * weights.utilisation,
        near * weights.proximity,
        quick * weights.switching,
        sound * weights.health,
    )
    return Candidate(place=place, mode=mode, terms=terms, points=sum(terms))
