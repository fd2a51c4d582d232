"""Bitmain's stock firmware on an Antminer S21: web CGI behind digest authentication (80) and cgminer's API (4028)."""

import hashlib
import secrets
import time
from collections.abc import Callable
from typing import Final

import msgspec

from simulators.asic import cgminer
from simulators.asic.cgminer import BOARDS, NEW_API, Answer
from simulators.asic.connection import take_order
from simulators.asic.faults import FaultKind
from simulators.asic.http import Request, Response
from simulators.asic.miner import Miner
from simulators.asic.plant import Nameplate, Pool, WorkMode

NAMEPLATE: Final = Nameplate(model="Antminer S21", hash_rate_th_per_s=200.0, power_watts=3_500.0, chips_per_board=108)
BY: Final = "cgminer 1.0.0"
REALM: Final = "antMiner Configuration"
USER, PASSWORD = "root", "root"  # the factory's
POOL_SLOTS: Final = 3
NONCES_MAX: Final = 4_096
COMPILED: Final = "Thu Oct  9 18:55:45 CST 2025"
_CGI: Final = "/cgi-bin/"


class _Pool(msgspec.Struct, frozen=True):
    url: str = ""
    user: str = ""
    password: str = msgspec.field(name="pass", default="")


class _Config(msgspec.Struct, frozen=True):
    """What `set_miner_conf` reads of what is sent; the names are the firmware's."""

    pools: tuple[_Pool, ...] = ()
    work_mode: str | int | None = msgspec.field(name="bitmain-work-mode", default=None)
    miner_mode: str | int | None = msgspec.field(name="miner-mode", default=None)


def rpc(miner: Miner, command: str, parameter: str) -> Answer:  # noqa: ARG001  # reading takes no parameter
    """Answer cgminer's API: it reads only, and knows no command of several joined by +."""
    reading = _RPC.get(command)
    return cgminer.invalid(by=BY) if reading is None else reading(miner)


def _version(_miner: Miner) -> Answer:
    return cgminer.answer("VERSION", [{**_HEAD, "API": "3.1"}], code=22, message="CGMiner versions", by=BY)


_HEAD: Final[Answer] = {
    "BMMiner": "1.0.0",
    "Miner": "uart_trans.1.3",
    "CompileTime": COMPILED,
    "Type": NAMEPLATE.model,
}


class Web:
    """The web interface of one miner: digest authentication, then a CGI by name."""

    def __init__(self) -> None:
        """Begin with no nonce handed out."""
        self._nonces: dict[str, None] = {}

    def answer(self, miner: Miner, request: Request) -> Response:
        """Answer one request.

        Raises:
            CutError: A fault cuts the connection after an order.
        """
        if not self._is_known(request):
            nonce = secrets.token_hex(8)
            self._nonces[nonce] = None
            if len(self._nonces) > NONCES_MAX:
                del self._nonces[next(iter(self._nonces))]
            challenge = f'Digest realm="{REALM}", nonce="{nonce}", algorithm=MD5, qop="auth"'
            return Response(status=401, body=b"<html>401</html>", headers=(("WWW-Authenticate", challenge),))
        name = request.path.removeprefix(_CGI).removesuffix(".cgi")
        if name == "get_miner_conf" and miner.faults.take(FaultKind.CONFIG_FAILS) is not None:
            return Response(status=500, body=b"busy")
        answer = _cgi(miner, name, request.body)
        return Response(status=404, body=b"") if answer is None else Response(body=msgspec.json.encode(answer))

    def _is_known(self, request: Request) -> bool:
        given = request.headers.get("authorization", "")
        parts = (part.split("=", 1) for part in given.removeprefix("Digest ").split(",") if "=" in part)
        said = {name.strip(): value.strip().strip('"') for name, value in parts}
        if said.get("nonce") not in self._nonces:
            return False
        own = _md5(f"{USER}:{REALM}:{PASSWORD}")
        asked = _md5(f"{request.method}:{said.get('uri', '')}")
        middle = [said.get(name, "") for name in ("nonce", "nc", "cnonce", "qop")] if "qop" in said else [said["nonce"]]
        return said.get("response") == _md5(":".join([own, *middle, asked]))


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()  # the protocol's own choice


def _cgi(miner: Miner, name: str, body: bytes) -> Answer | None:
    if name == "set_miner_conf":
        return _set_config(miner, body)
    reading = _CGI_READINGS.get(name)
    return None if reading is None else reading(miner)


def _network(miner: Miner) -> Answer:
    mac = "02:55:" + ":".join(f"{int(part):02X}" for part in miner.host.split("."))
    return {"nettype": "DHCP", "netdevice": "eth0", "macaddr": mac, "ipaddress": miner.host}


def _system(miner: Miner) -> Answer:
    return {
        **_network(miner),
        "minertype": NAMEPLATE.model,
        "hostname": "Antminer",
        "netmask": "255.255.255.0",
        "system_mode": "GNU/Linux",
        "system_kernel_version": "Linux 4.9.113",
        "system_filesystem_version": COMPILED,
        "firmware_type": "Release",
        "serinum": "SIM" + "".join(f"{int(part):03d}" for part in miner.host.split(".")),
    }


