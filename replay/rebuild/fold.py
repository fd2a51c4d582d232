"""A table as a fold over its inputs: the states up to a position, and every one that may follow it."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from hcp.kafka.ranges import Place
from hcp.kafka.records import ConsumedRecord
from hcp.kafka.replays import refused_if_replayed
from hcp.model.rejections import Rejected
from replay.decisions.records import cause_of, guarded, value_of
from replay.decisions.snapshot import STATE_VERSION
from replay.rebuild.tables import FoldedTable, Rules

Digest = bytes


@dataclass(slots=True, kw_only=True)
class Folded:
    """A table made anew.

    Attributes:
        states: Bytes as the agent's table holds them, by key, at the agent's position.
        partitions: Where a key's changelog record belongs: the partition of its inputs.
        later: Digests of the states that a key goes through behind that position: an agent may be ahead of its commit.
        records: Records taken.
        refused: Records that changed nothing, by why.
    """

    states: dict[str, bytes] = field(default_factory=dict)
    partitions: dict[str, int] = field(default_factory=dict)
    later: dict[str, set[Digest]] = field(default_factory=lambda: defaultdict(set))
    records: int = 0
    refused: Counter[str] = field(default_factory=Counter)


def digest(raw: bytes) -> Digest:
    """Return what tells states apart."""
    return hashlib.sha256(raw).digest()


def content_hash(states: Mapping[str, bytes]) -> str:
    """Return SHA-256 over keys and states, sorted by key, in hex: two tables with it are the same."""
    found = hashlib.sha256()
    for key in sorted(states):
        found.update(digest(key.encode()) + digest(states[key]))
    return found.hexdigest()


class TableFold:
    """Takes a table's inputs in the order of each partition."""

    def __init__(self, table: FoldedTable, rules: Rules, *, positions: Mapping[Place, int]) -> None:
        """Begin with nothing.

        Args:
            table: Which.
            rules: What its agent was started with.
            positions: The agent's next offset by topic and partition; where it has none, nothing is taken yet.
        """
        self.folded = Folded()
        self._table, self._rules, self._positions = table, rules, positions
        self._kinds = {topic.name: topic.record for topic in table.topics}
        self._values: dict[str, Any] = {}
        self._encode = msgspec.msgpack.Encoder().encode

    def take(self, records: Iterable[ConsumedRecord]) -> None:
        """Take records in."""
        for record in records:
            self._take(record)

    def _take(self, record: ConsumedRecord) -> None:
        self.folded.records += 1
        value: Any = refused_if_replayed(record) or value_of(record, self._kinds[record.topic])
        if isinstance(value, Rejected):
            self.folded.refused[value.reason.value] += 1
            return
        state = self._values.get(self._table.key_of(value))
        step = guarded(lambda: self._table.fold(state, value, cause_of(record), self._rules))
        if isinstance(step, Rejected):
            self.folded.refused[step.reason.value] += 1
            return
        if step.ignored is not None:
            self.folded.refused[step.ignored] += 1
        is_taken = record.offset < self._positions.get((record.topic, record.partition), 0)
        for key, after in step.updates:
            self._values[key] = after
            raw = STATE_VERSION + self._encode(after)
            self.folded.partitions[key] = record.partition
            if is_taken:
                self.folded.states[key] = raw
            else:
                self.folded.later[key].add(digest(raw))
