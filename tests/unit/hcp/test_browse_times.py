"""Times as people type them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcp.browse.times import duration_ms, instant_ms, time_words
from hcp.errors import SettingsError
from hcp.model.units import EpochMs

NOW = EpochMs(1_795_709_742_199)


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("now", NOW),
        ("15m", NOW - 900_000),
        ("1h30m", NOW - 5_400_000),
        ("2d", NOW - 172_800_000),
        ("250ms", NOW - 250),
        ("0s", NOW),
        ("2026-11-24", 1_795_478_400_000),
        ("2026-11-24T03:12Z", 1_795_489_920_000),
        ("2026-11-24T03:12", 1_795_489_920_000),
        ("2026-11-24T03:12:00.250+02:00", 1_795_482_720_250),
        ("1795478400000", 1_795_478_400_000),
    ],
)
def test_a_time_is_understood(text: str, at_ms: int) -> None:
    """Durations count back from now, times without a zone are UTC, long numbers are ms since the epoch."""
    assert instant_ms(text, option="--since", now_ms=NOW) == at_ms


@pytest.mark.parametrize(
    "text", ["", "m", "15", "15 m", "-15m", "1.5h", "15mm", "yesterday", "2026-13-01", "99999999d"]
)
def test_no_time_is_refused_with_the_option_and_what_was_typed(text: str) -> None:
    """What is none of the forms, or lies before 1970, is an error that names all of them."""
    with pytest.raises(SettingsError, match="--since must be a duration") as raised:
        instant_ms(text, option="--since", now_ms=NOW)
    assert repr(text) in str(raised.value)


@given(st.integers(min_value=0, max_value=253_402_300_799_999))
def test_words_of_a_time_are_read_back_as_it(at_ms: int) -> None:
    """Up to the year 9999, in both directions."""
    assert instant_ms(time_words(at_ms), option="--since", now_ms=NOW) == at_ms


@pytest.mark.parametrize(("at_ms", "words"), [(None, "-"), (-1, "-"), (2**62, f"{2**62} ms")])
def test_what_is_no_date_has_words_too(at_ms: int | None, words: str) -> None:
    """A record without a timestamp, or with one beyond any calendar, does not end a listing."""
    assert time_words(at_ms) == words


def test_a_duration_is_told_from_other_text() -> None:
    """Units add up; anything else is None."""
    assert duration_ms("1d2h3m4s5ms") == 93_784_005
    assert duration_ms("2026") is None
