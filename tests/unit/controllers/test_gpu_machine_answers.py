"""What the HTTP drivers make of answers that no simulator gives: garbage, half of it, too much, rates out of range."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from controllers.drivers.http import ANSWER_BYTES_MAX, open_session
from controllers.drivers.vllm import Canary, VllmConfig, VllmWorkload, version_of
from controllers.drivers.xmrig import XmrigConfig, XmrigWorkload
from controllers.ports import (
    Applied,
    Disproven,
    NotConfirmed,
    ObservedState,
    PauseMode,
    Proven,
    Refused,
    Unreachable,
    Unsupported,
)

DEADLINE_MS = 2_000
CANARY = Canary(prompt="p", tokens_max=2, text="ab", token_ids=(1, 2))
OK = {"id": 1, "jsonrpc": "2.0", "result": {"status": "OK"}}
# Shape and values of an answer of xmrig 6.17 (its documentation's example), cut to what a driver could read.
SUMMARY: dict[str, Any] = {
    "id": "51aca77da137cb62",
    "worker_id": "tpad",
    "uptime": 106,
    "results": {"diff_current": 37638, "shares_good": 3, "shares_total": 3, "hashes_total": 165638},
    "algo": "rx/0",
    "connection": {"pool": "some.pool:20064", "uptime": 106, "ping": 405, "failures": 0},
    "paused": False,
    "hashrate": {"total": [1207.19, 1210.82, None], "highest": 1316.85},
}


class Script:
    """A server that answers each path with the next of its answers, the last one for ever."""

    def __init__(self) -> None:
        self.answers: dict[str, list[object]] = {}
        self.calls: list[str] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Give the next answer: bytes as they are, an int as a status, all else as JSON."""
        self.calls.append(f"{request.method} {request.path_qs}")
        answers = self.answers.get(request.path, [404])
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, int):
            return web.Response(status=answer)
        return web.Response(body=answer if isinstance(answer, bytes) else json.dumps(answer).encode())


@pytest_asyncio.fixture
async def script() -> AsyncIterator[tuple[Script, str]]:
    """Serve a script; give its URL."""
    played = Script()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", played.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield played, f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest_asyncio.fixture
async def miner(script: tuple[Script, str]) -> AsyncIterator[XmrigWorkload]:
    """Drive the script as a miner."""
    async with open_session() as session:
        yield XmrigWorkload(XmrigConfig(url=f"{script[1]}/", hash_rate_h_per_s_max=2_000.0), session)


@pytest_asyncio.fixture
async def server(script: tuple[Script, str]) -> AsyncIterator[VllmWorkload]:
    """Drive the script as an inference server."""
    async with open_session() as session:
        yield VllmWorkload(VllmConfig(url=script[1], model="m", canary=CANARY), session)


def summary(**changes: object) -> dict[str, Any]:
    """Return the summary with some fields changed."""
    return {**SUMMARY, **changes}


def shares(count: int, *, hashes: int = 165638) -> dict[str, int]:
    """Return results with so many shares."""
    return {"shares_total": count, "hashes_total": hashes}


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\xff\xfe",
        b'{"paused": false, "uptime": 1',
        b'{"paused": "no"}',
        b"<html></html>",
        b" " * (ANSWER_BYTES_MAX + 1),
    ],
    ids=["nothing", "no_utf8", "half", "another_type", "html", "too_much"],
)
async def test_unreadable_summary_is_no_success(
    script: tuple[Script, str], miner: XmrigWorkload, garbage: bytes
) -> None:
    """Version 6.22.1 was seen to cut its summary off (xmrig issue 3568): what cannot be read proves nothing."""
    script[0].answers = {"/json_rpc": [OK], "/2/summary": [garbage]}
    assert await miner.observed() is ObservedState.UNKNOWN
    assert isinstance(await miner.pause(mode=PauseMode.KEEP, deadline_ms=DEADLINE_MS), NotConfirmed)
    assert isinstance(await miner.activate(deadline_ms=DEADLINE_MS), NotConfirmed)
    assert isinstance(await miner.verify(deadline_ms=100), Disproven)
    assert await miner.export_state() == b"{}"


