"""What would a policy that remembers have chosen at another price? Asked of itself, from what it knew before."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from hcp.model.devices import DeviceMode
from hcp.model.recommendations import ClassRecommendation, ModeScore
from hcp.model.units import KWH_PER_MWH, UsdPerHour
from streams.economics import site_kilowatts
from streams.policies import ClassView, Policy
from streams.situation import Situation

_STEPS_USD_PER_MWH: Final = tuple(4.0**power for power in range(8))
"""Outward from the price that was: 1, 4, ... 16,384 USD/MWh."""
_HALVINGS: Final = 14


def flipping_price_usd_per_mwh(situation: Situation, *, view: ClassView, policy: Policy) -> float | None:
    """Return the energy price nearest to the one that was at which the policy would have chosen another mode.

    To within a 16,384th of the distance; None when none of the prices tried would have, or when the decision did not
    follow a new energy price.

    Args:
        situation: What was decided on.
        view: Of the devices concerned.
        policy: One that remembers.
    """
    energy = situation.recommendation.market.energy_price_usd_per_mwh
    if energy is None or situation.ended is None:
        return None
    chosen = policy.decide(view).to_mode

    def differs(by_usd_per_mwh: float) -> bool:
        return _choice_at(by_usd_per_mwh, situation=situation, view=view, policy=policy) is not chosen

    inner = 0.0
    for step in _STEPS_USD_PER_MWH:
        for sign in _directions(view, chosen):
            if differs(sign * step):
                near, far = sign * inner, sign * step
                for _ in range(_HALVINGS):
                    middle = 0.5 * (near + far)
                    near, far = (near, middle) if differs(middle) else (middle, far)
                return energy + far
        inner = step
    return None


def _directions(view: ClassView, chosen: DeviceMode) -> Iterator[float]:
    """Yield which way the price must go: a mode is left for one of less power when energy gets dearer."""
    watts = view.row(chosen).power_watts
    others = [row.power_watts for row in view.recommendation.scores if row.mode is not chosen]
    if any(other < watts for other in others):
        yield 1.0
    if any(other > watts for other in others):
        yield -1.0


def _choice_at(by_usd_per_mwh: float, *, situation: Situation, view: ClassView, policy: Policy) -> DeviceMode:
    assert situation.ended is not None
    scores = _rescored(view.recommendation, by_usd_per_mwh=by_usd_per_mwh, pue=situation.facility.pue)
    memory = policy.observe(situation.memory_before, replace(situation.ended, scores=scores))
    return policy.decide(replace(view, recommendation=scores, memory=memory)).to_mode


def _rescored(scores: ClassRecommendation, *, by_usd_per_mwh: float, pue: float) -> ClassRecommendation:
    """Return the scores with energy dearer by so much: what a policy that remembers looks at, and no more.

    Best mode, gains and confidences stay as they were.
    """

    def dearer(row: ModeScore) -> ModeScore:
        by = site_kilowatts(power_watts=row.power_watts, pue=pue) * by_usd_per_mwh / KWH_PER_MWH
        return replace(
            row,
            energy_cost_usd_per_hour=UsdPerHour(row.energy_cost_usd_per_hour + by),
            profit_usd_per_hour=UsdPerHour(row.profit_usd_per_hour - by),
        )

    return replace(scores, scores=tuple(dearer(row) for row in scores.scores))
