"""Read fleet.toml into a `Fleet`; every mistake is one line: the table, the key, what must be and what was."""

import tomllib
from pathlib import Path
from typing import Any

import msgspec

from hcp.errors import FleetError
from hcp.model.devices import DeviceClass, DeviceKind, DeviceMode, HardwareLimits, ModeProfile, modes_of_kind
from hcp.model.facilities import (
    DEFAULT_METER_MS,
    DEFAULT_WEIGHTS,
    SWITCHES_PER_HOUR_MAX,
    Cluster,
    Constraints,
    DemandWindow,
    Facility,
    Fleet,
    PlacementWeights,
)
from hcp.model.units import MS_PER_MINUTE, MS_PER_SECOND, DurationMs

_MONTHS, _HOURS, _OFFSET_MAX = 12, 24, 14
_POINTS, _POINTS_TOLERANCE = 100.0, 1e-6


class _Mode(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    power_watts: float
    hash_rate_th_per_s: float | None = None
    hash_rate_mh_per_s: float | None = None
    algorithm: str | None = None
    wear_usd_per_hour: float = 0.0
    enter_ms: int
    enter_wear_usd: float
    enter_reload_usd: float = 0.0


class _Limits(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    minimum_on_seconds: int | None = None
    minimum_off_seconds: int | None = None
    starts_per_hour: int | None = None


class _Class(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    kind: DeviceKind
    name: str
    modes: dict[DeviceMode, _Mode]
    limits: _Limits = msgspec.field(default_factory=_Limits)


class _Cluster(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    device_class: str
    device_count: int
    initial_mode: DeviceMode
    devices_per_feeder: int | None = None


class _Constraints(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    switches_per_hour: int | None = None
    loss_floor_usd_per_mwh: float | None = None
    wear_budget_usd_per_device_day: float | None = None
    safe_state_after_minutes: int = 360


class _DemandWindow(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    months: list[int]
    start_hour: float
    end_hour: float
    utc_offset_hours: float
    adder_usd_per_kwh: float


class _Facility(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    name: str
    energy_market: str
    power_cap_mw: float
    ramp_mw_per_minute: float
    pue: float
    demand_adder_usd_per_kwh: float = 0.0
    pool_fee_ratio: float = 0.0
    reject_ratio: float = 0.0
    uptime_ratio: float = 1.0
    sla_bonus_ratio: float = 1.0
    clusters: dict[str, _Cluster]
    constraints: _Constraints = msgspec.field(default_factory=_Constraints)
    demand_windows: list[_DemandWindow] = msgspec.field(default_factory=list)


class _Weights(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    temperature: float = DEFAULT_WEIGHTS.temperature
    utilisation: float = DEFAULT_WEIGHTS.utilisation
    proximity: float = DEFAULT_WEIGHTS.proximity
    switching: float = DEFAULT_WEIGHTS.switching
    health: float = DEFAULT_WEIGHTS.health


class _File(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    device_classes: dict[str, _Class]
    facilities: dict[str, _Facility]
    placement_weights: _Weights = msgspec.field(default_factory=_Weights)
    meter_seconds: int = DEFAULT_METER_MS // MS_PER_SECOND


def load_fleet(path: Path) -> Fleet:
    """Read and check a fleet file.

    Raises:
        FleetError: The file is missing, is not TOML, or does not describe a fleet.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FleetError(f"fleet file must be readable, was {path}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise FleetError(f"fleet file must be TOML, was {path}: {error}") from error
    return fleet_from_table(table, origin=str(path))


def fleet_from_table(table: dict[str, Any], *, origin: str) -> Fleet:
    """Turn a parsed fleet file into values; `origin` names it in errors."""
    try:
        parsed = msgspec.convert(table, _File)
    except msgspec.ValidationError as error:
        raise FleetError(f"{origin}: {error}") from error
    classes = tuple(_device_class(name, raw, origin) for name, raw in sorted(parsed.device_classes.items()))
    known = {device_class.device_class: device_class for device_class in classes}
    facilities = tuple(_facility(name, raw, known, origin) for name, raw in parsed.facilities.items())
    weights = _weights(parsed.placement_weights, f"{origin}: placement_weights")
    meter_seconds = parsed.meter_seconds
    _require(meter_seconds > 0, f"{origin}: meter_seconds must be above 0, was {meter_seconds}")
    return Fleet(
        facilities=facilities,
        device_classes=classes,
        placement_weights=weights,
        meter_ms=DurationMs(meter_seconds * MS_PER_SECOND),
    )


def _weights(raw: _Weights, where: str) -> PlacementWeights:
    weights = PlacementWeights(**msgspec.structs.asdict(raw))
    for name, points in weights.named():
        _require(points >= 0, f"{where}.{name} must be 0 or more, was {points}")
    total = sum(points for _, points in weights.named())
    _require(abs(total - _POINTS) < _POINTS_TOLERANCE, f"{where} must add up to {_POINTS:g}, was {total:g}")
    return weights


def _device_class(name: str, raw: _Class, origin: str) -> DeviceClass:
    where = f"{origin}: device_classes.{name}"
    allowed = modes_of_kind(raw.kind)
    for mode, profile in raw.modes.items():
        _require(mode in allowed, f"{where}.modes must be of {[str(m) for m in allowed]}, was {mode}")
        _require(
            profile.power_watts >= 0,
            f"{where}.modes.{mode}.power_watts must be 0 or more, was {profile.power_watts}",
        )
        _require(profile.enter_ms > 0, f"{where}.modes.{mode}.enter_ms must be above 0, was {profile.enter_ms}")
        cost = profile.enter_wear_usd + profile.enter_reload_usd
        _require(cost > 0, f"{where}.modes.{mode}: entering must cost above 0 USD, was {cost}")
        is_hashing = (profile.hash_rate_mh_per_s is None) == (profile.algorithm is None)
        _require(is_hashing, f"{where}.modes.{mode}: hash_rate_mh_per_s and algorithm must come together")
    _require(len(raw.modes) > 1, f"{where}.modes must be two or more, was {len(raw.modes)}")
    modes = tuple(
        ModeProfile(mode=mode, **msgspec.structs.asdict(raw.modes[mode])) for mode in allowed if mode in raw.modes
    )
    return DeviceClass(
        device_class=name, kind=raw.kind, name=raw.name, modes=modes, limits=_limits(raw.limits, f"{where}.limits")
    )


def _limits(raw: _Limits, where: str) -> HardwareLimits:
    for name, value in msgspec.structs.asdict(raw).items():
        _require(value is None or value > 0, f"{where}.{name} must be above 0, was {value}")
    return HardwareLimits(
        minimum_on_ms=_milliseconds(raw.minimum_on_seconds),
        minimum_off_ms=_milliseconds(raw.minimum_off_seconds),
        starts_per_hour=raw.starts_per_hour,
    )


def _milliseconds(seconds: int | None) -> DurationMs | None:
    return None if seconds is None else DurationMs(seconds * MS_PER_SECOND)


def _facility(name: str, raw: _Facility, known: dict[str, DeviceClass], origin: str) -> Facility:
    where = f"{origin}: facilities.{name}"
    _require(raw.power_cap_mw > 0, f"{where}.power_cap_mw must be above 0, was {raw.power_cap_mw}")
    _require(
        raw.ramp_mw_per_minute > 0,
        f"{where}.ramp_mw_per_minute must be above 0, was {raw.ramp_mw_per_minute}",
    )
    _require(raw.pue >= 1, f"{where}.pue must be 1 or more, was {raw.pue}")
    for ratio in ("pool_fee_ratio", "reject_ratio", "uptime_ratio"):
        value = getattr(raw, ratio)
        _require(0 <= value <= 1, f"{where}.{ratio} must be from 0 to 1, was {value}")
    clusters = tuple(_cluster(name, key, cluster, known, where) for key, cluster in raw.clusters.items())
    _require(len(clusters) > 0, f"{where}.clusters must be one or more, was none")
    fields = msgspec.structs.asdict(raw)
    made = {
        "clusters": clusters,
        "constraints": _constraints(raw.constraints, where),
        "demand_windows": tuple(
            _window(window, f"{where}.demand_windows[{place}]") for place, window in enumerate(raw.demand_windows)
        ),
    }
    return Facility(facility_id=name, **{**fields, **made})


def _window(raw: _DemandWindow, place: str) -> DemandWindow:
    _require(
        bool(raw.months) and all(1 <= month <= _MONTHS for month in raw.months),
        f"{place}.months must be from 1 to {_MONTHS}, was {raw.months}",
    )
    _require(
        0 <= raw.start_hour < raw.end_hour <= _HOURS,
        f"{place}: start_hour and end_hour must be from 0 to {_HOURS} and in order, "
        f"was {raw.start_hour} and {raw.end_hour}",
    )
    _require(
        -_OFFSET_MAX <= raw.utc_offset_hours <= _OFFSET_MAX,
        f"{place}.utc_offset_hours must be from -{_OFFSET_MAX} to {_OFFSET_MAX}, was {raw.utc_offset_hours}",
    )
    _require(raw.adder_usd_per_kwh > 0, f"{place}.adder_usd_per_kwh must be above 0, was {raw.adder_usd_per_kwh}")
    return DemandWindow(**{**msgspec.structs.asdict(raw), "months": tuple(raw.months)})


def _constraints(raw: _Constraints, where: str) -> Constraints:
    place = f"{where}.constraints"
    count = raw.switches_per_hour
    _require(
        count is None or 1 <= count <= SWITCHES_PER_HOUR_MAX,
        f"{place}.switches_per_hour must be from 1 to {SWITCHES_PER_HOUR_MAX}, was {count}",
    )
    for name in ("loss_floor_usd_per_mwh", "wear_budget_usd_per_device_day"):
        value = getattr(raw, name)
        _require(value is None or value > 0, f"{place}.{name} must be above 0, was {value}")
    minutes = raw.safe_state_after_minutes
    _require(minutes > 0, f"{place}.safe_state_after_minutes must be above 0, was {minutes}")
    return Constraints(
        switches_per_hour=count,
        loss_floor_usd_per_mwh=raw.loss_floor_usd_per_mwh,
        wear_budget_usd_per_device_day=raw.wear_budget_usd_per_device_day,
        safe_state_after_ms=minutes * MS_PER_MINUTE,
    )


def _cluster(site: str, key: str, raw: _Cluster, known: dict[str, DeviceClass], where: str) -> Cluster:
    place = f"{where}.clusters.{key}"
    _require(
        raw.device_class in known,
        f"{place}.device_class must be one of {sorted(known)}, was {raw.device_class}",
    )
    _require(raw.device_count > 0, f"{place}.device_count must be above 0, was {raw.device_count}")
    feeder = raw.devices_per_feeder
    _require(feeder is None or feeder > 0, f"{place}.devices_per_feeder must be above 0, was {feeder}")
    modes = [str(profile.mode) for profile in known[raw.device_class].modes]
    _require(raw.initial_mode in modes, f"{place}.initial_mode must be one of {modes}, was {raw.initial_mode}")
    return Cluster(
        cluster_id=f"{site}.{key}",
        facility_id=site,
        device_class=raw.device_class,
        device_count=raw.device_count,
        initial_mode=raw.initial_mode,
        devices_per_feeder=feeder,
    )


def _require(condition: bool, message: str) -> None:  # noqa: FBT001  # reads as an assertion
    if not condition:
        raise FleetError(message)