async def test_real_summary_is_read(script: tuple[Script, str], miner: XmrigWorkload) -> None:
    """An answer of the real program, with all that the driver does not name, is read."""
    script[0].answers = {"/json_rpc": [OK], "/2/summary": [SUMMARY]}
    assert await miner.observed() is ObservedState.ACTIVE
    assert await miner.activate(deadline_ms=DEADLINE_MS) == Applied()
    assert json.loads(await miner.export_state()) == {"shares_total": 3, "hashes_total": 165638}
    script[0].answers["/2/summary"] = [summary(hashrate={"total": [None, None, None], "highest": None})]
    assert await miner.observed() is ObservedState.RAMPING


async def test_order_is_not_believed_until_it_is_read_back(script: tuple[Script, str], miner: XmrigWorkload) -> None:
    """A miner says OK to a resume that it does not do (on battery power): the summary decides."""
    script[0].answers = {"/json_rpc": [OK], "/2/summary": [summary(paused=True)]}
    ack = await miner.activate(deadline_ms=DEADLINE_MS)
    assert ack == NotConfirmed(detail="miner must say paused=False after resume, said True")
    script[0].answers = {"/json_rpc": [OK], "/2/summary": [summary(paused=False)]}
    assert isinstance(await miner.pause(mode=PauseMode.KEEP, deadline_ms=DEADLINE_MS), NotConfirmed)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (401, Refused),
        (403, Refused),
        (500, Refused),
        (302, Refused),
        (404, Unsupported),
        ({"error": {"code": -32601, "message": "Method not found"}}, Unsupported),
        ({"error": {"code": -1, "message": "no"}}, Refused),
    ],
)
async def test_each_refusal_is_its_own_value(
    script: tuple[Script, str], miner: XmrigWorkload, answer: object, kind: type
) -> None:
    """What asking again cannot change is unsupported, what was not allowed is refused; nothing is asked twice."""
    script[0].answers = {"/json_rpc": [answer], "/2/summary": [SUMMARY]}
    assert isinstance(await miner.activate(deadline_ms=DEADLINE_MS), kind)
    assert script[0].calls == ["POST /json_rpc"]


async def test_nobody_there_is_unreachable() -> None:
    """A closed port is a value too."""
    async with open_session() as session:
        workload = XmrigWorkload(XmrigConfig(url="http://127.0.0.1:9"), session)
        assert isinstance(await workload.activate(deadline_ms=DEADLINE_MS), Unreachable)


async def test_share_more_is_proof(script: tuple[Script, str], miner: XmrigWorkload) -> None:
    """A share that was not there at the first reading proves hashing, with the work it stands for."""
    script[0].answers["/2/summary"] = [SUMMARY, SUMMARY, summary(results=shares(4, hashes=203276))]
    proof = await miner.verify(deadline_ms=DEADLINE_MS)
    assert proof == Proven(evidence="1 shares, 37638 hashes of work more")


