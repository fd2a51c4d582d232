"""What every TCP protocol of a miner shares: counted connections, orders, and answers that faults bend."""

import asyncio
import socket
from collections.abc import Callable
from typing import Final, cast

from hcp.clock import seconds
from simulators.asic.faults import GARBAGE, FaultKind
from simulators.asic.miner import CONNECTIONS_MAX, Listener, Miner, Port

REQUEST_BYTES_MAX: Final = 65_536


class CutError(Exception):
    """The connection is cut here, without an answer."""


def take_order(miner: Miner, act: Callable[[], None]) -> bool:
    """Let an order take effect and return whether the miner says yes.

    Raises:
        CutError: It took effect, and the answer never comes.
    """
    if miner.faults.take(FaultKind.REFUSE_ORDER) is not None:
        return False
    if miner.faults.take(FaultKind.IGNORE) is None:
        act()
    if miner.faults.take(FaultKind.CUT_AFTER_ORDER) is not None:
        raise CutError
    miner.after_order()
    return True


class Connection(asyncio.Protocol):
    """One connection of a client; a subclass makes requests out of bytes."""

    def __init__(self, miner: Miner) -> None:
        """Serve one miner."""
        self.miner = miner
        self.buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it; one too many is cut at once."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one without being a subclass
        if len(self.miner.transports) >= CONNECTIONS_MAX:
            self._transport.abort()
            return
        self.miner.transports.add(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        """Forget it."""
        if self._transport is not None:
            self.miner.transports.discard(self._transport)
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Collect bytes and serve every whole request among them."""
        self.buffer += data
        if len(self.buffer) > REQUEST_BYTES_MAX:
            self.cut()
            return
        try:
            self.serve()
        except CutError:
            self.cut()

    def serve(self) -> None:
        """Take whole requests out of `buffer` and answer them; CutError cuts the connection."""
        raise NotImplementedError

    def cut(self) -> None:
        """End it at once."""
        if self._transport is not None:
            self._transport.abort()

    def answer(self, payload: bytes, *, is_last: bool) -> None:
        """Send an answer as the miner's faults have it."""
        self.miner.requests += 1
        faults = self.miner.faults
        if faults.take(FaultKind.HANG) is not None:
            return
        if faults.take(FaultKind.HALF) is not None:
            payload, is_last = payload[: len(payload) // 2], True
        elif faults.take(FaultKind.GARBAGE) is not None:
            payload, is_last = GARBAGE, True
        slow = faults.take(FaultKind.SLOW)
        if slow is None:
            self._send(payload, is_last=is_last)
        else:
            asyncio.get_running_loop().call_later(seconds(slow.ms), lambda: self._send(payload, is_last=is_last))

    def _send(self, payload: bytes, *, is_last: bool) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(payload)
        if is_last:
            self._transport.close()


def tcp_port(number: int, connection: Callable[[Miner], Connection]) -> Port:
    """Return a port served by one protocol."""

    async def listen(miner: Miner, bound: socket.socket) -> Listener:
        server = await asyncio.get_running_loop().create_server(lambda: connection(miner), sock=bound)
        return Listener(server.close)

    return Port(number=number, listen=listen)
