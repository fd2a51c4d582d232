"""The orchestrator's transformation: a recommendation becomes decisions, one per device class, or reasons to hold."""

from dataclasses import replace

from hcp.model.facilities import Facility, Fleet
from hcp.model.ids import id_from_record
from hcp.model.ledger import Alert, AlertSeverity, AlertType
from hcp.model.recommendations import ClassRecommendation, Recommendation
from hcp.model.rejections import Rejected
from hcp.model.resources import ResourceState, StateReporter
from hcp.model.steps import Cause, Step
from hcp.model.units import MS_PER_MINUTE
from streams.decisions import LIMITS, Limits, Situation, decide_class, is_price_stale, movable_devices, price_age_ms
from streams.policies import Policy
from streams.rejecting import check_indexes, known_facility, known_shard
from streams.site import ClassState, ShardCounts, SiteState, count_devices

__all__ = ["Limits", "SiteState", "on_recommendation", "on_resource_state"]


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
    site = state or SiteState(facility_id=facility.facility_id)
    if recommendation.observed_at_ms < site.decided_at_ms:
        return Step(ignored="late")
    if recommendation.recommendation_id == site.recommendation_id:
        return Step(ignored="duplicate")
    outputs: list[object] = []
    classes = {known.device_class: known for known in site.classes}
    for scores in sorted(recommendation.classes, key=lambda scores: scores.device_class):
        situation = _situation(
            site, scores, recommendation=recommendation, facility=facility, fleet=fleet, cause=cause, limits=limits
        )
        if situation is None:
            continue
        classes[scores.device_class], command = decide_class(situation, policy=policy)
        if command is not None:
            outputs.append(command)
    is_stale = is_price_stale(recommendation, limits=limits)
    if is_stale and not site.is_price_stale:
        outputs.append(_price_alert(recommendation, cause=cause))
    site = replace(
        site,
        classes=tuple(classes[name] for name in sorted(classes)),
        is_price_stale=is_stale,
        decided_at_ms=recommendation.observed_at_ms,
        recommendation_id=recommendation.recommendation_id,
    )
    return Step(updates=((facility.facility_id, site),), outputs=tuple(outputs))


def on_resource_state(
    state: SiteState | None, report: ResourceState, *, fleet: Fleet, cause: Cause
) -> Step[SiteState] | Rejected:
    """Count a shard's devices; the Resource Manager's report wins over the fleet monitor's, an older one is late."""
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
    counts = _merged(known, report, wall_ms=cause.timestamp_ms)
    if counts is None:
        return Step(ignored="late")
    if counts == known:
        return Step(ignored="duplicate")
    others = [other for other in site.shards if other.shard_id != report.shard_id]
    site = replace(site, shards=tuple(sorted([*others, counts], key=lambda shard: shard.shard_id)))
    classes = tuple(
        _confirmed(known_class, site) if known_class.device_class == report.device_class else known_class
        for known_class in site.classes
    )
    return Step(updates=((site.facility_id, replace(site, classes=classes)),))


def _situation(
    site: SiteState,
    scores: ClassRecommendation,
    *,
    recommendation: Recommendation,
    facility: Facility,
    fleet: Fleet,
    cause: Cause,
    limits: Limits,
) -> Situation | None:
    """Gather what one class's decision depends on; None when the fleet no longer has the class."""
    device_class = fleet.device_class(scores.device_class)
    if device_class is None:
        return None
    movable, is_stale = movable_devices(
        site, scores, now_ms=recommendation.observed_at_ms, wall_ms=cause.timestamp_ms, limits=limits
    )
    return Situation(
        facility=facility,
        kind=device_class.kind,
        scores=scores,
        recommendation=recommendation,
        known=site.class_state(scores.device_class),
        movable=movable,
        is_telemetry_stale=is_stale,
        cause=cause,
        limits=limits,
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
        counted_at_ms=report.observed_at_ms,
        seen_at_ms=report.observed_at_ms if known is None or is_monitor else known.seen_at_ms,
        seen_wall_ms=wall_ms if known is None or is_monitor else known.seen_wall_ms,
    )


def _confirmed(known: ClassState, site: SiteState) -> ClassState:
    """Clear a pending switch once its devices have been seen under way and none is any more, or all have left."""
    pending = known.pending
    if pending is None:
        return known
    shards = [shard for shard in site.shards if shard.device_class == known.device_class]
    if any(shard.switching for shard in shards):
        return known if pending.is_under_way else replace(known, pending=replace(pending, is_under_way=True))
    has_left = not any(shard.movable(pending.from_mode) for shard in shards)
    return replace(known, pending=None) if pending.is_under_way or has_left else known


def _price_alert(recommendation: Recommendation, *, cause: Cause) -> Alert:
    age_ms = price_age_ms(recommendation)
    age = "missing" if age_ms is None else f"{age_ms // MS_PER_MINUTE} minutes old"
    return Alert(
        alert_id=id_from_record(topic=cause.topic, partition=cause.partition, offset=cause.offset),
        facility_id=recommendation.facility_id,
        severity=AlertSeverity.WARNING,
        alert_type=AlertType.PRICE_STALE,
        subject=recommendation.facility_id,
        message=f"The energy price of {recommendation.facility_id} is {age}: every class holds its mode.",
        observed_at_ms=recommendation.observed_at_ms,
    )
