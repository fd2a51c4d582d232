"""What a whole site may draw: its power cap and its ramp limit, GPUs and ASICs together, over all classes' proposals.

Nothing is assumed of the order in which commands take effect: power that one class gives up is another's only once it
is counted as gone, and devices that nobody has counted are taken to draw the most that their class can. So the cap
holds at every moment, unless devices move that nobody ordered.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from hcp.model.commands import DecisionReason
from hcp.model.facilities import Facility, Fleet
from hcp.model.recommendations import ClassDevices
from hcp.model.units import MS_PER_MINUTE, UsdPerHour, Watts
from streams.economics import site_kilowatts
from streams.policies import Choice
from streams.proposals import Proposal
from streams.site import Bucket, ClassState

RAMP_BURST_MS: Final = 5 * MS_PER_MINUTE
"""A raise spreads over the time an ASIC takes to full power: so much of the ramp limit may be ordered at once."""
_KW_PER_MW: Final = 1_000.0
_COUNT_MAX: Final = 1e9
_SLACK: Final = 1e-9
"""Relative; sums of many devices' draws must not miss the cap by their last bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """What a site draws, kW.

    Attributes:
        counted_kw: Of the devices counted, in the modes they are counted in.
        most_kw: At most, whatever is under way or not counted.
    """

    counted_kw: float
    most_kw: float


def site_draw(
    facility: Facility, *, fleet: Fleet, devices: Mapping[str, ClassDevices], classes: Mapping[str, ClassState]
) -> Draw:
    """Add up a site's draw.

    Args:
        facility: The site.
        fleet: What its classes draw.
        devices: As counted, by class.
        classes: What each class did last: a switch under way may not be counted yet.
    """
    counted_kw = most_kw = 0.0
    totals: dict[str, int] = {}
    for cluster in facility.clusters:
        totals[cluster.device_class] = totals.get(cluster.device_class, 0) + cluster.device_count
    for name, total in totals.items():
        device_class = fleet.device_class(name)
        if device_class is None:
            continue
        by_mode = {
            mode.mode: site_kilowatts(power_watts=mode.power_watts, pue=facility.pue) for mode in device_class.modes
        }
        top_kw = max(by_mode.values())
        resting = 0
        counted = devices.get(name)
        for at in () if counted is None else counted.modes:
            here_kw = by_mode.get(at.mode, top_kw)
            counted_kw += here_kw * (at.movable_count + at.switching_count)
            most_kw += here_kw * at.movable_count
            resting += at.movable_count
        most_kw += top_kw * max(total - resting, 0)
        known = classes.get(name)
        if known is not None and known.pending is not None:
            most_kw += max(known.pending.added_kw, 0.0)
    return Draw(counted_kw=counted_kw, most_kw=most_kw)


def fits_whatever_runs(facility: Facility, *, fleet: Fleet) -> bool:
    """Say whether the site keeps to its cap with every device in the mode that draws most: no need to add up then."""
    top_watts = 0.0
    for cluster in facility.clusters:
        device_class = fleet.device_class(cluster.device_class)
        if device_class is not None:
            top_watts += device_class.power_watts_max * cluster.device_count
    return site_kilowatts(power_watts=Watts(top_watts), pue=facility.pue) <= facility.power_cap_mw * _KW_PER_MW


def within_limits(
    proposals: Sequence[Proposal],
    *,
    facility: Facility,
    fleet: Fleet,
    draw: Callable[[], Draw],
    ramp: Bucket,
    now_ms: int,
) -> tuple[list[Proposal], Bucket]:
    """Return what each class may do, in the order given, and what is left of the ramp.

    `draw` is asked only where the cap might bind. What lowers power goes first and always; where that does not bring
    the site under its cap, the devices go to less power that lose least by it. Then raises, the most gainful for each
    kW first, as far as cap and ramp let them.
    """
    room_kw = math.inf
    allowed = list(proposals)
    if not fits_whatever_runs(facility, fleet=fleet):
        drawn = draw()
        allowed = _under_cap(proposals, facility=facility, draw=drawn)
        room_kw = facility.power_cap_mw * _KW_PER_MW * (1.0 + _SLACK) - drawn.most_kw
    raises = [place for place, each in enumerate(allowed) if each.is_switch and each.added_kw_per_device > 0.0]
    if not raises:
        return allowed, ramp
    rate = facility.ramp_mw_per_minute * _KW_PER_MW / MS_PER_MINUTE
    capacity = rate * RAMP_BURST_MS * (1.0 + _SLACK)
    for place in sorted(raises, key=lambda place: -_gain_per_kw(allowed[place])):
        wanted = allowed[place]
        each_kw = wanted.added_kw_per_device
        ramp_kw = ramp.left(rate_per_ms=rate, capacity=capacity, now_ms=now_ms)
        by_cap, by_ramp = _count(room_kw, each_kw), _count(ramp_kw, each_kw)
        count = min(wanted.device_count, by_cap, by_ramp)
        if count <= 0:
            reason = DecisionReason.POWER_CAP if by_cap <= by_ramp else DecisionReason.RAMP_LIMIT
            allowed[place] = _refused(wanted, reason)
            continue
        allowed[place] = replace(wanted, device_count=count)
        room_kw -= count * each_kw
        ramp = ramp.after(count * each_kw, rate_per_ms=rate, now_ms=now_ms)
    return allowed, ramp


def _count(kilowatts: float, each_kw: float) -> int:
    return max(math.floor(min(kilowatts / each_kw, _COUNT_MAX)), 0)


def _gain_per_kw(proposal: Proposal) -> float:
    return proposal.gain_usd_per_hour / proposal.added_kw_per_device


def _refused(wanted: Proposal, reason: DecisionReason) -> Proposal:
    """Return the hold that is left of a proposal; a minority that may not go leaves the word to the others."""
    if wanted.otherwise is not None:
        return wanted.otherwise
    choice = replace(wanted.choice, to_mode=wanted.view.from_mode, reason=reason)
    return replace(wanted, choice=choice, device_count=0)


def _under_cap(proposals: Sequence[Proposal], *, facility: Facility, draw: Draw) -> list[Proposal]:
    """Return the proposals, with reductions added where the counted draw exceeds the cap and none is under way."""
    allowed = list(proposals)
    excess_kw = draw.counted_kw - facility.power_cap_mw * _KW_PER_MW * (1.0 + _SLACK)
    for each in proposals:
        pending = each.situation.known.pending
        excess_kw += 0.0 if pending is None else min(pending.added_kw, 0.0)
        excess_kw += min(each.device_count * each.added_kw_per_device, 0.0)
    if excess_kw <= 0.0:
        return allowed
    for place, reduction in sorted(_reductions(allowed), key=lambda found: -_loss_order(found[1])):
        if excess_kw <= 0.0:
            break
        if allowed[place].is_switch and allowed[place].added_kw_per_device <= 0.0:
            continue
        saved_kw = -reduction.added_kw_per_device
        count = min(reduction.device_count, math.ceil(excess_kw / saved_kw))
        allowed[place] = replace(reduction, device_count=count)
        excess_kw -= count * saved_kw
    return allowed


def _loss_order(reduction: Proposal) -> float:
    """Return what a reduction earns for each kW saved: the least loss first."""
    return reduction.gain_usd_per_hour / -reduction.added_kw_per_device


def _reductions(proposals: Sequence[Proposal]) -> list[tuple[int, Proposal]]:
    """Return every way in which a class could draw less, with the class's place."""
    found: list[tuple[int, Proposal]] = []
    for place, each in enumerate(proposals):
        situation = each.situation
        if situation.known.pending is not None:
            continue
        for mode in situation.modes_by_count:
            view = situation.view(mode)
            for row in situation.scores.scores:
                if row.power_watts < view.row(mode).power_watts:
                    choice = Choice(
                        to_mode=row.mode, reason=DecisionReason.POWER_CAP, threshold_usd_per_hour=UsdPerHour(0.0)
                    )
                    found.append(
                        (place, Proposal(situation=situation, view=view, choice=choice, device_count=view.device_count))
                    )
    return found
