"""The edge's checks: every field within its documented range, every column of equal length, no time from the future."""

import re
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin, get_type_hints

from hcp.model.fields import Field
from hcp.model.markets import SERIES_RULES, MarketPrice
from hcp.model.rejections import Rejected, RejectReason

FUTURE_TOLERANCE_MS: Final = 60_000
"""Clocks of feeds and brokers differ by seconds; a minute ahead of the broker is no skew any more."""
_FLOAT_LARGEST: Final = 1.7976931348623157e308

Check = Callable[[str, Any], Rejected | None]


def check(value: object) -> Rejected | None:
    """Return why `value` (a record of hcp.model) breaks its documented ranges, or None when it does not."""
    kind: type = type(value)
    rejected = _checker(kind)("", value)
    if rejected is None and isinstance(value, MarketPrice):
        return _check_series(value)
    return rejected


def check_event_time(*, observed_at_ms: int, record_timestamp_ms: int) -> Rejected | None:
    """Return why an event time lies in the future of its own record, or None.

    Both times come with the record, so a replay judges as the live run did.

    Args:
        observed_at_ms: Event time in the value.
        record_timestamp_ms: Broker timestamp of the record; negative when it has none (then nothing is refused).
    """
    if record_timestamp_ms < 0 or observed_at_ms <= record_timestamp_ms + FUTURE_TOLERANCE_MS:
        return None
    return Rejected(
        reason=RejectReason.FROM_THE_FUTURE,
        detail=(
            f"observed_at_ms must be at most {FUTURE_TOLERANCE_MS} ms after the record's timestamp "
            f"{record_timestamp_ms}, was {observed_at_ms}"
        ),
    )


def _check_series(price: MarketPrice) -> Rejected | None:
    rule = SERIES_RULES[price.series]
    if price.unit is not rule.unit:
        return _out_of_range("unit", price.unit.value, f"{rule.unit.value} for {price.series.value}")
    if not rule.minimum <= price.value <= rule.maximum:
        return _out_of_range(
            "value",
            price.value,
            f"from {rule.minimum:g} to {rule.maximum:g} {rule.unit.value} for {price.series.value}",
        )
    return None


def _out_of_range(path: str, value: object, rule: str) -> Rejected:
    return Rejected(reason=RejectReason.OUT_OF_RANGE, detail=f"{path} must be {rule}, was {value!r}")


@cache
def _checker(record: type) -> Check:
    """Compile the check of a record once; it walks the fields in order and stops at the first violation."""
    hints = get_type_hints(record, include_extras=True)
    checks: list[tuple[str, Check]] = []
    columns: list[str] = []
    for field in fields(record):
        spec, kind = unwrap(hints[field.name])
        if spec is not None and spec.column:
            columns.append(field.name)
        value_check = _value_check(spec, kind)
        if value_check is not None:
            checks.append((field.name, value_check))

    def check_record(path: str, value: Any) -> Rejected | None:  # noqa: ANN401  # any record of the model
        for name, value_check in checks:
            rejected = value_check(f"{path}{name}", getattr(value, name))
            if rejected is not None:
                return rejected
        return _check_columns(value, columns)

    return check_record


def _check_columns(value: object, columns: list[str]) -> Rejected | None:
    if not columns:
        return None
    lengths = {name: len(getattr(value, name)) for name in columns}
    if len(set(lengths.values())) == 1:
        indexes = getattr(value, "device_indexes", ())
        if len(set(indexes)) == len(indexes):
            return None
        return _out_of_range("device_indexes", "a repeated index", "distinct")
    return Rejected(
        reason=RejectReason.UNEQUAL_COLUMNS,
        detail="columns must be of equal length, was " + ", ".join(f"{name}={n}" for name, n in lengths.items()),
    )


def unwrap(hint: Any) -> tuple[Field | None, Any]:  # noqa: ANN401  # a type hint has no narrower type
    """Split `Annotated[kind, Field(...)]` into its parts; (None, hint) when there is no Field."""
    if get_origin(hint) is Annotated:
        kind, *extras = get_args(hint)
        spec = next((extra for extra in extras if isinstance(extra, Field)), None)
        return spec, kind
    return None, hint


def without_none(kind: Any) -> tuple[Any, bool]:  # noqa: ANN401  # a type hint has no narrower type
    """Split `X | None` into (X, True); (kind, False) for anything else."""
    if get_origin(kind) in {Union, UnionType}:
        inner = [arm for arm in get_args(kind) if arm is not NoneType]
        assert len(inner) == 1, f"a field may be X or X | None, was {kind}"
        return inner[0], True
    return kind, False


def plain(kind: Any) -> Any:  # noqa: ANN401  # a type hint has no narrower type
    """Return the builtin behind a NewType."""
    while hasattr(kind, "__supertype__"):
        kind = kind.__supertype__
    return kind


def _value_check(spec: Field | None, kind: Any) -> Check | None:  # noqa: ANN401  # a type hint
    kind, is_optional = without_none(kind)
    if get_origin(kind) is tuple:
        inner_kind, inner_optional = without_none(get_args(kind)[0])
        return _each(_single_check(spec, plain(inner_kind)), is_optional=inner_optional)
    return _maybe(_single_check(spec, plain(kind)), is_optional=is_optional)


def _single_check(spec: Field | None, kind: Any) -> Check | None:  # noqa: ANN401  # a type hint
    if is_dataclass(kind):
        nested = _checker(kind)  # type: ignore[arg-type]  # is_dataclass has no narrowing for classes
        return lambda path, value: nested(f"{path}.", value)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return None
    if kind is str and spec is not None and spec.pattern is not None:
        return _pattern_check(spec)
    if kind in {int, float} and spec is not None:
        return _range_check(spec, is_float=kind is float)
    return None


def _pattern_check(spec: Field) -> Check:
    matches = re.compile(spec.pattern or "").fullmatch
    return lambda path, value: None if matches(value) else _out_of_range(path, value[:200], spec.rule)


def _range_check(spec: Field, *, is_float: bool) -> Check:
    low = spec.minimum if spec.minimum is not None else -_FLOAT_LARGEST
    high = spec.maximum if spec.maximum is not None else _FLOAT_LARGEST
    kinds = (float, int) if is_float else (int,)

    def check_range(path: str, value: Any) -> Rejected | None:  # noqa: ANN401  # any number
        # `low <= value <= high` is false for NaN too, which is the point.
        if isinstance(value, kinds) and low <= value <= high:
            return None
        return _out_of_range(path, value, spec.rule)

    return check_range


def _maybe(single: Check | None, *, is_optional: bool) -> Check | None:
    if single is None or not is_optional:
        return single
    return lambda path, value: None if value is None else single(path, value)


def _each(single: Check | None, *, is_optional: bool) -> Check | None:
    if single is None:
        return None

    def check_each(path: str, values: Iterable[Any]) -> Rejected | None:
        for index, value in enumerate(values):
            if value is None and is_optional:
                continue
            rejected = single(f"{path}[{index}]", value)
            if rejected is not None:
                return rejected
        return None

    return check_each
