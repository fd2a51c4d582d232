"""What a Kafka client does when its broker's connection ends under it."""

import asyncio
import socket
import struct
from collections.abc import Callable, Coroutine
from typing import Any, Final

import pytest
import uvloop
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.structs import BrokerMetadata

from agents.connections import EndingConnection

NODE: Final = 1
METADATA_VERSIONS: Final = {3: (0, 5)}
RESET: Final = struct.pack("ii", 1, 0)
"""Linger no time: the end of a process that is killed, with bytes unread."""
Act = Callable[[AIOKafkaClient], Coroutine[Any, Any, None]]


class _Known:
    """Leaves out the handshake: this broker answers nothing."""

    async def _do_version_lookup(self) -> None:
        self._versions = METADATA_VERSIONS


class _Ending(_Known, EndingConnection):
    pass


class _Plain(_Known, AIOKafkaConnection):  # type: ignore[misc]  # aiokafka has no types
    pass


async def _act_at_the_end(make: Callable[[str, int], Any], act: Act) -> None:
    """Let a client act in the turn of the loop between the end of its connection and aiokafka's notice of it."""
    accepted: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(lambda _, writer: accepted.set_result(writer), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = AIOKafkaClient(bootstrap_servers=f"127.0.0.1:{port}")
    client.cluster._brokers = {NODE: BrokerMetadata(NODE, "127.0.0.1", port, None)}  # noqa: SLF001
    connection = make("127.0.0.1", port)
    await connection.connect()
    client._conns[NODE, ConnectionGroup.DEFAULT] = connection  # noqa: SLF001
    acting: asyncio.Future[asyncio.Task[None]] = asyncio.get_running_loop().create_future()
    notice = connection._protocol.connection_lost  # noqa: SLF001

    def ended(error: Exception | None) -> None:
        notice(error)
        acting.set_result(asyncio.ensure_future(act(client)))

    connection._protocol.connection_lost = ended  # noqa: SLF001
    writer = await accepted
    server.close()
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()
    await (await acting)


def _run(work: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)


async def _refresh(client: AIOKafkaClient) -> None:
    assert await client._metadata_update(client.cluster, set()) is False  # noqa: SLF001


def test_the_end_of_a_connection_is_one_failed_refresh_of_metadata() -> None:
    """And not the end of the task that refreshes, for which deliveries, commits and heartbeats wait."""
    _run(_act_at_the_end(_Ending, _refresh))


def test_a_request_at_the_end_of_a_connection_fails_as_kafkas() -> None:
    """Every caller in aiokafka knows this error and tries again; the connection is not used any more."""

    async def ask(client: AIOKafkaClient) -> None:
        connection = client._conns[NODE, ConnectionGroup.DEFAULT]  # noqa: SLF001
        assert connection.connected()
        with pytest.raises(KafkaConnectionError, match="must be open"):
            await client.send(NODE, MetadataRequest([]))
        assert not connection.connected()

    _run(_act_at_the_end(_Ending, ask))


def test_aiokafka_still_needs_this() -> None:
    """Its own connection lets uvloop's error through; when this fails, agents/connections.py can go."""
    with pytest.raises(RuntimeError, match="handler is closed"):
        _run(_act_at_the_end(_Plain, _refresh))
