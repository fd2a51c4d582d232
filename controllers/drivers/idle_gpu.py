"""A GPU that does nothing: the workload of mode idle, seen when none of the others runs."""

import asyncio
from collections.abc import Sequence

from controllers.ports import (
    RUNNING,
    Ack,
    Applied,
    Disproven,
    ObservedState,
    PauseMode,
    Proof,
    Proven,
    Workload,
)


class IdleGpu:
    """The Workload port for idle: there is nothing to start and nothing to stop."""

    def __init__(self, others: Sequence[Workload]) -> None:
        """Be active while none of `others` is."""
        self._others = tuple(others)

    async def pause(self, *, mode: PauseMode, deadline_ms: int) -> Ack:  # noqa: ARG002  # the port's signature
        """Accept."""
        return Applied()

    async def activate(self, *, deadline_ms: int) -> Ack:  # noqa: ARG002  # as above
        """Accept: who pauses the others makes it idle."""
        return Applied()

    async def observed(self) -> ObservedState:
        """Ask the others."""
        states = await asyncio.gather(*(each.observed() for each in self._others))
        if any(state in RUNNING for state in states):
            return ObservedState.PAUSED
        return ObservedState.UNKNOWN if ObservedState.UNKNOWN in states else ObservedState.ACTIVE

    async def export_state(self) -> bytes:
        """Return nothing."""
        return b""

    async def verify(self, *, deadline_ms: int) -> Proof:  # noqa: ARG002  # each observation has its own bound
        """Prove that all others are paused."""
        seen = await self.observed()
        if seen is ObservedState.ACTIVE:
            return Proven(evidence=f"{len(self._others)} workloads paused")
        was = "running" if seen is ObservedState.PAUSED else "unknown"
        return Disproven(detail=f"every workload must be paused, one was {was}")
