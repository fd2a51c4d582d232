"""The orchestrator's picture of one site: counts per shard, and what each class did last. Small, so cheap to store."""

from dataclasses import dataclass

from hcp.model.commands import DecisionReason
from hcp.model.devices import DeviceMode, DeviceState
from hcp.model.resources import ResourceState, StateReporter


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
        counted_at_ms: Event time of the counts.
        seen_at_ms: Event time of the newest report by the fleet monitor: how fresh its telemetry is.
        seen_wall_ms: Broker timestamp of that report.
    """

    shard_id: str
    device_class: str
    reported_by: StateReporter
    counts: tuple[ModeCount, ...]
    counted_at_ms: int
    seen_at_ms: int
    seen_wall_ms: int

    def movable(self, mode: DeviceMode) -> int:
        """Count what may be moved out of a mode."""
        return sum(count.movable for count in self.counts if count.mode is mode)

    @property
    def switching(self) -> int:
        """Count what is under way."""
        return sum(count.switching for count in self.counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingSwitch:
    """A switch that was ordered and not yet seen to have happened.

    Attributes:
        command_id: The order.
        from_mode: Mode left.
        to_mode: Mode wanted.
        ordered_at_ms: Event time.
        ordered_wall_ms: Broker timestamp of the recommendation behind it.
        is_under_way: Whether devices have been seen switching since.
    """

    command_id: str
    from_mode: DeviceMode
    to_mode: DeviceMode
    ordered_at_ms: int
    ordered_wall_ms: int
    is_under_way: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassState:
    """What one class did last.

    Attributes:
        device_class: The class.
        switched_at_ms: Event time of its last switch; None before the first.
        is_powered_up: Whether that switch raised its power.
        pending: The switch under way.
        last_reason: Reason of the last decision published.
        swept_at_ms: Event time when stragglers in a minority mode were last sent after the others; that resets no
            dwell.
    """

    device_class: str
    switched_at_ms: int | None = None
    is_powered_up: bool = False
    swept_at_ms: int | None = None
    pending: PendingSwitch | None = None
    last_reason: DecisionReason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteState:
    """One site; shards sorted by id, classes by name.

    Attributes:
        facility_id: The site.
        shards: As last reported.
        classes: What each did last.
        is_price_stale: Whether the last recommendation's energy price was too old; the alert is sent once.
        decided_at_ms: Event time of the last recommendation decided; 0 before the first.
        recommendation_id: That recommendation; empty before the first.
    """

    facility_id: str
    shards: tuple[ShardCounts, ...] = ()
    classes: tuple[ClassState, ...] = ()
    is_price_stale: bool = False
    decided_at_ms: int = 0
    recommendation_id: str = ""

    def class_state(self, device_class: str) -> ClassState:
        """Return what a class did last; a fresh state when it never did anything."""
        for state in self.classes:
            if state.device_class == device_class:
                return state
        return ClassState(device_class=device_class)


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
