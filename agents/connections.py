"""A Kafka connection whose end is an error of Kafka, also under uvloop; aiokafka does not survive any other.

uvloop raises RuntimeError on a write to a connection that has ended, where asyncio is silent and aiokafka expects
OSError. Between the end of a connection and aiokafka's notice of it lie a few turns of the event loop; a request in
that gap killed the task that fetches metadata, without a word, and then whatever waited for metadata waited for ever:
deliveries, commits, heartbeats (seen here after kill -9 of the broker; known as aiokafka issue 1038).
"""

from typing import Any

import aiokafka.conn
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError


class EndingConnection(AIOKafkaConnection):  # type: ignore[misc]  # aiokafka has no types
    """A connection that closes itself on a write that cannot be made, and fails all that waited on it."""

    def send(self, request: Any, expect_response: bool = True) -> Any:  # noqa: ANN401, FBT001, FBT002  # aiokafka's
        """Send a request and return its answer to come.

        Raises:
            KafkaConnectionError: The connection has ended.
        """
        try:
            return super().send(request, expect_response)
        except RuntimeError as error:
            self.close(reason=CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(f"connection to {self.host}:{self.port} must be open, was: {error}") from error


def end_connections_cleanly() -> None:
    """Let aiokafka make these connections, in the whole process; it has no public way to choose their class."""
    setattr(aiokafka.conn, "AIOKafkaConnection", EndingConnection)  # noqa: B010
