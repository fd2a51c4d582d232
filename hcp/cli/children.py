"""The demo's own processes: a log each, a ready line, stopped in order, never orphaned."""

import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

from hcp.clock import seconds
from hcp.errors import HcpError

READY_MS_MAX: Final = 120_000
"""Fifteen processes import at once; two busy cores take most of a minute."""
STOP_MS_MAX: Final = 15_000
POLL_MS: Final = 50
LOG_LINES_SHOWN: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """One process of the demo.

    Attributes:
        name: For people.
        process: The process itself.
        log: Where its output goes.
        ready: What its log says once it serves; None when it needs no waiting for.
    """

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path
    ready: str | None


class Children:
    """A family of processes that ends with its parent, in the reverse order of its start."""

    def __init__(self, *, logs: Path, environment: dict[str, str]) -> None:
        """Write logs to `logs`; give every child `environment` on top of this process's own."""
        self._logs = logs
        self._environment = environment
        self._children: list[Child] = []
        logs.mkdir(parents=True, exist_ok=True)

    def start(self, name: str, arguments: list[str], *, ready: str | None = None, module: str = "hcp") -> Child:
        """Start `hcp <arguments>`, or another module that way.

        The kernel ends it when this process dies, even by kill -9 (`setpriv --pdeathsig`); a session of its own keeps
        the terminal's Ctrl-C for the parent, which then stops everything in order.
        """
        log = self._logs / f"{name}.log"
        variables = [f"{key}={value}" for key, value in self._environment.items()]
        command = ["setpriv", "--pdeathsig", "TERM", "env", *variables, sys.executable, "-m", module, *arguments]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        child = Child(name=name, process=process, log=log, ready=ready)
        self._children.append(child)
        return child

    def wait_ready(self, *, timeout_ms: int = READY_MS_MAX) -> None:
        """Wait until every child that has a ready line has written it.

        Raises:
            HcpError: One ended, or did not become ready in time; the message shows the end of its log.
        """
        until = time.monotonic() + seconds(timeout_ms)
        waiting = [child for child in self._children if child.ready is not None]
        while waiting:
            self.check()
            waiting = [child for child in waiting if not _has_line(child)]
            if waiting and time.monotonic() > until:
                late = waiting[0]
                raise HcpError(f"{late.name} must be ready in {timeout_ms} ms, was not: {_log_end(late)}")
            time.sleep(seconds(POLL_MS))

    def check(self) -> None:
        """Raise HcpError when a child has ended badly; one that ended with 0 is done."""
        for child in self._children:
            code = child.process.poll()
            if code not in {None, 0}:
                raise HcpError(f"{child.name} must keep running, was ended with {code}: {_log_end(child)}")

    def stop(self, child: Child) -> int:
        """Ask a child to end, wait, and kill it when it does not; return its exit code."""
        _ask_to_end(child)
        return _end_of(child)

    def stop_all(self) -> dict[str, int]:
        """Stop all, the last started first and those of one kind (`agent-...`) together; return exit codes by name."""
        codes: dict[str, int] = {}
        for _, alike in groupby(reversed(self._children), key=_kind):
            children = list(alike)
            for child in children:
                _ask_to_end(child)
            codes |= {child.name: _end_of(child) for child in children}
        return codes


def _ask_to_end(child: Child) -> None:
    if child.process.poll() is None:
        child.process.send_signal(signal.SIGTERM)


def _end_of(child: Child) -> int:
    try:
        return child.process.wait(seconds(STOP_MS_MAX))
    except subprocess.TimeoutExpired:
        child.process.kill()
        return child.process.wait()


def _kind(child: Child) -> str:
    return child.name.partition("-")[0]


def _has_line(child: Child) -> bool:
    assert child.ready is not None, "only children with a ready line are waited for"
    return child.ready in child.log.read_text(encoding="utf-8", errors="replace")


def _log_end(child: Child) -> str:
    lines = child.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES_SHOWN:]
    return f"see {child.log}: " + " / ".join(line.strip() for line in lines)
