"""As much of the protobuf wire format as answers need: fields by number, sub-messages as bytes."""

import struct
from collections.abc import Iterator
from typing import Final

Field = bool | int | float | str | bytes
"""int and bool are varints, float is a 64-bit double, str and bytes (a sub-message) carry their length."""

_DOUBLE: Final = struct.Struct("<d")
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
VARINT_BYTES_MAX: Final = 10


def message(*fields: tuple[int, Field]) -> bytes:
    """Return the bytes of a message of numbered fields; a number may come again for a repeated one."""
    parts = bytearray()
    for number, value in fields:
        if isinstance(value, float):
            parts += _varint(number << 3 | FIXED64) + _DOUBLE.pack(value)
        elif isinstance(value, int):
            parts += _varint(number << 3 | VARINT) + _varint(int(value))
        else:
            raw = value.encode() if isinstance(value, str) else value
            parts += _varint(number << 3 | LENGTH) + _varint(len(raw)) + raw
    return bytes(parts)


def fields(raw: bytes) -> dict[int, int | bytes]:
    """Return the last value of each field: varints as int, all else as bytes.

    Raises:
        ValueError: These bytes are no message.
    """
    return dict(_read(raw))


def _read(raw: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(raw):
        tag, at = _take_varint(raw, at)
        number, wire = tag >> 3, tag & 7
        if wire == VARINT:
            value, at = _take_varint(raw, at)
            yield number, value
            continue
        length = {FIXED64: 8, FIXED32: 4}.get(wire)
        if wire == LENGTH:
            length, at = _take_varint(raw, at)
        if length is None or at + length > len(raw):
            raise ValueError(f"message must be whole fields, was cut or unknown at byte {at}")
        yield number, raw[at : at + length]
        at += length


def _varint(value: int) -> bytes:
    made = bytearray()
    while True:
        low, value = value & 0x7F, value >> 7
        made.append(low | (0x80 if value else 0))
        if not value:
            return bytes(made)


def _take_varint(raw: bytes, at: int) -> tuple[int, int]:
    value = 0
    for offset, byte in enumerate(raw[at : at + VARINT_BYTES_MAX]):
        value |= (byte & 0x7F) << (7 * offset)
        if not byte & 0x80:
            return value, at + offset + 1
    raise ValueError(f"varint must end within {VARINT_BYTES_MAX} bytes, was cut at byte {at}")
