"""Ids are UUIDs of version 5 in the project's namespace, whatever way they are computed."""

from uuid import UUID, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcp.model.ids import NAMESPACE, id_from_content, id_from_record

PARTS = st.lists(
    st.one_of(st.integers(), st.text().filter(lambda part: "|" not in part and part.isprintable())), max_size=5
)


@given(parts=PARTS)
def test_an_id_from_content_is_the_librarys_uuid5(parts: list[str | int]) -> None:
    """The same text gives the same id as `uuid.uuid5`: ids in stored records stay what they were."""
    name = "|".join(str(part) for part in parts)
    assert id_from_content(*parts) == str(uuid5(NAMESPACE, name))
    assert UUID(id_from_content(*parts)).version == 5


@given(offset=st.integers(min_value=0, max_value=2**53), partition=st.integers(min_value=0, max_value=64))
def test_an_id_from_a_record_names_topic_partition_offset_and_ordinal(offset: int, partition: int) -> None:
    """The ordinal tells a record's outputs apart; it is 0 unless said."""
    name = f"market.price|{partition}|{offset}|0"
    assert id_from_record(topic="market.price", partition=partition, offset=offset) == str(uuid5(NAMESPACE, name))
    others = {
        id_from_record(topic="market.price", partition=partition, offset=offset, ordinal=ordinal)
        for ordinal in range(4)
    }
    assert len(others) == 4


def test_a_part_with_the_separator_is_refused() -> None:
    """Else two different contents could have one id."""
    with pytest.raises(ValueError, match=r"id parts must not contain '\|', was 'a\|b'"):
        id_from_content("a|b")
