"""A load of plain HTTP/1.1 and WebSocket connections: little work a request, so that the server is what is measured."""

import asyncio
import base64
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"content-length: "
READ_BYTES: Final = 65_536
MASK_BIT: Final = 0x80
SHORT_MAX: Final = 125
MEDIUM: Final = 126
MEDIUM_MAX: Final = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What came of a load.

    Attributes:
        taken_ms: Of each request answered.
        seconds: Of all.
        refused: Answers other than 2xx.
    """

    taken_ms: list[float]
    seconds: float
    refused: int

    @property
    def per_second(self) -> float:
        """Return requests answered a second."""
        return len(self.taken_ms) / self.seconds


def request_of(method: str, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """Return a request as it goes over the wire."""
    lines = [f"{method} {path} HTTP/1.1", "host: bench", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + _END + body


async def _answer(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(_END)
    place = head.lower().find(_LENGTH)
    length = int(head[place + len(_LENGTH) : head.index(b"\r\n", place)]) if place >= 0 else 0
    await reader.readexactly(length)
    return int(head[9:12])


async def load(port: int, make: Callable[[int], bytes], *, connections: int, requests: int) -> Load:
    """Send `requests` requests over so many connections, each the next when it has its answer."""
    numbers = iter(range(requests))
    taken_ms: list[float] = []
    statuses: list[int] = []

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in numbers:
            began_ns = time.perf_counter_ns()
            writer.write(make(number))
            statuses.append(await _answer(reader))
            taken_ms.append((time.perf_counter_ns() - began_ns) / 1e6)
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(connections)))
    seconds = time.perf_counter() - began
    return Load(taken_ms=taken_ms, seconds=seconds, refused=sum(not 200 <= each < 300 for each in statuses))


class Listener:
    """A WebSocket client that counts bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int, path: str, headers: dict[str, str]) -> "Listener":
        """Connect and shake hands."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        asked = {
            **headers,
            "upgrade": "websocket",
            "connection": "Upgrade",
            "sec-websocket-version": "13",
            "sec-websocket-key": base64.b64encode(os.urandom(16)).decode(),
        }
        writer.write(request_of("GET", path, asked).replace(b"content-length: 0\r\n", b""))
        head = await reader.readuntil(_END)
        assert head.startswith(b"HTTP/1.1 101"), head
        return cls(reader, writer)

    def say(self, text: str) -> None:
        """Send a short text, masked with zeros."""
        data = text.encode()
        assert len(data) <= SHORT_MAX, "a short text must fit one byte of length"
        self._writer.write(bytes((0x81, MASK_BIT | len(data), 0, 0, 0, 0)) + data)

    async def frame(self) -> bytes:
        """Wait for one frame; return its text."""
        _, length = await self._reader.readexactly(2)
        if length == MEDIUM:
            length = int.from_bytes(await self._reader.readexactly(2), "big")
        return await self._reader.readexactly(length)

    async def count(self, length: int, frames: int) -> int:
        """Read that many frames of that text length; return how many there were."""
        wanted = frames * (length + (2 if length <= SHORT_MAX else 4))
        got = 0
        while got < wanted:
            data = await self._reader.read(READ_BYTES)
            if not data:
                break
            got += len(data)
        return frames * got // wanted

    def close(self) -> None:
        """Leave."""
        self._writer.close()
