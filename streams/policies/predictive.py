"""The flagship: switch when what is to be expected from now on pays it, learned from the class's own intervals.

It uses what is known at the time and nothing else: the last price, its change, the time of day, and how its own
expectations turned out. No training, no distribution, no constant of a market: everything is measured in switches there
and back. One learner for each pair of modes (`streams.policies.pair`); docs/policies.md has what it was measured at.
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from struct import Struct
from typing import Final, NamedTuple

from hcp.model.commands import DecisionReason
from hcp.model.devices import DeviceMode
from hcp.model.recommendations import ModeScore
from hcp.model.units import Usd, UsdPerHour
from streams.policies import pair
from streams.policies.base import PROTECTED, Choice, ClassView, Reading, Timing, hold

_MAGIC: Final = b"prd1"
_ROW_BYTES: Final = 8 * pair.ROW_LENGTH
_DOUBLE: Final = Struct("=d")


class _Option(NamedTuple):
    """One way out of a mode; USD of one device."""

    to_mode: DeviceMode
    is_wanted: bool
    advantage_usd: float
    threshold_usd: float
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictive:
    """Go to the mode that is wanted in each of its pairs; stay while there is none.

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
        """Choose the mode wanted in all its pairs, or say which came nearest to being worth it."""
        options = list(_options(view))
        best = next((option for option in options if option.is_wanted), None) or max(
            options, key=lambda option: option.advantage_usd - option.threshold_usd, default=None
        )
        if best is None or not (best.is_wanted or best.advantage_usd > 0.0):
            return hold(view, DecisionReason.ALREADY_BEST)
        return Choice(
            to_mode=best.to_mode if best.is_wanted else view.from_mode,
            reason=DecisionReason.GAIN_PAYS if best.is_wanted else DecisionReason.GAIN_TOO_SMALL,
            threshold_usd_per_hour=UsdPerHour(0.0),
            advantage_usd=Usd(best.advantage_usd),
            advantage_threshold_usd=Usd(best.threshold_usd),
            confidence=best.probability,
        )

    def probabilities(self, memory: bytes, *, mode_count: int) -> tuple[float, ...]:
        """Return for each pair of modes how likely it is that their order lasts until payback; none without memory."""
        if not _is_ours(memory, mode_count=mode_count):
            return ()
        first = len(_MAGIC) + 8 * pair.PROBABILITY
        return tuple(_DOUBLE.unpack_from(memory, at)[0] for at in range(first, len(memory), _ROW_BYTES))


def _options(view: ClassView) -> Iterator[_Option]:
    """Yield every way out of the view's mode; none before the first interval."""
    rows = view.recommendation.scores
    if not _is_ours(view.memory, mode_count=len(rows)):
        return
    known: dict[DeviceMode, tuple[pair.Row, bool]] = {}
    wins = dict.fromkeys((row.mode for row in rows), 0)
    for place, (first, second) in enumerate(combinations(rows, 2)):
        upper, lower = _ordered(first, second)
        start = len(_MAGIC) + place * _ROW_BYTES
        learned = array("d", view.memory[start : start + 8 * pair.STATS])
        wins[upper.mode if _is_up_wanted(learned) else lower.mode] += 1
        if view.from_mode is upper.mode:
            known[lower.mode] = learned, True
        elif view.from_mode is lower.mode:
            known[upper.mode] = learned, False
    for mode, (learned, is_up) in known.items():
        yield _option(learned, is_up=is_up, to_mode=mode, is_wanted=wins[mode] == len(rows) - 1)


def _is_up_wanted(learned: pair.Row) -> bool:
    """Say which mode of a pair is wanted by whoever has the word: the learner, or lazy capacity provisioning."""
    return bool(learned[pair.LCP_UP] if learned[pair.IS_OUT] else learned[pair.IS_UP])


def _option(learned: pair.Row, *, is_up: bool, to_mode: DeviceMode, is_wanted: bool) -> _Option:
    """Return one way out, weighed by whoever has the word.

    Devices that are not where they are wanted follow, though it might no longer pay from scratch: so the bound of the
    guard holds for them, and none is left behind. What they follow at is the threshold then.
    """
    cost_usd, sign = learned[pair.COST_USD], -1.0 if is_up else 1.0
    advantage = sign * learned[pair.ADVANTAGE]
    threshold = -learned[pair.DOWN] if is_up else learned[pair.UP]
    if learned[pair.IS_OUT]:  # lazy capacity provisioning weighs its regret, of one switch there and back
        advantage = 1.0 - learned[pair.LCP_REGRET] if is_up else learned[pair.LCP_REGRET]
        threshold = 1.0
    return _Option(
        to_mode=to_mode,
        is_wanted=is_wanted,
        advantage_usd=advantage * cost_usd,
        threshold_usd=(min(threshold, advantage) if is_wanted else threshold) * cost_usd,
        probability=learned[pair.PROBABILITY],
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
