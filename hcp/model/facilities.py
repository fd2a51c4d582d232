"""The fleet as configured: facilities, their clusters of one device class, and shards of up to 512 devices."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from hcp.model.devices import DeviceClass, DeviceMode
from hcp.model.types import DEVICES_PER_SHARD_MAX
from hcp.model.units import MS_PER_HOUR, MS_PER_MINUTE, DurationMs, Ratio, UsdPerKwh


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """Up to 512 devices of one cluster; the unit of every columnar record."""

    shard_id: str
    cluster_id: str
    facility_id: str
    device_class: str
    device_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Devices of one class behind one controller.

    Attributes:
        cluster_id: Name in every record, `tx-north.asic-1`.
        facility_id: Its site.
        device_class: Of all its devices.
        device_count: Above 0.
        initial_mode: What they run before anybody decides.
        devices_per_feeder: Devices in a row on one electrical feeder, whose starts are spread; None: one feeder.
    """

    cluster_id: str
    facility_id: str
    device_class: str
    device_count: int
    initial_mode: DeviceMode
    devices_per_feeder: int | None = None

    def shards(self) -> Iterator[Shard]:
        """Yield the cluster's shards in order, the last one possibly short."""
        for number, first in enumerate(range(0, self.device_count, DEVICES_PER_SHARD_MAX)):
            yield Shard(
                shard_id=f"{self.cluster_id}/{number:02d}",
                cluster_id=self.cluster_id,
                facility_id=self.facility_id,
                device_class=self.device_class,
                device_count=min(DEVICES_PER_SHARD_MAX, self.device_count - first),
            )


SWITCHES_PER_HOUR_MAX: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandWindow:
    """Hours in which energy costs more than its price, since the draw then sets a later charge: 4CP, coincident peaks.

    Attributes:
        months: 1 to 12, in local time.
        start_hour: Local hour it begins, 0 or more.
        end_hour: Local hour it ends, above `start_hour` and at most 24.
        utc_offset_hours: Local time less UTC, in these months.
        adder_usd_per_kwh: On top of the site's adder; above 0.
    """

    months: tuple[int, ...]
    start_hour: float
    end_hour: float
    utc_offset_hours: float
    adder_usd_per_kwh: UsdPerKwh


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """What binds every policy at a site besides its power cap and ramp limit; None where there is no such limit.

    Attributes:
        switches_per_hour: Times that a class may go to more power within an hour of event time, 1 to 60; to lower power
            is never refused, and cannot be more frequent than to raise it.
        loss_floor_usd_per_mwh: The loss tolerated for each MWh drawn, above 0: beyond it a class goes to its least
            losing mode of less power, whatever its policy wants.
        wear_budget_usd_per_device_day: Wear that starts may cost, on average over the class's devices, above 0.
        safe_state_after_ms: Event-time age of the energy price beyond which devices go to their resting mode.
    """

    switches_per_hour: int | None = None
    loss_floor_usd_per_mwh: float | None = None
    wear_budget_usd_per_device_day: float | None = None
    safe_state_after_ms: int = 6 * MS_PER_HOUR


UNCONSTRAINED: Final = Constraints()


@dataclass(frozen=True, slots=True, kw_only=True)
class Facility:
    """One site: its market, limits and clusters.

    Attributes:
        facility_id: Name in every record, `tx-north`.
        name: For people.
        energy_market: Instrument of its energy price, `HB_WEST`.
        power_cap_mw: What the site may draw; above 0.
        ramp_mw_per_minute: How fast its draw may change; above 0.
        pue: Power usage effectiveness: site draw over device draw, 1 or more.
        demand_adder_usd_per_kwh: Transmission and capacity charges spread over energy; 0 or more.
        pool_fee_ratio: What the mining pool keeps, 0..1.
        reject_ratio: Shares the pool refuses, 0..1.
        uptime_ratio: Share of time a device that is on does hash, 0..1.
        sla_bonus_ratio: Factor on inference revenue for meeting service levels; 1 is none.
        clusters: In the order of fleet.toml.
        constraints: What else binds every policy.
        demand_windows: When demand costs more; adders of windows that overlap add up.
    """

    facility_id: str
    name: str
    energy_market: str
    power_cap_mw: float
    ramp_mw_per_minute: float
    pue: float
    demand_adder_usd_per_kwh: UsdPerKwh
    pool_fee_ratio: Ratio
    reject_ratio: Ratio
    uptime_ratio: Ratio
    sla_bonus_ratio: float
    clusters: tuple[Cluster, ...]
    constraints: Constraints = UNCONSTRAINED
    demand_windows: tuple[DemandWindow, ...] = ()

    def device_classes(self) -> tuple[str, ...]:
        """Return the site's device classes, sorted, each once."""
        return tuple(sorted({cluster.device_class for cluster in self.clusters}))

    def shards(self) -> Iterator[Shard]:
        """Yield every shard of the site in the order of fleet.toml."""
        for cluster in self.clusters:
            yield from cluster.shards()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementWeights:
    """Points of the score by which a workload's devices are chosen; all 0 or more, 100 in all.

    Attributes:
        temperature: Of a device at 40 degC or less; none at 85.
        utilisation: Of a device that does nothing.
        proximity: Where one shard has room for the whole workload; half where one cluster has.
        switching: Of a device that serves inference already.
        health: Of a device without failed switches.
    """

    temperature: float = 20.0
    utilisation: float = 10.0
    proximity: float = 10.0
    switching: float = 40.0
    health: float = 20.0

    def named(self) -> tuple[tuple[str, float], ...]:
        """Return name and points of each term, in the order of the fields."""
        return (
            ("temperature", self.temperature),
            ("utilisation", self.utilisation),
            ("proximity", self.proximity),
            ("switching", self.switching),
            ("health", self.health),
        )


DEFAULT_WEIGHTS: Final = PlacementWeights()
DEFAULT_METER_MS: Final = DurationMs(MS_PER_MINUTE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Everything HCP runs; lookups by id.

    Attributes:
        facilities: Its sites.
        device_classes: What their devices are.
        placement_weights: By which devices are chosen.
        meter_ms: How often a run is told of, so that what it costs can be seen; on the site's next event.
    """

    facilities: tuple[Facility, ...]
    device_classes: tuple[DeviceClass, ...]
    placement_weights: PlacementWeights = DEFAULT_WEIGHTS
    meter_ms: DurationMs = DEFAULT_METER_MS

    def facility(self, facility_id: str) -> Facility | None:
        """Return the facility, or None when fleet.toml has none of that id."""
        return next((site for site in self.facilities if site.facility_id == facility_id), None)

    def device_class(self, device_class: str) -> DeviceClass | None:
        """Return the class, or None when fleet.toml has none of that id."""
        return next((known for known in self.device_classes if known.device_class == device_class), None)

    def shards(self) -> Iterator[Shard]:
        """Yield every shard of every site."""
        for site in self.facilities:
            yield from site.shards()

    def shard(self, shard_id: str) -> Shard | None:
        """Return the shard, or None when no cluster has it."""
        return next((shard for shard in self.shards() if shard.shard_id == shard_id), None)

    @property
    def device_count(self) -> int:
        """Count all devices."""
        return sum(cluster.device_count for site in self.facilities for cluster in site.clusters)
