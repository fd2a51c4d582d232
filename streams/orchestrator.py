"""The orchestrator's transformation: a recommendation becomes decisions, one per device class, or reasons to hold."""

from collections.abc import Mapping

from hcp.model.facilities import Facility, Fleet
from hcp.model.ids import id_from_record
from hcp.model.ledger import Alert, AlertSeverity, AlertType
from hcp.model.recommendations import ClassDevices, Recommendation
from hcp.model.rejections import Rejected
from hcp.model.steps import Cause, Step
from hcp.model.units import MS_PER_MINUTE
from streams.decisions import concluded
from streams.outlook import with_outlook
from streams.policies import Policy
from streams.proposals import propose
from streams.rejecting import known_facility
from streams.site import ClassState, SiteState
from streams.site_limits import site_draw, within_limits
from streams.situation import LIMITS, Limits, Situation, is_price_stale, price_age_ms, situation_of

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
    is_again = recommendation.observed_at_ms == site.decided_at_ms and cause.offset <= site.decided_offset
    if is_again or recommendation.recommendation_id == site.recommendation_id:
        return Step(ignored="duplicate")
    classes = {known.device_class: known for known in site.classes}
    counted = {devices.device_class: devices for devices in recommendation.devices}
    situations = _situations(
        recommendation,
        classes=classes,
        counted=counted,
        facility=facility,
        fleet=fleet,
        policy=policy,
        cause=cause,
        limits=limits,
    )
    classes.update({situation.known.device_class: situation.known for situation in situations})
    proposals, ramp = within_limits(
        [propose(situation, policy=policy) for situation in situations],
        facility=facility,
        fleet=fleet,
        draw=lambda: site_draw(facility, fleet=fleet, devices=counted, classes=classes),
        ramp=site.ramp,
        now_ms=recommendation.observed_at_ms,
    )
    outputs: list[object] = []
    for proposal in proposals:
        known, command = concluded(proposal, policy=policy)
        known, outlook = with_outlook(known, proposal)
        classes[known.device_class] = known
        outputs.extend(output for output in (command, outlook) if output is not None)
    is_stale = is_price_stale(price_age_ms(recommendation), limits=limits)
    if is_stale and not site.is_price_stale:
        outputs.append(_price_alert(recommendation, cause=cause))
    site = SiteState(
        facility_id=site.facility_id,
        classes=tuple(classes[name] for name in sorted(classes)),
        is_price_stale=is_stale,
        decided_at_ms=recommendation.observed_at_ms,
        decided_offset=cause.offset,
        recommendation_id=recommendation.recommendation_id,
        ramp=ramp,
    )
    return Step(updates=((facility.facility_id, site),), outputs=tuple(outputs))


def _situations(
    recommendation: Recommendation,
    *,
    classes: Mapping[str, ClassState],
    counted: Mapping[str, ClassDevices],
    facility: Facility,
    fleet: Fleet,
    policy: Policy,
    cause: Cause,
    limits: Limits,
) -> list[Situation]:
    """Gather what each class's decision depends on, sorted by class; none for a class the fleet no longer has."""
    found: list[Situation] = []
    for scores in sorted(recommendation.classes, key=lambda scores: scores.device_class):
        name = scores.device_class
        device_class = fleet.device_class(name)
        if device_class is not None:
            found.append(
                situation_of(
                    classes.get(name) or ClassState(device_class=name),
                    scores,
                    devices=counted.get(name) or ClassDevices(device_class=name, modes=(), stale_count=0, epoch_sum=0),
                    device_class=device_class,
                    recommendation=recommendation,
                    facility=facility,
                    policy=policy,
                    cause=cause,
                    limits=limits,
                )
            )
    return found


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
