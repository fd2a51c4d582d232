"""What a switch does to the power of a device, and which of its hardware's limits bind it; pure."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from hcp.model.devices import DeviceClass, DeviceMode
from hcp.model.units import kilowatts


class PowerStep(StrEnum):
    """Whether a switch raises or lowers what the device draws."""

    START = "start"
    STOP = "stop"
    LEVEL = "level"


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchLimits:
    """What binds one switch.

    Attributes:
        step: What it does to the draw.
        since_opposite_ms: Least time since the opposite step; 0 for none.
        starts_per_hour: Most starts within an hour, for a start; 0 for no limit.
    """

    step: PowerStep
    since_opposite_ms: int = 0
    starts_per_hour: int = 0


UNBOUND: Final = SwitchLimits(step=PowerStep.LEVEL)


def power_step(device_class: DeviceClass, *, from_mode: DeviceMode, to_mode: DeviceMode) -> PowerStep:
    """Say what a switch does to the draw."""
    added_kw = added_kw_per_device(device_class, from_mode=from_mode, to_mode=to_mode)
    if added_kw > 0.0:
        return PowerStep.START
    return PowerStep.STOP if added_kw < 0.0 else PowerStep.LEVEL


def added_kw_per_device(device_class: DeviceClass, *, from_mode: DeviceMode, to_mode: DeviceMode) -> float:
    """Return what one device draws more after a switch, kW at the wall; negative when it draws less."""
    after, before = device_class.profile(to_mode).power_watts, device_class.profile(from_mode).power_watts
    return kilowatts(after) - kilowatts(before)


def limits_of(device_class: DeviceClass, *, from_mode: DeviceMode, to_mode: DeviceMode) -> SwitchLimits:
    """Return what binds a switch of a device of that class."""
    step = power_step(device_class, from_mode=from_mode, to_mode=to_mode)
    limits = device_class.limits
    if step is PowerStep.START:
        return SwitchLimits(
            step=step,
            since_opposite_ms=limits.minimum_off_ms or 0,
            starts_per_hour=limits.starts_per_hour or 0,
        )
    return SwitchLimits(step=step, since_opposite_ms=(limits.minimum_on_ms or 0) if step is PowerStep.STOP else 0)
