"""How true a policy's probability is: what it said of each pair of modes, beside how often that came true.

A policy that estimates it says at each interval how likely it is that the better of two modes still is the better one
once a switch has paid for itself. Whether it was is known that many intervals later, from the settled rates alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np

from backtest.series import ClassSeries, FloatArray, IntArray
from streams.policies.pair import AHEAD_MAX

BINS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Predictions:
    """What one policy said of one class, [T, P]: a probability for each pair of modes, in the order of `combinations`.

    NaN where it had none.
    """

    policy: str
    facility_id: str
    device_class: str
    probabilities: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reliability:
    """Predictions that have come due, by what was predicted: ten bins of equal width from 0 to 1.

    Attributes:
        counts: Predictions in each bin, [BINS].
        said: Their mean, [BINS]; NaN in an empty bin.
        held: Share of them that came true, [BINS]; NaN in an empty bin.
        brier: Mean squared error of all, 0 to 1; less is better.
        brier_constant: The same of one constant that knows the share of all that came true.
    """

    counts: IntArray
    said: FloatArray
    held: FloatArray
    brier: float
    brier_constant: float


def reliability(classes: Sequence[ClassSeries], predictions: Sequence[Predictions]) -> Reliability | None:
    """Return how true one policy's predictions at a site were, every class and pair counted alike.

    Args:
        classes: The site's.
        predictions: One for each of them, in their order.

    Returns:
        None when nothing was predicted that has come due.
    """
    pairs = [_settled(series, each.probabilities) for series, each in zip(classes, predictions, strict=True)]
    said = np.concatenate([each for each, _ in pairs])
    held = np.concatenate([each for _, each in pairs])
    if not said.size:
        return None
    bins = np.minimum((said * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    divisors = np.where(counts > 0, counts, np.nan)
    return Reliability(
        counts=counts,
        said=np.bincount(bins, weights=said, minlength=BINS) / divisors,
        held=np.bincount(bins, weights=held, minlength=BINS) / divisors,
        brier=float(((said - held) ** 2).mean()),
        brier_constant=float(held.mean() * (1.0 - held.mean())),
    )


def _settled(series: ClassSeries, probabilities: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the predictions of one class that have come due, and 1 for each that came true, else 0."""
    profit, cost, at = series.profit_usd_per_hour, series.switch_cost_usd(), np.arange(len(series.starts_ms))
    said: list[FloatArray] = [np.empty(0)]
    held: list[FloatArray] = [np.empty(0)]
    for place, (first, second) in enumerate(combinations(range(len(series.modes)), 2)):
        gain = profit[:, first] - profit[:, second]
        paid_back = np.abs(gain) * series.hours / (cost[:, first, second] + cost[:, second, first])
        due = at + np.ceil(1.0 / np.maximum(paid_back, 1.0 / AHEAD_MAX)).astype(np.int64)
        counted = (due < len(at)) & ~np.isnan(probabilities[:, place])
        # Where neither is better the pair is taken for ordered the second way, as the learner does with its lower mode.
        is_better = gain > 0.0
        said.append(probabilities[counted, place])
        held.append((is_better[due[counted]] == is_better[counted]).astype(np.float64))
    return np.concatenate(said), np.concatenate(held)
