"""A MongoDB for tests: FerretDB, which speaks MongoDB's protocol and keeps its documents in SQLite, built from source.

MongoDB's own server comes in no package registry. This one is a test's tool and never shipped.
"""

import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError

BUILD_SECONDS_MAX = 560
START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 30
_SOURCE = Path(__file__).with_name("mongo_server")
_never = threading.Event()


def built(folder: Path) -> Path:
    """Build the server into a folder and return it; without Go the test is skipped, in CI it fails."""
    go = shutil.which("go")
    if go is None:
        if "CI" in os.environ:  # noqa: TID251  # there nothing may be skipped
            pytest.fail("go must be there to build the server of the MongoDB sink's tests", pytrace=False)
        pytest.skip("go is missing: no server can be built for the MongoDB sink")
    program = folder / "mongo_server"
    argv = [go, "build", "-trimpath", "-o", str(program), "."]
    env = {**os.environ, "CGO_ENABLED": "0"}  # noqa: TID251  # go finds its caches by it
    done = subprocess.run(
        argv, cwd=_SOURCE, env=env, capture_output=True, text=True, timeout=BUILD_SECONDS_MAX, check=False
    )
    assert done.returncode == 0, done.stderr
    return program


@dataclass(slots=True)
class Mongo:
    """The server, and the documents of its one database."""

    program: Path
    folder: Path
    port: int
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        """Where it listens, and the database."""
        return f"mongodb://127.0.0.1:{self.port}/hcp"

    def up(self) -> None:
        """Start it, on the documents it had."""
        argv = [str(self.program), f"127.0.0.1:{self.port}", str(self.folder)]
        self.process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(int(START_SECONDS_MAX / 0.1)):
            if self._answers():
                return
            _never.wait(0.1)
        raise AssertionError("the server must answer")

    def down(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it."""
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(STOP_SECONDS_MAX)
        self.process = None

    def find(self, wanted: dict[str, Any]) -> list[dict[str, Any]]:
        """Return audit events."""
        with MongoClient[dict[str, Any]](self.url, tz_aware=True) as client:
            return list(client["hcp"]["audit_events"].find(wanted).sort("observed_at"))

    def _answers(self) -> bool:
        try:
            with MongoClient[dict[str, Any]](self.url, serverSelectionTimeoutMS=200) as client:
                client.admin.command("ping")
        except PyMongoError:
            return False
        return True


@contextmanager
def mongo_server(program: Path, folder: Path) -> Iterator[Mongo]:
    """Run the server for the length of a `with` block."""
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        mongo = Mongo(program=program, folder=folder, port=probe.getsockname()[1])
    mongo.up()
    try:
        yield mongo
    finally:
        if mongo.process is not None:
            mongo.down(signal.SIGKILL)
