"""What a site's devices are doing, counted from resource.state: small, so cheap to store and to send along."""

from dataclasses import dataclass, replace
from typing import Final

from hcp.model.devices import DeviceMode, DeviceState
from hcp.model.facilities import Fleet
from hcp.model.recommendations import ClassDevices, ModeDevices
from hcp.model.rejections import Rejected
from hcp.model.resources import ResourceState, StateReporter
from hcp.model.steps import Cause, Step
from hcp.model.units import MS_PER_MINUTE, MS_PER_SECOND
from streams.rejecting import check_indexes, known_shard


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """How old telemetry may be before its devices are not moved; stale is what exceeds both.

    In live operation the first decides; in a replay at a thousand times the speed a tick is half an hour apart.

    Attributes:
        event_ms_max: In event time.
        wall_ms_max: By broker timestamps.
    """

    event_ms_max: int = 30 * MS_PER_MINUTE
    wall_ms_max: int = 10 * MS_PER_SECOND


FRESHNESS: Final = Freshness()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeCount:
    """Devices of a shard in one mode.

    Attributes:
        mode: The mode.
        movable: Active and held by no customer.
        switching: Under way to another mode.
        fixed: Held by a customer, quarantined, unreachable or in maintenance.
    """

    mode: DeviceMode
    movable: int
    switching: int
    fixed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardCounts:
    """One shard as last reported.

    Attributes:
        shard_id: The shard.
        device_class: Of its devices.
        reported_by: Whose counts these are; those of the Resource Manager win.
        counts: One per mode that has devices, sorted by mode.
        epoch_sum: Fencing epochs of its devices added up: every command raises it; 0 until the Resource Manager spoke.
        counted_at_ms: Event time of the counts.
        seen_at_ms: Event time of the newest report by the fleet monitor: how fresh its telemetry is.
        seen_wall_ms: Broker timestamp of that report.
    """

    shard_id: str
    device_class: str
    reported_by: StateReporter
    counts: tuple[ModeCount, ...]
    epoch_sum: int
    counted_at_ms: int
    seen_at_ms: int
    seen_wall_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteInventory:
    """One site's shards, sorted by id, and how far in resource.state they were counted."""

    facility_id: str
    shards: tuple[ShardCounts, ...] = ()
    offset: int | None = None


def on_resource_state(
    state: SiteInventory | None, report: ResourceState, *, fleet: Fleet, cause: Cause
) -> Step[SiteInventory] | Rejected:
    """Count a shard's devices; the Resource Manager's report wins over the fleet monitor's, an older one is late."""
    shard = known_shard(
        fleet, facility_id=report.facility_id, shard_id=report.shard_id, device_class=report.device_class
    )
    if isinstance(shard, Rejected):
        return shard
    rejected = check_indexes(shard, report.device_indexes)
    if rejected is not None:
        return rejected
    site = state or SiteInventory(facility_id=report.facility_id)
    known = next((counts for counts in site.shards if counts.shard_id == report.shard_id), None)
    counts = _merged(known, report, wall_ms=cause.timestamp_ms)
    if counts is None:
        return Step(ignored="late")
    if counts == known:
        return Step(ignored="duplicate")
    others = [other for other in site.shards if other.shard_id != report.shard_id]
    shards = tuple(sorted([*others, counts], key=lambda shard: shard.shard_id))
    return Step(updates=((site.facility_id, replace(site, shards=shards, offset=cause.offset)),))


def count_site(
    site: SiteInventory | None, *, now_ms: int, wall_ms: int, freshness: Freshness = FRESHNESS
) -> tuple[ClassDevices, ...]:
    """Add up a site's shards by class and mode, sorted; devices of stale shards are counted apart.

    Args:
        site: The counts; None gives nothing.
        now_ms: Event time of the count.
        wall_ms: Broker timestamp of its cause.
        freshness: How old telemetry may be.
    """
    tallies: dict[str, dict[DeviceMode, list[int]]] = {}
    stale: dict[str, int] = {}
    epochs: dict[str, int] = {}
    for shard in () if site is None else site.shards:
        modes = tallies.setdefault(shard.device_class, {})
        epochs[shard.device_class] = epochs.get(shard.device_class, 0) + shard.epoch_sum
        is_old = now_ms - shard.seen_at_ms > freshness.event_ms_max
        if is_old and wall_ms - shard.seen_wall_ms > freshness.wall_ms_max:
            left_out = sum(count.movable + count.switching + count.fixed for count in shard.counts)
            stale[shard.device_class] = stale.get(shard.device_class, 0) + left_out
            continue
        for count in shard.counts:
            tally = modes.setdefault(count.mode, [0, 0])
            tally[0] += count.movable
            tally[1] += count.switching
    return tuple(
        ClassDevices(
            device_class=name,
            modes=tuple(
                ModeDevices(mode=mode, movable_count=modes[mode][0], switching_count=modes[mode][1])
                for mode in sorted(modes)
            ),
            stale_count=stale.get(name, 0),
            epoch_sum=epochs[name],
        )
        for name, modes in sorted(tallies.items())
    )


def count_devices(report: ResourceState) -> tuple[ModeCount, ...]:
    """Count a report by mode; a customer's device is never movable."""
    movable: dict[DeviceMode, int] = {}
    switching: dict[DeviceMode, int] = {}
    fixed: dict[DeviceMode, int] = {}
    for mode, state, owner in zip(report.modes, report.states, report.owners, strict=True):
        if state is DeviceState.SWITCHING:
            tally = switching
        elif state is DeviceState.ACTIVE and not owner:
            tally = movable
        else:
            tally = fixed
        tally[mode] = tally.get(mode, 0) + 1
    return tuple(
        ModeCount(mode=mode, movable=movable.get(mode, 0), switching=switching.get(mode, 0), fixed=fixed.get(mode, 0))
        for mode in sorted(movable.keys() | switching.keys() | fixed.keys())
    )


def _merged(known: ShardCounts | None, report: ResourceState, *, wall_ms: int) -> ShardCounts | None:
    """Return the shard's counts after a report; None when the report is late."""
    is_monitor = report.reported_by is StateReporter.FLEET_MONITOR
    if known is not None and is_monitor:
        if report.observed_at_ms < known.seen_at_ms:
            return None
        if known.reported_by is StateReporter.RESOURCES:
            return replace(known, seen_at_ms=report.observed_at_ms, seen_wall_ms=wall_ms)
    if known is not None and known.reported_by is report.reported_by and report.observed_at_ms < known.counted_at_ms:
        return None
    return ShardCounts(
        shard_id=report.shard_id,
        device_class=report.device_class,
        reported_by=report.reported_by,
        counts=count_devices(report),
        epoch_sum=sum(report.epochs),
        counted_at_ms=report.observed_at_ms,
        seen_at_ms=report.observed_at_ms if known is None or is_monitor else known.seen_at_ms,
        seen_wall_ms=wall_ms if known is None or is_monitor else known.seen_wall_ms,
    )
