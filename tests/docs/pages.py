"""What the documentation shows: its fenced blocks by language, and the commands it names in running text."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PAGES: Final = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
NAMED_PROGRAMS: Final = ("hcp ", ".venv/bin/", "make ", "python ")
"""How a span of code begins that is a command, or the beginning of one."""
_FENCE: Final = re.compile(r" *(```+|~~~+) *(\S*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A fenced block, or a span of code in running text.

    Attributes:
        where: Page and line, such as README.md:30.
        language: What the fence says; empty for a bare fence and for a span.
        text: What is within, without fence or backticks.
    """

    where: str
    language: str
    text: str


def blocks_in(page: str, *, name: str) -> list[Passage]:
    """Return the fenced blocks of a page, in order."""
    return _taken_apart(page, name=name)[0]


def commands_named_in(page: str, *, name: str) -> list[Passage]:
    """Return the spans of code outside fences that begin as a command does; a span may go on in the next line."""
    found = []
    prose = _taken_apart(page, name=name)[1]
    for paragraph in re.finditer(r"(?:.+\n?)+", prose):
        for span in re.finditer(r"`([^`]+)`", paragraph[0]):
            text = " ".join(span[1].split())
            if text.startswith(NAMED_PROGRAMS):
                line = prose.count("\n", 0, paragraph.start() + span.start()) + 1
                found.append(Passage(where=f"{name}:{line}", language="", text=text))
    return found


def _taken_apart(page: str, *, name: str) -> tuple[list[Passage], str]:
    """Return the blocks, and the page with an empty line for each line of a block."""
    blocks: list[Passage] = []
    prose: list[str] = []
    fence, language, first_line, held = "", "", 0, list[str]()
    for number, line in enumerate(page.splitlines(), start=1):
        mark = _FENCE.match(line)
        if not fence and mark is None:
            prose.append(line)
            continue
        prose.append("")
        if not fence and mark is not None:
            fence, language, first_line, held = mark[1], mark[2], number, []
        elif line.strip() == fence:
            blocks.append(Passage(where=f"{name}:{first_line}", language=language, text="\n".join(held)))
            fence = ""
        else:
            held.append(line)
    if fence:
        raise ValueError(f"{name}:{first_line}: a fence must be closed, was open at the end of the page")
    return blocks, "\n".join(prose)
