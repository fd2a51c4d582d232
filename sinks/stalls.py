"""Notice a partition that is read no further although it has records: whatever the cause, reading anew is the cure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hcp.kafka.consumer import Partition


@dataclass(slots=True)
class StallWatch:
    """Compares two looks at the partitions.

    What lies behind the last record may be a transaction's marker, of which nothing is ever stored: a partition that
    was read anew and stays where it was is left alone until it, or its end, has moved.
    """

    _looked: dict[Partition, int] = field(default_factory=dict)
    _tried: dict[Partition, tuple[int, int]] = field(default_factory=dict)

    def look(self, stored: Mapping[Partition, int], ends: Mapping[Partition, int]) -> tuple[Partition, ...]:
        """Return the partitions that stand still before their ends since the last look, sorted.

        Args:
            stored: Next offset by partition as it is stored; absent where nothing is.
            ends: The offset the next record gets, of the partitions that are read.
        """
        behind = {at: stored.get(at, 0) for at, end in ends.items() if stored.get(at, 0) < end}
        stalled = []
        for at, offset in sorted(behind.items()):
            if self._looked.get(at) == offset and self._tried.get(at) != (offset, ends[at]):
                self._tried[at] = (offset, ends[at])
                stalled.append(at)
        self._looked = behind
        return tuple(stalled)
