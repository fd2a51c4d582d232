"""A farm as a child of a test, a benchmark or a demo: started, asked for faults, ended with its parent."""

import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from simulators.asic.control import CONTROL_HOST, LINE_BYTES_MAX, Asked, State
from simulators.asic.farm import FarmOptions, hosts

START_SECONDS_MAX: Final = 30.0
STOP_SECONDS_MAX: Final = 5.0
ANSWER_SECONDS_MAX: Final = 5.0


class _Ready(msgspec.Struct, frozen=True):
    control_port: int


class FarmProcess:
    """A farm that runs apart."""

    def __init__(self, process: "subprocess.Popen[bytes]", *, options: FarmOptions, control_port: int) -> None:
        """Hold a process that is ready."""
        self.process = process
        self.hosts = tuple(hosts(options.first, options.count))
        self._control = socket.create_connection((CONTROL_HOST, control_port), timeout=ANSWER_SECONDS_MAX)

    def fault(self, host: str, fault: str) -> State:
        """Let something go wrong, `kind[:times[:ms]]`."""
        return self._ask(Asked(do="fault", host=host, fault=fault))

    def mend(self, host: str) -> State:
        """Mend everything of one miner."""
        return self._ask(Asked(do="mend", host=host))

    def state(self, host: str) -> State:
        """Return the truth about one miner."""
        return self._ask(Asked(do="state", host=host))

    def stop(self) -> int:
        """End it by SIGTERM, after 5 s by SIGKILL; return its exit status."""
        self._control.close()
        if self.process.poll() is None:
            self.process.terminate()
        try:
            status = self.process.wait(timeout=STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        return status

    def _ask(self, asked: Asked) -> State:
        self._control.sendall(msgspec.json.encode(asked) + b"\n")
        line = b""
        while not line.endswith(b"\n"):
            part = self._control.recv(LINE_BYTES_MAX)
            if not part:
                raise RuntimeError("farm must answer its control port, was gone")
            line += part
        if line.startswith(b'{"error"'):
            raise RuntimeError(line.decode().strip())
        return msgspec.json.decode(line, type=State)


def start_farm(options: FarmOptions) -> FarmProcess:
    """Start a farm and wait until every miner listens.

    Raises:
        RuntimeError: It ended, or was not ready in 30 s.
    """
    argv = [sys.executable, "-m", "simulators.asic", "--family", options.family, "--first", options.first]
    argv += ["--count", str(options.count), "--ramp-ms", str(options.ramp_ms), "--down-ms", str(options.down_ms)]
    process = subprocess.Popen([*argv, "--until-stdin-closes"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None, "Popen was asked for a pipe"
    readable, _, _ = select.select([process.stdout], [], [], START_SECONDS_MAX)
    line = process.stdout.readline() if readable else b""
    if not line:
        process.kill()
        raise RuntimeError(f"farm must listen within {START_SECONDS_MAX:.0f} s, ended with {process.wait()}")
    return FarmProcess(process, options=options, control_port=msgspec.json.decode(line, type=_Ready).control_port)


@contextmanager
def running_farm(options: FarmOptions) -> Iterator[FarmProcess]:
    """Run a farm for the length of a `with` block."""
    started = start_farm(options)
    try:
        yield started
    finally:
        started.stop()
