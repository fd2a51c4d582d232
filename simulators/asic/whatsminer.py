"""Whatsminer M50S with API v3: frames of length and JSON (4433), orders signed with a salt; 4028 to identify."""

import base64
import hashlib
import struct
import time
from typing import Final

import msgspec

from simulators.asic import cgminer
from simulators.asic.cgminer import BOARDS, Answer
from simulators.asic.connection import Connection, CutError, take_order
from simulators.asic.faults import FaultKind
from simulators.asic.miner import Miner
from simulators.asic.plant import Nameplate, Plant, WorkMode

PORT: Final = 4_433
NAMEPLATE: Final = Nameplate(model="M50S_VH50", hash_rate_th_per_s=126.0, power_watts=3_276.0, chips_per_board=105)
ACCOUNT, PASSWORD = "super", "super"  # the factory's
BY: Final = "btminer"
_LENGTH: Final = struct.Struct("<I")
FRAME_BYTES_MAX: Final = 16_384
CODE_OK, CODE_INVALID, CODE_TOKEN, CODE_FAILED = 0, -2, -4, -1


class _Frame(msgspec.Struct, frozen=True):
    cmd: str
    param: object = None
    token: str = ""
    account: str = ""
    ts: int = 0


def rpc(_miner: Miner, command: str, parameter: str) -> Answer:  # noqa: ARG001  # takes none
    """Answer on port 4028 what identifies it."""
    if command == "devdetails":
        row: Answer = {
            "DEVDETAILS": 0,
            "Name": "SM",
            "ID": 0,
            "Driver": "bitmicro",
            "Kernel": "",
            "Model": NAMEPLATE.model,
        }
        return cgminer.answer("DEVDETAILS", [row], code=69, message="Device Details", by=BY)
    if command == "get_version":
        known: Answer = {"api_ver": "3.0.1", "fw_ver": "20250214.16.Rel2", "platform": "H616", "chip": "K10"}
        return {"STATUS": "S", "When": int(time.time()), "Code": 131, "Msg": known, "Description": ""}
    return cgminer.invalid(by=BY)


class WhatsminerConnection(Connection):
    """Frames of one client."""

    def serve(self) -> None:
        """Answer every whole frame."""
        while len(self.buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self.buffer)
            if length > FRAME_BYTES_MAX:
                raise CutError
            end = _LENGTH.size + length
            if len(self.buffer) < end:
                return
            body, self.buffer = self.buffer[_LENGTH.size : end], self.buffer[end:]
            try:
                frame = msgspec.json.decode(body, type=_Frame)
            except msgspec.MsgspecError as problem:
                raise CutError from problem
            code, message = _answered(self.miner, frame)
            answer = {"code": code, "when": int(time.time()), "msg": message, "desc": frame.cmd}
            encoded = msgspec.json.encode(answer)
            self.answer(_LENGTH.pack(len(encoded)) + encoded, is_last=False)


def _answered(miner: Miner, frame: _Frame) -> tuple[int, object]:
    if frame.cmd == "get.device.info":
        return CODE_OK, _device(miner, only=str(frame.param) if frame.param else "")
    if frame.cmd == "get.miner.status":
        whole = _status(miner.plant)
        named = str(frame.param)
        return CODE_OK, {named: whole[named]} if named in whole else whole
    if frame.cmd == "get.miner.setting":
        return CODE_OK, {
            "power-limit": str(round(miner.plant.limit_watts)),
            "power-percent": "100",
            "power-mode": "normal",
            "fast-boot": "disable",
            "target-freq": "0",
            "upfreq-speed": "0",
        }
    if frame.cmd.startswith("set."):
        return _ordered(miner, frame)
    return CODE_INVALID, "invalid command"


def _ordered(miner: Miner, frame: _Frame) -> tuple[int, object]:
    if frame.token != _token(miner, frame):
        return CODE_TOKEN, "invalid token"
    plant = miner.plant
    if frame.cmd == "set.miner.service" and frame.param in {"stop", "start"}:
        mode = WorkMode.SLEEP if frame.param == "stop" else WorkMode.NORMAL
        is_taken = take_order(miner, lambda: plant.set_mode(mode))
    elif frame.cmd == "set.miner.power_limit" and isinstance(frame.param, int | float | str):
        limit_watts = float(frame.param)
        is_taken = take_order(miner, lambda: plant.set_limit(limit_watts))
    else:
        return CODE_INVALID, "invalid command"
    return (CODE_OK, "ok") if is_taken else (CODE_FAILED, "command failed")


