"""What a policy is: it sees one device class of a site and says which mode its devices should be in."""

from dataclasses import dataclass
from typing import Final, Protocol

from hcp.model.commands import DecisionReason
from hcp.model.devices import DeviceClass, DeviceMode
from hcp.model.recommendations import ClassRecommendation, ModeScore
from hcp.model.units import MS_PER_MINUTE, Usd, UsdPerHour
from streams.economics import switch_cost_usd

ROW_MISSING = "scores must hold a row for every mode, was without"


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
class Reading:
    """What an energy price that has just become known says about the interval it ended.

    Attributes:
        device_class: The class.
        scores: What each mode earned in the interval.
        start_ms: When it began, event time.
        interval_ms: Its length; above 0.
    """

    device_class: DeviceClass
    scores: ClassRecommendation
    start_ms: int
    interval_ms: int

    def switch_cost_usd(self, from_row: ModeScore, to_row: ModeScore) -> Usd:
        """Return what one device's switch between two modes costs at the revenues of the interval."""
        entered = self.device_class.profile(to_row.mode)
        return switch_cost_usd(
            from_revenue=from_row.revenue_usd_per_hour,
            to_revenue=to_row.revenue_usd_per_hour,
            enter_ms=entered.enter_ms,
            enter_wear_usd=entered.enter_wear_usd,
            enter_reload_usd=entered.enter_reload_usd,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassView:
    """What a policy sees of one device class of a site.

    Attributes:
        recommendation: All scores of the class.
        device_class: The class.
        from_mode: The mode its movable devices are in.
        device_count: How many those are.
        price_age_ms: Age of the energy price in event time; None when there is none.
        memory: What the policy has made of all intervals so far; empty before the first.
    """

    recommendation: ClassRecommendation
    device_class: DeviceClass
    from_mode: DeviceMode
    device_count: int
    price_age_ms: int | None = None
    memory: bytes = b""

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
        threshold_usd_per_hour: The gain above which the policy switches; 0 where it does not ask the gain of now.
        advantage_usd: How much better one device does in the mode weighed than in its own by the policy's measure, the
            switch not yet paid: expected from now on, or by hindsight so far. None where the policy asks the gain.
        advantage_threshold_usd: What that must reach for a switch; None with it.
        confidence: The policy's own probability that the order of modes lasts until payback; None for that of the
            recommendation.
    """

    to_mode: DeviceMode
    reason: DecisionReason
    threshold_usd_per_hour: UsdPerHour
    advantage_usd: Usd | None = None
    advantage_threshold_usd: Usd | None = None
    confidence: float | None = None


class Policy(Protocol):
    """Decides whether a class should leave its mode; timing guards and limits are applied by the orchestrator.

    A policy holds nothing: what it learns is the `memory` that each `observe` returns, bytes of a bounded size whose
    layout is the policy's own. Memory of another layout, or of another policy, is begun anew.
    """

    @property
    def name(self) -> str:
        """Return the name in decisions and on the command line."""

    @property
    def timing(self) -> Timing:
        """Return how soon a class may switch again."""

    def observe(self, memory: bytes, reading: Reading) -> bytes:
        """Take in an interval that is over; intervals come in order, each once, the first with empty memory."""

    def decide(self, view: ClassView) -> Choice:
        """Choose the mode wanted now; the same view gives the same choice."""


class Memoryless:
    """A policy that decides on the scores of now alone."""

    __slots__ = ()

    def observe(self, memory: bytes, reading: Reading) -> bytes:  # noqa: ARG002  # the protocol's form
        """Learn nothing."""
        return memory


def hold(view: ClassView, reason: DecisionReason, *, threshold: UsdPerHour = UsdPerHour(0.0)) -> Choice:  # noqa: B008
    """Choose to stay."""
    return Choice(to_mode=view.from_mode, reason=reason, threshold_usd_per_hour=threshold)
