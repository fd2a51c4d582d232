"""Agents as processes on the run's own broker, and a reader of what they send: for integration tests."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from hcp.codecs import decode
from hcp.kafka.consumer import BatchConsumer
from hcp.kafka.records import ConsumedRecord

ROOT: Final = Path(__file__).resolve().parents[1]
READY_SECONDS: Final = 180.0
ANSWER_SECONDS: Final = 180.0
STOP_SECONDS: Final = 90.0


class AgentProcesses:
    """Starts `hcp agent` processes and ends every one of them."""

    def __init__(self, *, bootstrap: str, directory: Path) -> None:
        """Keep state and logs under `directory`."""
        self._bootstrap, self._directory = bootstrap, directory
        self._running: dict[tuple[str, str], subprocess.Popen[bytes]] = {}
        self._logs: dict[tuple[str, str], Path] = {}
        self._starts = 0

    def start(self, name: str, *extra: str, instance: str = "0", fleet_file: str = "fleet.demo.toml") -> None:
        """Start an agent and wait until its tables are recovered."""
        self._starts += 1
        log = self._directory / f"{name}-{instance}-{self._starts}.log"
        env = {
            **os.environ,  # noqa: TID251  # for a child process
            "HCP_KAFKA_BOOTSTRAP": self._bootstrap,
            "HCP_STATE_DIR": str(self._directory),
            "HCP_INSTANCE": instance,
        }
        command = [sys.executable, "-m", "hcp", "agent", name, "--fleet", fleet_file, *extra]
        with log.open("wb") as output:
            process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=output, stderr=subprocess.STDOUT)
        self._running[name, instance] = process
        self._logs[name, instance] = log
        until = time.monotonic() + READY_SECONDS
        while "agent_ready" not in log.read_text(errors="replace"):
            assert process.poll() is None, f"{name} must start, was: {log.read_text(errors='replace')[-2000:]}"
            assert time.monotonic() < until, f"{name} must be ready, was: {log.read_text(errors='replace')[-2000:]}"
            try:
                process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue

    def exit_code(self, name: str, *, instance: str = "0") -> int | None:
        """Return how an agent ended by itself; None while it runs."""
        return self._running[name, instance].poll()

    def said(self, name: str, *, instance: str = "0") -> str:
        """Return what the last start of an agent has logged."""
        return self._logs[name, instance].read_text(errors="replace")

    def kill(self, name: str, *, instance: str = "0") -> None:
        """End an agent as a power cut would."""
        process = self._running.pop((name, instance))
        process.kill()
        process.wait(STOP_SECONDS)

    def stop(self, name: str, *, instance: str = "0") -> int:
        """End an agent with SIGTERM; return its exit code."""
        process = self._running.pop((name, instance))
        process.terminate()
        try:
            return process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait(STOP_SECONDS)

    def stop_all(self) -> None:
        """End what still runs."""
        for name, instance in list(self._running):
            self.stop(name, instance=instance)


class Reader:
    """Reads topics from their start and keeps every record with its decoded value."""

    def __init__(self, *, bootstrap: str, topics: Iterable[str]) -> None:
        """Join a group of its own."""
        self._consumer = BatchConsumer(bootstrap=bootstrap, group=f"test-{uuid4().hex}", topics=topics)
        self.seen: list[tuple[ConsumedRecord, Any]] = []

    def find(
        self, wanted: Callable[[ConsumedRecord, Any], bool], *, count: int = 1
    ) -> list[tuple[ConsumedRecord, Any]]:
        """Return the records that are wanted once there are `count` of them; fails when that takes too long."""
        until = time.monotonic() + ANSWER_SECONDS
        while len(found := self.present(wanted)) < count:
            assert time.monotonic() < until, f"{count} records must come, was {len(found)} of {len(self.seen)} read"
            self.poll()
        return found

    def poll(self) -> int:
        """Read what has come; return how many records."""
        polled = self._consumer.poll(records_max=500, timeout_ms=200)
        self.seen += [(record, decode(record.value)) for record in polled]
        return len(polled)

    def present(self, wanted: Callable[[ConsumedRecord, Any], bool]) -> list[tuple[ConsumedRecord, Any]]:
        """Return those read so far that are wanted."""
        return [(record, value) for record, value in self.seen if wanted(record, value)]

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()
