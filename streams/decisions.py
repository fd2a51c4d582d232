"""One class's decision: which devices may move, what the policy wants, what the guards allow, in words that explain."""

from dataclasses import dataclass, replace
from typing import Final

from hcp.model.commands import DecisionAction, DecisionReason, OrchestratorCommand
from hcp.model.devices import DeviceClass, DeviceMode
from hcp.model.facilities import Facility
from hcp.model.ids import id_from_content
from hcp.model.recommendations import ClassDevices, ClassRecommendation, Recommendation
from hcp.model.steps import Cause
from hcp.model.units import MS_PER_HOUR, MS_PER_MINUTE, MS_PER_SECOND
from streams.economics import flip_usd_per_mwh
from streams.guards import timing_reason
from streams.policies import Choice, ClassView, Policy, Reading
from streams.policies.base import hold
from streams.settlement import settled_interval
from streams.site import ClassState, PendingSwitch

_FLIP_MAX: Final = 1e15
_SWEEP_MS: Final = 10 * MS_PER_MINUTE
"""Stragglers (rolled back, late to be seen) are sent after the others at most this often."""
_FLIPS_WITH_ENERGY: Final = frozenset(
    {DecisionReason.GAIN_PAYS, DecisionReason.GAIN_TOO_SMALL, DecisionReason.ALREADY_BEST}
)


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
        recommendation: Where both come from.
        known: What the class did last.
        cause: The record of the recommendation.
        limits: How old what we know may be.
    """

    facility: Facility
    device_class: DeviceClass
    scores: ClassRecommendation
    devices: ClassDevices
    recommendation: Recommendation
    known: ClassState
    cause: Cause
    limits: Limits

    def movable_count(self, mode: DeviceMode) -> int:
        """Return how many devices may leave a mode."""
        return next((count.movable_count for count in self.devices.modes if count.mode is mode), 0)

    def view(self, from_mode: DeviceMode) -> ClassView:
        """Return what the policy sees of the devices in one mode."""
        return ClassView(
            recommendation=self.scores,
            device_class=self.device_class,
            from_mode=from_mode,
            device_count=self.movable_count(from_mode),
            price_age_ms=price_age_ms(self.recommendation),
            memory=self.known.memory,
        )


def decide_class(situation: Situation, *, policy: Policy) -> tuple[ClassState, OrchestratorCommand | None]:
    """Return what the class did, and its decision if it is to be published."""
    situation = replace(situation, known=_observed(situation, policy=policy))
    situation = replace(situation, known=_confirmed(situation))
    situation = replace(situation, known=_without_expired(situation))
    known = situation.known
    view, choice = _choose(situation, policy=policy)
    if choice.to_mode is view.from_mode:
        if choice.reason is known.last_reason:
            return known, None
        command = _command(situation, view=view, choice=choice, policy=policy)
        return replace(known, last_reason=choice.reason), command
    command = _command(situation, view=view, choice=choice, policy=policy)
    now_ms = situation.recommendation.observed_at_ms
    pending = PendingSwitch(
        command_id=command.command_id,
        from_mode=view.from_mode,
        to_mode=choice.to_mode,
        ordered_at_ms=now_ms,
        ordered_wall_ms=situation.cause.timestamp_ms,
        epoch_max=situation.devices.epoch_max,
    )
    known = replace(known, pending=pending, last_reason=choice.reason)
    if view.from_mode is not _majority(situation):
        return replace(known, swept_at_ms=now_ms), command
    return replace(known, switched_at_ms=now_ms, is_powered_up=_raises_power(view, choice)), command


def price_age_ms(recommendation: Recommendation) -> int | None:
    """Return the event-time age of the energy price; None when there is none."""
    seen_at_ms = recommendation.market.energy_observed_at_ms
    return None if seen_at_ms is None else max(recommendation.observed_at_ms - seen_at_ms, 0)


def is_price_stale(recommendation: Recommendation, *, limits: Limits) -> bool:
    """Say whether the energy price is missing or too old to act on."""
    age_ms = price_age_ms(recommendation)
    return age_ms is None or age_ms > limits.price_age_ms_max


def _choose(situation: Situation, *, policy: Policy) -> tuple[ClassView, Choice]:
    """Return the decision for the majority of devices; for a minority when only that has to move."""
    majority = situation.view(_majority(situation))
    blocked = _blocked(situation)
    if blocked is not None:
        return majority, hold(majority, blocked)
    choice = _guarded(majority, situation=situation, policy=policy)
    if choice.to_mode is not majority.from_mode:
        return majority, choice
    swept_at_ms = situation.known.swept_at_ms
    if swept_at_ms is not None and situation.recommendation.observed_at_ms - swept_at_ms < _SWEEP_MS:
        return majority, choice
    for mode in _by_count(situation)[1:]:
        view = situation.view(mode)
        straggling = _guarded(view, situation=situation, policy=policy)
        if straggling.to_mode is not mode:
            return view, straggling
    return majority, choice


def _blocked(situation: Situation) -> DecisionReason | None:
    """Say why no device of the class may move whatever the policy wants, or None."""
    if is_price_stale(situation.recommendation, limits=situation.limits):
        return DecisionReason.PRICE_STALE
    if situation.known.pending is not None:
        return DecisionReason.SWITCH_PENDING
    if not _by_count(situation):
        return DecisionReason.TELEMETRY_STALE if situation.devices.stale_count else DecisionReason.NO_DEVICES
    return None


def _guarded(view: ClassView, *, situation: Situation, policy: Policy) -> Choice:
    """Return the policy's choice, or a hold when a timing guard forbids it."""
    choice = policy.decide(view)
    if choice.to_mode is view.from_mode:
        return choice
    reason = timing_reason(
        situation.known,
        timing=policy.timing,
        raises_power=_raises_power(view, choice),
        gain=view.row(view.from_mode).gain_usd_per_hour,
        threshold=choice.threshold_usd_per_hour,
        now_ms=situation.recommendation.observed_at_ms,
    )
    return choice if reason is None else hold(view, reason, threshold=choice.threshold_usd_per_hour)