@pytest.mark.parametrize(("uptime", "kind"), [(106, Proven), (12, Disproven)])
async def test_rate_out_of_nothing_is_proof_once_the_window_is_full(
    script: tuple[Script, str], miner: XmrigWorkload, uptime: int, kind: type
) -> None:
    """A null rate says that nothing was hashed for 10 s only when the miner has run longer than its window."""
    still = summary(uptime=uptime, hashrate={"total": [None], "highest": 1.0})
    script[0].answers["/2/summary"] = [still, still, summary(uptime=uptime)]
    assert isinstance(await miner.verify(deadline_ms=200), kind)


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (summary(paused=True), "must not be paused"),
        (summary(results=shares(0, hashes=0)), "began anew"),
        (summary(results=shares(9), hashrate={"total": [2000.1]}), "hash rate must be from 0 to 2000.0"),
        (summary(results=shares(9), hashrate={"total": [-1.0]}), "hash rate must be from 0 to 2000.0"),
    ],
)
async def test_what_cannot_be_is_no_proof(
    script: tuple[Script, str], miner: XmrigWorkload, after: dict[str, Any], words: str
) -> None:
    """A miner paused meanwhile, one that began anew, and a rate that the card cannot do are disproven at once."""
    script[0].answers["/2/summary"] = [SUMMARY, after]
    proof = await miner.verify(deadline_ms=DEADLINE_MS)
    assert isinstance(proof, Disproven)
    assert words in proof.detail


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"text": "ab", "token_ids": [1, 3]}, "canary must give tokens (1, 2), was (1, 3)"),
        ({"text": "!!", "token_ids": [1, 2]}, "canary must give 'ab', was '!!'"),
        ({"text": "ab"}, "canary must give tokens (1, 2), was None"),
    ],
)
async def test_canary_is_held_to_text_and_tokens(
    script: tuple[Script, str], server: VllmWorkload, choice: dict[str, object], words: str
) -> None:
    """The same text from other tokens is not the canary, nor is its beginning."""
    script[0].answers = {"/v1/completions": [{"choices": [choice]}], "/health": [200]}
    assert await server.verify(deadline_ms=DEADLINE_MS) == Disproven(detail=words)


async def test_canary_of_an_unhealthy_server_is_no_proof(script: tuple[Script, str], server: VllmWorkload) -> None:
    """Right tokens from a server that calls itself dead, and no choice at all, are disproven; both right is proof."""
    good = {"choices": [{"text": "ab", "token_ids": [1, 2]}]}
    script[0].answers = {"/v1/completions": [good, {"choices": []}, good], "/health": [503, 200, 200]}
    assert await server.verify(deadline_ms=DEADLINE_MS) == Disproven(detail="/health must answer 200, was 503")
    assert isinstance(await server.verify(deadline_ms=DEADLINE_MS), Disproven)
    assert await server.verify(deadline_ms=DEADLINE_MS) == Proven(evidence="canary gave its 2 tokens")


async def test_prompt_with_two_answers_is_no_canary(script: tuple[Script, str], server: VllmWorkload) -> None:
    """What a model answers now so, now otherwise cannot be held against it."""
    answers = [{"choices": [{"text": text}]} for text in ("ab", "ab", "ac")]
    script[0].answers["/v1/completions"] = list(answers)
    learned = await server.learn_canary(prompt="p", tokens_max=2, deadline_ms=DEADLINE_MS)
    assert learned == NotConfirmed(detail="prompt must give one answer in 3, gave 2")


async def test_server_without_is_paused_is_read_by_is_sleeping(
    script: tuple[Script, str], server: VllmWorkload
) -> None:
    """A version that does not know /is_paused says as much by /is_sleeping."""
    script[0].answers = {
        "/pause": [{"status": "paused"}],
        "/is_sleeping": [{"is_sleeping": True}, {"is_sleeping": True}, {"is_sleeping": False}],
        "/health": [200],
    }
    assert await server.pause(mode=PauseMode.WAIT, deadline_ms=DEADLINE_MS) == Applied()
    assert script[0].calls[0] == "POST /pause?mode=wait"
    assert await server.observed() is ObservedState.PAUSED
    assert await server.observed() is ObservedState.ACTIVE
    script[0].answers["/health"] = [503]
    assert await server.observed() is ObservedState.UNKNOWN


@pytest.mark.parametrize(
    ("text", "version"), [("0.24.0", (0, 24)), ("0.23.1rc1.dev3+g1", (0, 23)), ("1.0", (1, 0)), ("dev", (0, 0))]
)
def test_version_is_its_first_two_numbers(text: str, version: tuple[int, int]) -> None:
    """What does not begin with two numbers is older than everything: nothing is assumed of it."""
    assert version_of(text) == version
