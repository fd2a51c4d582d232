"""Everything one class's decision depends on, brought up to date before anybody decides."""

from dataclasses import dataclass, replace
from typing import Final

from hcp.model.devices import DeviceClass, DeviceMode
from hcp.model.facilities import Facility
from hcp.model.recommendations import ClassDevices, ClassRecommendation, Recommendation
from hcp.model.steps import Cause
from hcp.model.units import MS_PER_HOUR, MS_PER_MINUTE, MS_PER_SECOND
from streams.policies import ClassView, Policy, Reading
from streams.policies.base import Memoryless
from streams.settlement import settled_interval
from streams.site import ClassState, PendingSwitch


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How old what we know may be.

    Attributes:
        price_age_ms_max: Event-time age of the energy price above which a site holds; MISO publishes hourly.
        pending_ms_max: Event time after which a switch that nobody confirmed no longer blocks its class.
        pending_wall_ms_max: The same by broker timestamps, for live operation; whichever comes first.
    """

    price_age_ms_max: int = 150 * MS_PER_MINUTE
    pending_ms_max: int = 6 * MS_PER_HOUR
    pending_wall_ms_max: int = 60 * MS_PER_SECOND


LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Everything a class's decision depends on.

    Attributes:
        facility: The site.
        device_class: The class.
        scores: The class's scores.
        devices: The class's devices as counted with them.
        modes_by_count: The modes with movable devices, most first; equal counts in the order of the class.
        recommendation: Where scores and devices come from.
        price_age_ms: Age of the energy price in event time; None when there is none.
        known: What the class did last.
        ended: The reading of the interval that this recommendation ends; None when it ends none.
        memory_before: The policy's memory before it took that in.
        cause: The record of the recommendation.
        limits: How old what we know may be.
    """

    facility: Facility
    device_class: DeviceClass
    scores: ClassRecommendation
    devices: ClassDevices
    modes_by_count: tuple[DeviceMode, ...]
    recommendation: Recommendation
    price_age_ms: int | None
    known: ClassState
    ended: Reading | None = None
    memory_before: bytes = b""
    cause: Cause
    limits: Limits

    @property
    def now_ms(self) -> int:
        """Return the event time."""
        return self.recommendation.observed_at_ms

    def movable_count(self, mode: DeviceMode) -> int:
        """Return how many devices may leave a mode."""
        for count in self.devices.modes:
            if count.mode is mode:
                return count.movable_count
        return 0

    def view(self, from_mode: DeviceMode) -> ClassView:
        """Return what the policy sees of the devices in one mode."""
        return ClassView(
            recommendation=self.scores,
            device_class=self.device_class,
            from_mode=from_mode,
            device_count=self.movable_count(from_mode),
            price_age_ms=self.price_age_ms,
            memory=self.known.memory,
        )

    def majority(self) -> DeviceMode:
        """Return the mode of most movable devices; without any, the one left last or the best."""
        if self.modes_by_count:
            return self.modes_by_count[0]
        pending = self.known.pending
        return self.scores.best_mode if pending is None else pending.from_mode


def price_age_ms(recommendation: Recommendation) -> int | None:
    """Return the event-time age of the energy price; None when there is none."""
    seen_at_ms = recommendation.market.energy_observed_at_ms
    return None if seen_at_ms is None else max(recommendation.observed_at_ms - seen_at_ms, 0)


def is_price_stale(age_ms: int | None, *, limits: Limits) -> bool:
    """Say whether an energy price of that age is missing or too old to act on."""
    return age_ms is None or age_ms > limits.price_age_ms_max


def situation_of(
    known: ClassState,
    scores: ClassRecommendation,
    *,
    devices: ClassDevices,
    device_class: DeviceClass,
    recommendation: Recommendation,
    facility: Facility,
    policy: Policy,
    cause: Cause,
    limits: Limits,
) -> Situation:
    """Gather what a class's decision depends on, what it did last brought up to date.

    The policy takes in the interval that ended, and a pending switch that is over is cleared.
    """
    ended = None
    if not isinstance(policy, Memoryless):
        ended = _ended(known, scores, device_class=device_class, recommendation=recommendation)
    pending = _pending(known, devices, recommendation=recommendation, cause=cause, limits=limits)
    now_known = known
    if ended is not None:
        now_known = replace(
            known,
            pending=pending,
            memory=policy.observe(known.memory, ended),
            observed_until_ms=ended.start_ms + ended.interval_ms,
        )
    elif pending is not known.pending:
        now_known = replace(known, pending=pending)
    return Situation(
        facility=facility,
        device_class=device_class,
        scores=scores,
        devices=devices,
        modes_by_count=_modes_by_count(scores, devices),
        recommendation=recommendation,
        price_age_ms=price_age_ms(recommendation),
        known=now_known,
        ended=ended,
        memory_before=known.memory,
        cause=cause,
        limits=limits,
    )


def _modes_by_count(scores: ClassRecommendation, devices: ClassDevices) -> tuple[DeviceMode, ...]:
    movable = {count.mode: count.movable_count for count in devices.modes if count.movable_count}
    if len(movable) <= 1:
        return tuple(movable)
    modes = [row.mode for row in scores.scores if row.mode in movable]
    return tuple(sorted(modes, key=lambda mode: -movable[mode]))


def _ended(
    known: ClassState, scores: ClassRecommendation, *, device_class: DeviceClass, recommendation: Recommendation
) -> Reading | None:
    """Return the interval that ended with a new energy price; nothing is taken in twice."""
    interval = settled_interval(recommendation, settled_until_ms=known.observed_until_ms)
    if interval is None:
        return None
    return Reading(device_class=device_class, scores=scores, start_ms=interval.start_ms, interval_ms=interval.length_ms)


def _pending(
    known: ClassState, devices: ClassDevices, *, recommendation: Recommendation, cause: Cause, limits: Limits
) -> PendingSwitch | None:
    """Return the switch under way, or None when there is none any more.

    It is over once it was acted on and no device is under way, or all have left; and when nobody has confirmed it in
    time, for the Resource Manager has given it up by then.
    """
    pending = known.pending
    if pending is None:
        return None
    if not any(count.switching_count for count in devices.modes):
        left_behind = any(count.mode is pending.from_mode and count.movable_count for count in devices.modes)
        if devices.epoch_sum > pending.epoch_sum or not (devices.stale_count or left_behind):
            return None
    wall_ms = cause.timestamp_ms - pending.ordered_wall_ms
    event_ms = recommendation.observed_at_ms - pending.ordered_at_ms
    is_overdue = wall_ms >= limits.pending_wall_ms_max or event_ms >= limits.pending_ms_max
    return None if is_overdue else pending
