"""The process that owns a stack's services, so that none outlives it. Standard library only, no threads.

It is run by path with `python -I -S`, which starts in milliseconds and imports nothing of the project:

    supervisor.py PLAN.json

Three links hold. The supervisor ends the services when its owner goes, however that happens: it compares
the owner's pid and start time five times a second, which a reused pid does not fool. The kernel signals every
service when the supervisor goes (PR_SET_PDEATHSIG). What neither reaches is found by pid and start time in
the state file. A detached stack has an owner too, until `up` has seen it healthy and sends SIGUSR1.
"""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NoReturn

POLL_SECONDS = 0.2
RESTARTS_MAX = 5
RESTART_WINDOW_SECONDS = 60.0
RESTART_PAUSE_SECONDS = 0.3
KILL_WAIT_SECONDS = 5.0
PR_SET_PDEATHSIG = 1  # linux/prctl.h
START_TICKS_FIELD = 19  # proc(5): starttime is field 22, and 3 is the first after the command's name
STOPS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
WATCHED = STOPS | {signal.SIGUSR1, signal.SIGCHLD}


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One process, told apart from a later one with the same pid."""

    pid: int
    start_ticks: int
    boot_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePlan:
    """How one service is run and ended."""

    name: str
    argv: tuple[str, ...]
    directory: str
    environment: dict[str, str]
    log: str
    user: int | None
    """The uid it runs as; None for the supervisor's own."""
    group: int | None
    stop_signal: int
    death_signal: int
    """What the kernel sends when the supervisor is killed; it must end the service without anybody's help."""
    stop_seconds_max: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a supervisor is told."""

    owner: Identity
    is_attached: bool
    state_file: str
    wipe: tuple[str, ...]
    """Directories to remove after a clean end."""
    services: tuple[ServicePlan, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a supervisor tells: written to the state file at every change."""

    phase: str
    """starting, running or failed; the file is removed after a clean end."""
    supervisor: Identity
    owner: Identity | None
    services: dict[str, Identity] = field(default_factory=dict)
    restarts: dict[str, int] = field(default_factory=dict)
    failed_service: str | None = None
    failure: str | None = None


def boot_id() -> str:
    """Return what tells this boot of the machine from others."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def identify(pid: int) -> Identity | None:
    """Return the identity of a living process, None when there is none (a zombie is dead)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    if not fields or fields[0] in {"Z", "X"}:
        return None
    return Identity(pid=pid, start_ticks=int(fields[START_TICKS_FIELD]), boot_id=boot_id())


def is_alive(identity: Identity) -> bool:
    """Return whether this very process still runs."""
    return identify(identity.pid) == identity


def myself() -> Identity:
    """Return the identity of the calling process."""
    identity = identify(os.getpid())
    assert identity is not None, "a running process has an entry in /proc"
    return identity


def write_atomically(path: Path, text: str) -> None:
    """Replace a file so that a reader sees the old or the new one, never a part."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _identity(raw: dict[str, object] | None) -> Identity | None:
    return None if raw is None else Identity(**raw)  # type: ignore[arg-type]


def read_plan(path: Path) -> Plan:
    """Read what `up` wrote."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    services = tuple(ServicePlan(**{**each, "argv": tuple(each["argv"])}) for each in raw.pop("services"))
    return Plan(**{**raw, "owner": Identity(**raw["owner"]), "wipe": tuple(raw["wipe"]), "services": services})


