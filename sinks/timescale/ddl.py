"""Write the first migration from the tables; later ones are written by hand, a shipped one is never edited.

`python -c "from sinks.timescale.ddl import tables_sql; print(tables_sql())"` shows what a changed record needs.
"""

from sinks.timescale.tables import PROVENANCE, TABLES, Column, Table


def tables_sql() -> str:
    """Return the DDL of every table of the registry."""
    return "\n".join(_create(table) for table in TABLES)


def _create(table: Table) -> str:
    lines = [_line(column) for column in table.columns()]
    if table.is_columnar:
        lines.append("device_id text not null")
    lines += [f"{name} {kind} not null" for name, kind in PROVENANCE]
    body = ",\n".join(f"    {line}" for line in lines)
    unique = ", ".join(table.unique)
    return (
        f"create table if not exists {table.name} (\n{body}\n);\n"
        f"select create_hypertable('{table.name}', '{table.time_column}', chunk_time_interval => interval "
        f"'{table.chunk_hours} hours', create_default_indexes => false, if_not_exists => true);\n"
        f"create unique index if not exists {table.name}_event on {table.name} ({unique});\n"
    )


def _line(column: Column) -> str:
    null = "" if column.is_null else " not null"
    listed = ", ".join(f"'{symbol}'" for symbol in column.symbols)
    check = f" check ({column.name} in ({listed}))" if column.symbols else ""
    return f"{column.name} {column.sql_type}{null}{check}"
