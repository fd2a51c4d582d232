"""The command line: help for all, one line and exit code 1 for a user's error, never a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
COMMANDS = ["stack", "topics", "simulate", "agent", "controller", "sink", "demo", "explain", "doctor"]


def _hcp(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hcp", *arguments],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200", **environment},  # noqa: TID251  # for a child process
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_help_names_every_command() -> None:
    """`hcp --help` shows the whole set."""
    result = _hcp("--help")
    assert result.returncode == 0
    assert all(command in result.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    """Each command explains itself."""
    result = _hcp(command, "--help")
    assert result.returncode == 0
    assert "Usage:" in result.stdout


NOWHERE = {"HCP_KAFKA_BOOTSTRAP": "127.0.0.1:1"}
MISTAKES: list[tuple[tuple[str, ...], dict[str, str], str]] = [
    (("agent", "nobody"), {}, "agent must be one of optimizer"),
    (("sink", "nothing"), {}, "sink must be one of timescale"),
    (("controller", "--facility", "mars", "--fleet", "fleet.demo.toml"), {}, "facility must be one of tx-north"),
    (("controller", "--fleet", "none.toml"), {}, "fleet file must be readable"),
    (("topics", "describe", "nothing"), NOWHERE, "topic must be one of market.price"),
    (("topics", "list"), {"HCP_LOG_LEVEL": "loud"}, "HCP_LOG_LEVEL"),
    (("stack", "status", "--name", "../x"), {}, "stack's name must be"),
]


@pytest.mark.parametrize(("arguments", "environment", "words"), MISTAKES, ids=lambda part: str(part)[:30])
def test_a_users_error_is_one_line(arguments: tuple[str, ...], environment: dict[str, str], words: str) -> None:
    """A mistake is answered by what must be and what was, with exit code 1 and no traceback."""
    result = _hcp(*arguments, **environment)
    assert result.returncode == 1
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
