"""Records, the shipped SQL and the topics agree: a field added in one place only fails here."""

import re
from dataclasses import fields

import pytest

from hcp.model.recommendations import ClassDevices, ClassRecommendation, MarketSnapshot, ModeDevices, ModeScore
from hcp.topics import TOPICS, all_topics
from sinks.timescale.ddl import tables_sql
from sinks.timescale.migrations import shipped
from sinks.timescale.tables import SINGULAR, TABLES, Table, table_of

NESTED = {"market", "classes", "scores", "devices"}
"""Fields whose own fields are columns."""


def _statements(sql: str) -> list[str]:
    lines = [line for line in sql.splitlines() if not line.startswith("--")]
    return [statement.strip().rstrip(";") for statement in "\n".join(lines).split(";\n") if statement.strip()]


def _migrated() -> dict[str, list[str]]:
    """Return, by table, the statements that make it with the columns that later migrations added or changed."""
    made: dict[str, list[str]] = {}
    for migration in shipped():
        for statement in _statements(migration.sql):
            created = re.match(r"create table if not exists (\w+) \(\n(.*)\n\)", statement, re.DOTALL)
            added = re.match(r"alter table (\w+) add column (.*)", statement)
            checked = re.match(
                r"alter table (\w+) drop constraint .* add constraint .* (check \((\w+) in .*\))", statement
            )
            if created:
                made[created[1]] = sorted(line.strip().rstrip(",") for line in created[2].splitlines())
            elif added:
                made[added[1]] = sorted([*made[added[1]], re.sub(r" default (0|'\w*')", "", added[2])])
            elif checked:
                table, check, column = checked.groups()
                was = next(line for line in made[table] if line.startswith(f"{column} "))
                made[table] = sorted([*(set(made[table]) - {was}), f"{was[: was.index(' check ')]} {check}"])
    return made


def test_the_migrations_make_what_the_records_say() -> None:
    """Every column, type, null rule and enum CHECK of the migrations together follows from the records."""
    wanted = {}
    made_by_any = [statement for migration in shipped() for statement in _statements(migration.sql)]
    for statement in _statements(tables_sql()):
        created = re.match(r"create table if not exists (\w+) \(\n(.*)\n\)", statement, re.DOTALL)
        if created:
            wanted[created[1]] = sorted(line.strip().rstrip(",") for line in created[2].splitlines())
        else:
            assert statement in made_by_any  # the hypertable and its unique index
    made = _migrated()
    assert {name: made[name] for name in wanted} == wanted


def test_every_topic_has_a_table() -> None:
    """Nothing that flows is lost to analysts: dead letters included."""
    for topic in all_topics():
        assert table_of(topic.record).record is topic.record
    assert len(TABLES) == len(TOPICS) + 1


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_field_is_a_column(table: Table) -> None:
    """No field of a record is left out: its column bears its name but for the documented renames."""
    names = table.column_names()
    assert len(set(names)) == len(names)
    nested = {MarketSnapshot, ClassRecommendation, ModeScore, ClassDevices, ModeDevices}
    parts = {table.record, *(nested & set(table.parts))}
    for part in parts:
        for field in fields(part):
            is_nested = field.name in NESTED or (part is ClassDevices and field.name == "modes")
            if not is_nested:
                candidates = {field.name, SINGULAR.get(field.name), field.name.removesuffix("_ms")}
                assert candidates & set(names), f"{table.name} must have a column for {field.name}"


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_unique_key_is_made_of_columns_that_are_never_null(table: Table) -> None:
    """A null in a unique key would let the same event in twice; TimescaleDB wants the time column in it."""
    nullable = {column.name for column in table.columns() if column.is_null}
    assert set(table.unique) <= set(table.column_names())
    assert not set(table.unique) & nullable
    assert table.time_column in table.unique


def test_migrations_are_numbered_without_gaps() -> None:
    """Order is the number: each once, from 0001; one that differs by edition has a file for each under one number."""
    numbers = [int(found.group()) for each in shipped() if (found := re.match(r"\d{4}", each.name))]
    assert len(numbers) == len(shipped())
    assert sorted(set(numbers)) == list(range(1, max(numbers) + 1))
    by_edition = [each.name for each in shipped() if each.name.endswith((".apache.sql", ".community.sql"))]
    assert len(numbers) - len(set(numbers)) == len(by_edition) // 2
