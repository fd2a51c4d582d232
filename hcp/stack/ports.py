"""Free ports for a stack, on 127.0.0.1 and below the range of outgoing connections."""

import socket
import zlib
from collections.abc import Iterator
from pathlib import Path

from hcp.errors import StackError
from hcp.stack.values import Ports, WantedPorts

PORT_MIN = 20_000
# Linux hands out 32,768 and up by itself (ip_local_port_range); a kept port must not be among those.
PORT_MAX = 31_999
SERVICES = ("kafka", "kafka_controller", "timescaledb", "redis")


def is_free(port: int) -> bool:
    """Return whether a server could listen on `port` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _candidates(directory: Path) -> Iterator[int]:
    """Yield every port once, starting at one that depends on the stack: two stacks rarely meet."""
    span = PORT_MAX - PORT_MIN + 1
    start = zlib.crc32(str(directory).encode()) % span
    return (PORT_MIN + (start + step) % span for step in range(span))


def choose(*, directory: Path, wanted: WantedPorts, kept: Ports | None) -> Ports:
    """Return a free port for every service: the one asked for, else the one of last time, else a new one.

    Raises:
        StackError: A port that was asked for is in use, or none is free.
    """
    candidates = _candidates(directory)
    chosen: dict[str, int] = {}
    for service in SERVICES:
        asked: int | None = getattr(wanted, service, None)
        taken = chosen.values()
        if asked is not None and (asked in taken or not is_free(asked)):
            raise StackError(
                f"port {asked} for {service} must be free, was in use; stop what uses it (see `ss -ltnp`) "
                f"or choose another port"
            )
        last: int | None = getattr(kept, service, None)
        first = asked if asked is not None else last
        if first is not None and first not in taken and is_free(first):
            chosen[service] = first
            continue
        found = next((port for port in candidates if port not in taken and is_free(port)), None)
        if found is None:
            raise StackError(f"one of the ports {PORT_MIN}-{PORT_MAX} must be free, all were in use; stop some program")
        chosen[service] = found
    return Ports(**chosen)
