"""HTTP for workload drivers: one shared session, every call within its deadline, failures as values, no retries."""

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, TypeVar

import aiohttp
import msgspec

from controllers.ports import Refused, Unreachable, Unsupported
from hcp.clock import seconds

CALLS_A_HOST_MAX: Final = 8
CALLS_MAX: Final = 1_024
KEEP_ALIVE_SECONDS: Final = 2.0
"""Below the 5 s after which vLLM's server closes an idle connection: a POST must not meet a closing one."""
ANSWER_BYTES_MAX: Final = 4 << 20
_SHOWN_BYTES: Final = 120

Content = TypeVar("Content")
Failure = Refused | Unsupported | Unreachable


def open_session() -> aiohttp.ClientSession:
    """Return the session that all workload drivers of a process share; close it at the end.

    Call it within the running event loop.
    """
    connector = aiohttp.TCPConnector(
        limit=CALLS_MAX, limit_per_host=CALLS_A_HOST_MAX, keepalive_timeout=KEEP_ALIVE_SECONDS
    )
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer."""

    status: int
    body: bytes


class Endpoint:
    """One program's HTTP API."""

    def __init__(self, session: aiohttp.ClientSession, *, url: str, token: str = "") -> None:
        """Call paths below `url`, with a bearer token unless it is empty."""
        self._session = session
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def call(
        self,
        method: str,
        path: str,
        *,
        deadline_ms: int,
        query: dict[str, str] | None = None,
        body: dict[str, object] | None = None,
    ) -> Answer | Unreachable:
        """Make one call; connecting, sending and the whole answer are within `deadline_ms`."""
        try:
            async with (
                asyncio.timeout(seconds(deadline_ms)),
                self._session.request(
                    method,
                    self._url + path,
                    params=query,
                    json=body,
                    headers=self._headers,
                    timeout=aiohttp.ClientTimeout(total=None),  # the deadline is asyncio's
                    allow_redirects=False,
                ) as response,
            ):
                return Answer(status=response.status, body=await _read(response))
        except TimeoutError:
            return Unreachable(detail=f"{path} must be answered in {deadline_ms} ms, was not")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Unreachable(detail=f"{path} must be answered, was {type(error).__name__}: {error!s:.120}")

    async def order(
        self,
        path: str,
        *,
        deadline_ms: int,
        query: dict[str, str] | None = None,
        body: dict[str, object] | None = None,
    ) -> Answer | Failure:
        """POST and return the answer when it is a success."""
        answer = await self.call("POST", path, deadline_ms=deadline_ms, query=query, body=body)
        return _judged(path, answer)

    async def read(self, path: str, kind: type[Content], *, deadline_ms: int) -> Content | Failure:
        """GET and decode an answer of JSON; one that does not decode is refused."""
        answer = _judged(path, await self.call("GET", path, deadline_ms=deadline_ms))
        return answer if not isinstance(answer, Answer) else decoded(path, answer, kind)


def decoded(path: str, answer: Answer, kind: type[Content]) -> Content | Refused:
    """Decode a body of JSON; fields that `kind` does not name are ignored."""
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return Refused(detail=f"{path} must be answered with {kind.__name__}, was unreadable: {error!s:.120}")


def _judged(path: str, answer: Answer | Unreachable) -> Answer | Failure:
    if isinstance(answer, Unreachable):
        return answer
    if HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
        return answer
    detail = f"{path} must be answered with 200, was {answer.status}: {answer.body[:_SHOWN_BYTES]!r}"
    if answer.status in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED}:
        return Unsupported(detail=detail)
    return Refused(detail=detail)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > ANSWER_BYTES_MAX:
            raise ValueError(f"answer must have at most {ANSWER_BYTES_MAX} bytes, had more")
    return bytes(body)
