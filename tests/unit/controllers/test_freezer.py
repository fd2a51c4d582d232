"""Holding a process by force: cgroup v2's freezer, signals, and what is said where neither is to be had."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from controllers.drivers.freezer import CgroupFreezer, FirstOf, HoldState, NoHold, StopSignal, hold_of
from controllers.ports import Applied, NotConfirmed, Refused, Unsupported
from tests.gpu_lab import own_cgroup

DEADLINE_MS = 2_000
BUSY = "while True: pass"


def state_of(pid: int) -> str:
    """Return the kernel's letter for a process."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]


@contextmanager
def family() -> Iterator[tuple[int, int]]:
    """Run a process with a child that works; give both ids."""
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BUSY!r}])"
    parent = subprocess.Popen([sys.executable, "-c", code])
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    while not children.read_text(encoding="ascii").split():
        assert parent.poll() is None
    child = int(children.read_text(encoding="ascii").split()[0])
    while b"subprocess" in Path(f"/proc/{child}/cmdline").read_bytes():  # until its exec the parent waits in the kernel
        assert parent.poll() is None
    try:
        yield parent.pid, child
    finally:
        os.kill(child, signal.SIGKILL)
        parent.kill()
        parent.wait()


@pytest.fixture
def child() -> Iterator["subprocess.Popen[bytes]"]:
    """Run a process that works."""
    process = subprocess.Popen([sys.executable, "-c", BUSY])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def pid_file(tmp_path: Path, child: "subprocess.Popen[bytes]") -> Path:
    """Name the process in a file."""
    path = tmp_path / "child.pid"
    path.write_text(f"{child.pid}\n", encoding="ascii")
    return path


@pytest.fixture
def cgroup(child: "subprocess.Popen[bytes]") -> Iterator[Path]:
    """Put the process into a cgroup v2 of its own."""
    with own_cgroup(child.pid) as path:
        yield path
        child.kill()
        child.wait()


async def test_freezer_holds_and_releases_what_the_kernel_confirms(cgroup: Path) -> None:
    """Frozen means that cgroup.events says so, whoever asks."""
    freezer = CgroupFreezer(cgroup)
    assert freezer.state() is HoldState.FREE
    assert await freezer.hold(deadline_ms=DEADLINE_MS) == Applied()
    assert freezer.state() is HoldState.HELD
    assert "frozen 1" in (cgroup / "cgroup.events").read_text(encoding="ascii")
    assert await freezer.release(deadline_ms=DEADLINE_MS) == Applied()
    assert freezer.state() is HoldState.FREE


async def test_freezer_knows_a_process_that_has_ended(cgroup: Path, child: "subprocess.Popen[bytes]") -> None:
    """A cgroup without a process needs no freezing: what is gone does not run."""
    child.kill()
    child.wait()
    freezer = CgroupFreezer(cgroup)
    assert freezer.state() is HoldState.GONE
    assert await freezer.hold(deadline_ms=DEADLINE_MS) == Applied()


async def test_freeze_that_is_not_confirmed_is_not_applied(tmp_path: Path) -> None:
    """The kernel's word counts, not that the file took ours: what stays unfrozen is not confirmed."""
    (tmp_path / "cgroup.freeze").write_text("0", encoding="ascii")
    (tmp_path / "cgroup.events").write_text("populated 1\nfrozen 0\n", encoding="ascii")
    ack = await CgroupFreezer(tmp_path).hold(deadline_ms=20)
    assert ack == NotConfirmed(detail="process must be held, was free after 20 ms")
    assert (tmp_path / "cgroup.freeze").read_text(encoding="ascii") == "1"


async def test_freezer_where_there_is_none_is_unsupported(tmp_path: Path) -> None:
    """No such file, no such order; a file that may not be written refuses."""
    assert isinstance(await CgroupFreezer(tmp_path).hold(deadline_ms=20), Unsupported)
    assert CgroupFreezer(tmp_path).state() is HoldState.UNKNOWN
    (tmp_path / "cgroup.freeze").mkdir()
    assert isinstance(await CgroupFreezer(tmp_path).hold(deadline_ms=20), Refused)


async def test_signals_hold_a_process_and_its_children(tmp_path: Path) -> None:
    """SIGSTOP goes to the whole tree: an inference server's workers are its children."""
    pid_file = tmp_path / "parent.pid"
    hold = StopSignal(pid_file)
    with family() as (parent, child):
        pid_file.write_text(str(parent), encoding="ascii")
        assert await hold.hold(deadline_ms=DEADLINE_MS) == Applied()
        assert hold.state() is HoldState.HELD
        assert (state_of(parent), state_of(child)) == ("T", "T")
        assert await hold.release(deadline_ms=DEADLINE_MS) == Applied()
        assert hold.state() is HoldState.FREE
    assert hold.state() is HoldState.GONE


async def test_pid_of_somebody_else_is_not_touched(pid_file: Path, child: "subprocess.Popen[bytes]") -> None:
    """A process that began after the pid file was written has only inherited the number: ours is gone."""
    os.utime(pid_file, (1.0, 1.0))
    hold = StopSignal(pid_file)
    assert hold.state() is HoldState.GONE
    assert await hold.hold(deadline_ms=DEADLINE_MS) == Applied()
    assert state_of(child.pid) != "T"


async def test_without_a_pid_there_is_no_hold(tmp_path: Path) -> None:
    """No file and no configuration are unsupported, and nothing is known of the process."""
    for hold in (StopSignal(tmp_path / "none.pid"), NoHold(), hold_of(cgroup_dir=None, pid_file=None), FirstOf()):
        assert isinstance(await hold.hold(deadline_ms=20), Unsupported)
        assert hold.state() is HoldState.UNKNOWN


async def test_second_choice_holds_when_the_first_cannot(tmp_path: Path, pid_file: Path) -> None:
    """Where the cgroup is not to be had the signal holds; release lets go of whatever holds."""
    hold = hold_of(cgroup_dir=tmp_path / "no-cgroup", pid_file=pid_file)
    assert hold.state() is HoldState.FREE
    assert await hold.hold(deadline_ms=DEADLINE_MS) == Applied()
    assert hold.state() is HoldState.HELD
    assert await hold.release(deadline_ms=DEADLINE_MS) == Applied()
    assert hold.state() is HoldState.FREE
