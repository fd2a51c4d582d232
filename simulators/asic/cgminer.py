"""cgminer's API of port 4028: one JSON request a connection, one JSON answer with a NUL behind it, then the end."""

import time
from collections.abc import Callable
from typing import Final

import msgspec

from simulators.asic.connection import Connection
from simulators.asic.miner import Miner

PORT: Final = 4_028
BOARDS: Final = (0, 1, 2)

Answer = dict[str, object]
Answering = Callable[[Miner, str, str], Answer]
"""Makes the answer to a command with its parameter ("" for none)."""


class _Request(msgspec.Struct, frozen=True):
    command: str = ""
    cmd: str = ""
    parameter: object = ""
    new_api: bool = False


class CgminerConnection(Connection):
    """One request of one client."""

    def __init__(self, miner: Miner, answering: Answering) -> None:
        """Answer by a family's own function."""
        super().__init__(miner)
        self._answering = answering

    def serve(self) -> None:
        """Answer as soon as the bytes are a whole request: clients end it with a newline, a NUL, or nothing."""
        try:
            request = msgspec.json.decode(self.buffer.rstrip(b"\0\n"), type=_Request)
        except msgspec.MsgspecError:
            return
        self.buffer = b""
        command = request.command or request.cmd
        if request.new_api:
            command += NEW_API
        parameter = request.parameter if isinstance(request.parameter, str) else str(request.parameter)
        answer = self._answering(self.miner, command, parameter)
        self.answer(msgspec.json.encode(answer) + b"\0", is_last=True)


NEW_API: Final = "!new_api"
"""Appended to a command that asks for the newer shape of its answer, as Bitmain's firmware has it."""


def status(code: int, message: str, *, by: str) -> list[Answer]:
    """Return the STATUS of a good answer."""
    return [{"STATUS": "S", "When": int(time.time()), "Code": code, "Msg": message, "Description": by}]


def error(code: int, message: str, *, by: str) -> Answer:
    """Return the answer that says no."""
    first = {"STATUS": "E", "When": int(time.time()), "Code": code, "Msg": message, "Description": by}
    return {"STATUS": [first], "id": 1}


def invalid(*, by: str) -> Answer:
    """Return the answer to a command that the firmware does not have."""
    return error(14, "Invalid command", by=by)


def answer(name: str, rows: list[Answer], *, code: int, message: str, by: str) -> Answer:
    """Return an answer of one section."""
    return {"STATUS": status(code, message, by=by), name: rows, "id": 1}


def summary(miner: Miner, *, by: str) -> Answer:
    """Return `summary`: rates in GH/s and, as older clients read it, MH/s."""
    plant = miner.plant
    rate = round(plant.hash_rate_gh_per_s, 2)
    row: Answer = {
        "Elapsed": plant.elapsed_s,
        "GHS 5s": rate,
        "GHS av": rate,
        "GHS 30m": rate,
        "MHS 5s": rate * 1_000.0,
        "MHS 1m": rate * 1_000.0,
        "Found Blocks": 0,
        "Getworks": 656,
        "Accepted": plant.accepted,
        "Rejected": plant.rejected,
        "Hardware Errors": 0,
        "Utility": 12.0,
        "Discarded": 0,
        "Stale": 0,
        "Get Failures": 0,
        "Local Work": 0,
        "Remote Failures": 0,
        "Network Blocks": 0,
        "Total MH": float(plant.accepted),
        "Work Utility": 1.0,
        "Difficulty Accepted": 262_144.0 * plant.accepted,
        "Difficulty Rejected": 262_144.0 * plant.rejected,
        "Difficulty Stale": 0.0,
        "Best Share": 727_920_402,
        "Device Hardware%": 0.0,
        "Device Rejected%": 0.0,
        "Pool Rejected%": 0.0,
        "Pool Stale%": 0.0,
        "Last getwork": int(time.time()),
    }
    return answer("SUMMARY", [row], code=11, message="Summary", by=by)


def pools(miner: Miner, *, by: str) -> Answer:
    """Return `pools`, shares counted at the first."""
    rows: list[Answer] = [
        {
            "POOL": index,
            "URL": pool.url,
            "Status": "Alive",
            "Priority": index,
            "Quota": 1,
            "Long Poll": "N",
            "Getworks": 328,
            "Accepted": miner.plant.accepted if index == 0 else 0,
            "Rejected": miner.plant.rejected if index == 0 else 0,
            "Discarded": 0,
            "Stale": 0,
            "Get Failures": 0,
            "Remote Failures": 0,
            "User": pool.user,
            "GROUP": 0,
            "Last Share Time": "0:00:12",
            "Diff": "262K",
            "Stratum Active": index == 0,
            "Stratum URL": pool.url.removeprefix("stratum+tcp://"),
        }
        for index, pool in enumerate(miner.plant.pools)
    ]
    return answer("POOLS", rows, code=7, message=f"{len(rows)} Pool(s)", by=by)


def stats(miner: Miner, head: Answer, *, by: str) -> Answer:
    """Return `stats`: what the firmware is, then one row of every board and fan."""
    plant = miner.plant
    rate = round(plant.hash_rate_gh_per_s, 2)
    row: Answer = {
        "STATS": 0,
        "ID": "BTM_SOC0",
        "Elapsed": plant.elapsed_s,
        "Calls": 0,
        "Wait": 0,
        "Max": 0,
        "Min": 99_999_999,
        "GHS 5s": rate,
        "GHS av": rate,
        "rate_30m": rate,
        "Mode": 2,
        "miner_count": len(BOARDS),
        "frequency": 490,
        "fan_num": 4,
        "temp_num": len(BOARDS),
        "total_rateideal": plant.nameplate.hash_rate_th_per_s * 1_000.0,
        "rate_unit": "GH",
        "total_acn": plant.nameplate.chips_per_board * len(BOARDS),
    }
    chip = int(plant.chip_celsius)
    for board in BOARDS:
        number = board + 1
        row |= {
            f"chain_acn{number}": plant.nameplate.chips_per_board,
            f"chain_acs{number}": "ooo",
            f"chain_hw{number}": 0,
            f"chain_rate{number}": f"{rate / len(BOARDS):.2f}",
            f"freq{number}": 490,
            f"temp_chip{number}": f"{chip - 5}-{chip - 5}-{chip}-{chip}",
            f"temp_pcb{number}": f"{chip - 13}-{chip - 13}-{chip - 8}-{chip - 8}",
            f"temp_pic{number}": f"{chip - 15}-{chip - 15}-{chip - 10}-{chip - 10}",
        }
    row |= {f"fan{number}": int(plant.fan_rpm) for number in (1, 2, 3, 4)}
    return answer("STATS", [head, row], code=70, message="CGMiner stats", by=by)
