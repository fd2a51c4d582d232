"""Braiins OS 25.07 on an Antminer S19 XP: GraphQL says what it is, REST behind a login the rest (80); 4028 beside."""

from collections.abc import Callable
from typing import Final

import msgspec

from simulators.asic import cgminer
from simulators.asic.cgminer import BOARDS, Answer
from simulators.asic.connection import take_order
from simulators.asic.faults import FaultKind
from simulators.asic.http import Request, Response
from simulators.asic.miner import Miner
from simulators.asic.plant import Nameplate, WorkMode

NAMEPLATE: Final = Nameplate(
    model="Antminer S19 XP", hash_rate_th_per_s=141.0, power_watts=3_031.0, chips_per_board=110
)
USER, PASSWORD = "root", "root"  # the factory's
BY: Final = "BOSer boser-buildroot 0.1.0-3881c51d"
VERSION: Final = "2025-08-06-0-3881c51d-25.07-plus"
TOKEN_SECONDS: Final = 3_600
STATUS_NORMAL, STATUS_PAUSED = 2, 3
"""Of `miner/details`: 1 not started, 2 normal, 3 paused, 4 suspended."""
_API: Final = "/api/v1/"


class _Login(msgspec.Struct, frozen=True):
    username: str = ""
    password: str = ""


class _Watt(msgspec.Struct, frozen=True):
    watt: int


def rpc(miner: Miner, command: str, parameter: str) -> Answer:  # noqa: ARG001  # reading takes no parameter
    """Answer cgminer's API."""
    reading = _RPC.get(command)
    return cgminer.invalid(by=BY) if reading is None else reading(miner)


def _version(_miner: Miner) -> Answer:
    return cgminer.answer("VERSION", [{"API": "3.7", "BOSer": BY}], code=22, message="BOSer versions", by=BY)


def _devdetails(_miner: Miner) -> Answer:
    rows: list[Answer] = [{"DEVDETAILS": board, "ID": board, "Model": NAMEPLATE.model} for board in BOARDS]
    return cgminer.answer("DEVDETAILS", rows, code=69, message="Device Details", by=BY)


def _devs(miner: Miner) -> Answer:
    rate = miner.plant.hash_rate_gh_per_s * 1_000.0 / len(BOARDS)
    rows: list[Answer] = [
        {"ASC": board, "ID": board, "Enabled": "Y", "Status": "Alive", "MHS 5s": rate, "MHS av": rate}
        for board in BOARDS
    ]
    return cgminer.answer("DEVS", rows, code=9, message="3 ASC(s)", by=BY)


def _tunerstatus(miner: Miner) -> Answer:
    chains = [{"HashchainIndex": board + 1, "Status": "Stable"} for board in BOARDS]
    row: Answer = {"TunerChainStatus": chains, "PowerLimit": round(miner.plant.limit_watts)}
    return cgminer.answer("TUNERSTATUS", [row], code=201, message="Tuner Status", by=BY)


_RPC: Final[dict[str, Callable[[Miner], Answer]]] = {
    "version": _version,
    "summary": lambda miner: cgminer.summary(miner, by=BY),
    "pools": lambda miner: cgminer.pools(miner, by=BY),
    "devdetails": _devdetails,
    "devs": _devs,
    "tunerstatus": _tunerstatus,
}


def route(miner: Miner, request: Request) -> Response:
    """Answer one request of the web interface.

    Raises:
        CutError: A fault cuts the connection after an order.
    """
    if request.path == "/graphql":
        return _json(_graphql(request.body.decode("utf-8", "replace")))
    if not request.path.startswith(_API):
        return Response(body=b"<html><title>Braiins OS</title></html>", content_type="text/html")
    name = request.path.removeprefix(_API)
    return _login(miner, request.body) if name == "auth/login" else _route_known(miner, name, request)


