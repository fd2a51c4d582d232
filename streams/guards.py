"""What holds one class back, or moves it, whatever its policy wants: minimum times, rate of raises, wear, losses, age.

To lower power is urgent and cheap, to raise it again is neither; so only hardware protection ever refuses the former.
"""

from dataclasses import replace
from typing import Final

from hcp.model.commands import DecisionReason
from hcp.model.devices import DeviceMode, resting_mode
from hcp.model.recommendations import ModeScore
from hcp.model.units import KWH_PER_MWH, MS_PER_DAY, MS_PER_HOUR, UsdPerHour
from streams.economics import site_kilowatts
from streams.policies import Choice, ClassView, Policy
from streams.policies.base import Timing
from streams.site import ClassState
from streams.situation import Situation

_ROUNDING: Final = 1.0 + 1e-9
"""What has leaked away in just the time it takes must not miss its mark by the last bit."""


def guarded(view: ClassView, *, situation: Situation, policy: Policy) -> Choice:
    """Return the choice for the devices in one mode: the safe state's, the loss floor's or the policy's.

    A hold with a guard's reason where one forbids it.
    """
    choice = _safe_choice(view, situation=situation) or _floored(view, policy.decide(view), situation=situation)
    if choice.to_mode is view.from_mode:
        return choice
    raises = raises_power(view, choice)
    reason = timing_reason(
        situation.known,
        timing=policy.timing,
        raises_power=raises,
        is_rest_of_switch=choice.to_mode is situation.known.unfinished_mode,
        gain=view.row(view.from_mode).gain_usd_per_hour,
        threshold=choice.threshold_usd_per_hour,
        now_ms=situation.now_ms,
    )
    if reason is None and raises:
        reason = _raise_reason(view, choice, situation=situation)
    return choice if reason is None else _held(view, choice, reason)


def raises_power(view: ClassView, choice: Choice) -> bool:
    """Say whether the mode chosen draws more than the one left."""
    return view.row(choice.to_mode).power_watts > view.row(view.from_mode).power_watts


def timing_reason(
    known: ClassState,
    *,
    timing: Timing,
    raises_power: bool,
    is_rest_of_switch: bool = False,
    gain: float,
    threshold: float,
    now_ms: int,
) -> DecisionReason | None:
    """Say why a class may not switch yet, or None when it may.

    Args:
        known: What the class did last.
        timing: The policy's times.
        raises_power: Whether the wanted mode draws more than the one left.
        is_rest_of_switch: Whether these devices follow others that cap or ramp let go first: no dwell then.
        gain: Of the switch, USD per device-hour; a multiple of the threshold shortens the dwell by as much.
        threshold: Of the policy; 0 leaves the dwell whole.
        now_ms: Event time.
    """
    if known.switched_at_ms is None:
        return None
    since_ms = max(now_ms - known.switched_at_ms, 0)
    if not raises_power:
        is_too_soon = known.is_powered_up and since_ms < timing.minimum_on_ms
        return DecisionReason.MINIMUM_ON_TIME if is_too_soon else None
    if not known.is_powered_up and since_ms < timing.minimum_off_ms:
        return DecisionReason.MINIMUM_OFF_TIME
    if is_rest_of_switch:
        return None
    share = threshold / gain if gain > threshold > 0.0 else 1.0
    return DecisionReason.DWELL if since_ms < timing.dwell_ms * share else None


def after_raise(
    known: ClassState, view: ClassView, *, to_mode: DeviceMode, device_count: int, situation: Situation
) -> ClassState:
    """Book that devices go to more power against the rate of raises and the wear budget."""
    now_ms = situation.now_ms
    constraints = situation.facility.constraints
    changes = known
    if constraints.switches_per_hour is not None:
        changes = replace(changes, raised_at_ms=(*_recent(known, now_ms=now_ms), now_ms))
    if constraints.wear_budget_usd_per_device_day is not None:
        share = device_count / max(_device_count(situation), device_count)
        spent = view.device_class.profile(to_mode).enter_wear_usd * share
        rate = constraints.wear_budget_usd_per_device_day / MS_PER_DAY
        changes = replace(changes, wear=known.wear.after(spent, rate_per_ms=rate, now_ms=now_ms))
    return changes


