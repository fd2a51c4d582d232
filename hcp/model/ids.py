"""Derived ids: a record handled twice yields the same ids, so every effect is idempotent by id."""

from typing import Final
from uuid import UUID, uuid5

NAMESPACE: Final = UUID("6f0b6c1e-3d1c-5a52-9a57-7a0e4f8d2c11")
"""Fixed for ever: changing it would change every id there is."""


def id_from_record(*, topic: str, partition: int, offset: int, ordinal: int = 0) -> str:
    """Name the `ordinal`-th thing that one input record caused.

    Args:
        topic: Topic of the input record.
        partition: Its partition, 0 or more.
        offset: Its offset, 0 or more.
        ordinal: Which of the record's outputs, counted from 0.
    """
    return str(uuid5(NAMESPACE, f"{topic}|{partition}|{offset}|{ordinal}"))


def id_from_content(*parts: str | int) -> str:
    """Name a thing by what it is made of; parts are joined by `|`, so they may not hold one."""
    for part in parts:
        if isinstance(part, str) and "|" in part:
            raise ValueError(f"id parts must not contain '|', was {part!r}")
    return str(uuid5(NAMESPACE, "|".join(str(part) for part in parts)))


def device_id(*, shard_id: str, device_index: int) -> str:
    """Name one device: `tx-north.asic-1/07/113`."""
    return f"{shard_id}/{device_index:03d}"
