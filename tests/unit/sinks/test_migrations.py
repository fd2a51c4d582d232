"""Which migrations are for which edition, and what an edited one looks like; no database."""

import pytest

from sinks.timescale.migrations import Edition, Migration, shipped


@pytest.mark.parametrize(
    ("name", "editions"),
    [
        ("0001_tables.sql", {Edition.APACHE, Edition.COMMUNITY}),
        ("0004_policies.community.sql", {Edition.COMMUNITY}),
        ("0004_policies.apache.sql", {Edition.APACHE}),
        ("0004_policies.other.sql", set()),
    ],
)
def test_a_file_says_for_which_edition_it_is(name: str, editions: set[Edition]) -> None:
    """`name.sql` is for both, `name.apache.sql` and `name.community.sql` for one; an unknown mark is for none."""
    migration = Migration(name=name, sql="")
    assert {edition for edition in Edition if migration.fits(edition)} == editions


def test_each_shipped_migration_is_for_an_edition() -> None:
    """A misspelt mark would make a file that is applied nowhere."""
    for migration in shipped():
        assert any(migration.fits(edition) for edition in Edition), migration.name


def test_the_checksum_is_of_the_text() -> None:
    """Any edit, even of a comment, is seen."""
    assert Migration(name="a.sql", sql="select 1").checksum != Migration(name="a.sql", sql="select 1 ").checksum
    assert Migration(name="a.sql", sql="select 1").checksum == Migration(name="b.sql", sql="select 1").checksum
