"""The demo as a person runs it: a recorded price becomes a verified switch, and nothing is left behind."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]
ROOT = Path(__file__).parents[2]
START_SECONDS_MAX, STOP_SECONDS_MAX = 120.0, 60.0


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


def test_a_recorded_price_becomes_a_verified_switch(tmp_path: Path) -> None:
    """The demo runs, switches devices, sums up without errors, and leaves no process behind."""
    demo = _demo(tmp_path, "--duration", "30")
    output, _ = demo.communicate(timeout=280)
    assert demo.returncode == 0, output[-3000:]
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
