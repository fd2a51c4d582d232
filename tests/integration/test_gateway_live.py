"""The WebSocket on real Redis, over TCP: own channels only, resume, revocation, slow clients."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx
import pytest
from redis import Redis
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from gateway.live import BEHIND_MAX, CHANNEL, LOG_SUFFIX
from gateway.principals import Role
from hcp.stack import StackAddresses
from tests.gateway_lab import GatewayProcess, Lab, gateway_lab, gateway_process

pytestmark = pytest.mark.services

ANSWER_SECONDS: Final = 120.0


@pytest.fixture(scope="module")
def lab(services: StackAddresses, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Give one gateway's databases to the module."""
    with gateway_lab(services, tmp_path_factory.mktemp("gateway")) as made:
        yield made


@pytest.fixture(scope="module")
def served(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Run one gateway for the module."""
    with gateway_process(lab, tmp_path_factory.mktemp("served")) as made:
        yield made


class Sink:
    """Speaks as the live sink does: the log first, then the channel."""

    def __init__(self, url: str) -> None:
        self._redis = Redis.from_url(url)

    def publish(self, channel: str, data: object) -> str:
        """Publish an event; return its id."""
        fields: dict[Any, Any] = {"topic": "workload.events", "data": json.dumps(data)}
        added: Any = self._redis.xadd(channel + LOG_SUFFIX, fields, maxlen=1_000)
        event_id = str(added.decode())
        message = {"id": event_id, "topic": "workload.events", "data": data}
        self._redis.publish(channel, json.dumps(message))
        return event_id


@pytest.fixture
def sink(services: StackAddresses) -> Sink:
    """Give the sink's side of Redis."""
    return Sink(services.redis_url)


def _customer(served: GatewayProcess, headers: dict[str, str]) -> str:
    me = httpx.get(f"{served.url}/api/v1/me", headers=headers, timeout=60.0).json()
    return f"{CHANNEL}:customer:{me['customer_id']}"


@asynccontextmanager
async def _socket(served: GatewayProcess, headers: dict[str, str]) -> AsyncIterator[ClientConnection]:
    url = served.url.replace("http", "ws") + "/api/v1/live"
    async with connect(url, additional_headers=headers, max_queue=4) as socket:
        assert (await _next(socket))["type"] == "ready"
        yield socket


async def _next(socket: ClientConnection) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await asyncio.wait_for(socket.recv(), ANSWER_SECONDS))
    return found


async def _subscribe(socket: ClientConnection, topic: str, after: str | None = None) -> None:
    command = {"action": "subscribe", "topics": [topic]} | ({"after": {topic: after}} if after else {})
    await socket.send(json.dumps(command))


async def test_a_customer_hears_its_own_workloads_only(lab: Lab, served: GatewayProcess, sink: Sink) -> None:
    """Another customer's events and the fleet's do not come; an admin hears the fleet."""
    ann, bob, root = lab.user(), lab.user(), lab.user(role=Role.ADMIN)
    tokens = [await asyncio.to_thread(served.sign_in, each) for each in (ann, bob, root)]
    channels = [await asyncio.to_thread(_customer, served, each) for each in tokens[:2]]
    async with _socket(served, tokens[0]) as socket, _socket(served, tokens[2]) as admin:
        await _subscribe(socket, "fleet")
        assert (await _next(socket))["type"] == "refused"
        for each, topic in ((socket, "workloads"), (admin, "fleet")):
            await _subscribe(each, topic)
            assert (await _next(each))["type"] == "subscribed"
        sink.publish(f"{CHANNEL}:fleet", {"n": 0})
        sink.publish(channels[1], {"n": 1})
        sink.publish(channels[0], {"n": 2})
        mine, fleet = await _next(socket), await _next(admin)
    assert (mine["subscription"], mine["data"], mine["topic"]) == ("workloads", {"n": 2}, "workload.events")
    assert (fleet["subscription"], fleet["data"]) == ("fleet", {"n": 0})


async def test_a_client_that_comes_back_hears_what_it_missed_once(lab: Lab, served: GatewayProcess, sink: Sink) -> None:
    """From the last id seen on, each event once and in order, while new ones keep coming."""
    token = await asyncio.to_thread(served.sign_in, lab.user())
    channel = await asyncio.to_thread(_customer, served, token)
    ids = [sink.publish(channel, {"n": number}) for number in range(20)]
    async with _socket(served, token) as socket:
        await _subscribe(socket, "workloads", after=ids[4])
        for number in range(20, 40):
            sink.publish(channel, {"n": number})
            await asyncio.sleep(0)
        heard: list[int] = []
        is_whole = None
        while len(heard) < 35 or is_whole is None:
            frame = await _next(socket)
            if frame["type"] == "event":
                heard.append(frame["data"]["n"])
            else:
                is_whole = frame["is_whole"]
    assert (heard, is_whole) == (list(range(5, 40)), True)


