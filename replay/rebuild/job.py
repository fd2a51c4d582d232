"""Make an agent's tables anew from its topics, hold them to its changelogs, and write them there if asked to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from hcp.errors import BrokerError, HcpError
from hcp.kafka.groups import committed, wait_empty
from hcp.kafka.producer import RecordProducer
from hcp.kafka.ranges import Range, ranges_by_time, read
from hcp.topics import Cleanup
from replay.rebuild.fold import Folded, TableFold, content_hash, digest
from replay.rebuild.tables import FoldedTable, Rules

PRODUCED_BY: Final = "hcp.rebuild"
OnRead = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuiltTable:
    """A table made anew beside the one that the agent has.

    Attributes:
        table: Which.
        folded: Made anew.
        held: What the changelog holds, by key.
        places: In which partition of the changelog each of those lies.
        wrong: Keys whose state is none that the records lead to.
        missing: Keys that the records lead to and the agent does not have.
        unknown: Keys that the agent has and no record leads to.
        gaps: Inputs whose beginning the broker no longer has.
    """

    table: FoldedTable
    folded: Folded
    held: Mapping[str, bytes]
    places: Mapping[str, int]
    wrong: tuple[str, ...]
    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    gaps: tuple[Range, ...]

    @property
    def is_equal(self) -> bool:
        """Whether the agent has what its records lead to."""
        return not (self.wrong or self.missing or self.unknown)

    @property
    def hashes(self) -> tuple[str, str]:
        """Content hashes of what was made anew and of what the agent has."""
        return content_hash(self.folded.states), content_hash(self.held)


def rebuild(
    table: FoldedTable, rules: Rules, *, bootstrap: str, allow_gaps: bool = False, on_read: OnRead = lambda _: None
) -> RebuiltTable:
    """Fold a table's topics and compare; the agent may be at work meanwhile.

    Its position is read first, then its changelog, then the topics: what it has lies between position and end.

    Raises:
        BrokerError: The broker does not answer, or a topic is missing.
        HcpError: Retention has eaten the start of an input, and `allow_gaps` is not given.
    """
    names = [topic.name for topic in table.topics]
    positions = committed(bootstrap, table.group, names)
    held, places = _held(bootstrap, table.changelog)
    ranges = ranges_by_time(bootstrap, names)
    compacted = {topic.name for topic in table.topics if topic.cleanup is Cleanup.COMPACT}
    gaps = tuple(each for each in ranges if each.is_cut and each.topic not in compacted)
    if gaps and not allow_gaps:
        lost = ", ".join(f"{each.topic}[{each.partition}] before offset {each.start}" for each in gaps)
        raise HcpError(f"topics must go back to their beginning, retention has eaten {lost}; see --allow-gaps")
    fold = TableFold(table, rules, positions=positions)
    for batch in read(bootstrap, ranges):
        fold.take(batch)
        on_read(len(batch))
    wrong, missing, unknown = _compared(fold.folded, held)
    return RebuiltTable(
        table=table,
        folded=fold.folded,
        held=held,
        places=places,
        wrong=wrong,
        missing=missing,
        unknown=unknown,
        gaps=gaps,
    )


def write(rebuilt: RebuiltTable, *, bootstrap: str) -> int:
    """Write what was made anew to the changelog, from which the agent recovers; return how many records.

    Raises:
        HcpError: The agent is at work.
        BrokerError: The broker does not take them all.
    """
    table = rebuilt.table
    wait_empty(bootstrap, table.group, what=f"agent {table.agent}")
    producer = RecordProducer(bootstrap=bootstrap, produced_by=PRODUCED_BY)
    written = 0
    for key in sorted({*rebuilt.folded.states, *rebuilt.held}):
        state = rebuilt.folded.states.get(key)
        if state != rebuilt.held.get(key):
            place = rebuilt.folded.partitions.get(key, rebuilt.places.get(key))
            producer.send_raw(table.changelog, key.encode(), state, place)
            written += 1
    producer.close()
    return written


def _held(bootstrap: str, changelog: str) -> tuple[dict[str, bytes], dict[str, int]]:
    """Return the newest state of each key, and its partition."""
    found: dict[str, bytes] = {}
    places: dict[str, int] = {}
    try:
        ranges = ranges_by_time(bootstrap, [changelog])
    except BrokerError as error:
        raise BrokerError(f"the agent must have run once, so that it has a changelog; {error}") from error
    for batch in read(bootstrap, ranges):
        for record in batch:
            key = (record.key or b"").decode()
            if record.value is None:
                found.pop(key, None)
            else:
                found[key] = record.value
                places[key] = record.partition
    return found, places


def _compared(folded: Folded, held: Mapping[str, bytes]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return the keys that are wrong, missing and unknown."""
    wrong, missing, unknown = [], [], []
    for key in sorted({*folded.states, *folded.later, *held}):
        state, own = folded.states.get(key), held.get(key)
        later = folded.later.get(key, set())
        if own is None:
            if state is not None:
                missing.append(key)
        elif state is None and not later:
            unknown.append(key)
        elif own != state and digest(own) not in later:
            wrong.append(key)
    return tuple(wrong), tuple(missing), tuple(unknown)
