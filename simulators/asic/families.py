"""The families that can be simulated: what each is rated for and which ports speak what."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from simulators.asic import braiins_web, cgminer, http, luxos, stock, whatsminer
from simulators.asic.braiins_grpc import GRPC
from simulators.asic.cgminer import Answering, CgminerConnection
from simulators.asic.connection import tcp_port
from simulators.asic.http import HttpConnection
from simulators.asic.miner import Port
from simulators.asic.plant import Nameplate


class Family(StrEnum):
    """Firmware families."""

    STOCK = "stock"
    """Antminer S21, Bitmain's firmware: 80 and 4028."""
    LUXOS = "luxos"
    """Antminer S21, LuxOS: 4028."""
    WHATSMINER = "whatsminer"
    """Whatsminer M50S, API v3: 4433 and 4028."""
    BRAIINS = "braiins"
    """Antminer S19 XP, Braiins OS 25.07: 80, 4028 and 50051."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """How a miner of a family is made.

    Attributes:
        nameplate: Ratings.
        ports: Makes its ports, fresh for each miner.
    """

    nameplate: Nameplate
    ports: Callable[[], tuple[Port, ...]]


def _rpc_port(answering: Answering) -> Port:
    return tcp_port(cgminer.PORT, lambda miner: CgminerConnection(miner, answering))


def _stock_ports() -> tuple[Port, ...]:
    web = stock.Web()
    return (tcp_port(http.PORT, lambda miner: HttpConnection(miner, web.answer)), _rpc_port(stock.rpc))


def _luxos_ports() -> tuple[Port, ...]:
    return (_rpc_port(luxos.rpc),)


def _whatsminer_ports() -> tuple[Port, ...]:
    return (tcp_port(whatsminer.PORT, whatsminer.WhatsminerConnection), _rpc_port(whatsminer.rpc))


def _braiins_ports() -> tuple[Port, ...]:
    web = tcp_port(http.PORT, lambda miner: HttpConnection(miner, braiins_web.route))
    return (web, _rpc_port(braiins_web.rpc), GRPC)


BUILDS: Final[Mapping[Family, Build]] = {
    Family.STOCK: Build(nameplate=stock.NAMEPLATE, ports=_stock_ports),
    Family.LUXOS: Build(nameplate=luxos.NAMEPLATE, ports=_luxos_ports),
    Family.WHATSMINER: Build(nameplate=whatsminer.NAMEPLATE, ports=_whatsminer_ports),
    Family.BRAIINS: Build(nameplate=braiins_web.NAMEPLATE, ports=_braiins_ports),
}
