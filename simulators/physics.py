"""What devices of one shard draw, hash and heat, as numpy columns; a step is exact for any length of time."""

import math
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hcp.model.devices import DeviceClass, DeviceKind, DeviceMode
from hcp.model.facilities import Shard
from hcp.model.units import MS_PER_HOUR, MS_PER_SECOND

Floats = NDArray[np.float64]
Codes = NDArray[np.int8]
Mask = NDArray[np.bool_]

MODES: Final = tuple(DeviceMode)
INFERENCE: Final = MODES.index(DeviceMode.AI_INFERENCE)
TIME_CONSTANTS_PER_RAMP: Final = 5.0
"""After `enter_ms` an exponential ramp with a fifth of it is at 99.3 %."""
DOWN_MS_MAX: Final = 5_000.0
"""To lower power takes 5 s at most, whatever the mode takes to earn in full."""
GPU_TAU_S: Final = 20.0
ASIC_TAU_S: Final = 60.0
GPU_CELSIUS_PER_WATT: Final = 0.062
"""An H100 at 715 W settles near 68 degC with 24 degC air."""
GPU_AIR_CELSIUS: Final = 24.0
MEMORY_ABOVE_CORE_CELSIUS: Final = 9.0
ASIC_RISE_CELSIUS: Final = 42.0
"""Chips over inlet air at full power."""
OVERHEAT_CELSIUS: Final = 55.0
OUTSIDE_MEAN_CELSIUS: Final = 27.0
OUTSIDE_SWING_CELSIUS: Final = 7.0
_WARMEST_HOUR_UTC: Final = 22
FAN_RPM: Final = (800.0, 6_500.0)
REJECT_RATIO: Final = 0.002
TOKENS_PER_S_PER_WATT: Final = 4.0
_SPREAD_RATIO: Final = 0.02
_NOISE_RATIO: Final = 0.004


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """One tick of a shard; NaN is not measured. Columns a kind does not have are NaN throughout."""

    codes: Codes
    power_watts: Floats
    temperature_celsius: Floats
    second_temperature_celsius: Floats
    hash_rate: Floats
    utilisation_ratio: Floats
    tokens_per_s: Floats
    fan_speed_rpm: Floats
    reject_ratio: Floats


