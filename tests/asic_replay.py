"""A miner that answers with recorded responses: one folder of a real device's answers, served on its own ports."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec

from simulators.asic import braiins_web, cgminer, http, whatsminer
from simulators.asic.braiins_grpc import GRPC
from simulators.asic.cgminer import Answer, CgminerConnection
from simulators.asic.connection import tcp_port
from simulators.asic.http import HttpConnection, Request, Response
from simulators.asic.miner import Miner
from simulators.asic.plant import Nameplate, Plant
from tests.asic_farms import free_address

_REST: Final[Mapping[str, str]] = {
    "version": "version",
    "miner/details": "miner_details",
    "miner/stats": "miner_stats",
    "miner/hw/hashboards": "miner_hw_hashboards",
    "miner/errors": "miner_errors",
    "cooling/state": "cooling_state",
    "performance/tuner-state": "performance_tuner_state",
    "configuration/miner": "configuration_miner",
    "pools": "pools",
    "pools/": "pools",
    "network": "network",
    "network/": "network",
    "actions/locate": "actions_locate",
    "capabilities": "capabilities",
    "summary": "summary",
    "temps": "temps",
    "system/info": "system_info",
}
IDENTITY_BYTES_MAX: Final = 200
_STOCK_REALM: Final = 'Digest realm="antMiner Configuration", nonce="0", qop="auth"'


class Recording:
    """The answers of one folder."""

    def __init__(self, folder: Path) -> None:
        """Read every JSON file."""
        self.name = folder.name
        self.files: dict[str, Any] = {
            path.stem: msgspec.json.decode(path.read_bytes()) for path in sorted(folder.glob("*.json"))
        }
        self.asked: set[str] = set()
        self.lacked: set[str] = set()

    def rpc(self, miner: Miner, command: str, _parameter: str) -> Answer:
        """Answer cgminer's API; several commands may be joined by a plus."""
        command = command.removesuffix(cgminer.NEW_API)
        if "+" in command:
            return {each: [self.rpc(miner, each, "")] for each in command.split("+")}
        known = self._identity(miner, command)
        if known is not None:
            return known
        for stem in (f"rpc_{command}", command):
            if stem in self.files:
                self.asked.add(stem)
                return dict(self.files[stem])
        self.lacked.add(command)
        return cgminer.invalid(by="recorded")

    def _identity(self, miner: Miner, command: str) -> Answer | None:
        """Return what the recordings lack and a library asks first; None for what they have."""
        if self.name.startswith("braiins") and command in {"version", "devdetails"}:
            return braiins_web.rpc(miner, command, "")
        if self.name.startswith("whatsminer") and command == "devdetails":
            return whatsminer.rpc(miner, command, "")
        return None

    def web(self, miner: Miner, request: Request) -> Response:
        """Answer a web interface: Bitmain's CGI, Braiins' REST and GraphQL, and those with one page a reading."""
        if self.name.startswith("braiins") and (request.path == "/" or _asks_what(request)):
            return braiins_web.route(miner, request)
        if request.path.endswith("graphql"):
            return self._graphql(request.body)
        if request.path.endswith("auth/login"):
            return _json({"token": "recorded", "timeout_s": 3600})
        stem = self._stem(request.path)
        if stem in self.files:
            self.asked.add(stem)
            return _json(self.files[stem])
        if self.name.startswith("antminer_stock") and request.path in {"/", "/index.html"}:
            return Response(status=401, headers=(("WWW-Authenticate", _STOCK_REALM),))
        self.lacked.add(request.path)
        return Response(status=404)

    def _stem(self, path: str) -> str:
        if path.startswith("/cgi-bin/"):
            cgi = path.removeprefix("/cgi-bin/").removesuffix(".cgi")
            return f"web_{cgi}" if f"web_{cgi}" in self.files else cgi.removeprefix("get_")
        return _REST.get(re.sub(r"^/(api/v1/|api/)?", "", path), path)

    def _graphql(self, body: bytes) -> Response:
        query = str(msgspec.json.decode(body).get("query", ""))
        if query.startswith("mutation") and "login" in query:
            said = _json({"data": {"auth": {"login": {"__typename": "VoidResult"}}}})
            return replace(said, headers=(("Set-Cookie", "session_id=recorded; path=/"),))
        for word, stem in (
            ("childSolvers", "gql_boards"),
            ("groups", "gql_pools"),
            ("autotuning", "gql_tuning"),
            ("", "gql_system"),
        ):
            if word in query and stem in self.files:
                self.asked.add(stem)
                return _json(self.files[stem])
        release = self.name.removeprefix("braiins_").split("_")
        return _json({"data": {"bos": {"info": {"version": {"full": f"recorded-{release[0]}.{release[1]}"}}}}})


def _asks_what(request: Request) -> bool:
    """Tell whether a query is the one by which the library finds the model."""
    return request.path == "/graphql" and b"modelName" in request.body and len(request.body) < IDENTITY_BYTES_MAX


def _json(value: object) -> Response:
    return Response(body=msgspec.json.encode(value))


@asynccontextmanager
async def replayed(recording: Recording) -> AsyncIterator[str]:
    """Serve a recording, Braiins' gRPC by the simulator, for none was recorded; yield its address."""
    rating = Nameplate(model=recording.name, hash_rate_th_per_s=1.0, power_watts=1.0, chips_per_board=1)
    miner = Miner(
        host=free_address(),
        plant=Plant(nameplate=rating, ramp_ms=1, down_ms=1),
        ports=(
            tcp_port(cgminer.PORT, lambda each: CgminerConnection(each, recording.rpc)),
            tcp_port(http.PORT, lambda each: HttpConnection(each, recording.web)),
            *((GRPC,) if recording.name.startswith("braiins") else ()),
        ),
    )
    await miner.open()
    try:
        yield miner.host
    finally:
        miner.close()
