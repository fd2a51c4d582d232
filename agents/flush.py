"""A Faust producer whose flush ends, and through which no changelog record is lost unnoticed.

Faust flushes its producer before each commit and waits until the buffer is empty; under backlog with tables that never
happens, commits starve, and a kill -9 replays thousands of records. Waiting for what was handed over when the flush
began keeps the promise (effects first, then the offset) and always ends.

A changelog record that the broker did not take is only logged by Faust, which then commits what caused it: a restart
would come back without that state. Here the commit fails instead, and with it the process: its next start rebuilds the
table from the changelog and does the uncommitted events again.
"""

import asyncio
from typing import TYPE_CHECKING, Final

import structlog
from faust.exceptions import NotReady
from faust.transport.drivers.aiokafka import Producer

from hcp.errors import BrokerError

if TYPE_CHECKING:
    from faust.types.tuples import FutureMessage

LOOK_SECONDS: Final = 1.0
"""How often a flush looks whether the buffer still sends."""
_log = structlog.get_logger(__name__)


class BoundedProducer(Producer):
    """Flush what was handed over until now, and fail once a record of it was lost."""

    def __post_init__(self) -> None:
        """Begin with nothing handed over."""
        super().__post_init__()
        self._unacknowledged: set[FutureMessage] = set()
        self._lost: BaseException | None = None

    def send_soon(self, fut: "FutureMessage") -> None:
        """Take a record of a table's changelog into the buffer."""
        self._unacknowledged.add(fut)
        fut.add_done_callback(self._settle)
        super().send_soon(fut)

    def _settle(self, fut: "FutureMessage") -> None:
        self._unacknowledged.discard(fut)
        error = None if fut.cancelled() else fut.exception()
        if error is not None and self._lost is None:
            _log.error("changelog_lost", error=repr(error))  # once: the process ends at its next commit
            self._lost = error

    async def flush(self) -> None:
        """Wait until the broker has what was handed over until now, for as long as the buffer sends.

        Raises:
            BrokerError: A changelog record was lost, so that nothing more may be committed.
        """
        waiting = set(self._unacknowledged)
        while waiting and not self.buffer.should_stop:
            _, waiting = await asyncio.wait(waiting, timeout=LOOK_SECONDS)
        if waiting:  # the buffer has ended before it sent them
            self._lost = self._lost or NotReady(f"{len(waiting)} records not sent")
        if self._producer is not None:
            await self._producer.flush()
        if self._lost is not None:
            raise BrokerError(f"each changelog record must reach the broker, was lost: {self._lost!r}") from self._lost
