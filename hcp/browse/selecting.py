"""Which offsets `--since --until -o -p -n` mean."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from hcp.errors import SettingsError
from hcp.kafka.ranges import NEVER, Place, Range, ranges_by_offset, ranges_by_time

_OFFSET: Final = re.compile(r"-?\d{1,18}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Part of a topic.

    Attributes:
        since_ms: Broker timestamp of the first record wanted; None for no bound.
        until_ms: Likewise of the first not wanted any more.
        offset: `beginning`, `end`, a first offset, or how many from the end as a negative number; None for no bound.
        partitions: Those wanted; empty for all.
        last: How many from the end of each partition, of what the others leave; None for all.
    """

    since_ms: int | None = None
    until_ms: int | None = None
    offset: str | None = None
    partitions: tuple[int, ...] = ()
    last: int | None = None

    @property
    def is_unbound(self) -> bool:
        """Tell whether nothing was said, so that a whole topic would be meant."""
        return self.since_ms is None and self.until_ms is None and self.offset is None and self.last is None


def ranges_of(bootstrap: str, topic: str, selection: Selection) -> tuple[Range, ...]:
    """Return the range of each wanted partition as the topic is now.

    Raises:
        SettingsError: `offset` is none, or comes together with a time.
        BrokerError: The broker does not answer, or has no such topic or partition.
    """
    _check(selection)
    found = ranges_by_time(bootstrap, [topic], from_ms=selection.since_ms, to_ms=selection.until_ms)
    if selection.partitions:
        have = {each.partition for each in found}
        missing = sorted(set(selection.partitions) - have)
        if missing:
            raise SettingsError(f"--partition must be from 0 to {max(have)} for {topic}, was {missing[0]}")
        found = tuple(each for each in found if each.partition in selection.partitions)
    found = tuple(_from_offset(bootstrap, found, selection.offset))
    if selection.last is not None:
        found = tuple(replace(each, start=max(each.start, each.end - selection.last)) for each in found)
    return found


def _check(selection: Selection) -> None:
    if selection.offset is None:
        return
    if selection.since_ms is not None:
        raise SettingsError("--offset must be given without --since, was given with it: both say where to begin")
    if selection.offset not in {"beginning", "end"} and _OFFSET.fullmatch(selection.offset) is None:
        raise SettingsError(f"--offset must be beginning, end, an offset or -COUNT, was {selection.offset!r}")


def _from_offset(bootstrap: str, found: Iterable[Range], offset: str | None) -> Iterable[Range]:
    if offset in {None, "beginning"}:
        return found
    if offset == "end":
        return [replace(each, start=each.end) for each in found]
    number = int(offset or 0)
    if number < 0:
        return [replace(each, start=max(each.start, each.end + number)) for each in found]
    wanted: dict[Place, tuple[int, int]] = {each.place: (number, NEVER) for each in found}
    ends = {each.place: each.end for each in found}
    return [
        replace(each, start=min(each.start, ends[each.place]), end=ends[each.place])
        for each in ranges_by_offset(bootstrap, wanted)
    ]
