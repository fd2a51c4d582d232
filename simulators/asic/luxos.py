"""LuxOS on an Antminer S21: cgminer's API (4028) with sessions, curtailment and power profiles."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from simulators.asic import cgminer
from simulators.asic.cgminer import BOARDS, Answer
from simulators.asic.connection import take_order
from simulators.asic.faults import FaultKind
from simulators.asic.miner import Miner
from simulators.asic.plant import Nameplate, WorkMode

NAMEPLATE: Final = Nameplate(model="Antminer S21", hash_rate_th_per_s=200.0, power_watts=3_500.0, chips_per_board=108)
BY: Final = "LUXminer 2025.4.8.220305-57b389c7"
VERSION: Final = "2025.4.8.220305"
COMPILED: Final = "Tue Apr 8 22:05:35 UTC 2025"
_HEAD: Final[Answer] = {"CompileTime": COMPILED, "Miner": VERSION, "Type": NAMEPLATE.model}


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One step of the power curve."""

    name: str
    frequency_mhz: int
    hash_rate_th_per_s: float
    power_watts: float


PROFILES: Final = (
    Profile(name="340MHz", frequency_mhz=340, hash_rate_th_per_s=139.0, power_watts=2_220.0),
    Profile(name="375MHz", frequency_mhz=375, hash_rate_th_per_s=151.6, power_watts=2_450.0),
    Profile(name="415MHz", frequency_mhz=415, hash_rate_th_per_s=169.0, power_watts=2_800.0),
    Profile(name="default", frequency_mhz=490, hash_rate_th_per_s=200.0, power_watts=3_500.0),
)
_STEP_OF_DEFAULT: Final = len(PROFILES) - 1


def rpc(miner: Miner, command: str, parameter: str) -> Answer:
    """Answer one command, or several joined by +."""
    if "+" in command:
        return {**{each: [rpc(miner, each, "")] for each in command.split("+")}, "id": 1}
    if command in _ORDERS:
        return _ordered(miner, command, parameter)
    if command in _SESSIONS:
        return _SESSIONS[command](miner)
    if command in _READINGS:
        return _READINGS[command](miner)
    if command in {"healthchipget", "voltageget"}:
        return _of_board(miner, command, parameter)
    return cgminer.invalid(by=BY)


def _version(_miner: Miner) -> Answer:
    row: Answer = {**_HEAD, "API": "3.7", "LUXminer": f"{VERSION}-57b389c7"}
    return cgminer.answer("VERSION", [row], code=22, message="LUXminer versions", by=BY)


def _profile_of(miner: Miner) -> Profile:
    return next((each for each in PROFILES if each.power_watts >= miner.plant.limit_watts), PROFILES[-1])


def _config(miner: Miner) -> Answer:
    is_asleep = miner.plant.mode is WorkMode.SLEEP
    profile = _profile_of(miner)
    row: Answer = {
        "ASC Count": len(BOARDS),
        "ControlBoardType": "cvitek",
        "Cooling": "Air",
        "DHCP": True,
        "Hostname": "lux",
        "IPAddr": miner.host,
        "IsAtmEnabled": False,
        "IsPowerSupplyOn": not is_asleep,
        "IsTuning": False,
        "MACAddr": "62:f7:" + ":".join(f"{int(part):02x}" for part in miner.host.split(".")),
        "Model": NAMEPLATE.model,
        "NameplateTHS": NAMEPLATE.hash_rate_th_per_s,
        "OS": "LuxOS",
        "Pool Count": len(miner.plant.pools),
        "Profile": profile.name,
        "ProfileStep": str(PROFILES.index(profile) - _STEP_OF_DEFAULT),
        "RedLed": "auto",
        "SerialNumber": "SIM" + miner.host.replace(".", "-"),
        "Strategy": "Failover",
    }
    if miner.faults.take(FaultKind.NO_MODE) is None:
        row |= {
            "CurtailMode": "Sleep" if is_asleep else "None",
            "SystemStatus": "Curtailed" if is_asleep else "Normal",
        }
    return cgminer.answer("CONFIG", [row], code=33, message="LUXminer config", by=BY)


def _power(miner: Miner) -> Answer:
    row: Answer = {"PSU": False, "Watts": round(miner.plant.power_watts)}
    return cgminer.answer("POWER", [row], code=311, message="Power usage", by=BY)


def _fans(miner: Miner) -> Answer:
    rows: list[Answer] = [
        {"FAN": f"FAN{number}", "ID": number - 1, "RPM": int(miner.plant.fan_rpm), "Speed": 60}
        for number in (1, 2, 3, 4)
    ]
    found = cgminer.answer("FANS", rows, code=202, message="4 Fan(s)", by=BY)
    return {"FANCTRL": [{"MinFans": 3, "PowerOffSpeed": 20}], **found}


def _temps(miner: Miner) -> Answer:
    chip = miner.plant.chip_celsius
    rows: list[Answer] = [
        {
            "ID": board,
            "TEMP": board,
            "BottomLeft": chip - 5.0,
            "BottomRight": chip - 15.0,
            "TopLeft": chip - 5.0,
            "TopRight": chip - 15.0,
        }
        for board in BOARDS
    ]
    return cgminer.answer("TEMPS", rows, code=201, message="3 Temp(s)", by=BY)


def _devs(miner: Miner) -> Answer:
    rate_mh = miner.plant.hash_rate_gh_per_s * 1_000.0 / len(BOARDS)
    rows: list[Answer] = [
        {
            "ASC": board,
            "ID": board,
            "Board": f"SIM{board}",
            "Enabled": "Y",
            "Status": "Alive",
            "MHS 5s": rate_mh,
            "MHS 1m": rate_mh,
            "MHS av": rate_mh,
            "Nominal MHS": NAMEPLATE.hash_rate_th_per_s * 1e6 / len(BOARDS),
            "SerialNumber": f"SIMBOARD{board}",
            "Temperature": miner.plant.chip_celsius - 8.0,
        }
        for board in BOARDS
    ]
    return cgminer.answer("DEVS", rows, code=9, message="3 ASC(s)", by=BY)


