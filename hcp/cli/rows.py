"""Rows for eyes or for programs: one table that no terminal's width breaks, or JSON lines."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

import typer
from rich.console import Console
from rich.table import Table

CELL_CHARACTERS_MAX: Final = 60
WIDTH: Final = 4_000
"""Wider than any row: `less -S` and grep want a row to stay a line."""
_COUNTS: Final = frozenset({"records", "bytes", "lag", "letters"})
"""Columns whose figures are read with separators; times and offsets are copied as they are."""


def print_rows(rows: Iterable[Mapping[str, Any]], *, as_json: bool = False) -> None:
    """Print rows as JSON lines, or as a table with a column for every name that any of them has."""
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row, ensure_ascii=False))
        return
    held = list(rows)
    table = Table(box=None, pad_edge=False)
    for heading in dict.fromkeys(name for row in held for name in row):
        is_number = all(isinstance(row.get(heading), int | float | None) for row in held)
        table.add_column(heading, justify="right" if is_number else "left", no_wrap=True)
    for row in held:
        table.add_row(*(_cell(str(column.header), row.get(str(column.header))) for column in table.columns))
    Console(highlight=False, markup=False, width=WIDTH).print(table if held else "nothing there")


def _cell(heading: str, value: object) -> str:
    if value is None:
        return "-"
    text = f"{value:,}" if heading in _COUNTS else str(value)
    return text if len(text) <= CELL_CHARACTERS_MAX else text[: CELL_CHARACTERS_MAX - 1] + "…"
