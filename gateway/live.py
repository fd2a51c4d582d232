"""Live updates: Redis pub/sub channels fanned out to WebSocket clients; each frame is made once, whoever hears it.

A channel `hcp:live:...` carries `{"id", "topic", "data"}`; the Redis stream of its name with `:log` keeps the last of
them, entry by entry with the same ids (fields `topic` and `data`), for clients that come back.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from gateway.principals import Principal, Role
from hcp.clock import seconds

CHANNEL: Final = "hcp:live"
LOG_SUFFIX: Final = ":log"
LOG_MAX: Final = 1_000
BEHIND_MAX: Final = 1_000
"""Frames a client may be behind; one that is further behind is dropped."""
AGAIN_MS: Final = 500
CONFIRM_SECONDS_MAX: Final = 2.0
LOOK_SECONDS: Final = 1.0
TOPICS: Final = ("workloads", "fleet", "prices")

EventId = tuple[int, int]
BEFORE_ALL: Final = (0, 0)


class _Named(msgspec.Struct, frozen=True):
    """The part of a message that is looked at."""

    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotForYou:
    """A topic the caller may not hear."""

    topic: str


def channel_of(topic: str, caller: Principal) -> str | NotForYou:
    """Return the channel of a topic for a caller: `workloads` is its own customer's, `fleet` is for admins."""
    if topic == "workloads":
        return f"{CHANNEL}:customer:{caller.customer_id}"
    if topic == "prices" or (topic == "fleet" and caller.role is Role.ADMIN):
        return f"{CHANNEL}:{topic}"
    return NotForYou(topic=topic)


def topic_of_channel(channel: str) -> str:
    """Return the topic under which clients know a channel."""
    return "workloads" if channel.startswith(f"{CHANNEL}:customer:") else channel.rpartition(":")[2]


def event_id_of(text: str) -> EventId:
    """Return an id of a Redis stream in an order that compares."""
    milliseconds, _, number = text.partition("-")
    return int(milliseconds), int(number or 0)


def frame_of(channel: str, payload: bytes) -> str:
    """Return the frame for clients: the message with its kind and the topic subscribed to in front."""
    return f'{{"type":"event","subscription":"{topic_of_channel(channel)}",{payload.decode()[1:]}'


@dataclass(slots=True, kw_only=True)
class Listener:
    """One client's queue: bounded, and marked when it overflows.

    Attributes:
        is_slow: It was further behind than allowed; it will be dropped.
    """

    is_slow: bool = False
    _frames: deque[str] = field(default_factory=deque)
    _ready: asyncio.Event = field(default_factory=asyncio.Event)
    _held: dict[str, list[tuple[EventId, str]]] = field(default_factory=dict)
    _after: dict[str, EventId] = field(default_factory=dict)

    def push(self, frame: str) -> None:
        """Queue a frame, unless the client is too far behind."""
        if len(self._frames) >= BEHIND_MAX:
            self.is_slow = True
            self._frames.clear()
        if not self.is_slow:
            self._frames.append(frame)
        self._ready.set()

    def hear(self, channel: str, event_id: EventId, frame: str) -> None:
        """Take an event: at once, or behind those that are still being read from the log."""
        held = self._held.get(channel)
        if held is None:
            if event_id > self._after.get(channel, BEFORE_ALL):  # the log may have had it before the channel did
                self.push(frame)
        elif len(held) < BEHIND_MAX:
            held.append((event_id, frame))
        else:
            self.is_slow = True
            self._ready.set()

    def hold(self, channel: str) -> None:
        """Keep a channel's events until the log has been read."""
        self._held[channel] = []

    def release(self, channel: str, *, after: EventId) -> None:
        """Queue the events held that the log did not have; from now on only later ones count."""
        self._after[channel] = after
        for event_id, frame in self._held.pop(channel, []):
            if event_id > after:
                self.push(frame)

    async def frames(self) -> Iterator[str]:
        """Wait for frames; return those that are there."""
        await self._ready.wait()
        self._ready.clear()
        taken, self._frames = self._frames, deque()
        return iter(taken)


