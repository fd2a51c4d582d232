"""Records for eyes: bytes decoded as far as they can be, and said what they are where they cannot."""

import json
from functools import cache
from io import BytesIO
from math import isfinite
from typing import Any, Final

import msgspec
from fastavro import parse_schema, schemaless_reader

import schemas
from hcp.browse.times import time_words
from hcp.codecs import decode, fingerprint_of
from hcp.codecs.single_object import HEADER_BYTES, MARKER, RECORD_BYTES_MAX
from hcp.kafka.records import ConsumedRecord
from hcp.model.rejections import DeadLetter, Rejected

RAW_BYTES_SHOWN: Final = 512
"""Of a value that is no record; `hcp topics export` keeps all of it."""


def readable(record: ConsumedRecord, *, headers: bool = False) -> dict[str, Any]:
    """Return a record as JSON would have it: address, time, key, and its value or why it has none."""
    shown: dict[str, Any] = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "time": time_words(record.timestamp_ms),
        "key": text_of(record.key),
    }
    if headers:
        shown["headers"] = {name: text_of(value) for name, value in record.headers}
    return {**shown, **readable_value(record.value)}


def readable_value(data: bytes | None) -> dict[str, Any]:
    """Return `value` for a record, else `rejected`, `detail`, `raw` and what `partial` could still be read of it."""
    if data is None:
        return {"value": None}  # a tombstone: its key is forgotten
    value = decode(data)
    if not isinstance(value, Rejected):
        return {"value": fields_of(value)}
    shown: dict[str, Any] = {"rejected": value.reason.value, "detail": value.detail}
    partial = partly_decoded(data)
    if partial is not None:
        shown["record"], shown["partial"] = partial
    elif (found := _json(data)) is not None:
        shown["json"] = found
    return {**shown, "raw": data[:RAW_BYTES_SHOWN].hex(), "raw_bytes": len(data)}


def fields_of(value: object) -> Any:  # noqa: ANN401  # what JSON can hold
    """Return a record of hcp.model as dicts, lists, numbers and strings; the bytes in a dead letter as text."""
    fields = msgspec.to_builtins(value, builtin_types=(bytes,))
    if isinstance(value, DeadLetter):
        fields["record_key"] = text_of(value.record_key)
        fields["record_value"] = None if value.record_value is None else readable_value(value.record_value)
    return fields


def text_of(data: bytes | None) -> str | None:
    """Return bytes as text; those that are none in hexadecimal behind 0x."""
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "0x" + data.hex()


def partly_decoded(data: bytes) -> tuple[str, dict[str, Any]] | None:
    """Return the record's name and its fields up to the first that does not decode; None for an unknown schema.

    Ranges are not checked: this is how to see what broke one.
    """
    if data[:2] != MARKER or len(data) > RECORD_BYTES_MAX:
        return None
    schema = _schemas().get(data[2:HEADER_BYTES])
    if schema is None:
        return None
    for count in range(len(schema["fields"]), 0, -1):
        body = BytesIO(data)
        body.seek(HEADER_BYTES)
        try:
            found = schemaless_reader(body, parse_schema({**schema, "fields": schema["fields"][:count]}), None)
        except Exception:  # noqa: BLE001, S112  # fastavro documents no error type; one field less may do
            continue
        return schema["name"], _plain(found)
    return schema["name"], {}


@cache
def _schemas() -> dict[bytes, schemas.Schema]:
    return {fingerprint_of(schema): schema for _, schema in (*schemas.retired(), *schemas.current())}


def _plain(value: object) -> Any:  # noqa: ANN401  # what JSON can hold
    if isinstance(value, bytes):
        return text_of(value)
    if isinstance(value, float) and not isfinite(value):
        return str(value)  # JSON has none of these
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return {name: _plain(each) for name, each in value.items()} if isinstance(value, dict) else value


def _json(data: bytes) -> Any:  # noqa: ANN401  # what JSON can hold
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
