"""The event time of a record without decoding the rest of it: telemetry has thousands of readings behind it."""

from functools import cache
from io import BytesIO
from typing import Any, Final

from fastavro import parse_schema, schemaless_reader

import schemas
from hcp.codecs.single_object import HEADER_BYTES, MARKER, fingerprint_of

FIELD: Final = "observed_at_ms"


@cache
def _prefixes() -> dict[bytes, Any]:
    """Return, by fingerprint, each schema cut after its event time: Avro writes fields one behind the other."""
    found = {}
    for _, schema in (*schemas.retired(), *schemas.current()):
        names = [field["name"] for field in schema["fields"]]
        if FIELD in names:
            kept = schema["fields"][: names.index(FIELD) + 1]
            found[fingerprint_of(schema)] = parse_schema({**schema, "fields": kept})
    return found


def event_time_ms(data: bytes | None) -> int | None:
    """Return the event time of a record's bytes, ms since the epoch; None for what is none, or has none."""
    if data is None or data[: len(MARKER)] != MARKER:
        return None
    prefix = _prefixes().get(data[len(MARKER) : HEADER_BYTES])
    if prefix is None:
        return None
    body = BytesIO(data)
    body.seek(HEADER_BYTES)
    try:
        fields: Any = schemaless_reader(body, prefix, None)
        return int(fields[FIELD])
    except Exception:  # noqa: BLE001  # fastavro documents no error type; a record that does not decode has no time
        return None
