"""Apache Kafka from its Maven jars: a pinned list, each file checked against its SHA-256, no Maven needed."""

import errno
import hashlib
import http.client
import shutil
import ssl
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hcp.errors import StackError
from hcp.stack.values import Progress

LOCK = Path(__file__).with_name("kafka.jars.lock")
KAFKA_VERSION = "4.4.0"
DOWNLOADS_AT_ONCE = 8
DOWNLOAD_ATTEMPTS_MAX = 3
TIMEOUT_SECONDS = 60
PROGRESS_JARS = 15


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
    urls = [url_of(jar) for jar in jars]
    trust = _trust()
    done = 0
    with ThreadPoolExecutor(max_workers=DOWNLOADS_AT_ONCE) as pool:
        try:
            for _ in pool.map(lambda url, jar: fetch(url, jar, target, trust), urls, jars):
                done += 1
                if done % PROGRESS_JARS == 0:
                    progress(f"Apache Kafka: {done} of {len(jars)} jars")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return {"kafka": KAFKA_VERSION}


def url_of(jar: Jar) -> str:
    """Return where the Maven repository keeps a jar; jgo knows the repository and its layout.

    Raises:
        StackError: The package is not installed.
    """
    try:
        from jgo.maven import MavenContext  # noqa: PLC0415 - an optional wheel, slow to import, needed once
    except ImportError as error:
        raise StackError("the Python package jgo must be installed; `pip install hcp[stack]` brings it") from error
    maven = MavenContext()
    component = maven.project(jar.group, jar.artifact).at_version(jar.version)
    repository = next(iter(maven.remote_repos.values()))
    return f"{repository}/{component.path_prefix.as_posix()}/{component.artifact().filename}"


def _trust() -> ssl.SSLContext:
    """Trust what the machine trusts (a company's proxy too), and the usual authorities where it has no list.

    jgo's own download knows only the second, so it is not used.
    """
    context = ssl.create_default_context()
    with suppress(ImportError, OSError):
        import certifi  # noqa: PLC0415 - comes with jgo

        context.load_verify_locations(certifi.where())
    return context


def fetch(url: str, jar: Jar, target: Path, trust: ssl.SSLContext) -> None:
    """Download one jar into the folder `target` and check it.

    Raises:
        StackError: It cannot be fetched or is not the pinned one.
    """
    path = target / jar.file_name
    for attempt in range(1, DOWNLOAD_ATTEMPTS_MAX + 1):
        try:
            # The scheme comes from jgo's constant, not from outside.
            answer = urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS, context=trust)  # noqa: S310
            with answer, path.open("wb") as file:
                shutil.copyfileobj(answer, file)
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise
            if attempt == DOWNLOAD_ATTEMPTS_MAX:
                raise StackError(
                    f"{jar.file_name} could not be downloaded from the Maven repository: {error}; "
                    f"check the network and run it again"
                ) from error
        else:
            check(path, jar)
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
