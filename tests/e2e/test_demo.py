"""The demo as people run it: prices become verified switches, a customer is served, and nothing is left behind."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[2]
START_SECONDS_MAX, STOP_SECONDS_MAX = 400.0, 120.0
SESSION_BEGINS = "a customer may type:\n"
SESSION_ENDS = "/billing/invoices"
SWITCHED = "command_executed"
JQ = (
    f"jq() {{ {shlex.quote(sys.executable)} -c "
    "'import json, sys; print(json.load(sys.stdin)[sys.argv[1][1:]])' \"$2\"; }\n"
)
"""What the session uses of jq, for machines that lack it."""


def _demo(state: Path, *arguments: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "HCP_STATE_DIR": str(state)}  # noqa: TID251  # for a child process
    command = [sys.executable, "-m", "hcp", "demo", "--speed", "3600", "--name", "e2e", *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def _belonging(state: Path) -> list[psutil.Process]:
    """Find every process that was started for this state directory."""
    found = []
    for process in psutil.process_iter():
        try:
            # environment as well: agents are told the directory there
            words = " ".join([*process.cmdline(), *process.environ().values()])
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        if str(state) in words and process.pid != os.getpid():
            found.append(process)
    return found


def _wait_gone(state: Path) -> list[psutil.Process]:
    until = time.monotonic() + STOP_SECONDS_MAX
    while (left := _belonging(state)) and time.monotonic() < until:
        psutil.wait_procs(left, timeout=0.5)
    return left


def _session(demo: "subprocess.Popen[str]") -> str:
    """Return what the demo prints for a customer to type; it comes before the first picture."""
    assert demo.stdout is not None
    printed = ""
    for line in demo.stdout:
        printed += line
        if SESSION_ENDS in line:
            break
    assert SESSION_BEGINS in printed, printed
    return printed.partition(SESSION_BEGINS)[2]


def _typed(session: str) -> list[str]:
    """Type it in a shell of the same folder; return the lines of its answers."""
    done = subprocess.run(
        ["bash", "-c", JQ + session], cwd=ROOT, capture_output=True, text=True, check=False, timeout=400
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr, done.stderr
    return done.stdout.splitlines()


def _wait_switched(state: Path, demo: "subprocess.Popen[str]") -> None:
    log = state / "stacks" / "e2e" / "logs" / "controller.log"
    until = time.monotonic() + START_SECONDS_MAX
    while SWITCHED not in log.read_text(encoding="utf-8") and time.monotonic() < until:
        assert demo.poll() is None, "the demo ended early"
        psutil.wait_procs([psutil.Process(demo.pid)], timeout=0.2)


def test_prices_become_switches_and_a_customer_is_served(tmp_path: Path) -> None:
    """The session works as printed, devices switch, all is summed up without errors, and no process is left behind."""
    demo = _demo(tmp_path)
    try:
        lines = _typed(_session(demo))
        _wait_switched(tmp_path, demo)
        demo.send_signal(signal.SIGINT)
        output, _ = demo.communicate(timeout=STOP_SECONDS_MAX)
    finally:
        demo.kill()
    assert demo.returncode == 0, output[-3000:]
    told = [line.split()[1] for line in lines if not line.startswith("{")]
    assert told[: told.index("started") + 1] == ["created", "queued", "placed", "starting", "started"]
    assert {"usage", "cancelled"} <= set(told)
    completion, cancelled, usage, invoices = (json.loads(line) for line in lines if line.startswith("{"))
    assert completion["usage"]["completion_tokens"] == 8
    assert cancelled["cost_usd_micros"] > 0
    assert usage["amount_usd_micros"] > 0
    assert [each["amount_usd_micros"] > 0 for each in invoices["items"]] == [True]
    summary = output[output.rindex("summary") :]
    assert re.search(r"committed [1-9]", summary), summary
    assert re.search(r"decisions\s+[1-9]\d* to switch", summary), summary
    assert re.search(r"refused records\s+none", summary), summary
    assert re.search(r"processes that ended badly\s+none", summary), summary
    assert re.search(r"price to command\s+p50 [\d.,]+ ms", summary), summary
    assert _wait_gone(tmp_path) == []


def test_a_killed_demo_leaves_no_orphan(tmp_path: Path) -> None:
    """Kill -9 of the demo ends its services and all its processes."""
    demo = _demo(tmp_path, "--duration", "200")
    try:
        until = time.monotonic() + START_SECONDS_MAX
        log = tmp_path / "stacks" / "e2e" / "logs" / "simulate-market.log"
        while not log.exists() and time.monotonic() < until:
            assert demo.poll() is None, "the demo ended early"
            psutil.wait_procs([psutil.Process(demo.pid)], timeout=0.2)
        assert log.exists(), "the demo did not get as far as its market"
        assert len(_belonging(tmp_path)) > 8
        demo.send_signal(signal.SIGKILL)
        demo.wait(10)
        assert _wait_gone(tmp_path) == []
    finally:
        demo.kill()
        for process in _belonging(tmp_path):
            process.kill()
