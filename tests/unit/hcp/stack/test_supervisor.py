"""The supervisor, over `sleep` processes: nothing outlives its owner or it, and what dies comes back."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from hcp.stack import supervisor
from hcp.stack.processes import log_tail, send, wait_gone
from hcp.stack.supervisor import Identity, Plan, ServicePlan, State, read_state

SECONDS_MAX = 60.0


def _eventually(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + SECONDS_MAX
    while not condition():
        assert time.monotonic() < until, "it must come true in time"
        threading.Event().wait(0.02)


class Stage:
    """An owner (a `cat` that waits for its input) and a supervisor of one or two services."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state_file = directory / "supervisor.json"
        self.owner = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *scripts: str, is_attached: bool = True, wipe: tuple[str, ...] = ()) -> State:
        """Run one shell script a service and return the state once all are there."""
        owner = supervisor.identify(self.owner.pid)
        assert owner is not None
        services = tuple(self._service(f"s{number}", script) for number, script in enumerate(scripts))
        plan = Plan(owner=owner, is_attached=is_attached, state_file=str(self.state_file), wipe=wipe, services=services)
        plan_file = self.directory / "plan.json"
        plan_file.write_text(json.dumps(asdict(plan)), encoding="utf-8")
        self.process = subprocess.Popen([sys.executable, "-I", "-S", supervisor.__file__, str(plan_file)])
        _eventually(lambda: (state := read_state(self.state_file)) is not None and len(state.services) == len(scripts))
        return self.state()

    def _service(self, name: str, script: str) -> ServicePlan:
        return ServicePlan(
            name=name,
            argv=("/bin/sh", "-c", script),
            directory=str(self.directory),
            environment={"PATH": "/usr/bin:/bin"},
            log=str(self.directory / f"{name}.log"),
            user=None,
            group=None,
            stop_signal=signal.SIGTERM,
            death_signal=signal.SIGKILL,
            stop_seconds_max=1.0,
        )

    def state(self) -> State:
        """Return what the supervisor last told."""
        state = read_state(self.state_file)
        assert state is not None
        return state

    def ready(self) -> None:
        """Say that all is well, as `up` does."""
        send(self.state().supervisor, signal.SIGUSR1)
        _eventually(lambda: self.state().phase == "running")

    def close(self) -> None:
        """End what a failed test may have left."""
        self.owner.kill()
        self.owner.communicate(timeout=SECONDS_MAX)
        if self.process is not None:
            self.process.terminate()
            self.process.wait(SECONDS_MAX)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Give a stage and clear it."""
    made = Stage(tmp_path)
    yield made
    made.close()


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(SECONDS_MAX)


def test_services_end_when_the_owner_is_killed(stage: Stage) -> None:
    """An attached stack ends with its owner, even by kill -9, and wipes what it was told to."""
    folder = stage.directory / "data"
    folder.mkdir()
    services = list(stage.start("exec sleep 60", "exec sleep 60", wipe=(str(folder),)).services.values())
    stage.ready()
    _kill(stage.owner)
    assert wait_gone(services, seconds_max=SECONDS_MAX)
    assert stage.process is not None
    assert stage.process.wait(SECONDS_MAX) == 0
    assert not folder.exists()
    assert not stage.state_file.exists()


def test_services_end_when_the_supervisor_is_killed(stage: Stage) -> None:
    """The kernel ends the services when nobody is left to do it."""
    services = list(stage.start("exec sleep 60").services.values())
    assert stage.process is not None
    _kill(stage.process)
    assert wait_gone(services, seconds_max=SECONDS_MAX)


def test_a_detached_stack_outlives_its_starter_only_once_it_was_seen_healthy(stage: Stage) -> None:
    """Before SIGUSR1 a detached start is as attached as any; after it the owner may go."""
    stage.start("exec sleep 60", is_attached=False)
    stage.ready()
    assert stage.state().owner is None
    _kill(stage.owner)
    services = list(stage.state().services.values())
    assert not wait_gone(services, seconds_max=3 * supervisor.POLL_SECONDS)


def test_a_start_that_was_cut_off_leaves_nothing(stage: Stage) -> None:
    """When `up` is killed before it has seen the services healthy, even a detached stack ends."""
    services = list(stage.start("exec sleep 60", is_attached=False).services.values())
    _kill(stage.owner)
    assert wait_gone(services, seconds_max=SECONDS_MAX)


def test_a_service_that_dies_comes_back(stage: Stage) -> None:
    """A running stack restarts a killed service and counts it."""
    first = stage.start("exec sleep 60").services["s0"]
    stage.ready()
    send(first, signal.SIGKILL)
    _eventually(lambda: stage.state().services["s0"] != first)
    assert stage.state().restarts == {"s0": 1}


def test_a_service_that_keeps_dying_ends_the_stack(stage: Stage) -> None:
    """Restarts have a bound; past it the stack ends and says which service and why."""
    assert stage.process is None
    stage.start("sleep 0.3; echo broken; exit 3", "exec sleep 60")
    stage.ready()
    _eventually(lambda: stage.state().phase == "failed")
    state = stage.state()
    assert (state.failed_service, state.restarts["s0"]) == ("s0", supervisor.RESTARTS_MAX)
    assert "exit code 3" in str(state.failure)
    assert wait_gone(list(state.services.values()), seconds_max=SECONDS_MAX)
    assert "broken" in log_tail(stage.directory / "s0.log")


def test_a_service_that_ends_while_starting_fails_the_start(stage: Stage) -> None:
    """Before the stack was healthy there are no restarts: the first exit is the answer."""
    stage.start("exit 7", "exec sleep 60")
    _eventually(lambda: stage.state().phase == "failed")
    assert "exit code 7" in str(stage.state().failure)


def test_a_service_that_ignores_its_signal_is_killed(stage: Stage) -> None:
    """The wait for an orderly end has a bound."""
    services = list(stage.start("trap '' TERM; while :; do sleep 1; done").services.values())
    stage.ready()
    send(stage.state().supervisor, signal.SIGTERM)
    assert wait_gone(services, seconds_max=SECONDS_MAX)


def test_a_reused_pid_is_nobody_we_know() -> None:
    """A process is its pid and start time: a stale state file never gets another process signalled."""
    me = supervisor.myself()
    later = Identity(pid=me.pid, start_ticks=me.start_ticks - 1, boot_id=me.boot_id)
    assert supervisor.is_alive(me)
    assert not supervisor.is_alive(later)
    send(later, signal.SIGKILL)
    assert supervisor.identify(os.getpid()) == me


def test_a_damaged_state_file_is_no_state(tmp_path: Path) -> None:
    """Whatever a crash left in the state file, it reads as none."""
    for text in ("", "{", "[]", '{"phase": "running"}', "null"):
        (tmp_path / "state").write_text(text, encoding="utf-8")
        assert read_state(tmp_path / "state") is None
