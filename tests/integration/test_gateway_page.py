"""The customer's page runs as it stands: each command of its section, in order, against a gateway."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from hcp.stack import StackAddresses
from tests.docs.pages import ROOT, blocks_in
from tests.gateway_lab import PASSWORD, gateway_lab, gateway_process

pytestmark = pytest.mark.services

SECTION: Final = "## As a customer"
SECONDS_MAX: Final = 180
JQ: Final = (
    f"jq() {{ {shlex.quote(sys.executable)} -c "
    "'import json, sys; print(json.load(sys.stdin)[sys.argv[1][1:]])' \"$2\"; }"
)
"""What the page uses of jq, for machines that lack it."""


def _script() -> str:
    page = (ROOT / "docs/gateway.md").read_text(encoding="utf-8")
    section = page.partition(SECTION)[2].partition("\n## ")[0]
    lines = [line for block in blocks_in(section, name="gateway.md") for line in block.text.splitlines()]
    # --fail-with-body: an answer of 400 or more ends the script, and says why; each answer on a line of its own
    return "\n".join(
        ["set -euo pipefail", JQ, *(line.replace("curl -s ", "curl -s --fail-with-body -w '\\n' ") for line in lines)]
    )


def test_the_commands_of_the_page_work(services: StackAddresses, tmp_path: Path) -> None:
    """Token, route, submit, look, cancel, bill, sign out: no command fails, and the answers are what the page says."""
    assert shutil.which("curl"), "curl must be installed"
    with gateway_lab(services, tmp_path) as lab, gateway_process(lab, tmp_path) as served:
        extra = {"URL": served.url, "EMAIL": lab.user(), "PASSWORD": PASSWORD}
        done = subprocess.run(
            ["bash", "-c", _script()],
            env={**os.environ, **extra},  # noqa: TID251  # for a child process
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS_MAX,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines() if line]
    assert [min(answer) for answer in answers[:2]] == ["concurrent_devices", "as_of_ms"]
    workload, _, listed, cancelled = answers[2:6]
    assert [each["workload_id"] for each in listed["items"]] == [workload["workload_id"]]
    assert cancelled["cancel_requested_at_ms"] is not None