def _type(_miner: Miner) -> Answer:
    return {"miner_type": NAMEPLATE.model, "subtype": "AMLCtrl_BHB68601", "fw_version": COMPILED}


def config(miner: Miner) -> Answer:
    """Return `get_miner_conf`: three pool slots, unused ones empty, and the work mode."""
    slots = [{"url": pool.url, "user": pool.user, "pass": pool.password} for pool in miner.plant.pools]
    slots += [{"url": "", "user": "", "pass": ""}] * (POOL_SLOTS - len(slots))
    answer: Answer = {
        "pools": slots,
        "api-listen": True,
        "api-network": True,
        "api-groups": "A:stats:pools:devs:summary:version",
        "api-allow": "A:0/0,W:*",
        "bitmain-fan-ctrl": False,
        "bitmain-fan-pwm": "100",
        "bitmain-use-vil": True,
        "bitmain-freq": "490",
        "bitmain-voltage": "1320",
        "bitmain-ccdelay": "0",
        "bitmain-pwth": "3",
        "bitmain-hashrate-percent": "100",
        "bitmain-freq-level": "100",
    }
    if miner.faults.take(FaultKind.NO_MODE) is None:
        answer["bitmain-work-mode"] = str(int(miner.plant.mode))
    return answer


def _set_config(miner: Miner, body: bytes) -> Answer:
    """Take a configuration as the firmware does: what is sent replaces what was, empty pools included."""
    sent = msgspec.json.decode(body, type=_Config)
    mode = WorkMode.SLEEP if str(sent.miner_mode or sent.work_mode or 0) == "1" else WorkMode.NORMAL

    def act() -> None:
        miner.plant.set_pools(
            tuple(Pool(url=each.url, user=each.user, password=each.password) for each in sent.pools if each.url)
        )
        miner.plant.set_mode(mode)

    if take_order(miner, act):
        return {"stats": "success", "code": "M000", "msg": "OK!"}
    return {"stats": "error", "code": "M001", "msg": "FAIL!"}


def _web_summary(miner: Miner) -> Answer:
    rate = miner.plant.hash_rate_gh_per_s
    checks = [{"type": name, "status": "s", "code": 0, "msg": ""} for name in ("rate", "network", "fans", "temp")]
    row: Answer = {
        "elapsed": miner.plant.elapsed_s,
        "rate_5s": rate,
        "rate_30m": rate,
        "rate_avg": rate,
        "rate_ideal": NAMEPLATE.hash_rate_th_per_s * 1_000.0,
        "rate_unit": "GH/s",
        "hw_all": 0,
        "bestshare": 727_920_402,
        "status": checks,
    }
    return {**_web_head("summary"), "SUMMARY": [row]}


def _web_stats(miner: Miner) -> Answer:
    plant = miner.plant
    chip = int(plant.chip_celsius)
    rate = plant.hash_rate_gh_per_s
    chains = [
        {
            "index": board,
            "freq_avg": 490,
            "rate_ideal": NAMEPLATE.hash_rate_th_per_s * 1_000.0 / len(BOARDS),
            "rate_real": rate / len(BOARDS),
            "asic_num": NAMEPLATE.chips_per_board,
            "temp_pic": [chip - 15, chip - 15, chip - 10, chip - 10],
            "temp_pcb": [chip - 13, chip - 13, chip - 8, chip - 8],
            "temp_chip": [chip - 5, chip - 5, chip, chip],
            "hw": 0,
            "eeprom_loaded": True,
            "sn": f"SIMBOARD{board}",
        }
        for board in BOARDS
    ]
    row: Answer = {
        "elapsed": plant.elapsed_s,
        "rate_5s": rate,
        "rate_30m": rate,
        "rate_avg": rate,
        "rate_ideal": NAMEPLATE.hash_rate_th_per_s * 1_000.0,
        "rate_unit": "GH/s",
        "watt": round(plant.power_watts),
        "chain_num": len(BOARDS),
        "fan_num": 4,
        "fan": [int(plant.fan_rpm)] * 4,
        "hwp_total": 0.0,
        "chain": chains,
    }
    return {**_web_head("stats"), "STATS": [row]}


def _web_head(message: str) -> Answer:
    about = {"miner_version": "uart_trans.1.3", "CompileTime": COMPILED, "type": NAMEPLATE.model}
    first = {"STATUS": "S", "when": int(time.time()), "Msg": message, "api_version": "1.0.0"}
    return {"STATUS": first, "INFO": about}


_CGI_READINGS: Final[dict[str, Callable[[Miner], Answer]]] = {
    "get_miner_conf": config,
    "get_system_info": _system,
    "get_network_info": _network,
    "get_blink_status": lambda _miner: {"blink": False},
    "miner_type": _type,
    "summary": _web_summary,
    "stats": _web_stats,
}
_RPC: Final[dict[str, Callable[[Miner], Answer]]] = {
    "version": _version,
    "summary": lambda miner: cgminer.summary(miner, by=BY),
    "pools": lambda miner: cgminer.pools(miner, by=BY),
    "stats": lambda miner: cgminer.stats(miner, _HEAD, by=BY),
    "stats" + NEW_API: _web_stats,
}
