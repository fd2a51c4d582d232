"""What may go wrong in a simulated workload, asked for by a flag or at a control port apart from the real API."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

FOREVER: Final = -1
HANG_SECONDS: Final = 3_600.0
"""A hung call is answered after its caller has long given up."""
FAULTS_MAX: Final = 16
CRASH_STATUS: Final = 70
CLIENT_GONE_STATUS: Final = 499


class FaultKind(StrEnum):
    """What may go wrong."""

    HANG = "hang"
    """The call is taken and never answered."""
    SLOW = "slow"
    """The call takes effect, and is answered, late by `delay_ms`, whether its client still waits or not."""
    REFUSE = "refuse"
    """The call is answered with 503."""
    RESET = "reset"
    """The connection is cut without an answer."""
    CRASH = "crash"
    """The process ends at once, as by kill -9."""
    CORRUPT = "corrupt"
    """Inference server: from its next activation on it computes wrong tokens, in good health."""
    NO_WORK = "no_work"
    """Miner: says that it resumed and does not hash."""


@dataclass(slots=True, kw_only=True)
class Fault:
    """One fault.

    Attributes:
        kind: What goes wrong.
        path: Where: calls whose path begins so; "" is every call.
        times: How often, FOREVER without end.
        delay_ms: How late SLOW answers, 0 or more.
    """

    kind: FaultKind
    path: str = ""
    times: int = FOREVER
    delay_ms: int = 0


def parse_fault(text: str) -> Fault:
    """Parse `kind[:path[:times[:delay_ms]]]`, such as `hang:/resume:1` or `slow::-1:200`.

    Raises:
        ValueError: No such fault, or a number that is none.
    """
    kind, _, rest = text.partition(":")
    path, _, rest = rest.partition(":")
    times, _, delay_ms = rest.partition(":")
    if kind not in set(FaultKind):
        raise ValueError(f"fault must be one of {', '.join(FaultKind)}, was {kind}")
    return Fault(kind=FaultKind(kind), path=path, times=int(times or FOREVER), delay_ms=int(delay_ms or 0))


class Faults:
    """The faults asked for, oldest first; at most 16."""

    def __init__(self, asked: tuple[Fault, ...] = ()) -> None:
        """Begin with some."""
        self._asked: list[Fault] = list(asked)

    def ask(self, fault: Fault) -> None:
        """Add a fault.

        Raises:
            ValueError: There are 16 already.
        """
        if len(self._asked) >= FAULTS_MAX:
            raise ValueError(f"faults must be at most {FAULTS_MAX}, were {len(self._asked) + 1}")
        self._asked.append(fault)

    def clear(self) -> None:
        """Mend everything."""
        self._asked.clear()

    def take(self, *kinds: FaultKind, path: str = "") -> Fault | None:
        """Return the first fault of these kinds that a call to `path` meets, counting it."""
        for fault in self._asked:
            if fault.kind in kinds and fault.times and path.startswith(fault.path):
                if fault.times != FOREVER:
                    fault.times -= 1
                return fault
        return None


_OF_CALLS: Final = (FaultKind.HANG, FaultKind.SLOW, FaultKind.REFUSE, FaultKind.RESET, FaultKind.CRASH)


def fault_middleware(faults: Faults) -> Middleware:
    """Return the middleware that lets the calls of the real API go wrong."""
    under_way: set[asyncio.Task[web.StreamResponse]] = set()

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await meet(request, handler)
        except ConnectionResetError:
            return web.Response(status=CLIENT_GONE_STATUS)  # nobody reads it: its client gave up and went

    async def meet(request: web.Request, handler: Handler) -> web.StreamResponse:
        fault = faults.take(*_OF_CALLS, path=request.path)
        if fault is None:
            return await handler(request)
        if fault.kind is FaultKind.CRASH:
            os._exit(CRASH_STATUS)
        if fault.kind is FaultKind.REFUSE:
            return web.json_response({"error": "fault on request"}, status=503)
        if fault.kind is FaultKind.RESET:
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=500)
        if fault.kind is FaultKind.HANG:
            await asyncio.sleep(HANG_SECONDS)
        call = asyncio.create_task(_late(request, handler, fault.delay_ms))
        under_way.add(call)
        call.add_done_callback(under_way.discard)
        return await asyncio.shield(call)

    return guarded


async def _late(request: web.Request, handler: Handler, delay_ms: int) -> web.StreamResponse:
    await request.read()  # its client may be gone when it is wanted
    await asyncio.sleep(delay_ms / 1_000)
    return await handler(request)


class _Asked(msgspec.Struct, frozen=True):
    fault: str


def control_app(
    faults: Faults, *, mend: Callable[[], None], describe: Callable[[], dict[str, object]]
) -> web.Application:
    """Return the control port's API: `POST /fault` asks for one, `DELETE /fault` mends all, `GET /state` tells.

    Args:
        faults: Where asked faults go.
        mend: Undoes what a fault has left behind.
        describe: Says what the workload really does, whatever its own API says.
    """

    async def ask(request: web.Request) -> web.Response:
        try:
            faults.ask(parse_fault(msgspec.json.decode(await request.read(), type=_Asked).fault))
        except (ValueError, msgspec.MsgspecError) as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response({})

    async def clear(_request: web.Request) -> web.Response:
        faults.clear()
        mend()
        return web.json_response({})

    async def state(_request: web.Request) -> web.Response:
        return web.json_response(describe())

    app = web.Application()
    app.add_routes([web.post("/fault", ask), web.delete("/fault", clear), web.get("/state", state)])
    return app
