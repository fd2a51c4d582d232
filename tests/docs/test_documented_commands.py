"""Every command that README.md and docs/ show is one: programs, sub-commands, options, targets and names exist."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from hcp.cli.main import app
from tests.docs.commands import Command, DocumentedCommandError, alternatives, check, commands_in
from tests.docs.pages import NAMED_PROGRAMS, PAGES, ROOT, Passage, blocks_in, commands_named_in

LANGUAGES: Final = frozenset({"", "sh", "sql", "text", "json", "toml"})
SQL_PAGES: Final = frozenset({"docs/analysts.md"})
"""Pages whose queries are run, by tests/integration/test_analysts.py."""
RUN_SECONDS_MAX: Final = 180
TEXTS: Final = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in PAGES}
BLOCKS: Final = [block for name, text in TEXTS.items() for block in blocks_in(text, name=name)]
SHELL: Final = [block for block in BLOCKS if block.language == "sh"]
NAMED: Final = [passage for name, text in TEXTS.items() for passage in commands_named_in(text, name=name)]


def _quick() -> list[Command]:
    """Return the documented commands that need no services, write nothing outside a folder and take seconds."""
    commands = {str(each): each for block in SHELL for each in commands_in(block.text)}
    return [
        each
        for each in commands.values()
        if each.is_help or (each.arguments[:1] == ("backtest",) and "--market" not in each.arguments)
    ]


def _check_all(text: str) -> None:
    for command in commands_in(text):
        check(command)


def _tree(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, each in getattr(command, "commands", {}).items():
        yield from _tree(each, (*path, name))


TREE: Final = list(_tree(get_command(app), ()))


@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.where)
def test_a_block_of_commands_can_be_typed(block: Passage) -> None:
    """Each line of a ```sh block is whole and right as it stands."""
    commands = list(commands_in(block.text))
    assert commands
    for command in commands:
        check(command)


@pytest.mark.parametrize("passage", NAMED, ids=lambda passage: passage.where)
def test_a_command_named_in_a_sentence_is_one(passage: Passage) -> None:
    """What a sentence calls a command exists, with the options it shows; it may leave out what else is needed."""
    for text in alternatives(passage.text):
        for command in commands_in(text):
            check(command, is_whole=False)


@pytest.mark.parametrize("command", _quick(), ids=str)
def test_a_quick_command_runs(command: Command, tmp_path: Path) -> None:
    """What is safe and quick is run as it is documented."""
    program = ["make"] if command.program == "make" else [sys.executable, "-m", "hcp"]
    aside = ["--out", str(tmp_path)] if command.arguments[0] == "backtest" else []
    done = subprocess.run(
        [*program, *command.arguments, *aside],
        cwd=ROOT,
        env={**os.environ},  # noqa: TID251  # for a child process
        capture_output=True,
        text=True,
        check=False,
        timeout=RUN_SECONDS_MAX,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize(("path", "command"), TREE, ids=lambda part: "-".join(part) if isinstance(part, tuple) else "")
def test_every_command_explains_itself(path: tuple[str, ...], command: Any) -> None:
    """`--help` works everywhere in the tree, and no command or option is without a word about it."""
    result = CliRunner().invoke(app, [*path, "--help"], terminal_width=200)
    assert result.exit_code == 0
    assert "Usage:" in result.output
    assert command.help
    assert [each.name for each in command.params if not getattr(each, "help", None)] == []


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.where)
def test_a_block_says_what_it_holds(block: Passage) -> None:
    """Commands stand in ```sh and queries in ```sql of a page whose queries are run, so that none escapes its test."""
    assert block.language in LANGUAGES
    if block.language == "sql":
        assert block.where.partition(":")[0] in SQL_PAGES
    if block.language != "sh":
        assert not any(line.startswith(NAMED_PROGRAMS) for line in block.text.splitlines())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hcp nothing", "sub-command must be one of .* nothing"),
        ("hcp topics", "sub-command must be given, one of create"),
        ("hcp topics tail", "Missing argument"),
        ("hcp topics tail market.price --nope", "No such option"),
        ("hcp topics tail market.price -n many", "valid integer"),
        ("hcp topics tail market.prices", "name given to tail must be one of"),
        ("hcp agent nobody", "name given to agent must be one of optimizer"),
        ("hcp agent orchestrator --policy luck", "luck"),
        ("hcp backtest --policy luck", "luck"),
        ("hcp doctor now", "unexpected extra argument"),
        ("hcp simulate market --fleet none.toml", "--fleet must be a file"),
        ('eval "$(.venv/bin/hcp stack upp)"', "upp"),
        ("make nothing", "target must be in the Makefile"),
        ("make demo SPED=3", "variable must be one the Makefile reads"),
        ('make demo DEMO_ARGS="--forever"', "No such option"),
        ("python -m bench.bench_nothing", "must be given a module or script"),
        ("python bench/bench_scores.py 3", "function `parser`"),
        ("python bench/bench_ingest.py many", "must take"),
        ("git push origin main", "git must be"),
        ("HCP_KAFKA=127.0.0.1:9092 hcp doctor", "must be a setting"),
        ("export HCP_KAFKA=127.0.0.1:9092", "must be a setting"),
        ("hcp topics list | wc -l", "a program must be one of"),
        ("hcp doctor && rm -rf .hcp", "a program must be one of"),
        ("hcp topics \\\n  lost", "lost"),
        ("hcp doctor `hcp doctor`", "must be understood"),
        ("hcp doctor & hcp doctor", "must be understood"),
        ("hcp explain 'open", "quotes must be closed"),
    ],
)
def test_a_wrong_command_is_found(text: str, words: str) -> None:
    """The checks above fail for every way in which a page has been or may become wrong."""
    with pytest.raises(DocumentedCommandError, match=words):
        _check_all(text)


@pytest.mark.parametrize(
    ("text", "programs"),
    [
        ("# nothing but a comment that isn't code\n\n", []),
        ("hcp doctor  # a decision's id; and more", ["hcp doctor"]),
        ('eval "$(.venv/bin/hcp stack up)"', ["hcp stack up", "eval substituted"]),
        ("cd hcp && make help; hcp doctor > out.txt", ["cd hcp", "make help", "hcp doctor"]),
        ("HCP_LOG_LEVEL=debug \\\n  .venv/bin/hcp doctor", ["HCP_LOG_LEVEL=debug hcp doctor"]),
        ("HCP_LOG_LEVEL=debug", ["export HCP_LOG_LEVEL=debug"]),
        ("make demo DEMO_ARGS='--duration 5 --keep'", ["make demo 'DEMO_ARGS=--duration 5 --keep'"]),
        ("git clone https://example.org/hcp.git hcp", ["git clone https://example.org/hcp.git hcp"]),
    ],
)
def test_a_block_is_taken_apart_as_a_shell_would(text: str, programs: list[str]) -> None:
    """Comments go; continuations, substitutions, quotes, environments and separators are understood."""
    commands = list(commands_in(text))
    assert [str(each) for each in commands] == programs
    _check_all(text)


def test_text_outside_fences_is_searched_for_commands() -> None:
    """Spans of code count where they begin as a command, also across a line's end; what a fence holds does not."""
    page = "Run `make demo\nSPEED=9`, not `price`.\n\n```sh\necho `hcp a`\n```\n- `hcp simulate market|fleet`\n"
    found = commands_named_in(page, name="p.md")
    assert [(each.where, each.text) for each in found] == [
        ("p.md:1", "make demo SPEED=9"),
        ("p.md:7", "hcp simulate market|fleet"),
    ]
    assert list(alternatives(found[1].text)) == ["hcp simulate market", "hcp simulate fleet"]
    assert [(each.where, each.language, each.text) for each in blocks_in(page, name="p.md")] == [
        ("p.md:4", "sh", "echo `hcp a`")
    ]