def _devdetails(_miner: Miner) -> Answer:
    rows: list[Answer] = [{"DEVDETAILS": board, "ID": board, "Model": NAMEPLATE.model} for board in BOARDS]
    return cgminer.answer("DEVDETAILS", rows, code=69, message="Device Details", by=BY)


def _profiles(_miner: Miner) -> Answer:
    rows: list[Answer] = [
        {
            "Frequency": each.frequency_mhz,
            "Hashrate": each.hash_rate_th_per_s,
            "IsDynamic": False,
            "IsTuned": True,
            "Profile Name": each.name,
            "Step": str(index - _STEP_OF_DEFAULT),
            "Voltage": 13.0,
            "Watts": round(each.power_watts),
        }
        for index, each in enumerate(PROFILES)
    ]
    return cgminer.answer("PROFILES", rows, code=318, message="Profiles", by=BY)


def _of_board(miner: Miner, command: str, parameter: str) -> Answer:
    board = int(parameter) if parameter.isdigit() else 0
    if command == "voltageget":
        row: Answer = {"Board": board, "Voltage": 13.0}
        return cgminer.answer("VOLTAGE", [row], code=307, message="Get Voltage", by=BY)
    chips = NAMEPLATE.chips_per_board
    rate = miner.plant.hash_rate_gh_per_s / len(BOARDS) / chips
    rows: list[Answer] = [
        {
            "Board": board,
            "Chip": chip,
            "Frequency": 490,
            "GHS 1m": rate,
            "GHS 5m": rate,
            "GHS 15m": rate,
            "Healthy": "Y",
        }
        for chip in range(chips)
    ]
    return cgminer.answer("CHIPS", rows, code=315, message="Chips health", by=BY)


def _one(name: str, row: Answer, *, code: int, message: str) -> Callable[[Miner], Answer]:
    return lambda _miner: cgminer.answer(name, [row], code=code, message=message, by=BY)


_READINGS: Final[dict[str, Callable[[Miner], Answer]]] = {
    "version": _version,
    "config": _config,
    "summary": lambda miner: cgminer.summary(miner, by=BY),
    "stats": lambda miner: cgminer.stats(miner, _HEAD, by=BY),
    "pools": lambda miner: cgminer.pools(miner, by=BY),
    "power": _power,
    "fans": _fans,
    "temps": _temps,
    "devs": _devs,
    "devdetails": _devdetails,
    "profiles": _profiles,
    "groups": _one("GROUPS", {"GROUP": 0, "Name": "default", "Quota": 1}, code=300, message="Groups"),
    "atm": _one("ATM", {"Enabled": False}, code=339, message="ATM configuration values"),
    "tempctrl": _one("TEMPCTRL", {"Mode": "Automatic", "Target": 55, "Hot": 70}, code=200, message="Temp control"),
}


def _session(miner: Miner) -> Answer:
    row: Answer = {"SessionID": miner.session}
    found = cgminer.answer("SESSION", [row], code=316, message="Session information", by=BY)
    _grow_stale(miner)
    return found


def _logon(miner: Miner) -> Answer:
    if miner.session:
        return cgminer.error(402, "Another session is active", by=BY)
    miner.session = secrets.token_hex(4)
    row: Answer = {"SessionID": miner.session}
    found = cgminer.answer("SESSION", [row], code=316, message="Session created", by=BY)
    _grow_stale(miner)
    return found


def _grow_stale(miner: Miner) -> None:
    if miner.session and miner.faults.take(FaultKind.STALE) is not None:
        miner.session = secrets.token_hex(4)


def _logoff(miner: Miner) -> Answer:
    miner.session = ""
    return {"STATUS": cgminer.status(316, "Session terminated", by=BY), "id": 1}


_SESSIONS: Final[dict[str, Callable[[Miner], Answer]]] = {"session": _session, "logon": _logon, "logoff": _logoff}
_ORDERS: Final = frozenset({"curtail", "profileset", "atmset"})


def _ordered(miner: Miner, command: str, parameter: str) -> Answer:
    session, _, rest = parameter.partition(",")
    if not miner.session or session != miner.session:
        return cgminer.error(401, "Invalid session id", by=BY)
    if command == "curtail":
        return _curtail(miner, rest)
    if command == "profileset":
        return _set_profile(miner, rest.rpartition(",")[2])
    return cgminer.answer("ATM", [{"Enabled": False}], code=340, message="ATM configuration updated", by=BY)


def _curtail(miner: Miner, word: str) -> Answer:
    modes = {"sleep": WorkMode.SLEEP, "wakeup": WorkMode.NORMAL}
    if word not in modes or not take_order(miner, lambda: miner.plant.set_mode(modes[word])):
        return cgminer.error(400, f"Curtail must be possible, was refused: {word}", by=BY)
    return cgminer.answer("CURTAIL", [{"Mode": word}], code=337, message="Curtail successful", by=BY)


def _set_profile(miner: Miner, name: str) -> Answer:
    wanted = next((each for each in PROFILES if each.name == name), None)
    if wanted is None or not take_order(miner, lambda: miner.plant.set_limit(wanted.power_watts)):
        return cgminer.error(400, f"Profile must be known and free, was {name}", by=BY)
    return cgminer.answer("PROFILE", [{"Profile": name}], code=338, message="Profile set", by=BY)
