"""A Faust producer whose flush ends: a snapshot of its buffer instead of "until empty".

Faust flushes its producer before each commit and waits until the buffer is empty; under backlog with tables that never
happens, commits starve, and a kill -9 replays thousands of records. Sending what was buffered when the flush began
keeps the promise (effects first, then the offset) and always ends.
"""

from faust.transport.drivers.aiokafka import Producer


class BoundedProducer(Producer):
    """Flush what is buffered now, then wait for its acknowledgements."""

    async def flush(self) -> None:
        """Send the messages buffered at this moment and wait until the broker has them."""
        waiting = self.buffer.size
        if waiting:
            await self.buffer.flush_atmost(waiting)
        if self._producer is not None:
            await self._producer.flush()
