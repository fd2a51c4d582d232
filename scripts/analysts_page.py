"""Ask every question of docs/analysts.md anew and write its answer, and its picture where it has one, into the page.

`hcp demo --keep`, then `eval "$(hcp stack up --name demo)"` and `.venv/bin/python scripts/analysts_page.py`. A block
`<!-- answer: plot: x, group, y | title -->` becomes docs/analysts/NN.svg; `<!-- answer -->` has a table alone.
"""

import re
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from hcp.settings import load_settings  # noqa: E402  # the repository's own packages, found by the line above
from scripts.line_chart import Line, line_chart  # noqa: E402
from sinks.timescale.asking import Answer, Question  # noqa: E402

PAGE = ROOT / "docs" / "analysts.md"
PICTURES = ROOT / "docs" / "analysts"
ROWS_SHOWN = 6
ROWS_MAX = 100_000
BLOCK = re.compile(r"```sql\n(?P<sql>.*?)```\n\n<!-- answer(?P<plot>: plot: .*?)? -->\n.*?<!-- end -->", re.DOTALL)
PLOT = re.compile(r": plot: (?P<x>\w+), (?P<group>\w+), (?P<y>\w+) \| (?P<title>.*)")


def main() -> None:
    """Rewrite the page."""
    question = Question(load_settings().timescale_dsn.get_secret_value())
    PICTURES.mkdir(exist_ok=True)
    number = 0

    def answered(found: "re.Match[str]") -> str:
        nonlocal number
        number += 1
        answer = question.ask(found["sql"], rows_max=ROWS_MAX)
        head = f"```sql\n{found['sql']}```\n\n<!-- answer{found['plot'] or ''} -->\n"
        return f"{head}{_table(answer)}{_picture(answer, found['plot'], number)}<!-- end -->"

    page = BLOCK.sub(answered, PAGE.read_text(encoding="utf-8"))
    question.close()
    PAGE.write_text(page, encoding="utf-8")
    print(f"{number} questions answered")  # noqa: T201  # a script's word to who runs it


def _table(answer: Answer) -> str:
    if not answer.rows:
        return "No rows: the demo has none.\n"
    lines = [f"| {' | '.join(answer.columns)} |", f"| {' | '.join('---' for _ in answer.columns)} |"]
    lines += [f"| {' | '.join(map(_cell, row))} |" for row in answer.rows[:ROWS_SHOWN]]
    more = len(answer.rows) - ROWS_SHOWN
    return "\n".join(lines) + (f"\n\n... and {more:,} more rows\n" if more > 0 else "\n")


def _cell(value: Any) -> str:  # noqa: ANN401  # a cell of any type
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, timedelta):
        return str(value - timedelta(microseconds=value.microseconds))
    if isinstance(value, int | str):
        return str(value)
    return f"{float(value):,.6g}"


def _picture(answer: Answer, plot: str | None, number: int) -> str:
    found = PLOT.fullmatch(plot or "")
    if found is None:
        return ""
    x, group, y = (answer.columns.index(found[name]) for name in ("x", "group", "y"))
    names = sorted({str(row[group]) for row in answer.rows})
    lines = [Line(name=name, points=_points(answer.rows, name, x=x, group=group, y=y)) for name in names]
    name = f"{number:02}.svg"
    (PICTURES / name).write_text(line_chart(lines, title=found["title"]), encoding="utf-8")
    return f"\n![{found['title']}](analysts/{name})\n"


def _points(
    rows: Sequence[tuple[Any, ...]], name: str, *, x: int, group: int, y: int
) -> tuple[tuple[datetime, float], ...]:
    return tuple((row[x], float(row[y])) for row in rows if str(row[group]) == name and row[y] is not None)


if __name__ == "__main__":
    main()
