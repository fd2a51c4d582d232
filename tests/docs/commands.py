"""Command lines of the documentation, taken apart as a shell would and held to what there is, without running them.

A program that `_KINDS` does not have is refused, so that whoever documents it decides how it is checked.
"""

import importlib
import re
import shlex
import subprocess
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

import typer
from typer.exceptions import TyperException
from typer.main import get_command

from agents import AGENTS
from hcp.cli.backtest import policies_named
from hcp.cli.main import app
from hcp.errors import HcpError
from hcp.settings import Settings
from hcp.topics import all_topics
from sinks import SINKS
from streams.policies import policy_named
from tests.docs.pages import ROOT

HELP: Final = frozenset({"--help", "-h", "--version"})
SETTINGS: Final = frozenset({f"HCP_{name.upper()}" for name in Settings.model_fields} | {"HCP_DATA_DIR"})
"""HCP_DATA_DIR is read by the tests on recorded data, not by the program."""
_MAKEFILE: Final = (ROOT / "Makefile").read_text(encoding="utf-8")
_SUBSTITUTION: Final = re.compile(r"\$\(([^()]*)\)")
_ASSIGNMENT: Final = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_SEPARATORS: Final = frozenset({"&&", "||", "|", ";"})
_REDIRECTIONS: Final = frozenset({">", ">>", "<"})
_SUBSTITUTED: Final = "substituted"
_UNFINISHED: Final = frozenset({"MissingParameter", "BadOptionUsage"})
"""An argument, or the value of an option, left out; typer has no public name for these classes."""


