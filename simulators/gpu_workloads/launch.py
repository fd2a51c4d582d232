"""Workloads as children of a test, a benchmark or a demo: started, known by their ports, ended with their parent."""

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import msgspec

from simulators.gpu_workloads.process import LISTEN_HOST, Ready

START_SECONDS_MAX: Final = 30.0
STOP_SECONDS_MAX: Final = 5.0
ONE_THREAD: Final = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""One thread computes the same sums in the same order each time, and leaves the other cores to the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """One workload that listens."""

    process: "subprocess.Popen[bytes]"
    url: str
    control_url: str

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def stop(self) -> int:
        """End it by SIGTERM, after 5 s by SIGKILL; return its exit status."""
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


def start(workload: str, *options: str) -> Running:
    """Start `miner` or `server` with command-line options and wait until it listens.

    Raises:
        RuntimeError: It ended, or did not listen in 30 s.
    """
    argv = [sys.executable, "-m", "simulators.gpu_workloads.cli", workload, "--until-stdin-closes", *options]
    process = subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **ONE_THREAD},  # noqa: TID251  # a child process inherits ours
    )
    assert process.stdout is not None, "Popen was asked for a pipe"
    readable, _, _ = select.select([process.stdout], [], [], START_SECONDS_MAX)
    line = process.stdout.readline() if readable else b""
    if not line:
        process.kill()
        raise RuntimeError(f"{workload} must listen within {START_SECONDS_MAX:.0f} s, ended with {process.wait()}")
    ready = msgspec.json.decode(line, type=Ready)
    return Running(
        process=process,
        url=f"http://{LISTEN_HOST}:{ready.port}",
        control_url=f"http://{LISTEN_HOST}:{ready.control_port}",
    )


@contextmanager
def running(workload: str, *options: str) -> Iterator[Running]:
    """Run a workload for the length of a `with` block."""
    started = start(workload, *options)
    try:
        yield started
    finally:
        started.stop()
