"""The flagship: switch when what is to be expected from now on pays it, learned from the class's own intervals.

It uses what is known at the time and nothing else: the last price, its change, the time of day, and how its own
expectations turned out. No training, no distribution, no constant of a market: everything is measured in switches there
and back. One learner for each pair of modes (`streams.policies.pair`); docs/policies.md has what it was measured at.
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Final, NamedTuple

from hcp.model.commands import DecisionReason
from hcp.model.devices import DeviceMode
from hcp.model.recommendations import ModeScore
from hcp.model.units import Usd, UsdPerHour
from streams.policies import pair
from streams.policies.base import PROTECTED, Choice, ClassView, Reading, Timing, hold

_MAGIC: Final = b"prd1"
_ROW_BYTES: Final = 8 * pair.ROW_LENGTH
_TWO: Final = 2


class _Option(NamedTuple):
    """One way out of a mode; USD of one device."""

    to_mode: DeviceMode
    advantage_usd: float
    threshold_usd: float
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictive:
    """Go where the advantage expected from the next interval on exceeds its threshold most.

    Memory: 4 bytes, and 3,552 for each pair of modes: 3.6 kB for two modes, 10.7 kB for three.

    Attributes:
        name: In decisions.
        timing: Minimum times.
    """

    name: str = "predictive"
    timing: Timing = PROTECTED

    def observe(self, memory: bytes, reading: Reading) -> bytes:  # the protocol's form
        """Let every pair of modes learn from the interval."""
        rows = reading.scores.scores
        learned = [_MAGIC]
        for known, (first, second) in zip(_rows(memory, mode_count=len(rows)), combinations(rows, 2), strict=True):
            upper, lower = _ordered(first, second)
            pair.observe(
                known,
                pair.Interval(
                    reading.start_ms,
                    reading.interval_ms,
                    upper.profit_usd_per_hour - lower.profit_usd_per_hour,
                    reading.switch_cost_usd(lower, upper),
                    reading.switch_cost_usd(upper, lower),
                ),
            )
            learned.append(known.tobytes())
        return b"".join(learned)

    def decide(self, view: ClassView) -> Choice:  # the protocol's form
        """Choose the mode whose advantage exceeds its threshold most, or say what came nearest."""
        best = max(_options(view), key=lambda option: option.advantage_usd - option.threshold_usd, default=None)
        if best is None or best.advantage_usd <= 0.0:
            return hold(view, DecisionReason.ALREADY_BEST)
        pays = best.advantage_usd >= best.threshold_usd
        return Choice(
            to_mode=best.to_mode if pays else view.from_mode,
            reason=DecisionReason.GAIN_PAYS if pays else DecisionReason.GAIN_TOO_SMALL,
            threshold_usd_per_hour=UsdPerHour(0.0),
            advantage_usd=Usd(best.advantage_usd),
            advantage_threshold_usd=Usd(best.threshold_usd),
            confidence=best.probability,
        )


def _options(view: ClassView) -> Iterator[_Option]:
    """Yield every way out of the view's mode; none before the first interval."""
    rows = view.recommendation.scores
    if not _is_ours(view.memory, mode_count=len(rows)):
        return
    for place, (first, second) in enumerate(combinations(rows, 2)):
        if view.from_mode in {first.mode, second.mode}:
            upper, lower = _ordered(first, second)
            start = len(_MAGIC) + place * _ROW_BYTES
            known = array("d", view.memory[start : start + 8 * pair.STATS])
            is_up = view.from_mode is upper.mode
            yield _option(known, is_up=is_up, to_mode=lower.mode if is_up else upper.mode, is_only=len(rows) == _TWO)


def _option(known: pair.Row, *, is_up: bool, to_mode: DeviceMode, is_only: bool) -> _Option:
    """Return one way out, weighed by whoever has the word.

    With two modes, devices that are not where the word wants them follow though it no longer pays from scratch: so the
    bound of the guard holds for them. With more, pairs may disagree, and only what pays now counts.
    """
    cost_usd, sign = known[pair.COST_USD], -1.0 if is_up else 1.0
    advantage = sign * known[pair.ADVANTAGE]
    threshold = -known[pair.DOWN] if is_up else known[pair.UP]
    wanted = known[pair.IS_UP]
    if known[pair.IS_OUT]:  # lazy capacity provisioning has the word: its regret is what is weighed, of one switch
        advantage = 1.0 - known[pair.LCP_REGRET] if is_up else known[pair.LCP_REGRET]
        threshold, wanted = 1.0, known[pair.LCP_UP]
    if is_only and bool(wanted) is not is_up and advantage < threshold:
        advantage = threshold
    return _Option(
        to_mode=to_mode,
        advantage_usd=advantage * cost_usd,
        threshold_usd=threshold * cost_usd,
        probability=known[pair.PROBABILITY],
    )


def _ordered(first: ModeScore, second: ModeScore) -> tuple[ModeScore, ModeScore]:
    """Return the mode that draws more, then the other; of equals the class's first."""
    return (first, second) if first.power_watts >= second.power_watts else (second, first)


def _is_ours(memory: bytes, *, mode_count: int) -> bool:
    pairs = mode_count * (mode_count - 1) // 2
    return len(memory) == len(_MAGIC) + pairs * _ROW_BYTES and memory.startswith(_MAGIC)


def _rows(memory: bytes, *, mode_count: int) -> list[pair.Row]:
    """Return the pairs' rows; where memory is not of this policy and these modes, all begin anew."""
    pairs = mode_count * (mode_count - 1) // 2
    if not _is_ours(memory, mode_count=mode_count):
        return [pair.new_row() for _ in range(pairs)]
    return [
        array("d", memory[start : start + _ROW_BYTES])
        for start in range(len(_MAGIC), len(_MAGIC) + pairs * _ROW_BYTES, _ROW_BYTES)
    ]
