"""The WebSocket: sign in, subscribe, hear events; heartbeats, resume after a break, an end for slow clients."""

import asyncio
from contextlib import suppress
from typing import Annotated, Any, Final, Literal

import msgspec
from litestar import WebSocket, websocket
from litestar.exceptions import WebSocketDisconnect
from redis.exceptions import RedisError

from gateway.deps import Gateway
from gateway.edge import bearer
from gateway.limits import Limit
from gateway.live import Listener, NotForYou, channel_of
from gateway.principals import Access, Principal
from gateway.problems import ProblemError
from gateway.routes.shared import Parts, marked
from gateway.tasks import end_all
from gateway.tokens import TokenRefused
from gateway.tracing import header_of

HEARTBEAT_SECONDS: Final = 15.0
SIGN_IN_SECONDS_MAX: Final = 10.0
RECHECK_SECONDS: Final = 0.5
SEND_SECONDS_MAX: Final = 10.0
"""A frame that the client's host does not take for this long: the client is as good as gone."""
CLOSE_SECONDS_MAX: Final = 30.0
"""How long a client that does not read is waited for, so that it may still learn why it was dropped."""
MESSAGE_BYTES_MAX: Final = 8_192

BAD_MESSAGE: Final = 4400
NOT_SIGNED_IN: Final = 4401
TOO_SLOW: Final = 4408
UNAVAILABLE: Final = 4503

AnySocket = WebSocket[Any, Any, Any]
Topic = Literal["workloads", "fleet", "prices"]
EventId = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,15}-[0-9]{1,15}$")]


class Authenticate(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="action", tag="authenticate"
):
    """The first message of a client that cannot set headers."""

    token: Annotated[str, msgspec.Meta(max_length=4_096)]


class Subscribe(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="action", tag="subscribe"
):
    """Hear these topics; `after` names by topic the last event seen."""

    topics: Annotated[list[Topic], msgspec.Meta(min_length=1, max_length=3)]
    after: dict[Topic, EventId] = {}


class Unsubscribe(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="action", tag="unsubscribe"
):
    """Hear these topics no more."""

    topics: Annotated[list[Topic], msgspec.Meta(min_length=1, max_length=3)]


Command = Authenticate | Subscribe | Unsubscribe
_decoder: Final[msgspec.json.Decoder[Command]] = msgspec.json.Decoder(Command)


class _ClosedError(Exception):
    """The conversation ends.

    Attributes:
        code: WebSocket close code.
        reason: For the client.
    """

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(reason)


@websocket("/live", name="live", opt=marked(Access.PUBLIC, Limit.NONE))
async def live(socket: AnySocket, gateway: Parts) -> None:
    """Send events of the topics subscribed to until the client leaves, its token ends, or it is too slow."""
    await socket.accept()
    listener = Listener()
    try:
        caller = await _sign_in(socket, gateway)
        await _send(socket, {"type": "ready", "heartbeat_seconds": HEARTBEAT_SECONDS})
        await _converse(socket, gateway, listener, caller)
    except _ClosedError as error:
        with suppress(WebSocketDisconnect, OSError, TimeoutError):
            await asyncio.wait_for(socket.close(code=error.code, reason=error.reason), CLOSE_SECONDS_MAX)
    except (WebSocketDisconnect, TimeoutError):
        return
    finally:
        gateway.hub.leave(listener)


async def _sign_in(socket: AnySocket, gateway: Gateway) -> Principal:
    header = header_of(socket.scope, b"authorization")
    if header is not None and header[:7].lower() == "bearer ":
        token = header[7:].strip()
    else:
        try:
            command = _command(await asyncio.wait_for(socket.receive_text(), SIGN_IN_SECONDS_MAX))
        except TimeoutError as error:
            raise _ClosedError(NOT_SIGNED_IN, "the first message must authenticate, there was none") from error
        if not isinstance(command, Authenticate):
            raise _ClosedError(NOT_SIGNED_IN, "the first message must authenticate, was another")
        token = command.token
    try:
        return bearer(gateway, token)
    except ProblemError as error:
        raise _ClosedError(NOT_SIGNED_IN, error.detail) from error


def _command(text: str) -> Command:
    try:
        if len(text) > MESSAGE_BYTES_MAX:
            raise _ClosedError(BAD_MESSAGE, f"a message must be at most {MESSAGE_BYTES_MAX} bytes, was {len(text)}")
        return _decoder.decode(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise _ClosedError(BAD_MESSAGE, f"a message must be a known action: {str(error)[:80]}") from error


async def _converse(socket: AnySocket, gateway: Gateway, listener: Listener, caller: Principal) -> None:
    tasks = [
        asyncio.create_task(_hear(socket, gateway, listener, caller)),
        asyncio.create_task(_tell(socket, listener)),
        asyncio.create_task(_guard(gateway, listener, caller)),
        asyncio.create_task(_beat(gateway, listener)),
    ]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()  # raises what ended the conversation
    finally:
        await end_all(tasks)


async def _hear(socket: AnySocket, gateway: Gateway, listener: Listener, caller: Principal) -> None:
    while True:
        command = _command(await socket.receive_text())
        match command:
            case Authenticate():
                raise _ClosedError(BAD_MESSAGE, "a client must authenticate once, did again")
            case Subscribe():
                await _subscribe(gateway, listener, caller, command)
            case Unsubscribe():
                for topic in command.topics:
                    channel = channel_of(topic, caller)
                    if isinstance(channel, str):
                        gateway.hub.leave(listener, channel)
                listener.push(_text({"type": "unsubscribed", "topics": list(command.topics)}))


async def _subscribe(gateway: Gateway, listener: Listener, caller: Principal, command: Subscribe) -> None:
    for topic in command.topics:
        channel = channel_of(topic, caller)
        if isinstance(channel, NotForYou):
            listener.push(_text({"type": "refused", "topic": topic, "reason": "topic must be one you may hear"}))
            continue
        try:
            is_whole = await gateway.hub.subscribe(listener, channel, after=command.after.get(topic))
        except (RedisError, OSError, TimeoutError) as error:
            raise _ClosedError(UNAVAILABLE, "live updates must be available, were not: come back soon") from error
        listener.push(_text({"type": "subscribed", "topic": topic, "is_whole": is_whole}))


async def _tell(socket: AnySocket, listener: Listener) -> None:
    send = socket.send
    while True:
        for frame in await listener.frames():
            try:
                async with asyncio.timeout(SEND_SECONDS_MAX):
                    await send({"type": "websocket.send", "bytes": None, "text": frame})
            except TimeoutError as error:
                raise _ClosedError(TOO_SLOW, "a client must take frames in time, did not") from error
            if listener.is_slow:
                break


async def _guard(gateway: Gateway, listener: Listener, caller: Principal) -> None:
    """End the conversation when the token does, or the client lags."""
    while True:
        await asyncio.sleep(RECHECK_SECONDS)
        if listener.is_slow:
            raise _ClosedError(TOO_SLOW, "a client must keep up, was too far behind: resume by `after`")
        if isinstance(found := gateway.verifier.recheck(caller), TokenRefused):
            raise _ClosedError(NOT_SIGNED_IN, found.reason)


async def _beat(gateway: Gateway, listener: Listener) -> None:
    while True:
        await asyncio.sleep(HEARTBEAT_SECONDS)
        listener.push(_text({"type": "heartbeat", "at_ms": gateway.clock()}))


async def _send(socket: AnySocket, message: dict[str, Any]) -> None:
    await socket.send_text(_text(message))


def _text(message: dict[str, Any]) -> str:
    return msgspec.json.encode(message).decode()


HANDLERS: Final = [live]
