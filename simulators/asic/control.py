"""The hand on a farm from outside: lines of JSON on a loopback port apart from the miners' own.

`{"do": "fault", "host": "127.1.0.3", "fault": "hang"}`, and `mend` or `state` with a host, are answered by the miner's
true state, whatever its own protocol says, or by `{"error": ...}`.
"""

import asyncio
from typing import Final

import msgspec

from simulators.asic.farm import Farm
from simulators.asic.faults import parse_fault
from simulators.asic.miner import Miner

CONTROL_HOST: Final = "127.0.0.1"
LINE_BYTES_MAX: Final = 4_096
SESSIONS_MAX: Final = 32


class Asked(msgspec.Struct, frozen=True):
    """One line from outside; `fault` as `parse_fault` reads it."""

    do: str
    host: str
    fault: str = ""


class State(msgspec.Struct, frozen=True):
    """What a miner truly does, in the units of its names."""

    host: str
    mode: str
    power_watts: float
    limit_watts: float
    hash_rate_th_per_s: float
    accepted: int
    pools: tuple[str, ...]
    orders: tuple[str, ...]
    requests: int
    is_listening: bool


def state_of(miner: Miner) -> State:
    """Return the truth about one miner."""
    plant = miner.plant
    return State(
        host=miner.host,
        mode=plant.mode.name.lower(),
        power_watts=plant.power_watts,
        limit_watts=plant.limit_watts,
        hash_rate_th_per_s=plant.hash_rate_gh_per_s / 1_000.0,
        accepted=plant.accepted,
        pools=tuple(pool.url for pool in plant.pools),
        orders=tuple(plant.orders),
        requests=miner.requests,
        is_listening=miner.is_listening,
    )


async def serve_control(farm: Farm, *, port: int) -> asyncio.Server:
    """Serve the control port; 0 takes a free one."""
    sessions: set[asyncio.StreamWriter] = set()

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(sessions) >= SESSIONS_MAX:
            writer.close()
            return
        sessions.add(writer)
        try:
            while line := await reader.readline():
                writer.write(await _answered(farm, line) + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):  # gone, or a line too long
            return
        finally:
            sessions.discard(writer)
            writer.close()

    return await asyncio.start_server(session, CONTROL_HOST, port, limit=LINE_BYTES_MAX)


async def _answered(farm: Farm, line: bytes) -> bytes:
    try:
        asked = msgspec.json.decode(line, type=Asked)
        problem = await _done(farm, asked)
        answer: State | dict[str, str] = {"error": problem} if problem else state_of(farm[asked.host])
    except (ValueError, OSError, msgspec.MsgspecError) as error:
        answer = {"error": str(error)}
    return msgspec.json.encode(answer)


async def _done(farm: Farm, asked: Asked) -> str:
    """Do what is asked and return what is wrong with it, "" when nothing is."""
    miner = farm.miners.get(asked.host)
    if miner is None:
        return f"host must be a miner of this farm, was {asked.host}"
    if asked.do == "fault":
        await miner.ask(parse_fault(asked.fault))
    elif asked.do == "mend":
        await miner.mend()
    elif asked.do != "state":
        return f"do must be fault, mend or state, was {asked.do}"
    return ""
