"""Devices: what they are, what they can do, in which mode and state they are."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, assert_never

from hcp.model.units import DurationMs, MhPerSecond, ThPerSecond, Usd, UsdPerHour, Watts


class DeviceKind(StrEnum):
    """Which controller family drives it."""

    GPU = "gpu"
    ASIC = "asic"


class DeviceMode(StrEnum):
    """What a device earns its power with; `mining_eco` is mining at the power target of its class."""

    MINING = "mining"
    AI_INFERENCE = "ai_inference"
    IDLE = "idle"
    SLEEP = "sleep"
    MINING_ECO = "mining_eco"


class DeviceState(StrEnum):
    """Whether a device may be switched now: only an active one may.

    Quarantine, maintenance, pause and lock-out end by a person's word.
    """

    ACTIVE = "active"
    SWITCHING = "switching"
    QUARANTINED = "quarantined"
    MAINTENANCE = "maintenance"
    UNREACHABLE = "unreachable"
    PAUSED = "paused"
    LOCKED_OUT = "locked_out"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeProfile:
    """What one mode of a device class draws, yields and costs to enter.

    Attributes:
        mode: The mode.
        power_watts: Draw at the wall, PSU losses included; 0 or more.
        hash_rate_th_per_s: SHA-256 rate (ASICs); None where the mode does not hash.
        hash_rate_mh_per_s: Rate of `algorithm` (GPUs); None where the mode does not hash.
        algorithm: Proof of work a GPU mines, the instrument of its hash price; None elsewhere.
        wear_usd_per_hour: Depreciation that running in this mode adds; 0 or more.
        enter_ms: Time from the command until the mode earns in full (switch and settling); above 0.
        enter_wear_usd: Wear of one entry (thermal cycle, relay, reboot); 0 or more.
        enter_reload_usd: Work lost or redone at entry (weights, DAG, checkpoints); 0 or more.
    """

    mode: DeviceMode
    power_watts: Watts
    hash_rate_th_per_s: ThPerSecond | None = None
    hash_rate_mh_per_s: MhPerSecond | None = None
    algorithm: str | None = None
    wear_usd_per_hour: UsdPerHour = UsdPerHour(0.0)  # noqa: RUF009  # a NewType call is a constant
    enter_ms: DurationMs
    enter_wear_usd: Usd
    enter_reload_usd: Usd


@dataclass(frozen=True, slots=True, kw_only=True)
class HardwareLimits:
    """How often hardware may be started and stopped, by the wall clock, whoever asks; None where there is no limit.

    A start is a switch to a mode that draws more, a stop one to a mode that draws less. A safety stop is not bound.

    Attributes:
        minimum_on_ms: From a start until the device may be stopped again.
        minimum_off_ms: From a stop until it may be started again.
        starts_per_hour: Starts within any hour, 1 or more.
    """

    minimum_on_ms: DurationMs | None = None
    minimum_off_ms: DurationMs | None = None
    starts_per_hour: int | None = None


UNLIMITED: Final = HardwareLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceClass:
    """Devices that share their economics: one score serves all of them at a site."""

    device_class: str
    kind: DeviceKind
    name: str
    modes: tuple[ModeProfile, ...]
    limits: HardwareLimits = UNLIMITED

    @property
    def power_watts_max(self) -> Watts:
        """Return what its hungriest mode draws at the wall."""
        return max(mode.power_watts for mode in self.modes)

    def profile(self, mode: DeviceMode) -> ModeProfile:
        """Return the profile of `mode`.

        Raises:
            KeyError: The class cannot run in that mode.
        """
        for profile in self.modes:
            if profile.mode is mode:
                return profile
        raise KeyError(f"{self.device_class} must be in one of its modes, was {mode}")


def modes_of_kind(kind: DeviceKind) -> tuple[DeviceMode, ...]:
    """Return the modes that hardware of this kind can be in."""
    match kind:
        case DeviceKind.GPU:
            return (DeviceMode.MINING, DeviceMode.AI_INFERENCE, DeviceMode.IDLE)
        case DeviceKind.ASIC:
            return (DeviceMode.MINING, DeviceMode.MINING_ECO, DeviceMode.SLEEP)
        case _:
            assert_never(kind)


def resting_mode(kind: DeviceKind) -> DeviceMode:
    """Return the mode that draws least: where a device goes when nothing pays."""
    return DeviceMode.IDLE if kind is DeviceKind.GPU else DeviceMode.SLEEP
