"""Each import contract is broken once on purpose and seen to fail: a contract that cannot fail guards nothing."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "hcp",
    "schemas",
    "streams",
    "agents",
    "controllers",
    "sinks",
    "simulators",
    "backtest",
    "gateway",
    "replay",
)
BREACHES = [
    ("layers", "agents/breach.py", "import sinks"),
    ("layers", "hcp/model/breach.py", "import hcp.settings"),
    ("layers", "hcp/kafka/breach.py", "import agents"),
    ("layers", "backtest/breach.py", "import simulators"),
    ("layers", "streams/breach.py", "import backtest"),
    ("faust-home", "backtest/breach.py", "import faust"),
    ("streams-pure", "streams/breach.py", "import msgspec"),
    ("streams-pure", "streams/breach.py", "import hcp.kafka"),
    ("model-pure", "hcp/model/breach.py", "import time"),
    ("model-pure", "streams/breach.py", "import random"),
    ("faust-home", "sinks/breach.py", "import faust"),
    ("database-home", "agents/breach.py", "import psycopg"),
    ("hardware-home", "simulators/breach.py", "import pynvml"),
    ("settings-at-roots", "streams/breach.py", "import hcp.settings"),
    ("settings-at-roots", "backtest/breach.py", "import hcp.settings"),
    ("backtest-alone", "backtest/breach.py", "import hcp.kafka"),
    ("backtest-alone", "backtest/breach.py", "import redis"),
    ("layers", "gateway/breach.py", "import sinks"),
    ("layers", "agents/breach.py", "import gateway"),
    ("gateway-writes-no-topic", "gateway/breach.py", "import hcp.kafka.producer"),
    ("layers", "replay/breach.py", "import backtest"),
    ("database-home", "replay/breach.py", "import psycopg"),
    ("settings-at-roots", "replay/breach.py", "import hcp.settings"),
    ("settings-of-the-gateway", "gateway/breach.py", "import hcp.settings"),
]


def _lint(tree: Path, contract: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache", "--contract", contract, ".importlinter"]
    return subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the packages, so that a breach never touches the real tree."""
    copy = tmp_path_factory.mktemp("tree")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".importlinter", copy)
    return copy


@pytest.mark.parametrize(("contract", "file", "statement"), BREACHES)
def test_a_breach_is_seen(tree: Path, contract: str, file: str, statement: str) -> None:
    """A file that breaks the contract turns exactly that contract red."""
    breach = tree / file
    breach.write_text(f'"""A breach."""\n\n{statement}\n', encoding="utf-8")
    try:
        result = _lint(tree, contract)
    finally:
        breach.unlink()
    assert result.returncode != 0, result.stdout
    assert "BROKEN" in result.stdout
    assert "breach" in result.stdout
