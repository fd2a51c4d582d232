"""A file of exported records gives back every byte that was put in, whatever the bytes."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcp.browse import archive
from hcp.browse.archive import ArchiveReader, ArchiveWriter, Kept, Origin

EXAMPLES = 60
BYTES = st.none() | st.binary(max_size=64)
RECORDS = st.builds(
    Kept,
    st.integers(0, 2**31 - 1),
    st.integers(0, 2**63 - 1),
    st.integers(-1, 2**63 - 1),
    BYTES,
    BYTES,
    st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), BYTES), max_size=3).map(tuple),
)


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
@given(batches=st.lists(st.lists(RECORDS, max_size=8), max_size=4), partitions=st.integers(1, 99))
@settings(max_examples=EXAMPLES, deadline=None)
def test_what_is_written_is_read(ending: str, batches: list[list[Kept]], partitions: int) -> None:
    """Null stays apart from empty; order, headers that repeat and large numbers stay as they were."""
    origin = Origin(topic="market.price", partitions=partitions)
    with TemporaryDirectory() as folder:
        path = str(Path(folder) / f"records.{ending}")
        writer = ArchiveWriter(path, origin)
        for batch in batches:
            writer.add(batch)
        assert not Path(path).exists()
        writer.finish()
        with ArchiveReader(path) as reader:
            assert reader.origin == origin
            assert list(reader.records()) == [record for batch in batches for record in batch]
            assert reader.count in {None, sum(map(len, batches))}


def test_many_row_groups_are_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bound by groups, of records and of bytes; whoever reads sees none of it."""
    monkeypatch.setattr(archive, "GROUP_RECORDS_MAX", 7)
    monkeypatch.setattr(archive, "GROUP_BYTES_MAX", 100)
    records = [Kept(0, number, number, None, b"x" * (number % 60), (("n", b"1"),)) for number in range(100)]
    writer = ArchiveWriter(str(tmp_path / "a.parquet"), Origin(topic="t", partitions=1))
    writer.add(records)
    writer.finish()
    with ArchiveReader(str(tmp_path / "a.parquet")) as reader:
        assert list(reader.records()) == records
