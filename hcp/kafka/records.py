"""A record as it lies on the broker: address, key, bytes, headers."""

import re
from dataclasses import dataclass
from typing import Final

_ADDRESS: Final = re.compile(r"(?P<topic>[A-Za-z0-9._-]+)\[(?P<partition>\d+)\]@(?P<offset>\d+)")


def address_words(topic: str, partition: int, offset: int) -> str:
    """Write where a record lies: `market.price[3]@42`."""
    return f"{topic}[{partition}]@{offset}"


def address_in(text: str) -> tuple[str, int, int] | None:
    """Read topic, partition and offset of `market.price[3]@42`; None when it is no address."""
    found = _ADDRESS.fullmatch(text)
    return None if found is None else (found["topic"], int(found["partition"]), int(found["offset"]))


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
