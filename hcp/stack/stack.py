"""One stack: start it, ask how it is, end it. All it knows is in its directory, so any process may ask."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hcp.errors import StackError
from hcp.stack import health, ports, supervisor
from hcp.stack.accounts import closed_to, service_account
from hcp.stack.install import install
from hcp.stack.locks import exclusive
from hcp.stack.processes import log_tail, send, wait_gone
from hcp.stack.services import Layout, plans, prepare_kafka, prepare_redis, prepare_timescaledb
from hcp.stack.values import (
    Health,
    Healthy,
    Installed,
    Ports,
    Progress,
    Service,
    ServiceStatus,
    StackAddresses,
    StackStatus,
    Unhealthy,
    WantedPorts,
)

START_SECONDS_MAX = 60.0
START_ATTEMPTS_MAX = 2
STOP_SECONDS_MAX = 30.0
ORPHAN_SECONDS_MAX = 7.0  # PostgreSQL's own bound for its children at an immediate shutdown is 5 s
LOCK_SECONDS_MAX = 1_000.0  # somebody else's first start may include the installation
POLL_SECONDS = 0.05
DATA_MB_FREE_MIN = 300
DATABASE_MEMORY_MB = 256
OPEN_STATE_DIR = Path("/var/lib/hcp")
NO_PORTS = WantedPorts()


def silent(_line: str) -> None:
    """Take progress and tell nobody."""


class Stack:
    """The three services of one directory.

    Args:
        directory: The stack's own folder; its name is the stack's name.
        cache_dir: Where the programs are, or will be installed.
        java_home: A Java to prefer.
        progress: Told what is being done.
        database_memory_mb: Shared memory of TimescaleDB; a quarter of the host's for a fleet's whole telemetry.
    """

    def __init__(
        self,
        directory: Path,
        cache_dir: Path,
        *,
        java_home: Path | None = None,
        progress: Progress = silent,
        database_memory_mb: int = DATABASE_MEMORY_MB,
    ) -> None:
        self._directory = directory.absolute()
        self._cache_dir = cache_dir
        self._java_home = java_home
        self._progress = progress
        self._database_memory_mb = database_memory_mb
        self._facts_file = self._directory / "stack.json"
        self._state_file = self._directory / "supervisor.json"
        self._process: subprocess.Popen[bytes] | None = None

    def up(self, *, attached: bool, wanted: WantedPorts = NO_PORTS, wipe: bool = False) -> StackAddresses:
        """Start what does not run yet and return when all three services answer.

        Args:
            attached: End with the calling process, however that ends; otherwise run until `down`.
            wanted: Ports asked for; others are chosen at the first start and kept.
            wipe: Remove the whole directory when the stack has ended without a failure.

        Raises:
            StackError: It cannot be installed or started; the message says what to do.
        """
        try:
            self._directory.parent.mkdir(parents=True, exist_ok=True)
            with self._lock():
                return self._up(attached=attached, wanted=wanted, wipe=wipe)
        except OSError as error:
            raise StackError(self._words(error)) from error

    def _up(self, *, attached: bool, wanted: WantedPorts, wipe: bool) -> StackAddresses:
        kept = self._kept_ports()
        state = self._running()
        if state is not None and kept is not None and state.phase == "running":
            self._check_running(kept, wanted)
            return kept.addresses()
        self._end(supervisor.read_state(self._state_file))  # what a crash or a start that was cut off left behind
        installed = install(self._cache_dir, self._progress, java_home=self._java_home)
        for attempt in range(1, START_ATTEMPTS_MAX + 1):
            chosen = ports.choose(directory=self._directory, wanted=wanted, kept=kept)
            try:
                return self._start(installed, chosen, attached=attached, wipe=wipe)
            except StackError:
                # Between our look and the service's bind another program may have taken a port.
                is_taken = any(not ports.is_free(port) for port in asdict(chosen).values())
                if attempt == START_ATTEMPTS_MAX or not is_taken:
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    def down(self) -> None:
        """End the stack and everything that is left of it; do nothing when nothing runs.

        Raises:
            StackError: A process could not be ended.
        """
        if not self._directory.exists():
            return
        with self._lock():
            state = supervisor.read_state(self._state_file)
            if state is not None:
                self._end(state)

    def status(self) -> StackStatus:
        """Return how the stack is now, asking every service that should run."""
        kept = self._kept_ports()
        state = supervisor.read_state(self._state_file)
        running = state if state is not None and supervisor.is_alive(state.supervisor) else None
        addresses = None if kept is None else kept.addresses()
        return StackStatus(
            name=self._directory.name,
            directory=self._directory,
            supervisor_pid=None if running is None else running.supervisor.pid,
            owner_pid=None if running is None or running.owner is None else running.owner.pid,
            addresses=addresses,
            services=() if kept is None else tuple(self._service_status(each, kept, running) for each in Service),
            versions=self._facts().get("versions", {}),
            failure=None if state is None or running is not None else self._failure(state),
        )

    def wipe(self) -> None:
        """End the stack and remove its data, logs and memory."""
        self.down()
        shutil.rmtree(self._layout().timescaledb, ignore_errors=True)
        shutil.rmtree(self._directory, ignore_errors=True)

    def is_running(self) -> bool:
        """Return whether the supervisor lives, without asking the services."""
        return self._running() is not None

    def _lock(self) -> AbstractContextManager[None]:
        return exclusive(
            self._directory.parent / ".lock",
            wait_seconds_max=LOCK_SECONDS_MAX,
            what="stack command",
            progress=self._progress,
        )

    def _running(self) -> supervisor.State | None:
        state = supervisor.read_state(self._state_file)
        return state if state is not None and supervisor.is_alive(state.supervisor) else None

    def _facts(self) -> dict[str, dict[str, Any]]:
        try:
            facts = json.loads(self._facts_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return facts if isinstance(facts, dict) else {}

    def _kept_ports(self) -> Ports | None:
        try:
            return Ports(**self._facts()["ports"])
        except (KeyError, TypeError):
            return None

    def _layout(self) -> Layout:
        account = service_account()
        inside = self._directory / Service.TIMESCALEDB.value
        if account is None or closed_to(self._directory, account) is None:
            return Layout(directory=self._directory, timescaledb=inside)
        name = f"{self._directory.name}-{zlib.crc32(bytes(self._directory)):08x}"
        return Layout(directory=self._directory, timescaledb=OPEN_STATE_DIR / name)

    def _check_running(self, kept: Ports, wanted: WantedPorts) -> None:
        for service, port in asdict(wanted).items():
            if port is not None and port != getattr(kept, service):
                raise StackError(
                    f"{service} of stack {self._directory.name} must be on port {port}, was running on "
                    f"{getattr(kept, service)}; `hcp stack down --name {self._directory.name}` first"
                )

    def _start(self, installed: Installed, chosen: Ports, *, attached: bool, wipe: bool) -> StackAddresses:
        layout = self._prepare(installed, chosen)
        plan = supervisor.Plan(
            owner=supervisor.myself(),
            is_attached=attached,
            state_file=str(self._state_file),
            wipe=(str(layout.timescaledb), str(self._directory)) if wipe else (),
            services=plans(layout, installed, chosen, service_account(), memory_mb=self._database_memory_mb),
        )
        self._spawn(plan)
        try:
            self._wait_healthy(chosen)
            self._hand_over()
        except BaseException:  # Ctrl-C too: nothing may be left running
            self._end(supervisor.read_state(self._state_file))
            raise
        return chosen.addresses()

    def _prepare(self, installed: Installed, chosen: Ports) -> Layout:
        self._directory.mkdir(exist_ok=True)
        self._directory.chmod(0o755)
        free_mb = shutil.disk_usage(self._directory).free // 1_000_000
        if free_mb < DATA_MB_FREE_MIN:
            raise StackError(
                f"{self._directory} must have {DATA_MB_FREE_MIN} MB free, had {free_mb}; "
                f"free some or set HCP_STATE_DIR to a folder on another disk"
            )
        layout = self._layout()
        (self._directory / "logs").mkdir(exist_ok=True)
        for service in Service:
            with suppress(FileNotFoundError):
                layout.log(service).replace(layout.log(service).with_suffix(".log.1"))
        facts = {
            "ports": asdict(chosen),
            "versions": dict(installed.versions),
            "java": installed.java_version,
        }
        supervisor.write_atomically(self._facts_file, json.dumps(facts, indent=1))
        self._progress("starting Kafka, TimescaleDB and Redis")
        prepare_redis(layout, chosen)
        with ThreadPoolExecutor(max_workers=2) as pool:
            kafka = pool.submit(prepare_kafka, layout, installed, chosen)
            timescaledb = pool.submit(prepare_timescaledb, layout, installed, service_account())
            kafka.result()
            timescaledb.result()
        return layout

    def _spawn(self, plan: supervisor.Plan) -> None:
        plan_file = self._directory / "plan.json"
        supervisor.write_atomically(plan_file, json.dumps(asdict(plan), indent=1))
        self._state_file.unlink(missing_ok=True)
        with (self._directory / "logs" / "supervisor.log").open("ab") as log:
            # A session of its own: Ctrl-C in the terminal is for the owner, who ends the stack last.
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", supervisor.__file__, plan_file],
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _wait_healthy(self, chosen: Ports) -> None:
        pending: dict[Service, Health] = {service: Unhealthy(reason="it does not listen yet") for service in Service}
        give_up_at = time.monotonic() + START_SECONDS_MAX
        while pending:
            self._check_supervisor()
            for service in tuple(pending):
                if health.accepts_connections("127.0.0.1", chosen.of(service)):
                    pending[service] = health.first_check(service, chosen.addresses())
                if isinstance(pending[service], Healthy):
                    del pending[service]
            if pending and time.monotonic() > give_up_at:
                service, last = next(iter(pending.items()))
                raise StackError(
                    f"{service} must answer within {START_SECONDS_MAX:.0f} s, did not: {last}; "
                    f"{log_tail(self._log(service))}"
                )
            time.sleep(POLL_SECONDS)

    def _log(self, service: Service) -> Path:
        return self._layout().log(service)

    def _check_supervisor(self) -> None:
        """Raise when the supervisor gave up.

        Raises:
            StackError: Names the service, why it ended, and the end of its log.
        """
        state = supervisor.read_state(self._state_file)
        if state is not None and state.phase == "failed":
            raise StackError(self._failure(state))
        if self._process is not None and self._process.poll() is not None:
            raise StackError(f"the supervisor ended by itself; {log_tail(self._directory / 'logs' / 'supervisor.log')}")

    def _failure(self, state: supervisor.State) -> str:
        if state.failed_service is None:
            return f"the stack ended: {state.failure}"
        return f"{state.failed_service} {state.failure}; {log_tail(self._log(Service(state.failed_service)))}"

    def _hand_over(self) -> None:
        """Tell the supervisor that all is well and wait until it has taken note."""
        state = self._running()
        if state is None:
            raise StackError("the supervisor must run, was ended by somebody; start the stack again")
        os.kill(state.supervisor.pid, signal.SIGUSR1)
        give_up_at = time.monotonic() + START_SECONDS_MAX
        while state is not None and state.phase != "running":
            self._check_supervisor()
            if time.monotonic() > give_up_at:
                raise StackError("the supervisor did not answer; start the stack again")
            time.sleep(POLL_SECONDS / 5)
            state = self._running()

    def _end(self, state: supervisor.State | None) -> None:
        """End the supervisor and whatever is left of its services, each known by pid and start time."""
        if state is None:
            if self._process is not None:  # it has not told about itself yet
                self._process.terminate()
                self._process.wait(STOP_SECONDS_MAX)
            return
        if supervisor.is_alive(state.supervisor):
            self._progress("stopping Kafka, TimescaleDB and Redis")
            send(state.supervisor, signal.SIGTERM)
            if not wait_gone([state.supervisor], seconds_max=STOP_SECONDS_MAX):
                send(state.supervisor, signal.SIGKILL)
        services = list(state.services.values())
        if not wait_gone(services, seconds_max=ORPHAN_SECONDS_MAX):
            for identity in services:
                send(identity, signal.SIGKILL)
        if not wait_gone([state.supervisor, *services], seconds_max=ORPHAN_SECONDS_MAX):
            left = ", ".join(str(each.pid) for each in (state.supervisor, *services) if supervisor.is_alive(each))
            raise StackError(
                f"the processes {left} must end, did not even by SIGKILL; is a disk hanging? See `ps -o stat`"
            )
        if self._process is not None:
            self._process.wait(STOP_SECONDS_MAX)  # ours: take its exit code, or it stays a zombie
        self._state_file.unlink(missing_ok=True)

    def _service_status(self, service: Service, kept: Ports, running: supervisor.State | None) -> ServiceStatus:
        identity = None if running is None else running.services.get(service.value)
        is_alive = identity is not None and supervisor.is_alive(identity)
        checked: Health = health.check(service, kept.addresses()) if is_alive else Unhealthy(reason="does not run")
        return ServiceStatus(
            service=service,
            port=kept.of(service),
            pid=identity.pid if identity is not None and is_alive else None,
            restarts=0 if running is None else running.restarts.get(service.value, 0),
            health=checked,
            log=self._log(service),
        )

    def _words(self, error: OSError) -> str:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return f"the disk of {self._directory} is full; free some space or set HCP_STATE_DIR to another disk"
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            return (
                f"{error.filename or self._directory} must be ours to use: {error.strerror}; use the account "
                f"that started the stack, or set HCP_STATE_DIR to a folder of yours"
            )
        return f"stack {self._directory.name} failed: {error}"
