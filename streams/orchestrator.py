"""The orchestrator's transformation: a recommendation becomes decisions, one per device class, or reasons to hold."""

from dataclasses import replace

from hcp.model.facilities import Facility, Fleet
from hcp.model.ids import id_from_record
from hcp.model.ledger import Alert, AlertSeverity, AlertType
from hcp.model.recommendations import ClassDevices, ClassRecommendation, Recommendation
from hcp.model.rejections import Rejected
from hcp.model.steps import Cause, Step
from hcp.model.units import MS_PER_MINUTE
from streams.decisions import LIMITS, Limits, Situation, decide_class, is_price_stale, price_age_ms
from streams.policies import Policy
from streams.rejecting import known_facility
from streams.site import SiteState

__all__ = ["Limits", "SiteState", "on_recommendation"]


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
    counted = {devices.device_class: devices for devices in recommendation.devices}
    for scores in sorted(recommendation.classes, key=lambda scores: scores.device_class):
        situation = _situation(
            site,
            scores,
            devices=counted.get(scores.device_class),
            recommendation=recommendation,
            facility=facility,
            fleet=fleet,
            cause=cause,
            limits=limits,
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


def _situation(
    site: SiteState,
    scores: ClassRecommendation,
    *,
    devices: ClassDevices | None,
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
    return Situation(
        facility=facility,
        device_class=device_class,
        scores=scores,
        devices=devices or ClassDevices(device_class=scores.device_class, modes=(), stale_count=0, epoch_max=0),
        recommendation=recommendation,
        known=site.class_state(scores.device_class),
        cause=cause,
        limits=limits,
    )


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