@dataclass(slots=True, kw_only=True)
class Hub:
    """Who listens to which channel, and the one connection to Redis that feeds them."""

    redis: "Redis"
    _listeners: dict[str, set[int]] = field(default_factory=dict)
    _by_id: dict[int, Listener] = field(default_factory=dict)
    _confirmed: dict[str, asyncio.Event] = field(default_factory=dict)
    _last: dict[str, EventId] = field(default_factory=dict)
    _pubsub: PubSub | None = None

    async def subscribe(self, listener: Listener, channel: str, *, after: str | None) -> bool:
        """Let a listener hear a channel, from `after` on when it is given; return False when events are missing.

        Raises:
            RedisError: Redis is away.
            TimeoutError: It did not answer in time.
        """
        listener.hold(channel)
        self._by_id[id(listener)] = listener
        self._listeners.setdefault(channel, set()).add(id(listener))
        last: EventId = BEFORE_ALL
        is_whole = True
        try:
            await self._listen(channel)
            if after is not None:
                last, is_whole = await self._catch_up(listener, channel, after)
        finally:
            listener.release(channel, after=last)
        return is_whole

    def leave(self, listener: Listener, channel: str | None = None) -> None:
        """Let a listener hear a channel no more, or none at all."""
        channels = [channel] if channel is not None else list(self._listeners)
        for each in channels:
            self._listeners.get(each, set()).discard(id(listener))
        if channel is None:
            self._by_id.pop(id(listener), None)

    async def run(self) -> None:
        """Feed the listeners for ever; after an outage of Redis what was missed comes from the logs."""
        log = structlog.get_logger(__name__)
        is_away = False
        while True:
            try:
                async with self.redis.pubsub() as pubsub:
                    await self._begin(pubsub)
                    if is_away:
                        log.info("live_connected")
                        is_away = False
                    await self._feed(pubsub)
            except (RedisError, OSError) as error:
                if not is_away:
                    log.warning("live_away", error=str(error))
                is_away = True
            finally:
                self._pubsub = None
                self._confirmed.clear()
            await asyncio.sleep(seconds(AGAIN_MS))

    async def _begin(self, pubsub: PubSub) -> None:
        channels = {f"{CHANNEL}:prices", *(each for each, heard in self._listeners.items() if heard)}
        for channel in channels:
            self._confirmed[channel] = asyncio.Event()
        await pubsub.subscribe(*channels)
        self._pubsub = pubsub

    async def _feed(self, pubsub: PubSub) -> None:
        while True:
            message = await pubsub.get_message(timeout=LOOK_SECONDS)
            if message is None:
                await self._forget_unheard(pubsub)
            elif message["type"] == "subscribe":
                await self._on_confirmed(message["channel"].decode())
            elif message["type"] == "message":
                self._spread(message["channel"].decode(), message["data"])

    async def _on_confirmed(self, channel: str) -> None:
        self._confirmed.setdefault(channel, asyncio.Event()).set()
        missed_from = self._last.get(channel)
        if missed_from is not None:
            for entry_id, payload in await self._log(channel, f"({missed_from[0]}-{missed_from[1]}"):
                self._spread(channel, payload, known=event_id_of(entry_id))

    def _spread(self, channel: str, payload: bytes, known: EventId | None = None) -> None:
        heard = self._listeners.get(channel)
        try:
            event_id = known or event_id_of(msgspec.json.decode(payload, type=_Named).id)
        except (msgspec.MsgspecError, ValueError):
            structlog.get_logger(__name__).warning("live_message_refused", channel=channel)
            return
        self._last[channel] = max(event_id, self._last.get(channel, event_id))
        if heard:
            frame = frame_of(channel, payload)
            for each in heard:
                self._by_id[each].hear(channel, event_id, frame)

    async def _listen(self, channel: str) -> None:
        if self._pubsub is None:
            raise RedisError("Redis must be connected, was away")
        confirmed = self._confirmed.get(channel)
        if confirmed is None:
            confirmed = self._confirmed[channel] = asyncio.Event()
            await self._pubsub.subscribe(channel)
        await asyncio.wait_for(confirmed.wait(), CONFIRM_SECONDS_MAX)

    async def _forget_unheard(self, pubsub: PubSub) -> None:
        for channel in [each for each, heard in self._listeners.items() if not heard]:
            del self._listeners[channel]
            self._last.pop(channel, None)
            if channel != f"{CHANNEL}:prices":
                self._confirmed.pop(channel, None)
                await pubsub.unsubscribe(channel)

    async def _catch_up(self, listener: Listener, channel: str, after: str) -> tuple[EventId, bool]:
        wanted = event_id_of(after)
        first: Any = await self.redis.xrange(channel + LOG_SUFFIX, count=1)
        is_whole = bool(first) and event_id_of(first[0][0].decode()) <= wanted
        last = wanted
        for entry_id, payload in await self._log(channel, f"({wanted[0]}-{wanted[1]}"):
            last = event_id_of(entry_id)
            listener.push(frame_of(channel, payload))
        return last, is_whole

    async def _log(self, channel: str, start: str) -> list[tuple[str, bytes]]:
        entries: Any = await self.redis.xrange(channel + LOG_SUFFIX, min=start, count=LOG_MAX)
        return [(entry_id.decode(), _payload(entry_id.decode(), fields)) for entry_id, fields in entries]


def _payload(entry_id: str, fields: dict[bytes, bytes]) -> bytes:
    topic = msgspec.json.encode(fields.get(b"topic", b"").decode())
    return b'{"id":"%s","topic":%s,"data":%s}' % (entry_id.encode(), topic, fields.get(b"data", b"null"))