@dataclass(slots=True)
class ShardPhysics:
    """State of one shard's devices; mutable, one owner."""

    shard: Shard
    device_class: DeviceClass
    initial_mode: DeviceMode
    seed: int
    codes: Codes = field(init=False)
    epochs: NDArray[np.int64] = field(init=False)
    power: Floats = field(init=False)
    ramp: Floats = field(init=False)
    temperature: Floats = field(init=False)
    overheated: Mask = field(init=False)
    _random: np.random.Generator = field(init=False)
    _spread: Floats = field(init=False)
    _watts: Floats = field(init=False)
    _enter_ms: Floats = field(init=False)
    _hash: Floats = field(init=False)

    def __post_init__(self) -> None:
        """Begin settled in the initial mode."""
        count = self.shard.device_count
        self._random = np.random.default_rng([self.seed, *self.shard.shard_id.encode()])
        self._spread = 1.0 + self._random.uniform(-_SPREAD_RATIO, _SPREAD_RATIO, count)
        self._watts, self._enter_ms = np.zeros(len(MODES)), np.ones(len(MODES))
        self._hash = np.zeros(len(MODES))
        for profile in self.device_class.modes:
            code = MODES.index(profile.mode)
            self._watts[code], self._enter_ms[code] = profile.power_watts, profile.enter_ms
            self._hash[code] = profile.hash_rate_th_per_s or profile.hash_rate_mh_per_s or 0.0
        self.codes = np.full(count, MODES.index(self.initial_mode), dtype=np.int8)
        self.epochs = np.full(count, -1, dtype=np.int64)
        self.ramp = np.ones(count)
        self.overheated = np.zeros(count, dtype=np.bool_)
        self.power = self._watts[self.codes] * self._spread
        self.temperature = self._target(outside=OUTSIDE_MEAN_CELSIUS)

    @property
    def is_gpu(self) -> bool:
        """Say which columns the shard has."""
        return self.device_class.kind is DeviceKind.GPU

    def set_mode(self, index: int, mode: DeviceMode, *, epoch: int) -> None:
        """Let one device begin to ramp to a mode; an older epoch than the last is passed over."""
        code = MODES.index(mode)
        if epoch < self.epochs[index]:
            return
        self.epochs[index] = epoch
        if code != self.codes[index]:
            self.codes[index] = code
            self.ramp[index] = 0.0

    def step(self, *, passed_ms: float, at_ms: int) -> Readings:
        """Let time pass and read every device."""
        passed_s = passed_ms / MS_PER_SECOND
        outside = outside_celsius(at_ms)
        target = self._watts[self.codes] * self._spread
        enter_ms = self._enter_ms[self.codes]
        tau_ms = np.where(target < self.power, np.minimum(enter_ms, DOWN_MS_MAX), enter_ms) / TIME_CONSTANTS_PER_RAMP
        self.power += (target - self.power) * -np.expm1(-passed_ms / tau_ms)
        self.ramp += (1.0 - self.ramp) * -np.expm1(-passed_ms * TIME_CONSTANTS_PER_RAMP / enter_ms)
        heat_tau_s = GPU_TAU_S if self.is_gpu else ASIC_TAU_S
        self.temperature += (self._target(outside=outside) - self.temperature) * -math.expm1(-passed_s / heat_tau_s)
        return self._gpu(at_ms) if self.is_gpu else self._asic(outside)

    def _target(self, *, outside: float) -> Floats:
        extra = np.where(self.overheated, OVERHEAT_CELSIUS, 0.0)
        if self.is_gpu:
            return np.asarray(GPU_AIR_CELSIUS + self.power * GPU_CELSIUS_PER_WATT + extra)
        return np.asarray(outside + ASIC_RISE_CELSIUS * self.power / self._watts.max() + extra)

    def _noise(self) -> Floats:
        return np.clip(1.0 + self._random.normal(0.0, _NOISE_RATIO, self.shard.device_count), 0.97, 1.03)

    def _hashing(self) -> Floats:
        rate = self._hash[self.codes] * self.ramp * self._spread * self._noise()
        return np.asarray(np.where(self._is_mining(), rate, 0.0 if not self.is_gpu else np.nan))

    def _is_mining(self) -> Mask:
        return np.asarray(self._hash[self.codes] > 0.0)

    def _gpu(self, at_ms: int) -> Readings:
        is_mining, is_serving = self._is_mining(), self.codes == INFERENCE
        demand = 0.5 + 0.35 * _day_curve(at_ms, peak_hour=20)
        load = np.clip(demand * self.ramp + self._random.normal(0.0, 0.03, self.shard.device_count), 0.0, 1.0)
        utilisation = np.select([is_mining, is_serving], [np.clip(0.98 * self.ramp, 0.0, 1.0), load], 0.0)
        core = np.clip(self.temperature + self._random.normal(0.0, 0.3, self.shard.device_count), -39.0, 135.0)
        tokens = self._watts[INFERENCE] * TOKENS_PER_S_PER_WATT * load
        return Readings(
            codes=self.codes,
            power_watts=np.maximum(self.power * self._noise(), 0.0),
            temperature_celsius=core,
            second_temperature_celsius=core + MEMORY_ABOVE_CORE_CELSIUS * np.maximum(utilisation, 0.2),
            hash_rate=self._hashing(),
            utilisation_ratio=utilisation,
            tokens_per_s=np.asarray(np.where(is_serving, tokens, np.nan)),
            fan_speed_rpm=np.full(self.shard.device_count, np.nan),
            reject_ratio=np.full(self.shard.device_count, np.nan),
        )

    def _asic(self, outside: float) -> Readings:
        count = self.shard.device_count
        is_mining = self._is_mining()
        unknown = np.full(count, np.nan)
        low, high = FAN_RPM
        rejects = np.clip(self._random.normal(REJECT_RATIO, REJECT_RATIO / 4.0, count), 0.0, 1.0)
        fans = low + (high - low) * np.clip((self.temperature - 35.0) / 45.0, 0.0, 1.0)
        return Readings(
            codes=self.codes,
            power_watts=np.maximum(self.power * self._noise(), 0.0),
            temperature_celsius=np.clip(self.temperature + self._random.normal(0.0, 0.5, count), -39.0, 190.0),
            second_temperature_celsius=outside + self._random.normal(0.0, 0.3, count),
            hash_rate=self._hashing(),
            utilisation_ratio=unknown,
            tokens_per_s=unknown,
            fan_speed_rpm=np.asarray(fans * self._noise()),
            reject_ratio=np.asarray(np.where(is_mining, rejects, np.nan)),
        )


def outside_celsius(at_ms: int) -> float:
    """Return the air outside at that hour."""
    return OUTSIDE_MEAN_CELSIUS + OUTSIDE_SWING_CELSIUS * _day_curve(at_ms, peak_hour=_WARMEST_HOUR_UTC)


def _day_curve(at_ms: int, *, peak_hour: int) -> float:
    hours = at_ms / MS_PER_HOUR
    return math.cos((hours - peak_hour) / 24.0 * 2.0 * math.pi)
