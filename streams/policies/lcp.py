"""Lazy capacity provisioning: stay until staying has cost as much as a switch there and back would have.

It knows no distribution of prices and so has a bound whatever they do: it costs at most three times what the best
sequence of modes costs, and one switch there and back, in profit forgone against the better mode and switches paid
(Lin, Wierman, Andrew and Thereska, "Dynamic right-sizing for power-proportional data centers", INFOCOM 2011). That
assumes

- two modes;
- a cost of each switch that does not change; that of a start follows the hash price here, and nothing is proven of it;
- each price known before its interval. Here it is known at the end, which adds at most what the intervals move in
  which the policy switches, once for each switch;
- a device that goes where it is sent: minimum times, caps, ramps and stale prices that hold it back may break it.

It is a bound on cost, not on the share of a gap. With more modes it is the work function algorithm of metrical task
systems (Borodin, Linial and Saks, J. ACM 39, 1992): 2n - 1 for n modes where costs are symmetric, as ours are not.
"""

import struct
from dataclasses import dataclass
from typing import Final

from hcp.model.commands import DecisionReason
from hcp.model.units import MS_PER_HOUR, Usd, UsdPerHour
from streams.policies.base import PROTECTED, Choice, ClassView, Reading, Timing, hold

_HEADER: Final = struct.Struct("<4sB")
_ROW: Final = struct.Struct("<dddB")
"""Of one mode: lead, advantage and threshold of its rival (USD), the rival's place."""
_MAGIC: Final = b"lcp1"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Standing:
    """How a mode stands.

    Attributes:
        lead_usd: The most that one device can have made so far and be in the mode now, less that of the best mode.
        advantage_usd: What that is more in the rival mode.
        threshold_usd: What a device that had been there would have paid to come here; not below the advantage once
            the best sequence that ends here came from there.
        rival: Place of the rival among the class's modes.
    """

    lead_usd: float
    advantage_usd: float
    threshold_usd: float
    rival: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lcp:
    """Leave a mode once the best sequence of modes so far that ends in it came through another: go to that one.

    Attributes:
        name: In decisions.
        timing: Minimum times.
    """

    name: str = "lcp"
    timing: Timing = PROTECTED

    def observe(self, memory: bytes, reading: Reading) -> bytes:  # the protocol's form
        """Move every mode's lead by what it earned in the interval."""
        rows = reading.scores.scores
        hours = reading.interval_ms / MS_PER_HOUR
        known = _standings(memory, mode_count=len(rows))
        made = [standing.lead_usd + row.profit_usd_per_hour * hours for standing, row in zip(known, rows, strict=True)]
        standings: list[_Standing] = []
        for place, row in enumerate(rows):
            paths = [
                (made[other] - reading.switch_cost_usd(rows[other], row), -other)
                for other in range(len(rows))
                if other != place
            ]
            through_usd, negative = max(paths)
            rival = -negative
            standings.append(
                _Standing(
                    lead_usd=max(made[place], through_usd),
                    advantage_usd=made[rival] - made[place],
                    threshold_usd=made[rival] - through_usd,
                    rival=rival,
                )
            )
        top_usd = max(standing.lead_usd for standing in standings)
        return _HEADER.pack(_MAGIC, len(rows)) + b"".join(
            _ROW.pack(at.lead_usd - top_usd, at.advantage_usd, at.threshold_usd, at.rival) for at in standings
        )

    def decide(self, view: ClassView) -> Choice:  # the protocol's form
        """Choose the mode that the best sequence ending here came through."""
        modes = view.modes
        at = _standings(view.memory, mode_count=len(modes))[modes.index(view.from_mode)]
        if at.advantage_usd <= 0.0:
            return hold(view, DecisionReason.ALREADY_BEST)
        pays = at.advantage_usd >= at.threshold_usd
        return Choice(
            to_mode=modes[at.rival] if pays else view.from_mode,
            reason=DecisionReason.GAIN_PAYS if pays else DecisionReason.GAIN_TOO_SMALL,
            threshold_usd_per_hour=UsdPerHour(0.0),
            advantage_usd=Usd(at.advantage_usd),
            advantage_threshold_usd=Usd(at.threshold_usd),
        )


def _standings(memory: bytes, *, mode_count: int) -> list[_Standing]:
    """Read memory; where it is not of this policy and these modes, all stand alike."""
    if len(memory) != _HEADER.size + mode_count * _ROW.size or memory[: len(_MAGIC)] != _MAGIC:
        return [_Standing(lead_usd=0.0, advantage_usd=0.0, threshold_usd=0.0, rival=0) for _ in range(mode_count)]
    return [
        _Standing(lead_usd=lead, advantage_usd=advantage, threshold_usd=threshold, rival=rival)
        for lead, advantage, threshold, rival in _ROW.iter_unpack(memory[_HEADER.size :])
    ]
