"""As much of HTTP/1.1 as miners' web interfaces speak: requests with a length, answers with a length, kept alive."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from simulators.asic.connection import Connection, CutError
from simulators.asic.miner import Miner

PORT: Final = 80
_REASONS: Final = {200: "OK", 204: "No Content", 401: "Unauthorized", 404: "Not Found", 500: "Internal Server Error"}
_END: Final = b"\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request.

    Attributes:
        method: Upper case.
        path: Without its query.
        headers: By lower-case name.
        body: As long as its header said.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One answer."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


Router = Callable[[Miner, Request], Response]


class HttpConnection(Connection):
    """One client's connection, kept alive as long as it asks for that."""

    def __init__(self, miner: Miner, router: Router) -> None:
        """Answer by a family's router."""
        super().__init__(miner)
        self._router = router

    def serve(self) -> None:
        """Answer every whole request, in its order."""
        while (taken := self._taken()) is not None:
            try:
                response = self._router(self.miner, taken)
            except msgspec.MsgspecError as problem:
                response = Response(status=500, body=str(problem).encode())
            self.answer(_bytes(response), is_last=taken.headers.get("connection", "").lower() == "close")

    def _taken(self) -> Request | None:
        end = self.buffer.find(_END)
        if end < 0:
            return None
        first, *rest = self.buffer[:end].decode("latin-1").split("\r\n")
        pairs = (line.split(":", 1) for line in rest if ":" in line)
        headers = {name.strip().lower(): value.strip() for name, value in pairs}
        words = first.split(" ")
        length = headers.get("content-length", "0")
        if len(words) != 3 or not length.isdigit():  # noqa: PLR2004  # method, target, version
            raise CutError
        begin = end + len(_END)
        if len(self.buffer) < begin + int(length):
            return None
        body = self.buffer[begin : begin + int(length)]
        self.buffer = self.buffer[begin + int(length) :]
        return Request(method=words[0].upper(), path=words[1].partition("?")[0], headers=headers, body=body)


def _bytes(response: Response) -> bytes:
    lines = [
        f"HTTP/1.1 {response.status} {_REASONS.get(response.status, 'Unknown')}",
        f"Content-Type: {response.content_type}",
        f"Content-Length: {len(response.body)}",
        *(f"{name}: {value}" for name, value in response.headers),
    ]
    return "\r\n".join(lines).encode() + _END + response.body