def _token(miner: Miner, frame: _Frame) -> str:
    signed = f"{frame.cmd}{PASSWORD}{miner.salt}{frame.ts}".encode()
    return base64.b64encode(hashlib.sha256(signed).digest()).decode()[:8]


def _device(miner: Miner, *, only: str) -> Answer:
    plant = miner.plant
    salt = miner.salt
    if miner.faults.take(FaultKind.STALE) is not None:
        miner.renew_secrets()
    about: Answer = {
        "type": NAMEPLATE.model,
        "hash-board": "K10",
        "detect-hash-rate": "126000",
        "miner-sn": "SIM" + miner.host.replace(".", "-"),
        "fast-boot": "disable",
        "board-num": str(len(BOARDS)),
        "power-limit-set": str(round(plant.limit_watts)),
        **{f"pcbsn{board}": f"SIMBOARD{board}" for board in BOARDS},
    }
    if miner.faults.take(FaultKind.NO_MODE) is None:
        about["working"] = "false" if plant.mode is WorkMode.SLEEP else "true"
    whole: Answer = {
        "network": {
            "ip": miner.host,
            "mac": "C4:11:" + ":".join(f"{int(part):02X}" for part in miner.host.split(".")),
            "hostname": "WhatsMiner",
        },
        "miner": about,
        "system": {
            "api": "3.0.1",
            "platform": "H616",
            "fwversion": "20250214.16.Rel2",
            "control-board-version": "CB6V10",
            "ledstatus": "auto",
        },
        "power": {
            "type": "P222C",
            "mode": "Normal",
            "iin": plant.power_watts / 220.0,
            "vin": 220,
            "vout": 1_250,
            "pin": round(plant.power_watts),
            "fanspeed": 6_000,
            "temp0": 45.0,
        },
        "hardware": {"boards": len(BOARDS)},
        "salt": salt,
        "error-code": [],
    }
    return {only: whole[only]} if only in whole else whole


def _status(plant: Plant) -> Answer:
    rate = plant.hash_rate_gh_per_s / 1_000.0
    chip = plant.chip_celsius
    temperatures: Answer = {"chip-temp-min": chip - 10.0, "chip-temp-avg": chip - 5.0, "chip-temp-max": chip}
    summary: Answer = {
        "elapsed": plant.elapsed_s,
        "bootup-time": plant.elapsed_s,
        "freq-avg": 600,
        "target-freq": 600,
        "factory-hash": NAMEPLATE.hash_rate_th_per_s,
        "hash-average": rate,
        "hash-1min": rate,
        "hash-15min": rate,
        "hash-realtime": rate,
        "power-rate": 27.7,
        "power-5min": round(plant.power_watts),
        "power-realtime": round(plant.power_watts),
        "environment-temperature": 25.0,
        "board-temperature": [chip - 8.0] * len(BOARDS),
        **temperatures,
        "power-limit": round(plant.limit_watts),
        "up-freq-finish": 1,
        "fan-speed-in": int(plant.fan_rpm),
        "fan-speed-out": int(plant.fan_rpm),
    }
    boards = [
        {
            "id": board,
            "slot": board,
            "hash-average": rate / len(BOARDS),
            "factory-hash": NAMEPLATE.hash_rate_th_per_s / len(BOARDS),
            "freq": 600,
            "effective-chips": NAMEPLATE.chips_per_board,
            **temperatures,
        }
        for board in BOARDS
    ]
    pools = [
        {
            "id": index + 1,
            "url": pool.url,
            "account": pool.user,
            "status": "alive",
            "stratum-active": index == 0,
            "reject-rate": 0.002,
            "last-share-time": 1,
        }
        for index, pool in enumerate(plant.pools)
    ]
    return {"summary": summary, "edevs": boards, "pools": pools}
