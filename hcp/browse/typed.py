"""Records as people type them: JSON lines held to the record's model, each mistake named by line and field."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from hcp.model.rejections import Rejected
from hcp.model.units import EpochMs
from hcp.model.validation import check, check_event_time
from hcp.topics import Topic

LINES_MAX: Final = 100_000
"""Lines held in memory, for none is sent before all are seen to be right; `hcp topics import` has no such bound."""
_PATH: Final = re.compile(r"(.*) - at `(.*)`", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """Why a line is no record.

    Attributes:
        line: Its number, from 1.
        words: The field, what must be and what was.
    """

    line: int
    words: str

    def __str__(self) -> str:
        """Write it on one line."""
        return f"line {self.line}: {self.words}"


def typed_records(lines: Iterable[str], topic: Topic, *, at_ms: EpochMs) -> Iterator[Any]:
    """Yield for each line that is not blank its record, or the Mistake it holds.

    Args:
        lines: A JSON object each: the record's fields, or what `hcp topics tail` prints, whose value is taken.
        topic: Where they are to go.
        at_ms: When they are to be sent; nothing may have been observed after it.
    """
    for number, line in enumerate(lines, start=1):
        if number > LINES_MAX:
            yield Mistake(line=number, words=f"there must be at most {LINES_MAX} lines, was more: use import")
            return
        if line.strip():
            record = _record(line, topic, at_ms=at_ms)
            yield Mistake(line=number, words=record) if isinstance(record, str) else record


def _record(line: str, topic: Topic, *, at_ms: EpochMs) -> Any:  # noqa: ANN401  # a record, or why there is none
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"must be JSON, was {line.strip()[:60]!r}: {error}"
    if not isinstance(fields, dict):
        return f"must be a JSON object with the fields of {topic.record.__name__}, was {line.strip()[:60]!r}"
    if "offset" in fields and isinstance(fields.get("value"), dict):
        fields = fields["value"]
    try:
        value: object = msgspec.convert(fields, topic.record)
    except msgspec.ValidationError as error:
        return _words(str(error))
    unknown = next(_unknown(fields, msgspec.to_builtins(value, builtin_types=(bytes,)), ""), None)
    if unknown is not None:
        return (
            f"{unknown}: must be a field of {topic.record.__name__}, was none: see `hcp topics describe {topic.name}`"
        )
    rejected = check(value) or check_event_time(
        observed_at_ms=getattr(value, "observed_at_ms", 0), record_timestamp_ms=at_ms
    )
    return rejected.detail if isinstance(rejected, Rejected) else value


def _words(error: str) -> str:
    """Turn msgspec's words round: the field first."""
    found = _PATH.fullmatch(error)
    return error if found is None else f"{found[2].removeprefix('$.')}: {found[1]}"


def _unknown(given: object, known: object, path: str) -> Iterator[str]:
    """Yield the paths of fields that the record does not have: a name mistyped must not pass for one left out."""
    if isinstance(given, Mapping) and isinstance(known, Mapping):
        for name, each in given.items():
            if name not in known:
                yield f"{path}{name}"
            else:
                yield from _unknown(each, known[name], f"{path}{name}.")
    elif isinstance(given, list) and isinstance(known, list | tuple):
        for number, (each, of) in enumerate(zip(given, known, strict=True)):
            yield from _unknown(each, of, f"{path}{number}.")