def _route_known(miner: Miner, name: str, request: Request) -> Response:
    if request.headers.get("authorization", "").removeprefix("Bearer ") != miner.token:
        return Response(status=401, body=b'{"error":"unauthorized"}')
    if name in _ORDERS and request.method == "PUT":
        return _ORDERS[name](miner, request.body)
    if name in _READINGS:
        return _json(_READINGS[name](miner))
    return Response(status=404, body=b"{}")


def _json(value: object) -> Response:
    return Response(body=msgspec.json.encode(value))


def _graphql(query: str) -> Answer:
    if "modelName" in query:
        return {"data": {"bosminer": {"info": {"modelName": NAMEPLATE.model}}}}
    return {"data": {"bos": {"info": {"version": {"full": VERSION}}}}}


def _login(miner: Miner, body: bytes) -> Response:
    given = msgspec.json.decode(body, type=_Login)
    if (given.username, given.password) != (USER, PASSWORD):
        return Response(status=401, body=b'{"error":"unauthorized"}')
    found = _json({"token": miner.token, "timeout_s": TOKEN_SECONDS})
    if miner.faults.take(FaultKind.STALE) is not None:
        miner.renew_secrets()
    return found


def _mode_order(mode: WorkMode) -> Callable[[Miner, bytes], Response]:
    def order(miner: Miner, _body: bytes) -> Response:
        was = miner.plant.mode is mode
        if not take_order(miner, lambda: miner.plant.set_mode(mode)):
            return Response(status=500, body=b'{"error":"failed"}')
        return _json(was)

    return order


def _limit_order(miner: Miner, body: bytes) -> Response:
    watt = msgspec.json.decode(body, type=_Watt).watt
    if not take_order(miner, lambda: miner.plant.set_limit(float(watt))):
        return Response(status=500, body=b'{"error":"failed"}')
    return _json({"watt": watt})


_ORDERS: Final[dict[str, Callable[[Miner, bytes], Response]]] = {
    "actions/pause": _mode_order(WorkMode.SLEEP),
    "actions/resume": _mode_order(WorkMode.NORMAL),
    "actions/start": _mode_order(WorkMode.NORMAL),
    "actions/stop": _mode_order(WorkMode.SLEEP),
    "performance/power-target": _limit_order,
}


def _rates(gigahash_per_second: float) -> Answer:
    names = ("last_5s", "last_15s", "last_30s", "last_1m", "last_5m", "last_15m", "last_30m", "last_1h", "last_24h")
    return {name: {"gigahash_per_second": gigahash_per_second} for name in (*names, "since_restart")}


def _solver(miner: Miner, *, share: float) -> Answer:
    nominal = NAMEPLATE.hash_rate_th_per_s * 1_000.0 * share
    return {
        "best_share": 776_342_690,
        "error_hashrate": {"megahash_per_second": 0.0},
        "found_blocks": 0,
        "nominal_hashrate": {"gigahash_per_second": nominal},
        "real_hashrate": _rates(miner.plant.hash_rate_gh_per_s * share),
    }


def mac(miner: Miner) -> str:
    """Return its hardware address, made from its address."""
    return "02:ee:" + ":".join(f"{int(part):02x}" for part in miner.host.split("."))


def _details(miner: Miner) -> Answer:
    found: Answer = {
        "bos_mode": 4,
        "bos_version": {"bos_plus": True, "current": VERSION, "major": VERSION},
        "bosminer_uptime_s": miner.plant.elapsed_s,
        "control_board_soc_family": 3,
        "hostname": "Antminer",
        "kernel_version": "4.9.113",
        "mac_address": mac(miner),
        "miner_identity": {"brand": 1, "miner_model": NAMEPLATE.model, "model": 18, "name": NAMEPLATE.model},
        "platform": 4,
        "serial_number": None,
        "sticker_hashrate": {"gigahash_per_second": NAMEPLATE.hash_rate_th_per_s * 1_000.0},
        "system_uptime": miner.plant.elapsed_s,
        "system_uptime_s": miner.plant.elapsed_s,
        "uid": "SIM" + miner.host.replace(".", "-"),
    }
    if miner.faults.take(FaultKind.NO_MODE) is None:
        found["status"] = status(miner)
    return found


