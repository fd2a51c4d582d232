"""Table recovery that stops the fetcher while it moves on to the source partitions, so that no record falls between.

Faust 0.15 resumes the source partitions after recovery while its flow control is still closed; what the fetcher brings
in between is skipped by the streams without a word, and the gap it leaves stops commits for good (seen here: 10 records
of each partition after a restart with a backlog; known as faust-streaming issue 596).
"""

from typing import Any

import faust
import structlog
from faust.tables.recovery import Recovery

_log = structlog.get_logger(__name__)


class StoppedFlowRecovery(Recovery):
    """Stop the flow, then do all that Faust does; it opens the flow again as its last step."""

    async def on_recovery_completed(self, generation_id: int = 0) -> None:
        """Go on where the group had committed."""
        consumer: Any = self.app.consumer  # its interface class does not name all that the consumer has
        consumer.stop_flow()
        await consumer.wait_for_stopped_flow()
        await super().on_recovery_completed(generation_id)
        self._say_ready()

    async def _resume_streams(self, generation_id: int = 0) -> None:
        """Go on where there is no table to recover: a worker without a partition of its own."""
        await super()._resume_streams(generation_id)
        self._say_ready()

    def _say_ready(self) -> None:
        """Log `agent_ready` now that records flow; Faust's own signals fire before it has opened the flow."""
        consumer: Any = self.app.consumer
        if consumer.flow_active:  # another rebalance may have come in between
            _log.info("agent_ready", app=self.app.conf.id, partitions=len(consumer.assignment()))


def stop_flow_first(app: faust.App) -> None:
    """Give an app this recovery; before it starts."""
    tables = app.tables
    recovery = StoppedFlowRecovery(app, tables, beacon=tables.beacon, loop=tables.loop)
    setattr(tables, "_recovery", recovery)  # noqa: B010  # Faust has no public way to replace it
