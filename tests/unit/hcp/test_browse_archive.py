"""Files that are no export, or only part of one, are refused and say what must be."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hcp.browse.archive import ArchiveReader, ArchiveWriter, Kept, Origin
from hcp.errors import HcpError

ORIGIN = Origin(topic="alerts", partitions=3)
FIRST = '{"hcp_topic": "alerts", "partitions": 3, "format": 1}\n'


def test_a_writer_that_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    """Neither the file nor what was written of it."""
    for ending in ("parquet", "jsonl"):
        writer = ArchiveWriter(str(tmp_path / f"a.{ending}"), ORIGIN)
        writer.add([Kept(0, 0, 1, None, b"x", ())])
        writer.discard()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must begin with the line that `hcp topics export` writes first, was ''"),
        ("rubbish\n", "must begin with the line that `hcp topics export` writes first, was 'rubbish'"),
        ("[1]\n", "must begin with the line"),
        ('{"hcp_topic": "a", "partitions": 1, "format": 2}\n', "must be of format 1, was 2"),
        (FIRST + '{"partition": 0, "off', "line 2 of"),
        (FIRST + "\n", "line 2 of"),
        (
            FIRST + '{"partition": 0, "offset": 0, "timestamp_ms": 1, "key": "!", "value": null, "headers": []}',
            "line 2",
        ),
        (FIRST + '{"partition": "0", "offset": 0, "timestamp_ms": 1, "key": null, "value": null, "headers": []}', "0"),
    ],
)
def test_a_file_of_lines_that_is_no_export_is_refused(tmp_path: Path, text: str, words: str) -> None:
    """The line is named."""
    path = tmp_path / "a.jsonl"
    path.write_text(text)
    with pytest.raises(HcpError) as refused, ArchiveReader(str(path)) as reader:
        list(reader.records())
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    """Not even the first line can be read."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xff\xfe\xfd\n")
    with pytest.raises(HcpError, match="must begin with the line"):
        ArchiveReader(str(path))


def test_a_parquet_file_that_is_no_export_is_refused(tmp_path: Path) -> None:
    """Of other columns, cut, or no Parquet at all."""
    other, cut = tmp_path / "other.parquet", tmp_path / "cut.parquet"
    pq.write_table(pa.table({"a": [1]}), other)
    cut.write_bytes(other.read_bytes()[:-9])
    with pytest.raises(HcpError, match="must have been written by `hcp topics export`"):
        ArchiveReader(str(other))
    for path in (cut, tmp_path / "missing.parquet"):
        with pytest.raises(HcpError, match="must be readable"):
            ArchiveReader(str(path))


def test_other_endings_are_refused(tmp_path: Path) -> None:
    """What a file is, its name says."""
    with pytest.raises(HcpError, match=r"must end in .parquet or .jsonl, or be -, was .*a\.csv"):
        ArchiveWriter(str(tmp_path / "a.csv"), ORIGIN)
    with pytest.raises(HcpError, match="must be writable"):
        ArchiveWriter(str(tmp_path / "none" / "a.jsonl"), ORIGIN)