class DocumentedCommandError(Exception):
    """A command of the documentation is not one; says what must be and what was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One program with its arguments, quotes and comments gone, and the environment written before it."""

    program: str
    arguments: tuple[str, ...]
    environment: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Write it as a shell takes it."""
        return shlex.join((*self.environment, self.program, *self.arguments))

    @property
    def is_help(self) -> bool:
        """Tell whether it only says what there is, so that it may be run anywhere."""
        return (self.program == "hcp" and not HELP.isdisjoint(self.arguments)) or (
            self.program == "make" and self.arguments == ("help",)
        )


def commands_in(text: str) -> Iterator[Command]:
    r"""Yield every command of a block: of each line (`\` goes on in the next), of `$(...)`, around `&&`, `|` and `;`.

    Raises:
        DocumentedCommandError: A line is beyond what is understood here (backticks, heredocs, open quotes).
    """
    for line in text.replace("\\\n", " ").splitlines():
        while (inner := _SUBSTITUTION.search(line)) is not None:
            yield from commands_in(inner[1])
            line = line[: inner.start()] + _SUBSTITUTED + line[inner.end() :]  # noqa: PLW2901  # until none is left
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        try:
            words = list(lexer)
        except ValueError as error:
            raise DocumentedCommandError(f"quotes must be closed, was {line!r}") from error
        held: list[str] = []
        for word in (*words, ";"):
            if word in _SEPARATORS:
                yield from _command(held)
                held = []
            else:
                held.append(word)


def _command(words: list[str]) -> Iterator[Command]:
    environment: list[str] = []
    plain: list[str] = []
    coming = iter(words)
    for word in coming:
        if word in _REDIRECTIONS:
            next(coming, None)
        elif set(word) <= set("<>&|;()") or "`" in word:
            raise DocumentedCommandError(f"a line must be understood to be checked, was {' '.join(words)!r}")
        elif not plain and _ASSIGNMENT.fullmatch(word):
            environment.append(word)
        else:
            plain.append(word)
    if plain:
        program, *arguments = plain
        yield Command(
            program=program.removeprefix(".venv/bin/"), arguments=tuple(arguments), environment=tuple(environment)
        )
    elif environment:
        yield Command(program="export", arguments=tuple(environment))


def check(command: Command, *, is_whole: bool = True) -> None:
    """Hold a command to the programs, sub-commands, options, targets and names there are.

    Args:
        command: What is documented.
        is_whole: False for a command in running text, which may stop before what it needs: `hcp topics`.

    Raises:
        DocumentedCommandError: It is none, or of a kind that nobody has decided about.
    """
    kind = _KINDS.get(command.program)
    if kind is None:
        raise DocumentedCommandError(f"a program must be one of {', '.join(_KINDS)}, was {command.program}")
    _check_environment(command.environment)
    try:
        kind(command.arguments, is_whole)
    except (TyperException, HcpError, ValueError) as error:
        is_unfinished = type(error).__name__ in _UNFINISHED
        if is_whole or not is_unfinished:
            raise DocumentedCommandError(f"{command}: {_words_of(error)}") from error


def alternatives(text: str) -> Iterator[str]:
    """Yield each command that running text abbreviates: `hcp simulate market|fleet` is two."""
    for words in product(*(word.split("|") for word in text.split(" "))):
        yield " ".join(words)


def _words_of(error: Exception) -> str:
    return error.format_message() if isinstance(error, typer.BadParameter) else str(error)


def _check_environment(assignments: Sequence[str]) -> None:
    for each in assignments:
        name = each.partition("=")[0]
        if name.startswith("HCP_") and name not in SETTINGS:
            raise DocumentedCommandError(f"a variable HCP_... must be a setting, was {name}")


def _one_of(what: str, known: Sequence[str], value: str) -> None:
    if value not in known:
        raise DocumentedCommandError(f"{what} must be one of {', '.join(known)}, was {value}")


def _hcp(arguments: Sequence[str], is_whole: bool) -> None:  # noqa: FBT001  # as every kind
    if not HELP.isdisjoint(arguments):
        return  # run for real instead
    command: Any = get_command(app)
    rest = list(arguments)
    while hasattr(command, "commands"):
        if not rest:
            if is_whole:
                raise DocumentedCommandError(f"a sub-command must be given, one of {', '.join(command.commands)}")
            return
        _one_of("sub-command", tuple(command.commands), rest[0])
        command = command.commands[rest.pop(0)]
    _check_values(command.name, command.make_context(command.name, rest).params)


def _check_values(command: str, given: Mapping[str, Any]) -> None:
    """Hold values to names that the command would look up only when it runs."""
    names = {
        "agent": tuple(AGENTS),
        "sink": tuple(SINKS),
        "describe": tuple(topic.name for topic in all_topics()),
        "tail": tuple(topic.name for topic in all_topics()),
    }
    if command in names:
        _one_of(f"name given to {command}", names[command], given["name"])
    policy = given.get("policy")
    if isinstance(policy, str):
        policy_named(policy)
    else:
        policies_named(policy)
    fleet_file = given.get("fleet_file")
    if fleet_file is not None and not (ROOT / fleet_file).is_file():
        raise DocumentedCommandError(f"--fleet must be a file of the repository, was {fleet_file}")


def _make(arguments: Sequence[str], _is_whole: bool) -> None:  # noqa: FBT001  # as every kind
    for argument in arguments:
        name, is_variable, _ = argument.partition("=")
        if is_variable and f"$({name})" not in _MAKEFILE:
            raise DocumentedCommandError(f"a variable must be one the Makefile reads, was {name}")
        if not is_variable and re.search(rf"^{re.escape(name)}:", _MAKEFILE, re.MULTILINE) is None:
            raise DocumentedCommandError(f"a target must be in the Makefile, was {name}")
    printed = subprocess.run(["make", "-n", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for line in printed.splitlines():
        if line.startswith(".venv/bin/hcp "):  # what DEMO_ARGS and the like became
            for command in commands_in(line):
                check(command)


def _python(arguments: Sequence[str], is_whole: bool) -> None:  # noqa: FBT001  # as every kind
    first, *rest = arguments or ("",)
    module = rest.pop(0) if first == "-m" and rest else first.removesuffix(".py").replace("/", ".")
    if module == "hcp":
        _hcp(rest, is_whole)
        return
    if (ROOT / module.replace(".", "/") / "__main__.py").is_file():
        module += ".__main__"
    if not (ROOT / f"{module.replace('.', '/')}.py").is_file():
        raise DocumentedCommandError(f"python must be given a module or script of the repository, was {first} {module}")
    make_parser = getattr(importlib.import_module(module), "parser", None)
    if make_parser is None and rest:
        raise DocumentedCommandError(f"{module} must have a function `parser` to be given arguments, was {rest}")
    if make_parser is not None:
        parser: ArgumentParser = make_parser()
        try:
            parser.parse_args(rest)
        except SystemExit as error:
            raise DocumentedCommandError(f"{module} must take {rest}: {parser.format_usage()}") from error


def _git(arguments: Sequence[str], _is_whole: bool) -> None:  # noqa: FBT001  # as every kind
    if re.fullmatch(r"clone (https://|git@)\S+( [\w-]+)?", " ".join(arguments)) is None:
        raise DocumentedCommandError(f"git must be `clone <address> [<folder>]`, was {arguments}")


def _one_word(arguments: Sequence[str], _is_whole: bool) -> None:  # noqa: FBT001  # as every kind
    if len(arguments) != 1:
        raise DocumentedCommandError(f"cd and eval must be given one word, was {arguments}")


def _export(arguments: Sequence[str], _is_whole: bool) -> None:  # noqa: FBT001  # as every kind
    if not all(_ASSIGNMENT.fullmatch(each) for each in arguments):
        raise DocumentedCommandError(f"export must be given NAME=value, was {arguments}")
    _check_environment(arguments)


def _curl(arguments: Sequence[str], _is_whole: bool) -> None:  # noqa: FBT001  # as every kind
    if not any(each.startswith("$URL/api/v1/") for each in arguments):
        raise DocumentedCommandError(f"curl must be given an address of the gateway, $URL/api/v1/..., was {arguments}")


def _jq(arguments: Sequence[str], _is_whole: bool) -> None:  # noqa: FBT001  # as every kind
    if re.fullmatch(r"-r \.\w+", " ".join(arguments)) is None:
        raise DocumentedCommandError(f"jq must be given `-r .field`, was {arguments}")


_KINDS: Final[Mapping[str, Callable[[Sequence[str], bool], None]]] = {
    "hcp": _hcp,
    "make": _make,
    "python": _python,
    "git": _git,
    "cd": _one_word,
    "eval": _one_word,  # of what `$(...)` prints, which was checked by itself
    "export": _export,
    "curl": _curl,  # tests/integration/test_gateway_page.py runs them
    "jq": _jq,
}
