"""Apache Kafka from its Maven jars: a pinned list, each file checked against its SHA-256, no Maven needed."""

import errno
import hashlib
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hcp.errors import StackError
from hcp.stack.values import Progress

LOCK = Path(__file__).with_name("kafka.jars.lock")
KAFKA_VERSION = "4.4.0"
DOWNLOADS_AT_ONCE = 8
DOWNLOAD_ATTEMPTS_MAX = 3
TIMEOUT_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Jar:
    """One line of the lock file."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        """The name Maven gives the file."""
        return f"{self.artifact}-{self.version}.jar"


def locked_jars(lock: Path = LOCK) -> tuple[Jar, ...]:
    """Read the lock file: `group:artifact:version sha256` a line, `#` begins a comment."""
    jars = []
    for line in lock.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            coordinate, sha256 = line.split()
            group, artifact, version = coordinate.split(":")
            jars.append(Jar(group=group, artifact=artifact, version=version, sha256=sha256))
    return tuple(jars)


def directory_name() -> str:
    """Return the folder's name in the cache; another lock file gets another folder."""
    return f"kafka-{KAFKA_VERSION}-{hashlib.sha256(LOCK.read_bytes()).hexdigest()[:8]}"


def fill(target: Path, _final: Path, progress: Progress) -> dict[str, str]:
    """Download every jar into `target`.

    Raises:
        StackError: A jar cannot be fetched or is not the one that was pinned.
    """
    jars = locked_jars()
    scratch = target / ".maven"
    maven = _maven(scratch)
    done = 0
    with ThreadPoolExecutor(max_workers=DOWNLOADS_AT_ONCE) as pool:
        try:
            for _ in pool.map(lambda jar: _fetch(maven, jar, target), jars):
                done += 1
                if done % 15 == 0:
                    progress(f"Apache Kafka: {done} of {len(jars)} jars")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    shutil.rmtree(scratch, ignore_errors=True)
    return {"kafka": KAFKA_VERSION}


def _maven(scratch: Path) -> Any:  # noqa: ANN401 - the library has no types
    try:
        from jgo.maven import MavenContext  # noqa: PLC0415 - an optional wheel, slow to import, needed once
    except ImportError as error:
        raise StackError(
            "the Python package jgo must be installed, was not; `pip install hcp[stack]` brings it"
        ) from error
    return MavenContext(repo_cache=scratch, timeout=TIMEOUT_SECONDS)


def _fetch(maven: Any, jar: Jar, target: Path) -> None:  # noqa: ANN401 - as _maven
    artifact = maven.project(jar.group, jar.artifact).at_version(jar.version).artifact()
    for attempt in range(1, DOWNLOAD_ATTEMPTS_MAX + 1):
        try:
            path = Path(artifact.resolve())
        except (OSError, RuntimeError) as error:  # the HTTP library's errors are OSErrors
            if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise
            if attempt == DOWNLOAD_ATTEMPTS_MAX:
                raise StackError(
                    f"{jar.file_name} could not be downloaded from the Maven repository "
                    f"({type(error).__name__}: {error}); check the network and run it again"
                ) from error
            # A file cut off in the middle would be taken for whole by the next attempt.
            artifact.cached_path.unlink(missing_ok=True)
        else:
            check(path, jar)
            path.rename(target / jar.file_name)
            return


def check(path: Path, jar: Jar) -> None:
    """Refuse a file that is not the pinned one.

    Raises:
        StackError: The checksum differs.
    """
    actual = hashlib.sha256(path.read_bytes()).hexdigest()
    if actual != jar.sha256:
        raise StackError(
            f"the SHA-256 of {jar.file_name} must be {jar.sha256}, was {actual}; "
            f"it is not the pinned file: run it again, and do not use it if it stays so"
        )
