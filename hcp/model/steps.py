"""The shape of every stream transformation: (state, event) -> (state, outputs), with what caused it."""

from dataclasses import dataclass
from typing import Generic, TypeVar

State = TypeVar("State")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Address of the input record; ids of outputs are derived from it.

    Attributes:
        topic: Its topic.
        partition: Its partition.
        offset: Its offset.
        timestamp_ms: Its broker timestamp (wall clock of the producer), ms since the epoch.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Generic[State]):
    """What one event did.

    Attributes:
        updates: (table key, new state) for every state that changed; empty when none did.
        outputs: Records of hcp.model to send, in this order; each class has one topic.
        ignored: Why the event had no effect (`late`, `duplicate`), or None when it had.
    """

    updates: tuple[tuple[str, State], ...] = ()
    outputs: tuple[object, ...] = ()
    ignored: str | None = None
