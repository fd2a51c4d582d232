"""Derived ids: a record handled twice yields the same ids, so every effect is idempotent by id."""

from hashlib import sha1
from typing import Final
from uuid import UUID

NAMESPACE: Final = UUID("6f0b6c1e-3d1c-5a52-9a57-7a0e4f8d2c11")
"""Fixed for ever: changing it would change every id there is."""
_NAMESPACE_BYTES: Final = NAMESPACE.bytes


def id_from_record(*, topic: str, partition: int, offset: int, ordinal: int = 0) -> str:
    """Name the `ordinal`-th thing that one input record caused.

    Args:
        topic: Topic of the input record.
        partition: Its partition, 0 or more.
        offset: Its offset, 0 or more.
        ordinal: Which of the record's outputs, counted from 0.
    """
    return _named(f"{topic}|{partition}|{offset}|{ordinal}")


def id_from_content(*parts: str | int) -> str:
    """Name a thing by what it is made of; parts are joined by `|`, so they may not hold one."""
    for part in parts:
        if isinstance(part, str) and "|" in part:
            raise ValueError(f"id parts must not contain '|', was {part!r}")
    return _named("|".join([str(part) for part in parts]))


def device_id(*, shard_id: str, device_index: int) -> str:
    """Name one device: `tx-north.asic-1/07/113`."""
    return f"{shard_id}/{device_index:03d}"


def _named(name: str) -> str:
    """Return `str(uuid5(NAMESPACE, name))` without the object in between: every decision and recommendation has one.

    RFC 4122, 4.3: the SHA-1 digest, cut to 16 bytes, with four bits for the version and two for the variant.
    """
    digits = sha1(_NAMESPACE_BYTES + name.encode(), usedforsecurity=False).hexdigest()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-5{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}"
