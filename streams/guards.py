"""Timing guards: dwell, minimum on and off times. To lower power is urgent and cheap, to raise it again is neither."""

from hcp.model.commands import DecisionReason
from streams.policies import Timing
from streams.site import ClassState


def timing_reason(
    known: ClassState, *, timing: Timing, raises_power: bool, gain: float, threshold: float, now_ms: int
) -> DecisionReason | None:
    """Say why a class may not switch yet, or None when it may.

    Args:
        known: What the class did last.
        timing: The policy's times.
        raises_power: Whether the wanted mode draws more than the one left.
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
    share = threshold / gain if gain > threshold > 0.0 else 1.0
    return DecisionReason.DWELL if since_ms < timing.dwell_ms * share else None