def status(miner: Miner) -> int:
    """Return the status that says whether it mines."""
    return STATUS_PAUSED if miner.plant.mode is WorkMode.SLEEP else STATUS_NORMAL


def _pool_stats(accepted: int, rejected: int) -> Answer:
    return {
        "accepted_shares": accepted,
        "best_share": 776_342_690,
        "generated_work": 17_793_548_288,
        "last_difficulty": 262_144,
        "rejected_shares": rejected,
        "stale_shares": 0,
    }


def _stats(miner: Miner) -> Answer:
    watt = round(miner.plant.power_watts)
    return {
        "miner_stats": _solver(miner, share=1.0),
        "pool_stats": _pool_stats(miner.plant.accepted, miner.plant.rejected),
        "power_stats": {"approximated_consumption": {"watt": watt}, "efficiency": {"joule_per_terahash": 21.8}},
    }


def _boards(miner: Miner) -> Answer:
    chip = miner.plant.chip_celsius
    boards = [
        {
            "board_name": "BHB56801",
            "board_temp": {"degree_c": chip - 8.0},
            "chip_type": "BM1366",
            "chips_count": NAMEPLATE.chips_per_board,
            "current_frequency": {"hertz": 486_704_545.0},
            "current_voltage": {"volt": 12.9},
            "enabled": True,
            "highest_chip_temp": {"id": 1, "location": 1, "temperature": {"degree_c": chip}},
            "highest_outlet_temp": {"degree_c": chip - 10.0},
            "id": str(board + 1),
            "lowest_inlet_temp": {"degree_c": chip - 20.0},
            "model": "BHB56801",
            "serial_number": f"SIMBOARD{board}",
            "stats": _solver(miner, share=1.0 / len(BOARDS)),
        }
        for board in BOARDS
    ]
    return {"hashboards": boards}


def _cooling(miner: Miner) -> Answer:
    fans = [{"position": fan, "rpm": int(miner.plant.fan_rpm), "target_speed_ratio": 1.0} for fan in range(4)]
    hottest = {"id": None, "location": 1, "temperature": {"degree_c": miner.plant.chip_celsius}}
    return {"fans": fans, "highest_temperature": hottest}


def _pools(miner: Miner) -> list[Answer]:
    pools = [
        {
            "active": index == 0,
            "alive": True,
            "enabled": True,
            "stats": _pool_stats(*((miner.plant.accepted, miner.plant.rejected) if index == 0 else (0, 0))),
            "uid": f"pool-{index}",
            "url": pool.url,
            "user": pool.user,
        }
        for index, pool in enumerate(miner.plant.pools)
    ]
    return [{"name": "default", "pools": pools, "strategy": {"quota": {"value": 1}}}]


def _tuner(miner: Miner) -> Answer:
    watt = {"watt": round(miner.plant.limit_watts)}
    return {"mode_state": {"powertargetmodestate": {"current_target": watt}}, "overall_tuner_state": 2}


def _network(miner: Miner) -> Answer:
    networks = [{"address": miner.host, "netmask": "255.255.255.0"}]
    return {"hostname": "Antminer", "mac_address": mac(miner), "name": "eth0", "networks": networks, "protocol": 1}


def _configuration(miner: Miner) -> Answer:
    target = {"watt": round(miner.plant.limit_watts)}
    tuner = {"enabled": True, "hashrate_target": None, "power_target": target, "tuner_mode": 1}
    return {"pool_groups": [], "tuner": tuner}


_READINGS: Final[dict[str, Callable[[Miner], object]]] = {
    "version": lambda _miner: {"major": 1, "minor": 0, "patch": 0},
    "actions/locate": lambda _miner: False,
    "miner/details": _details,
    "miner/stats": _stats,
    "miner/errors": lambda _miner: {"errors": []},
    "miner/hw/hashboards": _boards,
    "cooling/state": _cooling,
    "pools": _pools,
    "performance/tuner-state": _tuner,
    "network": _network,
    "configuration/miner": _configuration,
}