async def test_a_client_whose_place_is_forgotten_is_told(lab: Lab, served: GatewayProcess, sink: Sink) -> None:
    """When the log no longer reaches back, the answer says that events may be missing."""
    token = await asyncio.to_thread(served.sign_in, lab.user())
    channel = await asyncio.to_thread(_customer, served, token)
    sink.publish(channel, {"n": 0})
    async with _socket(served, token) as socket:
        await _subscribe(socket, "workloads", after="1-0")
        frames = [await _next(socket) for _ in range(2)]
    assert [frame["type"] for frame in frames] == ["event", "subscribed"]
    assert frames[1]["is_whole"] is False


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("not json", 4400),
        ('{"action": "drop"}', 4400),
        ('{"action": "subscribe", "topics": []}', 4400),
        ('{"action": "subscribe", "topics": ["workloads"], "after": {"workloads": "x"}}', 4400),
        ('{"action": "subscribe", "topics": ["workloads"], "more": 1}', 4400),
        ('{"action": "subscribe", "topics": ' + "[" * 3_000, 4400),
        ("x" * 20_000, 4400),
        ('{"action": "authenticate", "token": "x"}', 4400),
    ],
)
async def test_a_message_that_is_none_ends_the_conversation(
    lab: Lab, served: GatewayProcess, message: str, code: int
) -> None:
    """With a code and a reason, whatever it was."""
    token = await asyncio.to_thread(served.sign_in, lab.user())
    async with _socket(served, token) as socket:
        await socket.send(message)
        with pytest.raises(ConnectionClosed) as ended:
            await _next(socket)
    assert ended.value.rcvd is not None
    assert (ended.value.rcvd.code, bool(ended.value.rcvd.reason)) == (code, True)


async def test_a_token_may_come_as_the_first_message_and_must_be_good(lab: Lab, served: GatewayProcess) -> None:
    """Browsers cannot set headers; a wrong token ends the conversation."""
    url = served.url.replace("http", "ws") + "/api/v1/live"
    token = (await asyncio.to_thread(served.sign_in, lab.user()))["authorization"].removeprefix("Bearer ")
    async with connect(url) as socket:
        await socket.send(json.dumps({"action": "authenticate", "token": token}))
        assert (await _next(socket))["type"] == "ready"
    async with connect(url) as socket:
        await socket.send(json.dumps({"action": "authenticate", "token": token + "x"}))
        with pytest.raises(ConnectionClosed) as ended:
            await _next(socket)
    assert ended.value.rcvd is not None
    assert ended.value.rcvd.code == 4401


async def test_a_revoked_token_ends_the_conversation(lab: Lab, served: GatewayProcess) -> None:
    """Signing out closes the session's sockets too."""
    token = await asyncio.to_thread(served.sign_in, lab.user())
    async with _socket(served, token) as socket:
        async with httpx.AsyncClient() as client:
            await client.post(f"{served.url}/api/v1/auth/revoke", json={}, headers=token)
        with pytest.raises(ConnectionClosed) as ended:
            await _next(socket)
    assert ended.value.rcvd is not None
    assert ended.value.rcvd.code == 4401


async def test_a_slow_client_is_dropped_with_a_reason_and_others_go_on(
    lab: Lab, served: GatewayProcess, sink: Sink
) -> None:
    """A client that does not read is ended; one that reads hears everything."""
    token = await asyncio.to_thread(served.sign_in, lab.user())
    channel = await asyncio.to_thread(_customer, served, token)
    events = 4 * BEHIND_MAX
    async with _socket(served, token) as slow, _socket(served, token) as quick:
        for each in (slow, quick):
            await _subscribe(each, "workloads")
            assert (await _next(each))["type"] == "subscribed"

        unheard = asyncio.Semaphore(BEHIND_MAX // 4)  # so that quick keeps up, on any machine

        async def read() -> int:
            for _ in range(events):
                await _next(quick)
                unheard.release()
            return events

        async with asyncio.TaskGroup() as both:
            reading = both.create_task(read())
            for number in range(events):
                await unheard.acquire()
                await asyncio.to_thread(sink.publish, channel, {"n": number, "padding": "x" * 8_192})
        assert reading.result() == events

        async def read_on() -> None:
            for _ in range(events):
                await _next(slow)

        with pytest.raises(ConnectionClosed) as ended:
            await read_on()
    assert ended.value.rcvd is not None
    assert (ended.value.rcvd.code, "far behind" in ended.value.rcvd.reason) == (4408, True)
