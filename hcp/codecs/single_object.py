"""Avro single-object encoding (C3 01, CRC-64-AVRO fingerprint, body) between bytes and values of hcp.model.

The limits here are what a hostile record may cost before it is refused.
"""

from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import Any, Final

import msgspec
from fastavro import parse_schema, schemaless_reader, schemaless_writer
from fastavro.schema import fingerprint, to_parsing_canonical_form

import schemas
from hcp.codecs.derive import records
from hcp.errors import OutOfRangeError
from hcp.model.rejections import Rejected, RejectReason
from hcp.model.validation import check

MARKER: Final = b"\xc3\x01"
HEADER_BYTES: Final = 10
RECORD_BYTES_MAX: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Version:
    """One schema version: what to parse the body with and which class it becomes."""

    record: type
    writer_schema: Any
    reader_schema: Any


@dataclass(frozen=True, slots=True)
class _Registry:
    by_fingerprint: dict[bytes, _Version]
    written: dict[type, tuple[bytes, Any]]


@cache
def _registry() -> _Registry:
    classes = {record.__name__: record for record in records()}
    parsed = {schema["name"]: parse_schema(schema) for _, schema in schemas.current()}
    by_fingerprint: dict[bytes, _Version] = {}
    written: dict[type, tuple[bytes, Any]] = {}
    for _, schema in (*schemas.retired(), *schemas.current()):
        record = classes[schema["name"]]
        mark = fingerprint_of(schema)
        by_fingerprint[mark] = _Version(record, parse_schema(schema), parsed[schema["name"]])
        written[record] = (mark, parsed[schema["name"]])
    return _Registry(by_fingerprint, written)


def fingerprint_of(schema: schemas.Schema) -> bytes:
    """Return the CRC-64-AVRO fingerprint of a schema's parsing canonical form, 8 bytes, little-endian."""
    return bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))


def encode(value: object) -> bytes:
    """Return the bytes of a record.

    Raises:
        OutOfRangeError: A field breaks its documented range; nothing wrong leaves this process.
        KeyError: The class is no record of the registry.
    """
    rejected = check(value)
    if rejected is not None:
        raise OutOfRangeError(record=type(value).__name__, rejected=rejected)
    mark, schema = _registry().written[type(value)]
    body = BytesIO()
    body.write(MARKER + mark)
    schemaless_writer(body, schema, msgspec.to_builtins(value, builtin_types=(bytes,)))
    return body.getvalue()


def decode(data: bytes | None) -> Any:  # noqa: ANN401  # a record of any class of the registry, or Rejected
    """Return the record in `data` with its ranges checked, or a `Rejected` that says what must be and what was.

    Never raises for bad data: what a producer sent is a value, not an operation that failed.
    """
    if data is None:
        return Rejected(reason=RejectReason.NOT_A_RECORD, detail="a record must have a value, was null")
    if len(data) > RECORD_BYTES_MAX:
        detail = f"a record must be at most {RECORD_BYTES_MAX} bytes, was {len(data)}"
        return Rejected(reason=RejectReason.TOO_LARGE, detail=detail)
    if len(data) < HEADER_BYTES or data[:2] != MARKER:
        detail = (
            f"a record must begin with {MARKER.hex()} and a fingerprint, was {data[:HEADER_BYTES].hex() or 'empty'}"
        )
        return Rejected(reason=RejectReason.NOT_A_RECORD, detail=detail)
    version = _registry().by_fingerprint.get(data[2:HEADER_BYTES])
    if version is None:
        detail = f"schema fingerprint must be one of schemas/avro, was {data[2:HEADER_BYTES].hex()}"
        return Rejected(reason=RejectReason.UNKNOWN_SCHEMA, detail=detail)
    value = _decode_body(data, version)
    return value if isinstance(value, Rejected) else check(value) or value


def _decode_body(data: bytes, version: _Version) -> Any:  # noqa: ANN401  # as decode
    body = BytesIO(data)
    body.seek(HEADER_BYTES)
    name = version.record.__name__
    try:
        fields = schemaless_reader(body, version.writer_schema, version.reader_schema)
        value: object = msgspec.convert(fields, version.record)
    except Exception as error:  # noqa: BLE001  # fastavro documents no error type: IndexError, EOFError, struct.error, …
        detail = f"{name} must decode by its schema, was refused: {type(error).__name__}: {error}"
        return Rejected(reason=RejectReason.UNDECODABLE, detail=detail[:2000])
    if body.tell() != len(data):
        detail = f"{name} must end where its schema ends, was {len(data) - body.tell()} bytes longer"
        return Rejected(reason=RejectReason.UNDECODABLE, detail=detail)
    return value
