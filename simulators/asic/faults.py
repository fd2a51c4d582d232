"""What may go wrong with a simulated miner, asked for by a flag, the control socket or a test in the same process."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

FOREVER: Final = -1
FAULTS_MAX: Final = 16
GARBAGE: Final = b"\x16\x03\x01<html>\xff\xfe{]not what was asked\x00"


class FaultKind(StrEnum):
    """What may go wrong; `ms` is a fault's own number, where it has one."""

    HANG = "hang"
    """Accepts connections and never answers."""
    REFUSE = "refuse"
    """No port listens: connections are refused."""
    RESTART = "restart"
    """Gone for `ms`, then back with new salt, session and token."""
    RESTART_ON_ORDER = "restart_on_order"
    """Takes an order, answers it, is gone for `ms`."""
    STALE = "stale"
    """Salt, session or token is no longer good by the time the client uses it."""
    HALF = "half"
    """Sends half an answer and closes."""
    GARBAGE = "garbage"
    """Sends bytes that are no answer and closes."""
    SLOW = "slow"
    """Answers after `ms`."""
    IGNORE = "ignore"
    """Says yes to an order and does nothing."""
    REFUSE_ORDER = "refuse_order"
    """Says no to an order."""
    CUT_AFTER_ORDER = "cut_after_order"
    """The order takes effect and the connection is cut before the answer."""
    CONFIG_FAILS = "config_fails"
    """Reading the configuration fails with 500, whatever else works (stock firmware)."""
    NO_MODE = "no_mode"
    """Answers everything except what says whether it mines."""


@dataclass(slots=True, kw_only=True)
class Fault:
    """One fault.

    Attributes:
        kind: What goes wrong.
        times: How often, FOREVER without end; one for each call that meets it.
        ms: How long, where that matters; 0 or more.
    """

    kind: FaultKind
    times: int = FOREVER
    ms: int = 0


def parse_fault(text: str) -> Fault:
    """Parse `kind[:times[:ms]]`, such as `hang` or `slow:-1:200`.

    Raises:
        ValueError: No such fault, or a number that is none.
    """
    kind, _, rest = text.partition(":")
    times, _, ms = rest.partition(":")
    if kind not in set(FaultKind):
        raise ValueError(f"fault must be one of {', '.join(FaultKind)}, was {kind}")
    return Fault(kind=FaultKind(kind), times=int(times or FOREVER), ms=int(ms or 0))


class Faults:
    """The faults of one miner, oldest first; at most 16."""

    def __init__(self) -> None:
        """Begin in good health."""
        self._asked: list[Fault] = []

    def ask(self, fault: Fault) -> None:
        """Add a fault.

        Raises:
            ValueError: There are 16 already.
        """
        self._asked = [each for each in self._asked if each.times]
        if len(self._asked) >= FAULTS_MAX:
            raise ValueError(f"faults must be at most {FAULTS_MAX}, were {len(self._asked) + 1}")
        self._asked.append(fault)

    def clear(self) -> None:
        """Mend everything."""
        self._asked.clear()

    def take(self, kind: FaultKind) -> Fault | None:
        """Return the fault of that kind which this call meets, counting it."""
        for fault in self._asked:
            if fault.kind is kind and fault.times:
                if fault.times != FOREVER:
                    fault.times -= 1
                return fault
        return None
