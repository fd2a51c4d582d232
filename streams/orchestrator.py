"""The orchestrator's transformation: a recommendation becomes decisions, one per device class, or reasons to hold."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from hcp.model.commands import DecisionAction, DecisionReason, OrchestratorCommand
from hcp.model.devices import DeviceMode
from hcp.model.facilities import Facility, Fleet
from hcp.model.ids import id_from_content
from hcp.model.ledger import Alert, AlertSeverity, AlertType
from hcp.model.recommendations import ClassRecommendation, Recommendation
from hcp.model.rejections import Rejected
from hcp.model.resources import ResourceState, StateReporter
from hcp.model.steps import Cause, Step
from hcp.model.units import MS_PER_HOUR, MS_PER_MINUTE, MS_PER_SECOND, kilowatts
from streams.economics import site_kilowatts
from streams.guards import timing_reason
from streams.policies import Choice, ClassView, Policy, hold
from streams.rejecting import check_indexes, known_facility, known_shard
from streams.site import ClassState, ModeCount, PendingSwitch, ShardCounts, SiteState, count_devices

_FLIP_MAX: Final = 1e15


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How old what we know may be; event time except where said.

    Attributes:
        price_age_ms_max: Age of the energy price above which a site holds; MISO publishes hourly.
        telemetry_age_ms_max: Age of a shard's telemetry above which its devices are not moved.
        pending_ms_max: Event time after which a switch that nobody confirmed no longer blocks the class.
        pending_wall_ms_max: The same by broker timestamps, for live operation.
    """

    price_age_ms_max: int = 150 * MS_PER_MINUTE
    telemetry_age_ms_max: int = 30 * MS_PER_MINUTE
    pending_ms_max: int = 6 * MS_PER_HOUR
    pending_wall_ms_max: int = 60 * MS_PER_SECOND


LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Decision:
    """One class's decision before it is worded."""

    view: ClassView
    choice: Choice


def on_recommendation(
    state: SiteState | None,
    recommendation: Recommendation,
    *,
    fleet: Fleet,
    policy: Policy,
    cause: Cause,
    limits: Limits = LIMITS,
) -> Step[SiteState] | Rejected:
    """Decide every class of a site; the table's key is the facility.

    A switch is always published, a hold only when its reason differs from that of the class's last decision.
    """
    facility = known_facility(fleet, recommendation.facility_id)
    if isinstance(facility, Rejected):
        return facility
    before = state or SiteState(facility_id=facility.facility_id)
    site = before
    outputs: list[object] = []
    for scores in recommendation.classes:
        kind = fleet.device_class(scores.device_class)
        if kind is None:
            continue
        known = _without_expired(
            site.class_state(scores.device_class), recommendation, cause=cause, limits=limits
        )
        movable, is_stale = _movable(site, scores, now_ms=recommendation.observed_at_ms, limits=limits)
        from_mode = _from_mode(movable, scores, policy=policy, known=known)
        view = ClassView(
            recommendation=scores,
            kind=kind.kind,
            from_mode=from_mode,
            device_count=movable.get(from_mode, 0),
            price_age_ms=_price_age_ms(recommendation),
        )
        choice = _choose(view, known=known, policy=policy, recommendation=recommendation, is_stale=is_stale, limits=limits)
        decision = _Decision(view=view, choice=choice)
        known, command = _record(decision, known=known, recommendation=recommendation, policy=policy, cause=cause, facility=facility)
        site = _with_class(site, known)
        outputs.extend(command)
    site, alerts = _price_alert(site, recommendation, limits=limits)
    outputs.extend(alerts)
    updates = () if site == before and state is not None else ((facility.facility_id, site),)
    return Step(updates=updates, outputs=tuple(outputs))


def on_resource_state(
    state: SiteState | None, report: ResourceState, *, fleet: Fleet, cause: Cause
) -> Step[SiteState] | Rejected:
    """Count a shard's devices; the Resource Manager's report wins over the fleet monitor's, an older one is late."""
    del cause  # a count has no outputs and so needs no id
    shard = known_shard(
        fleet, facility_id=report.facility_id, shard_id=report.shard_id, device_class=report.device_class
    )
    if isinstance(shard, Rejected):
        return shard
    rejected = check_indexes(shard, report.device_indexes)
    if rejected is not None:
        return rejected
    site = state or SiteState(facility_id=report.facility_id)
    known = next((counts for counts in site.shards if counts.shard_id == report.shard_id), None)
    counts = _merged(known, report)
    if counts is None:
        return Step(ignored="late")
    if counts == known:
        return Step(ignored="duplicate")
    shards = tuple(
        sorted([*(s for s in site.shards if s.shard_id != report.shard_id), counts], key=lambda s: s.shard_id)
    )
    site = replace(site, shards=shards)
    site = _with_class(site, _confirmed(site.class_state(report.device_class), site))
    return Step(updates=((site.facility_id, site),))


def _merged(known: ShardCounts | None, report: ResourceState) -> ShardCounts | None:
    """Return the shard's counts after a report; None when the report is late."""
    is_monitor = report.reported_by is StateReporter.FLEET_MONITOR
    if known is not None and is_monitor and report.observed_at_ms < known.seen_at_ms:
        return None
    if known is not None and is_monitor and known.reported_by is StateReporter.RESOURCES:
        return replace(known, seen_at_ms=report.observed_at_ms)
    if known is not None and not is_monitor and known.reported_by is StateReporter.RESOURCES:
        if report.observed_at_ms < known.counted_at_ms:
            return None
    seen_at_ms = report.observed_at_ms if known is None or is_monitor else known.seen_at_ms
    return ShardCounts(
        shard_id=report.shard_id,
        device_class=report.device_class,
        reported_by=report.reported_by,
        counts=count_devices(report),
        counted_at_ms=report.observed_at_ms,
        seen_at_ms=seen_at_ms,
    )
