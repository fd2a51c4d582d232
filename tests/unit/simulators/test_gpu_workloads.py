"""The simulated miner and inference server as processes: they work, pause, answer as the real ones, and end."""

import asyncio
import hashlib
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
import pytest_asyncio

from simulators.gpu_workloads.faults import FaultKind, Faults, parse_fault
from simulators.gpu_workloads.launch import Running, running
from simulators.gpu_workloads.proof_of_work import HashRates, scrypt_hash

WAIT_SECONDS_MAX = 90.0
POLL_SECONDS = 0.05
PROMPT = {"prompt": "The known prompt", "max_tokens": 4, "temperature": 0, "return_token_ids": True}
PAUSED_CPU_RATIO_MAX = 0.25
"""Of one core: a machine that others use too leaves room between this and the hashing thread's one whole core."""


class Caller:
    """One HTTP session."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session

    async def call(self, method: str, url: str, body: object = None, **headers: str) -> tuple[int, Any]:
        """Return status and decoded body of one call."""
        async with self.session.request(method, url, json=body, headers=headers) as response:
            return response.status, await response.json(content_type=None) if await response.read() else None

    async def truth(self, workload: Running) -> dict[str, Any]:
        """Ask the control port what the workload does."""
        return dict((await self.call("GET", f"{workload.control_url}/state"))[1])

    async def fault(self, workload: Running, text: str) -> None:
        """Ask for a fault."""
        assert (await self.call("POST", f"{workload.control_url}/fault", {"fault": text}))[0] == 200

    async def advances(self, workload: Running, *, seconds_max: float = WAIT_SECONDS_MAX) -> bool:
        """Whether it works: true as soon as its counter moves."""
        before = (await self.truth(workload))["work"]
        until = time.monotonic() + seconds_max
        while time.monotonic() < until:
            if (await self.truth(workload))["work"] > before:
                return True
            await asyncio.sleep(POLL_SECONDS)
        return False

    async def rests(self, workload: Running) -> bool:
        """Whether it comes to rest within 20 s."""
        until = time.monotonic() + WAIT_SECONDS_MAX
        while time.monotonic() < until:
            if not (await self.truth(workload))["is_working"]:
                return True
        return False


@pytest_asyncio.fixture
async def caller() -> AsyncIterator[Caller]:
    """Give a session."""
    async with aiohttp.ClientSession() as session:
        yield Caller(session)


@pytest.fixture
def miner() -> Iterator[Running]:
    """Run a miner."""
    with running("miner") as started:
        yield started


@pytest.fixture
def server() -> Iterator[Running]:
    """Run an inference server with a small model."""
    with running("server", "--weights-mb", "4") as started:
        yield started


def test_hash_is_scrypt_of_the_header() -> None:
    """The work is real: the hash of a nonce is scrypt(1024, 1, 1) of the 80 bytes that end with it."""
    blob = bytes(range(76)) + (7).to_bytes(4, "little")
    digest = hashlib.scrypt(blob, salt=blob, n=1024, r=1, p=1, dklen=32)
    assert scrypt_hash(7) == int.from_bytes(digest, "little")


def test_hash_rate_is_unknown_until_its_window_is_full() -> None:
    """As in xmrig a rate is None for 10 s, then counts samples, and is None when nothing was done."""
    now = [0.0]
    rates = HashRates(monotonic=lambda: now[0])
    for half_seconds in range(22):
        now[0] = half_seconds / 2
        rates.sample(half_seconds * 50)
        assert (rates.over(10) is None) is (half_seconds < 20)
    assert rates.over(10) == 100.0
    assert rates.highest == 100.0
    for half_seconds in range(22, 60):
        now[0] = half_seconds / 2
        rates.sample(22 * 50)
    assert rates.over(10) is None


def test_fault_is_met_as_often_as_asked_and_where_asked() -> None:
    """A fault names kind, path and times; after that often nothing goes wrong."""
    faults = Faults((parse_fault("slow:/pause:2:50"),))
    assert faults.take(FaultKind.SLOW, path="/resume") is None
    assert [faults.take(FaultKind.SLOW, path="/pause") is None for _ in range(3)] == [False, False, True]
    with pytest.raises(ValueError, match="fault must be one of"):
        parse_fault("boom")


async def test_miner_hashes_pauses_and_goes_on(caller: Caller, miner: Running) -> None:
    """Paused it does nothing and costs next to no CPU; resumed its shares, and so its hashes_total, advance."""
    assert await caller.advances(miner)
    status, said = await caller.call("POST", f"{miner.url}/json_rpc", {"method": "pause", "id": 1})
    assert (status, said) == (200, {"id": 1, "jsonrpc": "2.0", "result": {"status": "OK"}})
    assert await caller.rests(miner)
    process = psutil.Process(miner.pid)
    used_before = sum(process.cpu_times()[:2])
    began = time.monotonic()
    assert not await caller.advances(miner, seconds_max=1.0)
    used = sum(process.cpu_times()[:2]) - used_before
    assert used / (time.monotonic() - began) < PAUSED_CPU_RATIO_MAX
    _, paused = await caller.call("GET", f"{miner.url}/2/summary")
    assert paused["paused"] is True
    await caller.call("POST", f"{miner.url}/json_rpc", {"method": "resume", "id": 2})
    assert await caller.advances(miner)
    _, summary = await caller.call("GET", f"{miner.url}/2/summary")
    assert summary["results"]["hashes_total"] > paused["results"]["hashes_total"]
    assert summary["results"]["hashes_total"] == summary["results"]["shares_total"] * 4


async def test_miner_answers_as_xmrig_does(caller: Caller) -> None:
    """Token missing 401, wrong 403, restricted 403, no JSON 415, unknown path 404, unknown method -32601."""
    with running("miner", "--access-token", "secret", "--paused") as open_one, running("miner", "--restricted") as shut:
        summary, rpc = f"{open_one.url}/2/summary", f"{open_one.url}/json_rpc"
        good = {"Authorization": "Bearer secret"}
        assert (await caller.call("GET", summary))[0] == 401
        assert (await caller.call("GET", summary, Authorization="Bearer wrong"))[0] == 403
        assert (await caller.call("GET", summary, **good))[1]["paused"] is True
        assert (await caller.call("GET", f"{open_one.url}/nothing", **good))[0] == 404
        _, config = await caller.call("GET", f"{open_one.url}/1/config", **good)
        assert config["http"]["restricted"] is False
        _, unknown = await caller.call("POST", rpc, {"method": "dance", "id": 3}, **good)
        assert unknown["error"]["code"] == -32601
        async with caller.session.post(rpc, data="{}", headers=good) as response:
            assert response.status == 415
        assert (await caller.call("POST", f"{shut.url}/json_rpc", {"method": "pause", "id": 1}))[0] == 403
        assert (await caller.call("GET", f"{shut.url}/1/config"))[0] == 403
        assert (await caller.call("GET", f"{shut.url}/2/summary"))[1]["restricted"] is True


async def test_stopped_miner_never_hashes_again(caller: Caller, miner: Running) -> None:
    """Stop is for good, as in xmrig: a resume afterwards changes nothing."""
    for method in ("stop", "resume"):
        await caller.call("POST", f"{miner.url}/json_rpc", {"method": method, "id": 1})
    assert await caller.rests(miner)
    assert not await caller.advances(miner, seconds_max=1.0)


async def test_server_computes_the_same_tokens_each_time(caller: Caller, server: Running) -> None:
    """Temperature 0 gives the same tokens always, another prompt gives others."""
    first, second = [(await caller.call("POST", f"{server.url}/v1/completions", PROMPT))[1] for _ in range(2)]
    assert first["choices"] == second["choices"]
    assert first["usage"]["completion_tokens"] == 4
    _, other = await caller.call("POST", f"{server.url}/v1/completions", {**PROMPT, "prompt": "The known prompT"})
    assert other["choices"][0]["token_ids"] != first["choices"][0]["token_ids"]


@pytest.mark.parametrize(
    ("pause", "wakes"),
    [
        ("/pause?mode=keep", ("/resume",)),
        ("/sleep?level=0", ("/wake_up?tags=scheduling",)),
        ("/sleep?level=1", ("/wake_up?tags=weights", "/wake_up?tags=kv_cache")),
        ("/sleep?level=1", ("/wake_up",)),
    ],
)
async def test_server_sleeps_and_comes_back_right(
    caller: Caller, server: Running, pause: str, wakes: tuple[str, ...]
) -> None:
    """Whatever way it was put to rest, it says so, and afterwards its tokens are the same as before."""
    _, before = await caller.call("POST", f"{server.url}/v1/completions", PROMPT)
    assert (await caller.call("POST", server.url + pause))[0] == 200
    for wake in wakes:
        assert (await caller.call("GET", f"{server.url}/is_sleeping"))[1] == {"is_sleeping": True}
        assert (await caller.call("GET", f"{server.url}/is_paused"))[1] == {"is_paused": True}
        assert (await caller.call("POST", server.url + wake))[0] == 200
    assert (await caller.call("GET", f"{server.url}/is_paused"))[1] == {"is_paused": False}
    _, after = await caller.call("POST", f"{server.url}/v1/completions", PROMPT)
    assert after["choices"] == before["choices"]


async def test_level_two_forgets_the_weights(caller: Caller, server: Running) -> None:
    """Woken from level 2 it is in good health and computes nonsense until its weights are reloaded."""
    _, before = await caller.call("POST", f"{server.url}/v1/completions", PROMPT)
    await caller.call("POST", f"{server.url}/sleep?level=2")
    await caller.call("POST", f"{server.url}/wake_up")
    assert (await caller.call("GET", f"{server.url}/health"))[0] == 200
    _, after = await caller.call("POST", f"{server.url}/v1/completions", PROMPT)
    assert after["choices"] != before["choices"]
    assert (await caller.call("POST", f"{server.url}/collective_rpc", {"method": "reload_weights"}))[0] == 200
    _, reloaded = await caller.call("POST", f"{server.url}/v1/completions", PROMPT)
    assert reloaded["choices"] == before["choices"]


@pytest.mark.parametrize(("mode", "reason", "tokens"), [("keep", "length", 200), ("abort", "abort", None)])
async def test_pause_keeps_or_aborts_what_is_under_way(
    caller: Caller, server: Running, mode: str, reason: str, tokens: int | None
) -> None:
    """A kept request goes on after the resume and ends whole; an aborted one ends at the pause."""
    asked = {**PROMPT, "max_tokens": 200}
    under_way = asyncio.create_task(caller.call("POST", f"{server.url}/v1/completions", asked))
    while not (await caller.truth(server))["work"]:
        assert not under_way.done()
    await caller.call("POST", f"{server.url}/pause?mode={mode}")
    assert not await caller.advances(server, seconds_max=1.0)
    assert under_way.done() is (mode == "abort")
    await caller.call("POST", f"{server.url}/resume")
    _, answer = await under_way
    assert answer["choices"][0]["finish_reason"] == reason
    assert tokens is None or answer["usage"]["completion_tokens"] == tokens


async def test_server_answers_as_vllm_does(caller: Caller) -> None:
    """Without the development mode the control paths are not there; the API key guards /v1 and nothing else."""
    options = ("--no-dev-mode", "--api-key", "secret", "--weights-mb", "1")
    with running("server", *options) as closed, running("server", "--no-sleep-mode", "--weights-mb", "1") as opened:
        assert (await caller.call("POST", f"{closed.url}/pause"))[0] == 404
        assert (await caller.call("POST", f"{closed.url}/v1/completions", PROMPT))[0] == 401
        assert (await caller.call("GET", f"{closed.url}/v1/models", Authorization="Bearer secret"))[0] == 200
        assert (await caller.call("GET", f"{closed.url}/health"))[0] == 200
        assert (await caller.call("POST", f"{opened.url}/pause?mode=gently"))[0] == 400
        assert (await caller.call("POST", f"{opened.url}/v1/completions", {**PROMPT, "model": "other"}))[0] == 404
        too_long = {**PROMPT, "prompt": "x" * 5_000}
        assert (await caller.call("POST", f"{opened.url}/v1/completions", too_long))[0] == 400
        assert (await caller.call("GET", f"{opened.url}/version"))[1] == {"version": "0.24.0"}
        async with caller.session.post(f"{opened.url}/sleep?level=1") as response:
            assert response.status == 500
        async with caller.session.get(f"{opened.url}/metrics") as response:
            assert 'sleep_state="awake"} 1.0' in await response.text()


async def test_faults_go_wrong_as_asked(caller: Caller, server: Running, miner: Running) -> None:
    """Refuse, reset, crash, corrupt tokens in good health, and a miner that says it resumed and does not hash."""
    _, before = await caller.call("POST", f"{server.url}/v1/completions", PROMPT)
    await caller.fault(server, "refuse:/health:1")
    assert [(await caller.call("GET", f"{server.url}/health"))[0] for _ in range(2)] == [503, 200]
    await caller.fault(server, "reset:/pause:1")
    with pytest.raises(aiohttp.ClientError):
        await caller.call("POST", f"{server.url}/pause")
    await caller.fault(server, "corrupt:/resume:1")
    await caller.call("POST", f"{server.url}/resume")
    _, wrong = await caller.call("POST", f"{server.url}/v1/completions", PROMPT)
    assert wrong["choices"] != before["choices"]
    assert (await caller.call("GET", f"{server.url}/health"))[0] == 200
    await caller.call("DELETE", f"{server.control_url}/fault")
    _, mended = await caller.call("POST", f"{server.url}/v1/completions", PROMPT)
    assert mended["choices"] == before["choices"]
    await caller.fault(miner, "no_work")
    for method in ("pause", "resume"):
        await caller.call("POST", f"{miner.url}/json_rpc", {"method": method, "id": 1})
    assert (await caller.call("GET", f"{miner.url}/2/summary"))[1]["paused"] is False
    assert await caller.rests(miner)
    assert not await caller.advances(miner, seconds_max=1.0)
    await caller.fault(server, "crash:/resume")
    with pytest.raises(aiohttp.ClientError):
        await caller.call("POST", f"{server.url}/resume")
    assert server.process.wait(timeout=WAIT_SECONDS_MAX) == 70


@pytest.mark.parametrize("workload", ["miner", "server"])
def test_workload_ends_on_sigterm_and_with_its_parent(workload: str) -> None:
    """SIGTERM ends it with 0; when its parent is killed it does not stay behind."""
    with running(workload) as started:
        started.process.send_signal(signal.SIGTERM)
        assert started.process.wait(timeout=WAIT_SECONDS_MAX) == 0
    code = f"import time; from simulators.gpu_workloads.launch import start; print(start('{workload}').pid, flush=True)"
    parent = subprocess.Popen(
        [sys.executable, "-c", f"{code}; time.sleep(600)"],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
        text=True,
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    psutil.wait_procs([child], timeout=WAIT_SECONDS_MAX)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
