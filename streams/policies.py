"""Policies: interchangeable answers to "does the best mode pay the switch?"; live, in replay and in backtests alike."""

from dataclasses import dataclass
from typing import Final, Protocol

from hcp.model.commands import DecisionReason
from hcp.model.devices import DeviceKind, DeviceMode
from hcp.model.recommendations import ClassRecommendation, ModeScore
from hcp.model.units import MS_PER_HOUR, MS_PER_MINUTE, DurationMs, UsdPerHour, hours

ROW_MISSING = "scores must hold a row for every mode, was without"
CONFIDENCE_MIN: Final = 0.9
"""On the recorded week of August 2023 this halves the switches of `greedy` for under 1 % of its profit."""
HORIZON_MS: Final = DurationMs(MS_PER_HOUR)
"""A switch must pay for itself within this time."""
THRESHOLD_MAX_USD_PER_HOUR: Final = 1e15


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How soon a class may switch again, in event time; each 0 or more.

    Attributes:
        dwell_ms: After any switch, before its power goes up again; shorter when the gain is a multiple of the
            threshold. To lower power never waits for it.
        minimum_on_ms: After power went up, before it goes down; protects the hardware.
        minimum_off_ms: After power went down, before it goes up.
    """

    dwell_ms: int
    minimum_on_ms: int
    minimum_off_ms: int


PROTECTED: Final = Timing(dwell_ms=0, minimum_on_ms=5 * MS_PER_MINUTE, minimum_off_ms=5 * MS_PER_MINUTE)
"""The least that the hardware is owed: an ASIC takes five minutes to reach full power."""
PATIENT: Final = Timing(dwell_ms=30 * MS_PER_MINUTE, minimum_on_ms=5 * MS_PER_MINUTE, minimum_off_ms=10 * MS_PER_MINUTE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassView:
    """What a policy sees of one device class of a site.

    Attributes:
        recommendation: All scores of the class.
        kind: Of its devices.
        from_mode: The mode its movable devices are in.
        device_count: How many those are.
        price_age_ms: Age of the energy price in event time; None when there is none.
    """

    recommendation: ClassRecommendation
    kind: DeviceKind
    from_mode: DeviceMode
    device_count: int
    price_age_ms: int | None = None

    def row(self, mode: DeviceMode) -> ModeScore:
        """Return the scores of a mode.

        Raises:
            KeyError: The class has no such mode.
        """
        for row in self.recommendation.scores:
            if row.mode is mode:
                return row
        raise KeyError(f"{ROW_MISSING} {mode}")

    @property
    def modes(self) -> tuple[DeviceMode, ...]:
        """Return the modes scored, in the order of the class."""
        return tuple(row.mode for row in self.recommendation.scores)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A policy's answer.

    Attributes:
        to_mode: The mode wanted; `from_mode` of the view means to hold.
        reason: Why.
        threshold_usd_per_hour: The gain above which the policy switches; 0 where gain does not matter.
    """

    to_mode: DeviceMode
    reason: DecisionReason
    threshold_usd_per_hour: UsdPerHour


class Policy(Protocol):
    """Decides whether a class should leave its mode; timing guards are applied by the orchestrator."""

    @property
    def name(self) -> str:
        """Return the name in decisions and on the command line."""

    @property
    def timing(self) -> Timing:
        """Return how soon a class may switch again."""

    def decide(self, view: ClassView) -> Choice:
        """Choose the mode wanted now; the same view gives the same choice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Greedy:
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
class Threshold:
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
class AlwaysMine:
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
class Never:
    """Leave every device as it is: shadow operation, and a baseline."""

    name: str = "never"
    timing: Timing = PROTECTED

    def decide(self, view: ClassView) -> Choice:
        """Hold."""
        return hold(view, DecisionReason.POLICY_NEVER)


def hold(view: ClassView, reason: DecisionReason, *, threshold: UsdPerHour = UsdPerHour(0.0)) -> Choice:  # noqa: B008
    """Choose to stay."""
    return Choice(to_mode=view.from_mode, reason=reason, threshold_usd_per_hour=threshold)


POLICIES: Final[tuple[Policy, ...]] = (Threshold(), Greedy(), AlwaysMine(), Never())


def policy_named(name: str) -> Policy:
    """Return the policy of that name; hyphens serve as underscores.

    Raises:
        ValueError: There is none; the message lists those there are.
    """
    for policy in POLICIES:
        if policy.name == name.replace("-", "_"):
            return policy
    raise ValueError(f"policy must be one of {', '.join(policy.name for policy in POLICIES)}, was {name!r}")
