"""Which consumed records may be committed: per partition, only the run of finished ones from the oldest on."""

from collections import deque

from hcp.kafka.records import ConsumedRecord


class InFlight:
    """Records taken and not yet committed.

    A record is told from its own redelivery by identity: both may be under way after a rebalance.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._taken: dict[tuple[str, int], deque[ConsumedRecord]] = {}
        self._finished: set[int] = set()

    def __len__(self) -> int:
        return sum(len(records) for records in self._taken.values())

    def take(self, record: ConsumedRecord) -> None:
        """Note a record as under way, in the order consumed."""
        self._taken.setdefault((record.topic, record.partition), deque()).append(record)

    def finish(self, record: ConsumedRecord) -> None:
        """Note that the effect of a record is out."""
        self._finished.add(id(record))

    def committable(self) -> list[ConsumedRecord]:
        """Return and forget the last finished record of each partition before which all are finished."""
        ready: list[ConsumedRecord] = []
        for records in self._taken.values():
            last = None
            while records and id(records[0]) in self._finished:
                last = records.popleft()
                self._finished.discard(id(last))
            if last is not None:
                ready.append(last)
        return ready