def _safe_choice(view: ClassView, *, situation: Situation) -> Choice | None:
    """Return the way to the resting mode once the energy price is older than any hold should last, or None."""
    age_ms = situation.price_age_ms
    if age_ms is None or age_ms <= situation.facility.constraints.safe_state_after_ms:
        return None
    modes = view.modes
    rest = resting_mode(view.device_class.kind)
    return Choice(
        to_mode=rest if rest in modes else min(modes, key=lambda mode: view.row(mode).power_watts),
        reason=DecisionReason.SAFE_STATE,
        threshold_usd_per_hour=UsdPerHour(0.0),
    )


def _floored(view: ClassView, choice: Choice, *, situation: Situation) -> Choice:
    """Return the choice, or what the loss floor makes of it."""
    floor = situation.facility.constraints.loss_floor_usd_per_mwh
    if floor is None:
        return choice
    pue = situation.facility.pue
    here = view.row(view.from_mode)
    if _is_below(here, floor, pue=pue) and not _lowers(here, view.row(choice.to_mode)):
        lower = [row for row in view.recommendation.scores if _lowers(here, row)]
        if lower:
            best = max(lower, key=lambda row: row.profit_usd_per_hour)
            if best.profit_usd_per_hour > here.profit_usd_per_hour:
                return replace(choice, to_mode=best.mode, reason=DecisionReason.LOSS_FLOOR)
    if _lowers(view.row(choice.to_mode), here) and _is_below(view.row(choice.to_mode), floor, pue=pue):
        return _held(view, choice, DecisionReason.LOSS_FLOOR)
    return choice


def _raise_reason(view: ClassView, choice: Choice, *, situation: Situation) -> DecisionReason | None:
    """Say why a class may not go to more power again so soon, or None when it may."""
    constraints, known = situation.facility.constraints, situation.known
    limit = constraints.switches_per_hour
    if limit is not None and len(_recent(known, now_ms=situation.now_ms)) >= limit:
        return DecisionReason.SWITCHES_PER_HOUR
    budget = constraints.wear_budget_usd_per_device_day
    if budget is None:
        return None
    wear_usd = view.device_class.profile(choice.to_mode).enter_wear_usd
    share = view.device_count / max(_device_count(situation), view.device_count)
    left_usd = known.wear.left(
        rate_per_ms=budget / MS_PER_DAY, capacity=wear_capacity_usd(budget, wear_usd), now_ms=situation.now_ms
    )
    return DecisionReason.WEAR_BUDGET if wear_usd * share > left_usd * _ROUNDING else None


def wear_capacity_usd(budget_usd_per_day: float, start_wear_usd: float) -> float:
    """Return how much of the budget may be spent at once: a day's, and always one start."""
    return max(budget_usd_per_day, start_wear_usd)


def _is_below(row: ModeScore, floor_usd_per_mwh: float, *, pue: float) -> bool:
    tolerated = floor_usd_per_mwh * site_kilowatts(power_watts=row.power_watts, pue=pue) / KWH_PER_MWH
    return row.profit_usd_per_hour < -tolerated


def _lowers(from_row: ModeScore, to_row: ModeScore) -> bool:
    return to_row.power_watts < from_row.power_watts


def _held(view: ClassView, choice: Choice, reason: DecisionReason) -> Choice:
    """Return the choice as a hold, with what it was weighed by."""
    return replace(choice, to_mode=view.from_mode, reason=reason)


def _recent(known: ClassState, *, now_ms: int) -> tuple[int, ...]:
    """Return the raises of the last hour."""
    return tuple(at_ms for at_ms in known.raised_at_ms if now_ms - at_ms < MS_PER_HOUR)


def _device_count(situation: Situation) -> int:
    """Return how many devices of the class the site has."""
    name = situation.device_class.device_class
    return sum(cluster.device_count for cluster in situation.facility.clusters if cluster.device_class == name)
