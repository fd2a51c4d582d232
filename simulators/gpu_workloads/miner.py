"""A miner with the HTTP API of xmrig 6: the real field names, status codes, bearer token and restricted mode.

Two habits of the real one are kept because they have consequences: `hashes_total` adds up the difficulty of accepted
shares, it does not count hashes; and every answer closes its connection.
"""

import asyncio
import os
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from simulators.gpu_workloads.cuda import load_cupy
from simulators.gpu_workloads.cuda_search import CudaSearch
from simulators.gpu_workloads.faults import FaultKind, Faults, control_app, fault_middleware
from simulators.gpu_workloads.process import serve
from simulators.gpu_workloads.proof_of_work import POLL_MS, TICK_SECONDS, WINDOWS_SECONDS, HashRates, Worker

VERSION: Final = "6.22.1"
METHOD_NOT_FOUND: Final = -32601
BODY_BYTES_MAX: Final = 65_536
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_HEADERS: Final = {"Access-Control-Allow-Origin": "*", "Connection": "close"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MinerOptions:
    """How the miner is run.

    Attributes:
        port: Port of the API; 0 takes a free one.
        access_token: Bearer token that every call must bring; "" asks for none.
        is_restricted: Refuse, as xmrig does by default, whatever changes something.
        difficulty: One share in so many hashes, 1 or more.
        poll_ms: While paused, look so often whether to go on; 20 as xmrig's CPU workers, 200 as its CUDA workers.
        worker_id: Name of the rig.
        is_paused: Begin paused.
        until_stdin_closes: End with the parent.
        is_cuda: Hash SHA-256d on the GPU, not scrypt on the CPU.
    """

    port: int = 0
    access_token: str = ""
    is_restricted: bool = False
    difficulty: int = 4
    poll_ms: int = POLL_MS
    worker_id: str = "rig-0"
    is_paused: bool = False
    until_stdin_closes: bool = False
    is_cuda: bool = False


class _Call(msgspec.Struct, frozen=True):
    method: str
    id: int | str | None = None


class Miner:
    """The API over one worker."""

    def __init__(self, options: MinerOptions, faults: Faults) -> None:
        """Hash as `options` say; `faults` may make a resumed miner idle."""
        self.options = options
        self.worker = Worker(
            difficulty=options.difficulty,
            poll_ms=options.poll_ms,
            has_no_work=lambda: faults.take(FaultKind.NO_WORK, path="/json_rpc") is not None,
            search=CudaSearch(load_cupy()) if options.is_cuda else None,
        )
        self.rates = HashRates()
        self._began_s = time.monotonic()
        if options.is_paused:
            self.worker.pause()

    async def tick(self) -> None:
        """Sample the counter for ever, every half second."""
        while True:
            self.rates.sample(self.worker.hashes)
            await asyncio.sleep(TICK_SECONDS)

    def summary(self) -> dict[str, object]:
        """Return what `GET /2/summary` says."""
        uptime_ms = int((time.monotonic() - self._began_s) * 1_000)
        return {
            "id": "51aca77da137cb62",
            "worker_id": self.options.worker_id,
            "uptime": uptime_ms // 1_000,
            "restricted": self.options.is_restricted,
            "resources": _resources(),
            "features": ["api", "http"],
            "results": self._results(uptime_ms),
            "algo": self.worker.search.algorithm,
            "connection": self._connection(uptime_ms),
            "version": VERSION,
            "kind": "miner",
            "ua": f"XMRig/{VERSION} (simulated)",
            "donate_level": 0,
            "paused": self.worker.is_paused,
            "algorithms": [self.worker.search.algorithm],
            "hashrate": {"total": [self.rates.over(each) for each in WINDOWS_SECONDS], "highest": self.rates.highest},
            "hugepages": [0, 0],
        }

    def config(self) -> dict[str, object]:
        """Return what `GET /2/config` says."""
        options, algorithm = self.options, self.worker.search.algorithm
        pool = {"algo": algorithm, "url": "pool.invalid:3333", "user": "hcp", "rig-id": options.worker_id}
        return {
            "api": {"id": None, "worker-id": options.worker_id},
            "http": {
                "enabled": True,
                "host": "127.0.0.1",
                "port": options.port,
                "access-token": options.access_token or None,
                "restricted": options.is_restricted,
            },
            "pools": [pool],
        }

    def truth(self) -> dict[str, object]:
        """Return what the thread does, for the control port."""
        worker = self.worker
        return {"is_working": worker.is_hashing, "work": worker.hashes, "is_paused": worker.is_paused}

    def command(self, method: str) -> bool:
        """Do what `POST /json_rpc` asks; False when there is no such method."""
        known = {"pause": self.worker.pause, "resume": self.worker.resume, "stop": self.worker.stop}
        if method not in known:
            return False
        known[method]()
        return True

    def _results(self, uptime_ms: int) -> dict[str, object]:
        shares, difficulty = self.worker.shares, self.worker.difficulty
        average_ms = uptime_ms // shares if shares else 0
        return {
            "diff_current": difficulty,
            "shares_good": shares,
            "shares_total": shares,
            "avg_time": average_ms // 1_000,
            "avg_time_ms": average_ms,
            "hashes_total": shares * difficulty,
            "best": [*self.worker.best, *([0] * 10)][:10],
        }

    def _connection(self, uptime_ms: int) -> dict[str, object]:
        shares, difficulty = self.worker.shares, self.worker.difficulty
        return {
            "pool": "pool.invalid:3333",
            "ip": "127.0.0.1",
            "uptime": uptime_ms // 1_000,
            "uptime_ms": uptime_ms,
            "ping": 1,
            "failures": 0,
            "tls": None,
            "tls-fingerprint": None,
            "algo": self.worker.search.algorithm,
            "diff": difficulty,
            "accepted": shares,
            "rejected": 0,
            "hashes_total": shares * difficulty,
        }


def _resources() -> dict[str, object]:
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123  # one short read of the kernel's text
        resident_pages = int(file.read().split()[1])
    return {
        "memory": {
            "free": os.sysconf("SC_AVPHYS_PAGES") * _PAGE_BYTES,
            "total": os.sysconf("SC_PHYS_PAGES") * _PAGE_BYTES,
            "resident_set_memory": resident_pages * _PAGE_BYTES,
        },
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "hardware_concurrency": os.cpu_count(),
    }


def _answer(content: object, status: int = 200) -> web.Response:
    return web.json_response(content, status=status, headers=_HEADERS)


def _refusal(status: HTTPStatus) -> web.Response:
    return _answer({"status": status, "error": status.name}, status)


def _is_let_in(request: web.Request, options: MinerOptions) -> HTTPStatus:
    """Return OK, or the status that xmrig refuses a call with."""
    given = request.headers.get("Authorization")
    if given is None and options.access_token:
        return HTTPStatus.UNAUTHORIZED
    if given is not None and not options.access_token:
        return HTTPStatus.UNAUTHORIZED
    if given is not None and given != f"Bearer {options.access_token}":
        return HTTPStatus.FORBIDDEN
    if request.method != "GET" and options.is_restricted:
        return HTTPStatus.FORBIDDEN
    if request.method != "GET" and request.headers.get("Content-Type") != "application/json":
        return HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    return HTTPStatus.OK


def miner_app(miner: Miner, faults: Faults) -> web.Application:
    """Return the API of xmrig."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        status = _is_let_in(request, miner.options)
        if status is not HTTPStatus.OK:
            return _refusal(status)
        try:
            return await handler(request)
        except web.HTTPNotFound:
            return _refusal(HTTPStatus.NOT_FOUND)

    async def summary(_request: web.Request) -> web.Response:
        return _answer(miner.summary())

    async def config(_request: web.Request) -> web.Response:
        return _refusal(HTTPStatus.FORBIDDEN) if miner.options.is_restricted else _answer(miner.config())

    async def json_rpc(request: web.Request) -> web.Response:
        try:
            call = msgspec.json.decode(await request.read(), type=_Call)
        except msgspec.MsgspecError:
            return _refusal(HTTPStatus.NOT_FOUND)
        reply = {"id": call.id, "jsonrpc": "2.0"}
        if miner.command(call.method):
            return _answer({**reply, "result": {"status": "OK"}})
        return _answer({**reply, "error": {"code": METHOD_NOT_FOUND, "message": "Method not found"}})

    app = web.Application(middlewares=[fault_middleware(faults), guard], client_max_size=BODY_BYTES_MAX)
    app.add_routes([web.get(path, summary) for path in ("/2/summary", "/1/summary", "/api.json")])
    app.add_routes([web.get(path, config) for path in ("/2/config", "/1/config")])
    app.add_routes([web.post("/json_rpc", json_rpc)])
    return app


async def run_miner(options: MinerOptions, faults: Faults) -> None:
    """Hash and answer until told to end."""
    miner = Miner(options, faults)
    miner.worker.start()
    ticking = asyncio.create_task(miner.tick())
    try:
        await serve(
            api=miner_app(miner, faults),
            control=control_app(faults, mend=lambda: None, describe=miner.truth),
            port=options.port,
            until_stdin_closes=options.until_stdin_closes,
        )
    finally:
        ticking.cancel()
        miner.worker.close()
