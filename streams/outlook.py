"""The probability that a class which holds now will soon be ordered to another mode, from what the decision rests on.

A recommendation gives the confidence that the best mode still beats another when a switch has paid for itself. That
says how far the gain moves in an hour, and so how probable it is that it reaches the policy's threshold within the
horizon. It prepares switches and decides none, so an approximation serves: the gain is a driftless normal walk, looked
at once, at the horizon.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

from hcp.model.devices import DeviceKind, DeviceMode
from hcp.model.ids import id_from_content
from hcp.model.outlook import Outlook
from hcp.model.recommendations import ModeScore
from hcp.model.units import MS_PER_HOUR, MS_PER_MINUTE, DurationMs, hours
from streams.proposals import Proposal
from streams.site import ClassState

HORIZON_MS: Final = DurationMs(30 * MS_PER_MINUTE)
"""Time enough to wake weights, and not so long that they are kept awake in vain."""
LIKELY: Final = 0.2
UNLIKELY: Final = 0.1
"""Below it an outlook is withdrawn; apart from `LIKELY`, so that it does not flutter."""
_NORMAL: Final = NormalDist()
_TOSS_UP: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rival:
    """The mode that a class would be ordered to first.

    Attributes:
        mode: The mode.
        gain: Of going there now, USD per device-hour; negative when it earns less.
        row: The row that says how sure the order of these two modes is.
    """

    mode: DeviceMode
    gain: float
    row: ModeScore


def with_outlook(known: ClassState, proposal: Proposal) -> tuple[ClassState, Outlook | None]:
    """Return what the class did and, when a switch has become likely or ceased to be, the outlook that says so.

    For GPUs, whose workloads can be warmed. A switch ordered now ends the outlook without a word.
    """
    situation = proposal.situation
    if situation.device_class.kind is not DeviceKind.GPU:
        return known, None
    if proposal.is_switch:
        return _changed(known, None), None
    rival = _rival(proposal)
    probability = 0.0 if rival is None else _probability(rival, proposal.choice.threshold_usd_per_hour)
    mode = known.likely_mode
    if rival is not None and probability >= LIKELY:
        mode = rival.mode
    elif probability < UNLIKELY or rival is None or rival.mode is not mode:
        mode = None
    if mode is known.likely_mode:
        return known, None
    recommendation = situation.recommendation
    outlook = Outlook(
        outlook_id=id_from_content(recommendation.recommendation_id, situation.scores.device_class, "outlook"),
        facility_id=recommendation.facility_id,
        device_class=situation.scores.device_class,
        from_mode=proposal.view.from_mode,
        to_mode=mode,
        probability=probability,
        horizon_ms=HORIZON_MS,
        recommendation_id=recommendation.recommendation_id,
        observed_at_ms=recommendation.observed_at_ms,
    )
    return _changed(known, mode), outlook


def _changed(known: ClassState, mode: DeviceMode | None) -> ClassState:
    return known if known.likely_mode is mode else known.likely_in(mode)


def _rival(proposal: Proposal) -> _Rival | None:
    """Return the best mode, or the runner-up for a class that is in the best one already."""
    scores, view = proposal.situation.scores, proposal.view
    here = view.row(view.from_mode)
    if view.from_mode is not scores.best_mode:
        return _Rival(mode=scores.best_mode, gain=here.gain_usd_per_hour, row=here)
    if scores.runner_up_mode is scores.best_mode:
        return None
    row = view.row(scores.runner_up_mode)
    return _Rival(mode=scores.runner_up_mode, gain=-row.gain_usd_per_hour, row=row)


def _probability(rival: _Rival, threshold_usd_per_hour: float) -> float:
    """Return the probability that the gain reaches the threshold within the horizon."""
    row = rival.row
    if row.payback_ms is None or not _TOSS_UP < row.confidence < 1.0:
        return 0.0  # the order of the two is sure, or there is none: nothing tells how far the gain moves
    payback_hours = hours(row.payback_ms)
    sigma_usd_per_hour = row.gain_usd_per_hour / (_NORMAL.inv_cdf(row.confidence) * math.sqrt(payback_hours or 1e-9))
    spread = sigma_usd_per_hour * math.sqrt(HORIZON_MS / MS_PER_HOUR)
    if not spread > 0.0:
        return 0.0
    return _NORMAL.cdf((rival.gain - threshold_usd_per_hour) / spread)
