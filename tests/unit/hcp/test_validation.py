"""The edge refuses what breaks a documented range, and says field, value and rule."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcp.codecs import decode, encode
from hcp.errors import OutOfRangeError
from hcp.model.rejections import Rejected, RejectReason
from hcp.model.units import EpochMs
from hcp.model.validation import FUTURE_TOLERANCE_MS, check, check_event_time
from tests.examples import ASIC_TELEMETRY, AT, EXAMPLES, PRICE

BAD_PRICES = (float("nan"), float("-inf"), float("inf"), 1e12, -6_000.0)


@pytest.mark.parametrize("value", BAD_PRICES)
def test_a_price_out_of_range_is_refused(value: float) -> None:
    """NaN, infinities and absurd prices never leave nor enter; the reason names the field and the value."""
    rejected = check(replace(PRICE, value=value))
    assert rejected is not None
    assert rejected.reason is RejectReason.OUT_OF_RANGE
    assert rejected.detail.startswith("value must be from ")
    assert repr(value) in rejected.detail
    with pytest.raises(OutOfRangeError, match="MarketPrice: value must be"):
        encode(replace(PRICE, value=value))


@pytest.mark.parametrize("at_ms", [0, 1_000, 4_102_444_800_001, -1])
def test_a_time_of_1970_or_2100_is_refused(at_ms: int) -> None:
    """Event times before Bitcoin or after 2099 are broken clocks."""
    rejected = check(replace(PRICE, observed_at_ms=EpochMs(at_ms)))
    assert rejected is not None
    assert "observed_at_ms" in rejected.detail


def test_unequal_columns_are_refused() -> None:
    """Every column of a batch is as long as device_indexes; the reason gives all lengths."""
    rejected = check(replace(ASIC_TELEMETRY, power_watts=(1.0,)))
    assert rejected is not None
    assert rejected.reason is RejectReason.UNEQUAL_COLUMNS
    assert "power_watts=1" in rejected.detail


def test_a_repeated_device_is_refused() -> None:
    """A device has one row in a batch."""
    assert check(replace(ASIC_TELEMETRY, device_indexes=(1, 1))) is not None


def test_a_column_value_is_named_by_its_row() -> None:
    """One bad reading is named with its position."""
    rejected = check(replace(ASIC_TELEMETRY, power_watts=(1.0, float("nan"))))
    assert rejected is not None
    assert rejected.detail.startswith("power_watts[1] must be from 0 to 20000 W")


def test_the_future_is_judged_by_the_records_own_timestamp() -> None:
    """A record that is more than a minute ahead of its broker timestamp is refused, live and in replay alike."""
    assert check_event_time(observed_at_ms=AT + FUTURE_TOLERANCE_MS, record_timestamp_ms=AT) is None
    rejected = check_event_time(observed_at_ms=AT + FUTURE_TOLERANCE_MS + 1, record_timestamp_ms=AT)
    assert rejected is not None
    assert rejected.reason is RejectReason.FROM_THE_FUTURE


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (None, RejectReason.NOT_A_RECORD),
        (b"", RejectReason.NOT_A_RECORD),
        (b'{"json": true}', RejectReason.NOT_A_RECORD),
        (b"\xc3\x01" + b"\x00" * 8, RejectReason.UNKNOWN_SCHEMA),
        (encode(PRICE)[:-1], RejectReason.UNDECODABLE),
        (encode(PRICE) + b"x", RejectReason.UNDECODABLE),
        (b"\xc3\x01" + b"\x00" * (4 * 1024 * 1024), RejectReason.TOO_LARGE),
    ],
)
def test_bad_bytes_become_a_rejection(data: bytes | None, reason: RejectReason) -> None:
    """Bytes that are no record of ours are a value with a reason, never an exception."""
    rejected = decode(data)
    assert isinstance(rejected, Rejected)
    assert rejected.reason is reason


@given(
    example=st.sampled_from(EXAMPLES), flips=st.lists(st.tuples(st.integers(10, 400), st.integers(0, 255)), max_size=4)
)
def test_mutated_bytes_never_raise(example: object, flips: list[tuple[int, int]]) -> None:
    """Whatever a corrupt body holds, the result is a checked value or a rejection."""
    data = bytearray(encode(example))
    for at, byte in flips:
        data[at % (len(data) - 10) + 10] = byte
    value: Any = decode(bytes(data))
    assert isinstance(value, Rejected) or check(value) is None


@given(data=st.binary(max_size=200))
def test_rubbish_never_raises(data: bytes) -> None:
    """Any bytes at all give a rejection."""
    assert isinstance(decode(data), Rejected)
