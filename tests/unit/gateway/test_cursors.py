"""Cursors come back as they were made, and nothing else is taken for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cursors import Position, cursor_of, position_of, uuid_of
from gateway.problems import ProblemError


@given(value=st.integers(min_value=-(2**62), max_value=2**62), identity=st.uuids())
def test_a_cursor_holds_its_position(value: int, identity: object) -> None:
    """What was encoded is decoded, for the same order only."""
    position = Position(sort="-created_at", value=value, identity=str(identity))
    assert position_of(cursor_of(position), sort="-created_at") == position
    with pytest.raises(ProblemError, match="order priority"):
        position_of(cursor_of(position), sort="priority")


@given(text=st.text(max_size=600))
def test_no_text_breaks_the_reading(text: str) -> None:
    """Anything else is a 400."""
    with pytest.raises(ProblemError) as refused:
        position_of(text, sort="-created_at")
    assert refused.value.status == 400


@given(text=st.text(max_size=80))
def test_what_is_no_uuid_is_a_400(text: str) -> None:
    """An id is in its usual form afterwards, or refused."""
    try:
        assert len(uuid_of(text, "workload_id")) == 36
    except ProblemError as refused:
        assert refused.status == 400  # noqa: PT017  # most texts are none, and some are
