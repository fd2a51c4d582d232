"""What a miner was told to do, out of what pyasic_rs read: pure rules, one a firmware.

`is_mining` alone says nothing: where the field behind it was not read it is True (Braiins: False). So each rule asks
for evidence that cannot be a default.
"""

from dataclasses import dataclass
from typing import Final

from controllers.drivers.asic.client import Told
from hcp.model.units import ThPerSecond

STOCK, LUXOS, WHATSMINER, BRAIINS = "AntMiner Stock", "LuxOS", "WhatsMiner Stock", "Braiins"
"""Firmwares as pyasic_rs 0.8.6 names them."""

_MINING_STATES: Final = frozenset(
    {
        "AdjustingClockVoltage",
        "AdjustingFrequency",
        "AdjustingVoltage",
        "DegradedMining",
        "Initializing",
        "Mining",
        "Stable",
        "Starting",
        "Tuning",
    }
)
_SLEEPING_STATES: Final = frozenset({"Paused", "Stopped", "Stopping", "Suspended"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What was read beside `is_mining`.

    Attributes:
        is_mining: The library's word, default included.
        mining_mode_read: The configuration was read and names a mode that mines.
        operating_state: Name of the state the firmware reports; "" when it reports none.
        device_answered: Another field of the answer behind `is_mining` was read.
        hash_rate_th_per_s: None when not read.
        was_seen_asleep: `is_mining` was False once for this miner: its firmware does say so.
        is_stop_open: A stop was sent and sleep has not been read since: neither hashes, which lag behind, nor a True
            that may be a default, show that it mines.
    """

    is_mining: bool
    mining_mode_read: bool
    operating_state: str
    device_answered: bool
    hash_rate_th_per_s: ThPerSecond | None
    was_seen_asleep: bool
    is_stop_open: bool


def told_by(firmware: str, evidence: Evidence) -> Told | None:
    """Return what the miner was told; None when the evidence does not say."""
    if firmware == STOCK:
        return _by_configuration(evidence)
    if firmware == WHATSMINER:
        return _by_device(evidence)
    if firmware == LUXOS:
        return None  # pyasic_rs reads no curtailment state: whether it hashes lags behind what it was told
    return _by_state(evidence)


def _by_configuration(evidence: Evidence) -> Told | None:
    """`bitmain-work-mode`: a mode that mines is read as such; sleep is read as none, and `is_mining` False with it."""
    if evidence.mining_mode_read:
        return Told.MINE
    return None if evidence.is_mining else Told.SLEEP


def _by_device(evidence: Evidence) -> Told | None:
    """`working` of the device's answer: True counts with the answer read, and with hashes or a False seen before."""
    if not evidence.device_answered:
        return None
    if not evidence.is_mining:
        return Told.SLEEP
    if evidence.is_stop_open:
        return None
    is_hashing = evidence.hash_rate_th_per_s is not None and evidence.hash_rate_th_per_s > 0.0
    return Told.MINE if is_hashing or evidence.was_seen_asleep else None


def _by_state(evidence: Evidence) -> Told | None:
    """The state the firmware reports, where it reports one."""
    if evidence.operating_state in _MINING_STATES:
        return Told.MINE
    return Told.SLEEP if evidence.operating_state in _SLEEPING_STATES else None