def read_state(path: Path) -> State | None:
    """Read a supervisor's state file; None when there is none or it is not one."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        supervisor = Identity(**raw.pop("supervisor"))
        services = {name: Identity(**each) for name, each in raw.pop("services").items()}
        return State(**{**raw, "supervisor": supervisor, "owner": _identity(raw["owner"]), "services": services})
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _die_with_parent(parent_pid: int, death_signal: int) -> Callable[[], None]:
    """Return what a child runs between fork and exec: follow the parent, and take every signal again."""
    libc = ctypes.CDLL(None, use_errno=True)

    def follow() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        if libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0 or os.getppid() != parent_pid:
            os._exit(1)  # the parent went between fork and here, or the kernel refused

    return follow


def spawn(plan: ServicePlan) -> subprocess.Popen[bytes]:
    """Start one service as a child that dies with this process."""
    with Path(plan.log).open("ab") as log:
        return subprocess.Popen(
            plan.argv,
            cwd=plan.directory,
            env=plan.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            user=plan.user,
            group=plan.group,
            extra_groups=None if plan.user is None else [],
            # Safe here and only here: this program has one thread. It runs after the uid change.
            preexec_fn=_die_with_parent(os.getpid(), plan.death_signal),  # noqa: PLW1509
        )


class Supervisor:
    """One run of a stack: starts every service, restarts one that dies, ends all of them."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._owner: Identity | None = plan.owner
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._restart_at: dict[str, float] = {}
        self._exits: list[float] = []
        self._state = State(phase="starting", supervisor=myself(), owner=plan.owner)

    def run(self) -> int:
        """Serve until told to end, the owner goes or a service cannot be kept up; return the exit code."""
        signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
        try:
            for service in self._plan.services:
                self._start(service)
            self._tell()
            while self._state.phase != "failed" and not self._is_told_to_stop():
                self._look_after_children()
        except OSError as error:
            self._fail(None, f"{error.strerror}: {error.filename}")
        self._stop_all()
        return self._leave()

    def _is_told_to_stop(self) -> bool:
        received = signal.sigtimedwait(WATCHED, POLL_SECONDS)
        if received is not None and received.si_signo in STOPS:
            return True
        if received is not None and received.si_signo == signal.SIGUSR1:
            self._owner = self._plan.owner if self._plan.is_attached else None
            self._state = replace(self._state, phase="running", owner=self._owner)
            self._tell()
        return self._owner is not None and not is_alive(self._owner)

    def _start(self, service: ServicePlan) -> None:
        child = spawn(service)
        self._children[service.name] = child
        identity = identify(child.pid) or Identity(pid=child.pid, start_ticks=0, boot_id="")
        self._state = replace(self._state, services={**self._state.services, service.name: identity})

    def _look_after_children(self) -> None:
        for service in self._plan.services:
            child = self._children.get(service.name)
            if child is not None and child.poll() is not None:
                del self._children[service.name]
                self._after_exit(service, child.returncode)
            elif child is None and time.monotonic() >= self._restart_at[service.name]:
                self._start(service)
                self._tell()

    def _after_exit(self, service: ServicePlan, code: int) -> None:
        now = time.monotonic()
        self._exits = [*(exit_ for exit_ in self._exits if now - exit_ < RESTART_WINDOW_SECONDS), now]
        ended = f"ended with {signal.Signals(-code).name if code < 0 else f'exit code {code}'}"
        if self._state.phase == "starting":
            self._fail(service.name, ended)
        elif len(self._exits) > RESTARTS_MAX:
            self._fail(
                service.name,
                f"{ended}, {len(self._exits)} exits in {RESTART_WINDOW_SECONDS:.0f} s are too many",
            )
        else:
            self._restart_at[service.name] = now + RESTART_PAUSE_SECONDS * len(self._exits)
            restarts = {**self._state.restarts, service.name: self._state.restarts.get(service.name, 0) + 1}
            self._state = replace(self._state, restarts=restarts)

    def _fail(self, service: str | None, reason: str) -> None:
        self._state = replace(self._state, phase="failed", failed_service=service, failure=reason)

    def _stop_all(self) -> None:
        for service in self._plan.services:
            child = self._children.get(service.name)
            if child is not None:
                child.send_signal(service.stop_signal)
        asked_at = time.monotonic()
        for service in self._plan.services:
            child = self._children.get(service.name)
            if child is None:
                continue
            try:
                child.wait(max(0.0, asked_at + service.stop_seconds_max - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait(KILL_WAIT_SECONDS)

    def _leave(self) -> int:
        if self._state.phase == "failed":
            self._tell()
            return 1
        for directory in self._plan.wipe:
            shutil.rmtree(directory, ignore_errors=True)
        Path(self._plan.state_file).unlink(missing_ok=True)
        return 0

    def _tell(self) -> None:
        write_atomically(Path(self._plan.state_file), json.dumps(asdict(self._state), indent=1))


def main() -> NoReturn:
    """Run the plan named on the command line."""
    sys.exit(Supervisor(read_plan(Path(sys.argv[1]))).run())


if __name__ == "__main__":
    main()
