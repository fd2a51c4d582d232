"""What a client meets at the ports of a simulated miner, asked by hand, and what its faults do to that."""

import asyncio
import json
import struct
import subprocess
import sys
from typing import Any

import pytest

from simulators.asic.families import Family
from simulators.asic.farm import FarmOptions
from simulators.asic.faults import GARBAGE, FaultKind, parse_fault
from simulators.asic.launch import running_farm
from simulators.asic.plant import POOLS, WorkMode
from tests.asic_farms import eventually, farm_of, free_address, host_of


async def _ask(host: str, port: int, request: bytes) -> bytes:
    """Send bytes and return all that comes until the end."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


async def _rpc(host: str, command: str, parameter: str = "") -> dict[str, Any]:
    asked = json.dumps({"command": command, "parameter": parameter}).encode()
    found: dict[str, Any] = json.loads((await _ask(host, 4_028, asked)).rstrip(b"\0"))
    return found


async def _frame(host: str, request: dict[str, Any]) -> dict[str, Any]:
    reader, writer = await asyncio.open_connection(host, 4_433)
    body = json.dumps(request).encode()
    writer.write(struct.pack("<I", len(body)) + body)
    (length,) = struct.unpack("<I", await reader.readexactly(4))
    found: dict[str, Any] = json.loads(await reader.readexactly(length))
    writer.close()
    return found


async def test_an_answer_of_cgminer_ends_with_a_nul_and_the_connection() -> None:
    """As the real one does: clients read up to either."""
    async with farm_of(Family.LUXOS) as farm:
        answer = await _ask(host_of(farm), 4_028, b'{"command":"summary"}\n')
        assert answer.endswith(b"}\0")
        row = json.loads(answer[:-1])["SUMMARY"][0]
        assert row["GHS 5s"] == pytest.approx(farm[host_of(farm)].plant.hash_rate_gh_per_s)


async def test_a_session_is_needed_for_orders_and_a_stale_one_is_refused() -> None:
    """LuxOS: no session, a wrong one, one that grew stale, then a good one."""
    async with farm_of(Family.LUXOS) as farm:
        host = host_of(farm)
        assert (await _rpc(host, "curtail", ",sleep"))["STATUS"][0]["Code"] == 401
        await farm[host].ask(parse_fault("stale:1"))
        stale = (await _rpc(host, "logon"))["SESSION"][0]["SessionID"]
        assert (await _rpc(host, "curtail", f"{stale},sleep"))["STATUS"][0]["Code"] == 401
        assert farm[host].plant.mode is WorkMode.NORMAL
        good = (await _rpc(host, "session"))["SESSION"][0]["SessionID"]
        assert (await _rpc(host, "curtail", f"{good},sleep"))["CURTAIL"] == [{"Mode": "sleep"}]
        assert farm[host].plant.mode is WorkMode.SLEEP


async def test_an_order_signed_with_an_old_salt_is_refused() -> None:
    """Whatsminer: the token says which salt it was made with."""
    async with farm_of(Family.WHATSMINER) as farm:
        host = host_of(farm)
        order = {"cmd": "set.miner.service", "param": "stop", "ts": 1, "token": "12345678", "account": "super"}
        assert (await _frame(host, order))["code"] == -4
        assert farm[host].plant.mode is WorkMode.NORMAL


async def test_stock_firmware_asks_for_a_digest_and_its_configuration_replaces_what_was() -> None:
    """Without credentials 401 with a challenge; 404 is only for who is known."""
    async with farm_of(Family.STOCK) as farm:
        request = b"GET /cgi-bin/get_miner_conf.cgi HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        answer = await _ask(host_of(farm), 80, request)
        assert answer.startswith(b"HTTP/1.1 401")
        assert b'WWW-Authenticate: Digest realm="antMiner Configuration"' in answer


async def test_a_miner_that_refuses_has_no_port_open_and_comes_back_when_mended() -> None:
    """The kernel says no, as for a host with nothing on the port."""
    async with farm_of(Family.LUXOS, count=2) as farm:
        host, other = host_of(farm), host_of(farm, 1)
        await farm[host].ask(parse_fault("refuse"))
        with pytest.raises(ConnectionRefusedError):
            await _rpc(host, "summary")
        assert (await _rpc(other, "summary"))["SUMMARY"]
        await farm[host].mend()
        assert (await _rpc(host, "summary"))["SUMMARY"]


async def test_a_restart_takes_the_miner_away_and_brings_it_back_without_its_sessions() -> None:
    """Gone for the time asked for; pools and mode are kept."""
    async with farm_of(Family.LUXOS) as farm:
        host = host_of(farm)
        before = (await _rpc(host, "logon"))["SESSION"][0]["SessionID"]
        await farm[host].ask(parse_fault("restart:1:50"))
        with pytest.raises(ConnectionRefusedError):
            await _rpc(host, "summary")
        await eventually(lambda: farm[host].is_listening)
        assert (await _rpc(host, "session"))["SESSION"][0]["SessionID"] != before
        assert farm[host].plant.pools == POOLS


async def test_a_hung_miner_accepts_and_never_answers() -> None:
    """The connection stands; nothing comes."""
    async with farm_of(Family.LUXOS) as farm:
        await farm[host_of(farm)].ask(parse_fault("hang"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await _rpc(host_of(farm), "summary")


@pytest.mark.parametrize("kind", [FaultKind.HALF, FaultKind.GARBAGE])
async def test_a_broken_answer_is_no_json(kind: FaultKind) -> None:
    """Half of it, or something else altogether; the next one is whole."""
    async with farm_of(Family.LUXOS) as farm:
        host = host_of(farm)
        await farm[host].ask(parse_fault(f"{kind}:1"))
        broken = await _ask(host, 4_028, b'{"command":"summary"}')
        assert broken == GARBAGE or not broken.endswith(b"\0")
        with pytest.raises(ValueError, match=r"."):
            json.loads(broken.rstrip(b"\0"))
        assert (await _rpc(host, "summary"))["SUMMARY"]


async def test_an_ignored_order_is_answered_with_yes_and_a_refused_one_with_no() -> None:
    """Neither takes effect."""
    async with farm_of(Family.LUXOS) as farm:
        host = host_of(farm)
        session = (await _rpc(host, "logon"))["SESSION"][0]["SessionID"]
        await farm[host].ask(parse_fault("ignore:1"))
        assert (await _rpc(host, "curtail", f"{session},sleep"))["STATUS"][0]["STATUS"] == "S"
        await farm[host].ask(parse_fault("refuse_order:1"))
        assert (await _rpc(host, "curtail", f"{session},sleep"))["STATUS"][0]["STATUS"] == "E"
        assert farm[host].plant.mode is WorkMode.NORMAL


async def test_an_order_may_take_effect_without_an_answer() -> None:
    """The connection is cut after the order."""
    async with farm_of(Family.LUXOS) as farm:
        host = host_of(farm)
        session = (await _rpc(host, "logon"))["SESSION"][0]["SessionID"]
        await farm[host].ask(parse_fault("cut_after_order:1"))
        order = json.dumps({"command": "curtail", "parameter": f"{session},sleep"}).encode()
        assert await _ask(host, 4_028, order) == b""
        assert farm[host].plant.mode is WorkMode.SLEEP


def test_a_farm_runs_as_a_process_takes_faults_and_ends_on_sigterm() -> None:
    """1,000 miners, one of which is told to refuse; the exit status is 0."""
    options = FarmOptions(family=Family.LUXOS, first=free_address(), count=1_000)
    with running_farm(options) as running:
        assert len(running.hosts) == 1_000
        assert not running.fault(running.hosts[7], "refuse").is_listening
        assert running.mend(running.hosts[7]).is_listening
        assert running.state(running.hosts[999]).mode == "normal"
        answer = asyncio.run(_rpc(running.hosts[999], "summary"))
        assert answer["SUMMARY"][0]["Accepted"] <= running.state(running.hosts[999]).accepted
        with pytest.raises(RuntimeError, match="host must be a miner of this farm"):
            running.state("127.0.0.1")
    assert running.process.returncode == 0


def test_a_farm_that_cannot_be_says_why_and_ends_with_2() -> None:
    """One line on standard error, no traceback."""
    argv = [sys.executable, "-m", "simulators.asic", "--family", "luxos", "--first", "10.0.0.1"]
    ended = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stderr) == (2, "address must be in 127.0.0.0/8, was 10.0.0.1\n")
