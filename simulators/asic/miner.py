"""One simulated miner: a plant, its faults, its secrets, and the ports it listens on at its own loopback address."""

import asyncio
import secrets
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from hcp.clock import seconds
from simulators.asic.faults import Fault, FaultKind, Faults
from simulators.asic.plant import Plant

BACKLOG: Final = 64
CONNECTIONS_MAX: Final = 64
"""Of one miner at a time; one more is closed at once, as small control boards do."""

Listen = Callable[["Miner", socket.socket], Awaitable["Listener"]]


class Listener:
    """Something that listens on one port and can be closed."""

    def __init__(self, close: Callable[[], None]) -> None:
        """Remember how it is closed."""
        self.close = close


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A port of a family: its number and what serves a socket bound to it."""

    number: int
    listen: Listen


@dataclass(slots=True, kw_only=True, eq=False)
class Miner:
    """State of one miner; mutable, one owner.

    Attributes:
        host: Its address, 127.x.y.z.
        plant: What it does physically.
        ports: What it listens on.
        faults: What goes wrong.
        salt: Part of what an order of the Whatsminer API is signed with.
        session: LuxOS session id; "" when nobody is logged on.
        token: What a Braiins login gives out.
        requests: Calls met so far, whatever became of them.
    """

    host: str
    plant: Plant
    ports: Sequence[Port]
    faults: Faults = field(default_factory=Faults)
    salt: str = ""
    session: str = ""
    token: str = ""
    requests: int = 0
    transports: set[asyncio.Transport] = field(default_factory=set)
    _listeners: list[Listener] = field(default_factory=list)
    _coming_back: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        """Make the first secrets."""
        self.renew_secrets()

    def renew_secrets(self) -> None:
        """Forget every session and token that was handed out."""
        self.salt, self.token, self.session = secrets.token_hex(4), secrets.token_hex(8), ""

    @property
    def is_listening(self) -> bool:
        """Tell whether its ports are open."""
        return bool(self._listeners)

    async def open(self) -> None:
        """Listen on every port.

        Raises:
            OSError: A port is taken, or needs root (below 1,024).
        """
        try:
            for port in self.ports:
                self._listeners.append(await port.listen(self, _bound(self.host, port.number)))
        except OSError:
            self._close_ports()
            raise

    def close(self) -> None:
        """Close every port and connection."""
        if self._coming_back is not None:
            self._coming_back.cancel()
            self._coming_back = None
        self._close_ports()

    async def ask(self, fault: Fault) -> None:
        """Let a fault happen; `refuse` and `restart` close the ports at once."""
        if fault.kind is FaultKind.REFUSE:
            self._close_ports()
        elif fault.kind is FaultKind.RESTART:
            self.restart(away_ms=fault.ms)
        else:
            if fault.kind is FaultKind.STALE:
                self.session = self.session and secrets.token_hex(4)
            self.faults.ask(fault)

    async def mend(self) -> None:
        """Be in good health again."""
        self.faults.clear()
        if self._coming_back is not None:
            self._coming_back.cancel()
            self._coming_back = None
        if not self._listeners:
            await self.open()

    def restart(self, *, away_ms: int) -> None:
        """Be gone for a while, then come back with new secrets; the configuration stays."""
        self._close_ports()
        self.renew_secrets()
        self.plant.boot()
        if self._coming_back is not None:
            self._coming_back.cancel()
        self._coming_back = asyncio.get_running_loop().create_task(self._come_back(away_ms))

    async def _come_back(self, away_ms: int) -> None:
        await asyncio.sleep(seconds(away_ms))
        await self.open()

    def _close_ports(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        for transport in tuple(self.transports):
            transport.abort()
        self.transports.clear()

    def after_order(self) -> None:
        """Meet what comes after an order that was taken."""
        fault = self.faults.take(FaultKind.RESTART_ON_ORDER)
        if fault is not None:
            # The answer goes out first.
            asyncio.get_running_loop().call_later(seconds(_ANSWER_MS), lambda: self.restart(away_ms=fault.ms))


_ANSWER_MS: Final = 5


def _bound(host: str, port: int) -> socket.socket:
    """Return a socket that listens at the miner's own address, so that a closed one refuses as a real one does."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio sets no delay only so
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(BACKLOG)
        made.setblocking(False)  # noqa: FBT003  # the socket's own signature
    except OSError as error:
        made.close()
        raise type(error)(error.errno, f"{host}:{port} must be free to listen on, was not: {error.strerror}") from error
    return made
