"""A class's proposal, once the site's limits have passed it, becomes its decision, with all that explains it."""

from dataclasses import replace
from typing import Final

from hcp.model.commands import DecisionAction, DecisionReason, OrchestratorCommand
from hcp.model.ids import id_from_content
from streams.counterfactual import flipping_price_usd_per_mwh
from streams.economics import flip_usd_per_mwh
from streams.guards import after_raise
from streams.policies import Policy
from streams.policies.base import Memoryless
from streams.proposals import Proposal
from streams.site import ClassState, PendingSwitch

_FLIP_MAX: Final = 1e15
_FLIPS_WITH_ENERGY: Final = frozenset(
    {DecisionReason.GAIN_PAYS, DecisionReason.GAIN_TOO_SMALL, DecisionReason.ALREADY_BEST}
)


def concluded(proposal: Proposal, *, policy: Policy) -> tuple[ClassState, OrchestratorCommand | None]:
    """Return what the class did, and its decision if it is to be published.

    A switch always is, a hold only when its reason differs from that of the class's last decision.
    """
    known, reason = proposal.situation.known, proposal.choice.reason
    if not proposal.is_switch:
        if reason is known.last_reason:
            return known, None
        return replace(known, last_reason=reason), _command(proposal, policy=policy)
    command = _command(proposal, policy=policy)
    return _switched(proposal, command_id=command.command_id), command


def _switched(proposal: Proposal, *, command_id: str) -> ClassState:
    situation, view, choice = proposal.situation, proposal.view, proposal.choice
    now_ms, added_kw = situation.now_ms, proposal.added_kw_per_device
    known = replace(
        situation.known,
        pending=PendingSwitch(
            command_id=command_id,
            from_mode=view.from_mode,
            to_mode=choice.to_mode,
            ordered_at_ms=now_ms,
            ordered_wall_ms=situation.cause.timestamp_ms,
            epoch_sum=situation.devices.epoch_sum,
            added_kw=added_kw * proposal.device_count,
        ),
        last_reason=choice.reason,
        unfinished_mode=choice.to_mode if proposal.device_count < view.device_count else None,
    )
    if added_kw > 0.0:
        known = after_raise(
            known, view, to_mode=choice.to_mode, device_count=proposal.device_count, situation=situation
        )
    if view.from_mode is not situation.majority():
        return replace(known, swept_at_ms=now_ms)
    return replace(known, switched_at_ms=now_ms, is_powered_up=added_kw > 0.0)


def _command(proposal: Proposal, *, policy: Policy) -> OrchestratorCommand:
    situation, view, choice = proposal.situation, proposal.view, proposal.choice
    recommendation, scores = situation.recommendation, situation.scores
    row = view.row(view.from_mode)
    return OrchestratorCommand(
        command_id=id_from_content(recommendation.recommendation_id, scores.device_class),
        facility_id=recommendation.facility_id,
        device_class=scores.device_class,
        action=DecisionAction.SWITCH if proposal.is_switch else DecisionAction.HOLD,
        reason=choice.reason,
        policy=policy.name,
        from_mode=view.from_mode,
        to_mode=choice.to_mode,
        device_count=proposal.device_count,
        best_mode=scores.best_mode,
        runner_up_mode=scores.runner_up_mode,
        gain_usd_per_hour=row.gain_usd_per_hour,
        switch_cost_usd=row.switch_cost_usd,
        threshold_usd_per_hour=choice.threshold_usd_per_hour,
        confidence=_confidence(proposal),
        flip_usd_per_mwh=_flip(proposal, policy=policy),
        observed_at_ms=recommendation.observed_at_ms,
        recommendation_id=recommendation.recommendation_id,
        cause_topic=recommendation.cause_topic,
        cause_partition=recommendation.cause_partition,
        cause_offset=recommendation.cause_offset,
        cause_timestamp_ms=recommendation.cause_timestamp_ms,
        advantage_usd=choice.advantage_usd,
        advantage_threshold_usd=choice.advantage_threshold_usd,
    )


def _confidence(proposal: Proposal) -> float:
    """Return the probability that the order of modes lasts until payback: the policy's own where it has one."""
    scores, view = proposal.situation.scores, proposal.view
    if proposal.choice.confidence is not None:
        return proposal.choice.confidence
    return scores.confidence if view.from_mode is scores.best_mode else view.row(view.from_mode).confidence


def _flip(proposal: Proposal, *, policy: Policy) -> float | None:
    """Return the energy price at which the decision would be another; None when no price would change it."""
    situation, view, choice = proposal.situation, proposal.view, proposal.choice
    energy = situation.recommendation.market.energy_price_usd_per_mwh
    if energy is None or choice.reason not in _FLIPS_WITH_ENERGY:
        return None
    if not isinstance(policy, Memoryless):
        return flipping_price_usd_per_mwh(situation, view=view, policy=policy)
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
