"""Stacks on this machine: side by side, idempotent, and without orphans whatever happens to their owner."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import psycopg
import pytest

from hcp.errors import StackError
from hcp.settings import load_settings
from hcp.stack import Stack, StackAddresses, default_cache_dir, running_stack

pytestmark = pytest.mark.services
GONE_SECONDS_MAX = 90.0
OWNER = """
import sys, threading
from pathlib import Path
from hcp.stack import Stack
Stack(Path(sys.argv[1]), Path(sys.argv[2])).up(attached=True)
print("up", flush=True)
threading.Event().wait(120)
"""


def _cache() -> Path:
    return default_cache_dir(load_settings().cache_dir)


def _pids(stack: Stack) -> list[int]:
    return [service.pid for service in stack.status().services if service.pid]


def _wait_gone(pids: list[int]) -> list[int]:
    until = time.monotonic() + GONE_SECONDS_MAX
    while (left := [pid for pid in pids if psutil.pid_exists(pid)]) and time.monotonic() < until:
        psutil.wait_procs([psutil.Process(pid) for pid in left if psutil.pid_exists(pid)], timeout=0.5)
    return left


def test_two_stacks_run_side_by_side(services: StackAddresses, tmp_path: Path) -> None:
    """A second stack takes ports of its own; a second `up` of it changes nothing; afterwards nothing is left."""
    directory = tmp_path / "stacks" / "beside"
    with running_stack(directory, _cache(), keep=False) as addresses:
        assert addresses.kafka_bootstrap != services.kafka_bootstrap
        stack = Stack(directory, _cache())
        assert stack.status().is_healthy
        before = _pids(stack)
        assert stack.up(attached=False) == addresses
        assert _pids(stack) == before
        with psycopg.connect(addresses.timescale_dsn) as connection:
            row = connection.execute("select extversion from pg_extension where extname = 'timescaledb'").fetchone()
        assert row is not None
        with pytest.raises(StackError, match="runs already"), running_stack(directory, _cache()):
            pytest.fail("a running stack must not be taken over")
    assert _wait_gone(before) == []
    assert not directory.exists()


def test_services_die_with_their_owner_and_start_again(tmp_path: Path) -> None:
    """Kill -9 of the owner ends all services; what it left behind does not hinder the next start, and data stays."""
    directory = tmp_path / "stacks" / "owned"
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(directory), str(_cache())], stdout=subprocess.PIPE)
    assert owner.stdout is not None
    assert owner.stdout.readline() == b"up\n"
    stack = Stack(directory, _cache())
    pids = _pids(stack)
    assert len(pids) == 3
    owner.send_signal(signal.SIGKILL)
    owner.wait(10)
    assert _wait_gone(pids) == []
    assert not stack.is_running()
    stack.up(attached=True)
    try:
        assert stack.status().is_healthy
    finally:
        stack.down()
    stack.down()  # nothing runs: no effect, no error
    assert _wait_gone(_pids(stack)) == []
    stack.wipe()  # its data lies outside tmp_path when that is closed to the account of PostgreSQL
