"""Braiins OS' public gRPC API (50051): login, pause, resume, power target and what is read beside them.

Messages are written by field number from the published definitions of braiins.bos.v1, not by the classes of a client
library: what the library under test believes about them is not taken as given.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from grpclib.const import Cardinality, Handler, Status
from grpclib.encoding.base import CodecBase
from grpclib.events import RecvRequest, listen
from grpclib.exceptions import GRPCError
from grpclib.server import Server, Stream

from hcp.clock import seconds
from simulators.asic.braiins_web import NAMEPLATE, PASSWORD, TOKEN_SECONDS, USER, VERSION, mac, status
from simulators.asic.cgminer import BOARDS
from simulators.asic.connection import CutError, take_order
from simulators.asic.faults import GARBAGE, FaultKind
from simulators.asic.miner import Listener, Miner, Port
from simulators.asic.plant import WorkMode
from simulators.asic.protobuf import fields, message

PORT: Final = 50_051
HANG_SECONDS: Final = 3_600.0
_V1: Final = "/braiins.bos.v1."
Answering = Callable[[Miner, bytes], bytes]


class _Raw(CodecBase):
    """Bytes in, bytes out."""

    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:  # noqa: ARG002, ANN401  # grpclib's signature
        return bytes(message)

    def decode(self, data: bytes, message_type: Any) -> Any:  # noqa: ARG002, ANN401  # as encode
        return data


class Service:
    """All methods of one miner."""

    def __init__(self, miner: Miner) -> None:
        """Answer for one miner."""
        self._miner = miner

    def __mapping__(self) -> dict[str, Handler]:
        """Return what grpclib dispatches by."""
        return {
            _V1 + name: Handler(self._handler(name, answering), Cardinality.UNARY_UNARY, bytes, bytes)
            for name, answering in _METHODS.items()
        }

    def _handler(self, name: str, answering: Answering) -> Callable[[Stream[bytes, bytes]], Awaitable[None]]:
        async def handle(stream: Stream[bytes, bytes]) -> None:
            request = await stream.recv_message() or b""
            self._miner.requests += 1
            given = stream.metadata.get("authorization") if stream.metadata is not None else None
            if name != _LOGIN and given != self._miner.token:
                raise GRPCError(Status.UNAUTHENTICATED, "token must be valid, was not")
            token = self._miner.token
            answer = answering(self._miner, request)
            if name == _LOGIN:
                await stream.send_initial_metadata(metadata={"authorization": token})
            await stream.send_message(answer)

        return handle


_LOGIN: Final = "AuthenticationService/Login"


def _login(miner: Miner, request: bytes) -> bytes:
    given = fields(request)
    if (given.get(1), given.get(2)) != (USER.encode(), PASSWORD.encode()):
        raise GRPCError(Status.UNAUTHENTICATED, "credentials must be right, were not")
    token = miner.token
    if miner.faults.take(FaultKind.STALE) is not None:
        miner.renew_secrets()
    return message((1, token), (2, TOKEN_SECONDS))


def _mode_order(mode: WorkMode) -> Answering:
    def order(miner: Miner, _request: bytes) -> bytes:
        was = miner.plant.mode is mode
        if not take_order(miner, lambda: miner.plant.set_mode(mode)):
            raise GRPCError(Status.INTERNAL, "failed")
        return message((1, was))

    return order


def _limit_order(miner: Miner, request: bytes) -> bytes:
    target = fields(request).get(2)
    watt = fields(target).get(1) if isinstance(target, bytes) else None
    if not isinstance(watt, int):
        raise GRPCError(Status.INVALID_ARGUMENT, "power_target must be given, was not")
    if not take_order(miner, lambda: miner.plant.set_limit(float(watt))):
        raise GRPCError(Status.INTERNAL, "failed")
    return message((1, message((1, watt))))


def _performance(miner: Miner, _request: bytes) -> bytes:
    watt = message((1, round(miner.plant.limit_watts)))
    return message((2, message((1, message((1, watt))))))


def _details(miner: Miner, _request: bytes) -> bytes:
    plant = miner.plant
    found: list[tuple[int, Any]] = [
        (1, "SIM" + miner.host.replace(".", "-")),
        (2, message((1, 1), (2, 18), (3, NAMEPLATE.model), (4, NAMEPLATE.model))),
        (3, 4),
        (4, 4),
        (5, message((1, VERSION), (2, VERSION), (3, True))),
        (6, "Antminer"),
        (7, mac(miner)),
        (8, plant.elapsed_s),
        (9, message((1, NAMEPLATE.hash_rate_th_per_s * 1_000.0))),
        (10, plant.elapsed_s),
        (11, plant.elapsed_s),
        (13, "4.9.113"),
    ]
    if miner.faults.take(FaultKind.NO_MODE) is None:
        found.append((12, status(miner)))
    return message(*found)


def _rates(gigahash_per_second: float) -> bytes:
    return message(*((number, message((1, gigahash_per_second))) for number in range(1, 11)))


def _solver(miner: Miner, *, share: float) -> bytes:
    nominal = message((1, NAMEPLATE.hash_rate_th_per_s * 1_000.0 * share))
    return message((1, _rates(miner.plant.hash_rate_gh_per_s * share)), (2, nominal))


def _shares(accepted: int, rejected: int) -> bytes:
    return message((1, accepted), (2, rejected), (4, 262_144), (5, 776_342_690))


def _stats(miner: Miner, _request: bytes) -> bytes:
    plant = miner.plant
    power = message((1, message((1, round(plant.power_watts)))))
    return message((1, _shares(plant.accepted, plant.rejected)), (2, _solver(miner, share=1.0)), (3, power))


def _boards(miner: Miner, _request: bytes) -> bytes:
    chip = miner.plant.chip_celsius
    boards = [
        message(
            (1, str(board + 1)),
            (2, True),
            (3, message((1, NAMEPLATE.chips_per_board))),
            (6, message((1, 1), (2, 1), (3, message((1, chip))))),
            (7, message((1, chip - 8.0))),
            (8, _solver(miner, share=1.0 / len(BOARDS))),
            (9, "BHB56801"),
            (12, f"SIMBOARD{board}"),
        )
        for board in BOARDS
    ]
    return message(*((1, board) for board in boards))


def _cooling(miner: Miner, _request: bytes) -> bytes:
    fans = [message((1, fan), (2, int(miner.plant.fan_rpm)), (3, 1.0)) for fan in range(4)]
    hottest = message((2, 1), (3, message((1, miner.plant.chip_celsius))))
    return message(*((1, fan) for fan in fans), (2, hottest))


def _pools(miner: Miner, _request: bytes) -> bytes:
    pools = [
        message(
            (1, f"pool-{index}"),
            (2, pool.url),
            (3, pool.user),
            (4, True),
            (5, True),
            (6, index == 0),
            (7, _shares(*((miner.plant.accepted, miner.plant.rejected) if index == 0 else (0, 0)))),
        )
        for index, pool in enumerate(miner.plant.pools)
    ]
    return message((1, message((1, "default"), (2, message((1, 1))), *((4, pool) for pool in pools))))


def _configuration(miner: Miner, _request: bytes) -> bytes:
    pools = [
        message((1, f"pool-{index}"), (2, pool.url), (3, pool.user)) for index, pool in enumerate(miner.plant.pools)
    ]
    group = message((1, "0"), (2, "default"), (3, message((1, 1))), *((5, pool) for pool in pools))
    return message((1, group))


def _nothing(_miner: Miner, _request: bytes) -> bytes:
    return b""


_METHODS: Final[dict[str, Answering]] = {
    _LOGIN: _login,
    "ActionsService/PauseMining": _mode_order(WorkMode.SLEEP),
    "ActionsService/ResumeMining": _mode_order(WorkMode.NORMAL),
    "ActionsService/GetLocateDeviceStatus": _nothing,
    "PerformanceService/SetPowerTarget": _limit_order,
    "PerformanceService/GetActivePerformanceMode": _performance,
    "MinerService/GetMinerDetails": _details,
    "MinerService/GetMinerStats": _stats,
    "MinerService/GetHashboards": _boards,
    "MinerService/GetErrors": _nothing,
    "CoolingService/GetCoolingState": _cooling,
    "PoolService/GetPoolGroups": _pools,
    "ConfigurationService/GetMinerConfiguration": _configuration,
}


def _meeting_faults(miner: Miner) -> Callable[[RecvRequest], Coroutine[Any, Any, None]]:
    async def meet(event: RecvRequest) -> None:
        original = event.method_func
        transport = event.peer._transport  # noqa: SLF001  # grpclib shows no way to cut a connection

        async def bent(stream: Any) -> None:  # noqa: ANN401  # grpclib's own type is private
            faults = miner.faults
            if faults.take(FaultKind.HANG) is not None:
                await asyncio.sleep(HANG_SECONDS)
            if (slow := faults.take(FaultKind.SLOW)) is not None:
                await asyncio.sleep(seconds(slow.ms))
            if faults.take(FaultKind.HALF) is not None:
                transport.abort()
                return
            if faults.take(FaultKind.GARBAGE) is not None:
                transport.write(GARBAGE)
                transport.close()
                return
            try:
                await original(stream)
            except CutError:
                transport.abort()

        event.method_func = bent

    return meet


async def _listen(miner: Miner, bound: socket.socket) -> Listener:
    server = Server([Service(miner)], codec=_Raw())
    listen(server, RecvRequest, _meeting_faults(miner))
    await server.start(sock=bound)
    return Listener(server.close)


GRPC: Final = Port(number=PORT, listen=_listen)
