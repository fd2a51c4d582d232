"""Options of policies, limits and sites by name, as `--set NAME=VALUE` gives them; what is unknown is refused."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Final

from hcp.errors import SettingsError
from hcp.model.facilities import SWITCHES_PER_HOUR_MAX, Fleet
from streams.policies import Policy
from streams.situation import Limits

_FACILITY: Final = ("power_cap_mw", "ramp_mw_per_minute")
_NONE: Final = "none"
_WHOLE_MAX: Final = 2**53
_ABOVE_ZERO: Final = 1e-9
_BOUNDS: Final[dict[str, tuple[float, float]]] = {
    "confidence_min": (0.0, 1.0),
    "horizon_ms": (1, _WHOLE_MAX),
    "switches_per_hour": (1, SWITCHES_PER_HOUR_MAX),
    "loss_floor_usd_per_mwh": (_ABOVE_ZERO, 1e9),
    "wear_budget_usd_per_device_day": (_ABOVE_ZERO, 1e9),
    "power_cap_mw": (_ABOVE_ZERO, 1e6),
    "ramp_mw_per_minute": (_ABOVE_ZERO, 1e6),
}
"""Where 0 and more is not the range."""
_OPTIONAL: Final[dict[str, type]] = {
    "switches_per_hour": int,
    "loss_floor_usd_per_mwh": float,
    "wear_budget_usd_per_device_day": float,
}
"""Constraints that may be without a limit: the word `none` takes it away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """What options made of the rules."""

    policy: Policy
    limits: Limits
    fleet: Fleet


@dataclass(frozen=True, slots=True, kw_only=True)
class _Setting:
    """One option, taken apart; `site` is empty where it is for all."""

    site: str
    name: str
    text: str


def option_names(policy: Policy, *, limits: Limits) -> tuple[str, ...]:
    """Return the names there are for a policy, sorted: its own options, minimum times, limits, what binds a site."""
    return tuple(sorted({*_own(policy), *_own(policy.timing), *_own(limits), *_site_names()}))


def with_options(options: Iterable[str], *, policy: Policy, limits: Limits, fleet: Fleet) -> Changed:
    """Return the rules with options changed, in the order given.

    Args:
        options: `NAME=VALUE`, or `SITE:NAME=VALUE` for what binds a site.
        policy: Whose options.
        limits: How old what is known may be.
        fleet: Whose sites.

    Raises:
        SettingsError: A name or site is unknown, or a value is out of its range.
    """
    for option in options:
        setting = _taken_apart(option, policy=policy, limits=limits)
        if setting.name in _site_names():
            fleet = _with_site(fleet, setting)
            continue
        if setting.site:
            raise SettingsError(f"--set of one site must be one of {', '.join(_site_names())}, was {setting.name}")
        if setting.name in _own(policy):
            policy = _replaced(policy, setting)
        elif setting.name in _own(policy.timing):
            policy = _with(policy, "timing", _replaced(policy.timing, setting))
        else:
            limits = _replaced(limits, setting)
    return Changed(policy=policy, limits=limits, fleet=fleet)


def _taken_apart(option: str, *, policy: Policy, limits: Limits) -> _Setting:
    where, equals, text = option.partition("=")
    site, colon, name = where.rpartition(":")
    known = option_names(policy, limits=limits)
    if not equals or name not in known or (colon and not site):
        words = f"--set must be NAME=VALUE with one of {', '.join(known)} for {policy.name}"
        raise SettingsError(f"{words}, was {option!r}")
    return _Setting(site=site, name=name, text=text)


def _site_names() -> tuple[str, ...]:
    return (*_FACILITY, *_OPTIONAL, "safe_state_after_ms")


def _with_site(fleet: Fleet, setting: _Setting) -> Fleet:
    known = [site.facility_id for site in fleet.facilities]
    if setting.site and setting.site not in known:
        raise SettingsError(f"--set must name a site of {', '.join(known)}, was {setting.site}")
    changed = []
    for site in fleet.facilities:
        if setting.site not in {"", site.facility_id}:
            changed.append(site)
        elif setting.name in _FACILITY:
            changed.append(_replaced(site, setting))
        else:
            changed.append(replace(site, constraints=_replaced(site.constraints, setting)))
    return replace(fleet, facilities=tuple(changed))


def _own(value: object) -> Iterator[str]:
    """Yield the names of a value's numbers that can be set; those of a policy depend on its code."""
    assert is_dataclass(value), f"rules must be dataclasses, was {type(value).__name__}"
    for field in fields(value):
        held = getattr(value, field.name)
        if isinstance(held, int | float) and not isinstance(held, bool):
            yield field.name


def _replaced(value: Any, setting: _Setting) -> Any:  # noqa: ANN401  # any of the rules' dataclasses
    return _with(value, setting.name, _number(setting, held=getattr(value, setting.name)))


def _with(value: Any, name: str, held: object) -> Any:  # noqa: ANN401  # a Policy is a protocol, so no dataclass to mypy
    return replace(value, **{name: held})


def _number(setting: _Setting, *, held: object) -> float | None:
    """Read a value as the kind that the option holds.

    Raises:
        SettingsError: It is no number, or out of its range.
    """
    kind = _OPTIONAL.get(setting.name, type(held))
    if setting.text == _NONE and setting.name in _OPTIONAL:
        return None
    low, high = _BOUNDS.get(setting.name, (0, _WHOLE_MAX))
    try:
        number = kind(setting.text)
    except ValueError:
        number = None
    if number is None or not low <= number <= high:
        words = "a whole number" if kind is int else "a number"
        either = f", or {_NONE}" if setting.name in _OPTIONAL else ""
        raise SettingsError(f"{setting.name} must be {words} of {low:g} to {high:g}{either}, was {setting.text!r}")
    return float(number) if kind is float else int(number)
