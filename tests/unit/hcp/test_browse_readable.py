"""Records for eyes, decoded as far as they can be."""

import json
from dataclasses import fields, replace
from io import BytesIO
from math import nan

import msgspec
import pytest
from fastavro import parse_schema, schemaless_writer
from hypothesis import given
from hypothesis import strategies as st

import schemas
from hcp.browse.readable import RAW_BYTES_SHOWN, partly_decoded, readable, readable_value, text_of
from hcp.codecs import encode
from hcp.codecs.single_object import HEADER_BYTES
from hcp.kafka.dead_letters import dead_letter
from hcp.kafka.records import ConsumedRecord
from hcp.model.markets import MarketPrice
from hcp.model.rejections import Rejected, RejectReason
from tests.examples import AUDIT, PRICE

DATA = encode(PRICE)
NAMES = [each.name for each in fields(MarketPrice)]


def _record(value: bytes | None) -> ConsumedRecord:
    return ConsumedRecord(
        topic="market.price", partition=3, offset=42, timestamp_ms=-1, key=b"\xff", value=value, headers=(("a", b"b"),)
    )


def test_a_record_has_address_key_and_value() -> None:
    """A key that is no text is shown in hexadecimal, a missing time as a dash."""
    shown = readable(_record(DATA), headers=True)
    assert (shown["topic"], shown["partition"], shown["offset"]) == ("market.price", 3, 42)
    assert (shown["time"], shown["key"], shown["headers"]) == ("-", "0xff", {"a": "b"})
    assert shown["value"] == msgspec.to_builtins(PRICE)
    assert readable(_record(None))["value"] is None


@pytest.mark.parametrize("missing", range(1, len(DATA) - HEADER_BYTES + 1))
def test_a_record_cut_short_is_read_up_to_the_cut(missing: int) -> None:
    """Its first fields are shown as they are; how many shrinks with the bytes."""
    found = partly_decoded(DATA[:-missing])
    assert found is not None
    name, partial = found
    assert name == "MarketPrice"
    assert list(partial) == NAMES[: len(partial)]
    assert len(partial) < len(NAMES)
    assert all(partial[each] == msgspec.to_builtins(PRICE)[each] for each in partial)


def test_a_field_out_of_range_is_shown() -> None:
    """What broke the range is to be seen, as JSON, although no record of the model may hold it."""
    schema = dict(schemas.current())["market_price"]
    wrong = msgspec.to_builtins(replace(PRICE, value=nan))
    body = BytesIO()
    schemaless_writer(body, parse_schema(schema), wrong)
    shown = readable_value(DATA[:HEADER_BYTES] + body.getvalue())
    assert shown["rejected"] == "out_of_range"
    assert shown["partial"]["value"] == "nan"
    json.dumps(shown, allow_nan=False)


def test_what_is_json_is_shown_as_such() -> None:
    """People send it by mistake; long bytes are cut and counted."""
    assert readable_value(b'{"a": 1}')["json"] == {"a": 1}
    long = readable_value(b"\xfe" * 10_000)
    assert (len(long["raw"]), long["raw_bytes"]) == (2 * RAW_BYTES_SHOWN, 10_000)


def test_a_dead_letter_shows_the_record_within() -> None:
    """Decoded like any other, so that one look tells what is wrong."""
    rejected = Rejected(reason=RejectReason.UNKNOWN_FACILITY, detail="mars")
    letter = dead_letter(_record(DATA), rejected, rejected_by="test")
    shown = readable_value(encode(letter))["value"]
    assert shown["record_key"] == "0xff"
    assert shown["record_value"]["value"]["facility_id"] == PRICE.facility_id


@given(st.binary(max_size=200), st.booleans())
def test_no_bytes_end_a_listing(data: bytes, has_header: bool) -> None:  # noqa: FBT001  # drawn
    """Whatever a producer sent has words that JSON can hold."""
    json.dumps(readable_value((encode(AUDIT)[:HEADER_BYTES] if has_header else b"") + data), allow_nan=False)
    assert isinstance(text_of(data), str)
