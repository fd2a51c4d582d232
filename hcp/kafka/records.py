"""A record as it lies on the broker: address, key, bytes, headers."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumedRecord:
    """One consumed record, not yet decoded.

    Attributes:
        topic: Its topic.
        partition: Its partition.
        offset: Its offset.
        timestamp_ms: Broker timestamp, ms since the epoch; -1 when it has none.
        key: Raw key, None when it has none.
        value: Raw value, None for a tombstone.
        headers: In the order sent.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
