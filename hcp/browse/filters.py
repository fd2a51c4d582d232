"""`FIELD=VALUE` conditions on a decoded record: enough for eyes, no query language."""

import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from hcp.errors import SettingsError

_CONDITION: Final = re.compile(r"([A-Za-z_][\w.]*)(!=|<=|>=|=|<|>|~)(.*)", re.DOTALL)
_ORDERS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One thing a record must be.

    Attributes:
        field: Path by dots, such as `facility_id` or `classes.device_class`; any item of a list counts.
        comparison: One of = != < <= > >= ~ (contains, whatever the case).
        value: What was typed after it.
    """

    field: str
    comparison: str
    value: str

    def holds(self, fields: object) -> bool:
        """Tell whether any value at the path satisfies it; `!=` asks that none equals. A missing field fails all."""
        found = list(_values(fields, self.field.split(".")))
        if self.comparison == "!=":
            return bool(found) and not any(_equals(each, self.value) for each in found)
        return any(self._fits(each) for each in found)

    def _fits(self, found: object) -> bool:
        if self.comparison == "=":
            return _equals(found, self.value)
        if self.comparison == "~":
            return self.value.casefold() in _words(found).casefold()
        left, right = _number(found), _number(self.value)
        return left is not None and right is not None and _ORDERS[self.comparison](left, right)


def conditions(texts: Iterable[str]) -> tuple[Condition, ...]:
    """Read conditions as they are typed.

    Raises:
        SettingsError: One is not FIELD=VALUE, or orders by what is no number.
    """
    return tuple(_condition(text) for text in texts)


def _condition(text: str) -> Condition:
    matched = _CONDITION.fullmatch(text)
    if matched is None:
        raise SettingsError(f"--where must be FIELD=VALUE (or != < <= > >= ~ for =), was {text!r}")
    field, comparison, value = matched.groups()
    if comparison in _ORDERS and _number(value) is None:
        raise SettingsError(f"--where {field}{comparison} must be followed by a number, was {value!r}")
    return Condition(field=field, comparison=comparison, value=value)


def _values(fields: object, path: list[str]) -> Iterator[Any]:
    if isinstance(fields, (list, tuple)):
        for each in fields:
            yield from _values(each, path)
    elif not path:
        yield fields
    elif isinstance(fields, Mapping) and path[0] in fields:
        yield from _values(fields[path[0]], path[1:])


def _equals(found: object, typed: str) -> bool:
    if _words(found) == typed:
        return True
    left, right = _number(found), _number(typed)
    return left is not None and left == right and not isinstance(found, str)


def _words(found: object) -> str:
    if found is None:
        return "null"
    return str(found).lower() if isinstance(found, bool) else str(found)


def _number(found: object) -> float | None:
    if isinstance(found, bool) or not isinstance(found, (int, float, str)):
        return None
    try:
        return float(found)
    except ValueError:
        return None
