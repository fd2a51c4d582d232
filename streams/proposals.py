"""What one class of a site wants to do, before the site's limits are asked."""

from dataclasses import dataclass
from typing import Final

from hcp.model.commands import DecisionReason
from hcp.model.units import MS_PER_MINUTE
from streams.economics import site_kilowatts
from streams.guards import guarded
from streams.policies import Choice, ClassView, Policy
from streams.policies.base import hold
from streams.situation import Situation, is_price_stale

_SWEEP_MS: Final = 10 * MS_PER_MINUTE
"""Stragglers (rolled back, late to be seen) are sent after the others at most this often, unless it is urgent."""
_URGENT: Final = frozenset({DecisionReason.LOSS_FLOOR, DecisionReason.SAFE_STATE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A class's choice for the devices in one mode.

    Attributes:
        situation: What it rests on.
        view: The devices concerned.
        choice: What is wanted.
        device_count: How many devices are to go; 0 for a hold.
        otherwise: What the class does when these devices may not go.
    """

    situation: Situation
    view: ClassView
    choice: Choice
    device_count: int
    otherwise: "Proposal | None" = None

    @property
    def is_switch(self) -> bool:
        """Say whether devices are to move."""
        return self.choice.to_mode is not self.view.from_mode

    @property
    def added_kw_per_device(self) -> float:
        """Return what one device adds to the site's draw by going; negative when it lowers it."""
        pue = self.situation.facility.pue
        to_row, from_row = self.view.row(self.choice.to_mode), self.view.row(self.view.from_mode)
        return site_kilowatts(power_watts=to_row.power_watts, pue=pue) - site_kilowatts(
            power_watts=from_row.power_watts, pue=pue
        )

    @property
    def gain_usd_per_hour(self) -> float:
        """Return what one device earns more by going, at the prices of now."""
        to_row, from_row = self.view.row(self.choice.to_mode), self.view.row(self.view.from_mode)
        return to_row.profit_usd_per_hour - from_row.profit_usd_per_hour


def propose(situation: Situation, *, policy: Policy) -> Proposal:
    """Return what the majority of devices should do; what a minority should when only that has to move."""
    majority = situation.view(situation.majority())
    blocked = _blocked(situation)
    if blocked is not None:
        return _proposal(situation, majority, hold(majority, blocked))
    choice = guarded(majority, situation=situation, policy=policy)
    proposal = _proposal(situation, majority, choice)
    if proposal.is_switch:
        return proposal
    swept_at_ms = situation.known.swept_at_ms
    is_swept = swept_at_ms is not None and situation.now_ms - swept_at_ms < _SWEEP_MS
    for mode in situation.modes_by_count[1:]:
        view = situation.view(mode)
        straggling = guarded(view, situation=situation, policy=policy)
        if straggling.to_mode is not mode and (not is_swept or straggling.reason in _URGENT):
            return _proposal(situation, view, straggling, otherwise=proposal)
    return proposal


def _proposal(situation: Situation, view: ClassView, choice: Choice, *, otherwise: Proposal | None = None) -> Proposal:
    is_switch = choice.to_mode is not view.from_mode
    return Proposal(
        situation=situation,
        view=view,
        choice=choice,
        device_count=view.device_count if is_switch else 0,
        otherwise=otherwise,
    )


def _blocked(situation: Situation) -> DecisionReason | None:
    """Say why no device of the class may move whatever the policy wants, or None."""
    if situation.known.pending is not None:
        return DecisionReason.SWITCH_PENDING
    if not situation.modes_by_count:
        return DecisionReason.TELEMETRY_STALE if situation.devices.stale_count else DecisionReason.NO_DEVICES
    age_ms = situation.price_age_ms
    if age_ms is not None and age_ms > situation.facility.constraints.safe_state_after_ms:
        return None
    if is_price_stale(age_ms, limits=situation.limits):
        return DecisionReason.PRICE_STALE
    return DecisionReason.PRICE_IMPLAUSIBLE if situation.recommendation.market.implausible else None
