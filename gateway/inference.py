"""A workload's inference endpoint: which server works on a device, and requests passed on to it.

Where servers are is told by a setting and not by the controllers: they drive servers on their own hosts, by addresses
that mean something only there.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import aiohttp
import msgspec
import structlog

from gateway.problems import ProblemError
from gateway.tracing import REQUEST_ID_HEADER
from hcp.errors import SettingsError

ANY: Final = "*"
CONNECT_SECONDS_MAX: Final = 2.0
SILENCE_SECONDS_MAX: Final = 60.0
"""Between two pieces of an answer, and before the first: a long answer that is not streamed is all silence."""
ANSWER_SECONDS_MAX: Final = 600.0
AT_ONCE_MAX: Final = 256
"""Requests under way in a gateway process; more wait their turn within their time."""
TOLD_BYTES_MAX: Final = 4_096
TOLD_CHARS_MAX: Final = 500
PATH: Final = "/v1/completions"
_OURS: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.REQUEST_TIMEOUT})
"""Refusals that are about us and not about what the customer sent."""

_log = structlog.get_logger(__name__)


class _Error(msgspec.Struct, frozen=True):
    message: str = ""


class _Refusal(msgspec.Struct, frozen=True):
    error: _Error = _Error()


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceConfig:
    """Where inference servers are.

    Attributes:
        urls: Base address by the name of a device, shard, cluster or site, or by `*` for all others; `{index}` in it
            is the device's number and `{shard}` its shard's.
        key: Bearer token that the servers ask for; None when they ask for none.
        silence_seconds_max: How long a server may say nothing.
    """

    urls: Mapping[str, str]
    key: str | None = None
    silence_seconds_max: float = SILENCE_SECONDS_MAX

    def url_of(self, device_id: str) -> str | None:
        """Return the base address of a device's server by the longest name that has one; None when there is none."""
        shard_id, _, index = device_id.rpartition("/")
        cluster_id, _, shard = shard_id.partition("/")
        for name in (device_id, shard_id, cluster_id, cluster_id.partition(".")[0], ANY):
            found = self.urls.get(name)
            if found is not None:
                return found.replace("{index}", str(int(index))).replace("{shard}", shard).rstrip("/")
        return None


NO_SERVERS: Final = InferenceConfig(urls={})


def urls_of(text: str) -> dict[str, str]:
    """Read `name=url` pairs, separated by spaces.

    Raises:
        SettingsError: One of them is no such pair.
    """
    urls: dict[str, str] = {}
    for pair in text.split():
        name, _, url = pair.partition("=")
        if not name or not url.startswith(("http://", "https://")):
            raise SettingsError(f"HCP_INFERENCE_URLS must be pairs of name=http://..., was {pair}")
        urls[name] = url
    return urls


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer as it comes.

    Attributes:
        media_type: Of the content.
        content: Its pieces; the connection is given back when they have been read.
    """

    media_type: str
    content: AsyncIterator[bytes]


@dataclass(slots=True, kw_only=True)
class Inference:
    """Passes requests on; `open` before, `close` afterwards."""

    config: InferenceConfig
    _session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the pool of connections, in the loop that uses it."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=AT_ONCE_MAX),
            timeout=aiohttp.ClientTimeout(
                total=ANSWER_SECONDS_MAX, sock_connect=CONNECT_SECONDS_MAX, sock_read=self.config.silence_seconds_max
            ),
            headers={} if self.config.key is None else {"Authorization": f"Bearer {self.config.key}"},
        )

    async def close(self) -> None:
        """End the connections."""
        if self._session is not None:
            await self._session.close()

    async def complete(self, device_id: str, body: bytes, *, request_id: str) -> Answer:
        """Send a completion to a device's server; return when its answer begins.

        Raises:
            ProblemError: 400 for what the server refuses, 502 when it is away or fails, 504 when it is silent.
        """
        assert self._session is not None, "open must come before"
        url = self.config.url_of(device_id)
        if url is None:
            raise _away(device_id, "no server is known for it")
        headers = {"Content-Type": "application/json", REQUEST_ID_HEADER: request_id}
        try:
            response = await self._session.post(url + PATH, data=body, headers=headers, allow_redirects=False)
            if response.status != HTTPStatus.OK:
                async with response:
                    raise _refused(device_id, response.status, await response.content.read(TOLD_BYTES_MAX))
        except TimeoutError as error:
            detail = f"the server must begin to answer in {self.config.silence_seconds_max:g} s, did not"
            raise ProblemError(504, "inference_timeout", detail) from error
        except aiohttp.ClientError as error:
            raise _away(device_id, type(error).__name__) from error
        return Answer(media_type=response.content_type, content=_pieces(response))


async def _pieces(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yield what comes; an end before its time ends our answer as unfinished as it is."""
    async with response:
        async for piece in response.content.iter_any():
            yield piece


def _refused(device_id: str, status: int, told: bytes) -> ProblemError:
    if not HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR or status in _OURS:
        return _away(device_id, f"answered {status}")
    try:
        message = msgspec.json.decode(told, type=_Refusal).error.message
    except msgspec.MsgspecError:
        message = ""
    detail = message[:TOLD_CHARS_MAX] or f"the server must take the request, refused it with {status}"
    return ProblemError(400, "inference_refused", detail)


def _away(device_id: str, why: str) -> ProblemError:
    """Word for the customer what is ours to mend; which server it was is for the log."""
    _log.warning("inference_unavailable", device_id=device_id, why=why)
    return ProblemError(502, "inference_unavailable", "the workload's server must answer, did not: try again soon")