def _raises_power(view: ClassView, choice: Choice) -> bool:
    return view.row(choice.to_mode).power_watts > view.row(view.from_mode).power_watts


def _by_count(situation: Situation) -> list[DeviceMode]:
    """Return the modes with movable devices, most first; equal counts in the order of the class."""
    modes = [row.mode for row in situation.scores.scores if situation.movable_count(row.mode) > 0]
    return sorted(modes, key=lambda mode: -situation.movable_count(mode))


def _majority(situation: Situation) -> DeviceMode:
    """Return the mode of most movable devices; without any, the one left last or the best."""
    modes = _by_count(situation)
    if modes:
        return modes[0]
    pending = situation.known.pending
    return situation.scores.best_mode if pending is None else pending.from_mode


def _observed(situation: Situation, *, policy: Policy) -> ClassState:
    """Let the policy take in the interval that ended with a new energy price; nothing is taken in twice."""
    known = situation.known
    interval = settled_interval(situation.recommendation, settled_until_ms=known.observed_until_ms)
    if interval is None:
        return known
    reading = Reading(
        device_class=situation.device_class,
        scores=situation.scores,
        start_ms=interval.start_ms,
        interval_ms=interval.length_ms,
    )
    return replace(known, memory=policy.observe(known.memory, reading), observed_until_ms=interval.end_ms)


def _confirmed(situation: Situation) -> ClassState:
    """Clear a pending switch once it was acted on and no device is under way any more, or all have left."""
    known, pending, devices = situation.known, situation.known.pending, situation.devices
    if pending is None or any(count.switching_count for count in devices.modes):
        return known
    has_left = not devices.stale_count and not situation.movable_count(pending.from_mode)
    return replace(known, pending=None) if has_left or devices.epoch_max > pending.epoch_max else known


def _without_expired(situation: Situation) -> ClassState:
    """Forget a switch that nobody has confirmed in time: the Resource Manager has given it up by then."""
    pending, limits = situation.known.pending, situation.limits
    if pending is None:
        return situation.known
    wall_ms = situation.cause.timestamp_ms - pending.ordered_wall_ms
    event_ms = situation.recommendation.observed_at_ms - pending.ordered_at_ms
    if wall_ms < limits.pending_wall_ms_max and event_ms < limits.pending_ms_max:
        return situation.known
    return replace(situation.known, pending=None)


def _command(situation: Situation, *, view: ClassView, choice: Choice, policy: Policy) -> OrchestratorCommand:
    recommendation, scores = situation.recommendation, situation.scores
    row = view.row(view.from_mode)
    is_switch = choice.to_mode is not view.from_mode
    return OrchestratorCommand(
        command_id=id_from_content(recommendation.recommendation_id, scores.device_class),
        facility_id=recommendation.facility_id,
        device_class=scores.device_class,
        action=DecisionAction.SWITCH if is_switch else DecisionAction.HOLD,
        reason=choice.reason,
        policy=policy.name,
        from_mode=view.from_mode,
        to_mode=choice.to_mode,
        device_count=view.device_count if is_switch else 0,
        best_mode=scores.best_mode,
        runner_up_mode=scores.runner_up_mode,
        gain_usd_per_hour=row.gain_usd_per_hour,
        switch_cost_usd=row.switch_cost_usd,
        threshold_usd_per_hour=choice.threshold_usd_per_hour,
        confidence=row.confidence if view.from_mode is not scores.best_mode else scores.confidence,
        flip_usd_per_mwh=_flip(situation, view=view, choice=choice),
        observed_at_ms=recommendation.observed_at_ms,
        recommendation_id=recommendation.recommendation_id,
        cause_topic=recommendation.cause_topic,
        cause_partition=recommendation.cause_partition,
        cause_offset=recommendation.cause_offset,
        cause_timestamp_ms=recommendation.cause_timestamp_ms,
    )


def _flip(situation: Situation, *, view: ClassView, choice: Choice) -> float | None:
    """Return the energy price at which the decision would be another; None when no price would change it."""
    energy = situation.recommendation.market.energy_price_usd_per_mwh
    if energy is None or choice.reason not in _FLIPS_WITH_ENERGY:
        return None
    best = view.row(situation.scores.best_mode)
    if view.from_mode is situation.scores.best_mode:
        return view.row(situation.scores.runner_up_mode).break_even_usd_per_mwh
    row = view.row(view.from_mode)
    flip = flip_usd_per_mwh(
        energy_usd_per_mwh=energy,
        gain=row.gain_usd_per_hour,
        threshold=choice.threshold_usd_per_hour,
        watts_difference=best.power_watts - row.power_watts,
        pue=situation.facility.pue,
    )
    return flip if flip is not None and abs(flip) <= _FLIP_MAX else None
