"""Policies that decide on the scores of now alone, and the baselines that others are measured against."""

from dataclasses import dataclass
from typing import Final

from hcp.model.commands import DecisionReason
from hcp.model.devices import DeviceMode
from hcp.model.units import MS_PER_HOUR, DurationMs, UsdPerHour, hours
from streams.policies.base import PATIENT, PROTECTED, Choice, ClassView, Memoryless, Timing, hold

CONFIDENCE_MIN: Final = 0.9
"""On the recorded week of August 2023 this halves the switches of `greedy` for under 1 % of its profit."""
HORIZON_MS: Final = DurationMs(MS_PER_HOUR)
"""A switch must pay for itself within this time."""
THRESHOLD_MAX_USD_PER_HOUR: Final = 1e15


@dataclass(frozen=True, slots=True, kw_only=True)
class Greedy(Memoryless):
    """Go to the best mode whenever there is one, whatever the switch costs: the yardstick for the others."""

    name: str = "greedy"
    timing: Timing = PROTECTED

    def decide(self, view: ClassView) -> Choice:
        """Choose the best mode."""
        best = view.recommendation.best_mode
        if view.row(view.from_mode).gain_usd_per_hour <= 0.0:
            return hold(view, DecisionReason.ALREADY_BEST)
        return Choice(to_mode=best, reason=DecisionReason.GAIN_PAYS, threshold_usd_per_hour=UsdPerHour(0.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold(Memoryless):
    """Go to the best mode when its gain pays the switch within the horizon, and is likely to last that long.

    Attributes:
        name: In decisions.
        timing: Dwell and minimum times.
        horizon_ms: Within this time the switch must have paid for itself; above 0.
        confidence_min: Least probability that the order still holds at payback, 0..1.
    """

    name: str = "threshold"
    timing: Timing = PATIENT
    horizon_ms: DurationMs = HORIZON_MS
    confidence_min: float = CONFIDENCE_MIN

    def decide(self, view: ClassView) -> Choice:
        """Choose the best mode if it pays."""
        row = view.row(view.from_mode)
        threshold = UsdPerHour(min(row.switch_cost_usd / hours(self.horizon_ms), THRESHOLD_MAX_USD_PER_HOUR))
        if row.gain_usd_per_hour <= 0.0:
            return hold(view, DecisionReason.ALREADY_BEST, threshold=threshold)
        if row.gain_usd_per_hour <= threshold:
            return hold(view, DecisionReason.GAIN_TOO_SMALL, threshold=threshold)
        if row.confidence < self.confidence_min:
            return hold(view, DecisionReason.CONFIDENCE_TOO_LOW, threshold=threshold)
        return Choice(
            to_mode=view.recommendation.best_mode,
            reason=DecisionReason.GAIN_PAYS,
            threshold_usd_per_hour=threshold,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AlwaysMine(Memoryless):
    """Mine whatever the prices are: what most sites do, and a baseline."""

    name: str = "always_mine"
    timing: Timing = PROTECTED

    def decide(self, view: ClassView) -> Choice:
        """Choose mining where the class can mine."""
        if view.from_mode is DeviceMode.MINING or DeviceMode.MINING not in view.modes:
            return hold(view, DecisionReason.ALREADY_BEST)
        return Choice(
            to_mode=DeviceMode.MINING, reason=DecisionReason.GAIN_PAYS, threshold_usd_per_hour=UsdPerHour(0.0)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Never(Memoryless):
    """Leave every device as it is: shadow operation, and a baseline."""

    name: str = "never"
    timing: Timing = PROTECTED

    def decide(self, view: ClassView) -> Choice:
        """Hold."""
        return hold(view, DecisionReason.POLICY_NEVER)
