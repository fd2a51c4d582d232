"""Bring the services' programs into a cache: idempotent, one at a time, complete or not at all.

Each part (the Kafka jars, the Debian prefix) is a folder named after its recipe. It is filled under a
temporary name and renamed when it is whole: a half-finished installation is never taken for a finished one.
"""

import errno
import json
import os
import pwd
import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hcp.errors import StackError
from hcp.stack import debian, jars
from hcp.stack.accounts import closed_to, service_account
from hcp.stack.java import find_java
from hcp.stack.locks import exclusive
from hcp.stack.values import Installed, Progress

INSTALL_MB_FREE_MIN = 600  # 190 in the end; downloads and both copies of a part while it is made
WAIT_SECONDS_MAX = 900.0
MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One folder of the cache and how it is filled."""

    directory: Path
    title: str
    fill: Callable[[Path, Path, Progress], dict[str, str]]
    """Fills the first folder for later use as the second; returns versions by package."""


def default_cache_dir(configured: Path | None) -> Path:
    """Return the cache to use: the configured one, else a place that suits the user.

    Root's home is closed to the unprivileged account that PostgreSQL runs under, so root gets /var/cache.
    """
    if configured is not None:
        return configured.absolute()
    return Path("/var/cache/hcp") if os.geteuid() == 0 else Path.home() / ".cache" / "hcp"


def parts(cache_dir: Path) -> tuple[Part, Part]:
    """Return what a cache consists of."""
    return (
        Part(directory=cache_dir / jars.directory_name(), title="Apache Kafka", fill=jars.fill),
        Part(
            directory=cache_dir / debian.directory_name(),
            title="PostgreSQL, TimescaleDB and Redis",
            fill=debian.fill,
        ),
    )


def versions_of(part: Part) -> dict[str, str] | None:
    """Return the versions in an installed part, None when it is not there or not whole."""
    try:
        manifest = json.loads((part.directory / MANIFEST).read_text(encoding="utf-8"))
        # The loader's path is written into the programs: a cache that was moved must be filled again.
        if manifest["directory"] != str(part.directory):
            return None
        for name, size_bytes in manifest["files"].items():
            if (part.directory / name).stat().st_size != size_bytes:
                return None
        return dict(manifest["versions"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def install(cache_dir: Path, progress: Progress, *, java_home: Path | None = None) -> Installed:
    """Install what is missing and return where everything is.

    Args:
        cache_dir: Filled and kept; several stacks and several processes share it.
        progress: Told what is being done; silent when everything is there.
        java_home: A Java to prefer over the one on PATH and the bundled one.

    Raises:
        StackError: It cannot be installed here; the message says what to do.
    """
    cache_dir = cache_dir.absolute()
    wanted = parts(cache_dir)
    versions = fill_parts(wanted, cache_dir, progress)
    java, java_version = find_java(java_home)
    kafka, prefix = wanted
    return Installed(
        java=java,
        java_version=java_version,
        kafka_libs=kafka.directory,
        prefix=prefix.directory,
        versions=versions,
    )


def fill_parts(wanted: Sequence[Part], cache_dir: Path, progress: Progress) -> dict[str, str]:
    """Fill the parts that are missing or not whole, and return the version of every package in all of them.

    Raises:
        StackError: One cannot be filled; the message says what to do.
    """
    if any(versions_of(part) is None for part in wanted):
        try:
            cache_dir.mkdir(parents=True, exist_ok=True)
            check_place(cache_dir, mb_free_min=INSTALL_MB_FREE_MIN)
            _fill_missing(wanted, cache_dir, progress)
        except OSError as error:
            raise StackError(_words(error, cache_dir)) from error
    return {name: version for part in wanted for name, version in (versions_of(part) or {}).items()}


def _fill_missing(wanted: Sequence[Part], cache_dir: Path, progress: Progress) -> None:
    lock = cache_dir / "install.lock"
    with (
        exclusive(lock, wait_seconds_max=WAIT_SECONDS_MAX, what="installation", progress=progress),
        ThreadPoolExecutor(max_workers=2) as pool,
    ):
        missing = [part for part in wanted if versions_of(part) is None]  # the one we waited for may have filled it
        for job in [pool.submit(_fill, part, progress) for part in missing]:
            job.result()


def _words(error: OSError, cache_dir: Path) -> str:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"the disk of {cache_dir} is full; free {INSTALL_MB_FREE_MIN} MB or set HCP_CACHE_DIR"
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return f"{cache_dir} must be writable: {error.strerror}; set HCP_CACHE_DIR to a folder of yours"
    return f"the installation into {cache_dir} failed: {error}; run it again or set HCP_CACHE_DIR"


def check_place(cache_dir: Path, *, mb_free_min: int) -> None:
    """Refuse a cache without the room, or where root's PostgreSQL could not read its own programs.

    Raises:
        StackError: Says what is short or closed, and which setting to change.
    """
    free_mb = shutil.disk_usage(cache_dir).free // 1_000_000
    if free_mb < mb_free_min:
        raise StackError(
            f"{cache_dir} must have {mb_free_min} MB free, had {free_mb}; "
            f"free some or set HCP_CACHE_DIR to a folder on another disk"
        )
    account = service_account()
    closed = None if account is None else closed_to(cache_dir, account)
    if account is not None and closed is not None:
        raise StackError(_closed_words(cache_dir, account, closed))


def _closed_words(cache_dir: Path, account: pwd.struct_passwd, closed: Path) -> str:
    return (
        f"the cache {cache_dir} must be open to the user {account.pw_name}, who runs root's PostgreSQL, but "
        f"{closed} is closed to others; set HCP_CACHE_DIR to an open folder such as /var/cache/hcp"
    )


def _fill(part: Part, progress: Progress) -> None:
    for leftover in part.directory.parent.glob(f"{part.directory.name}.partial-*"):
        progress(f"removing a half-finished installation, {leftover.name}")
        shutil.rmtree(leftover)
    progress(f"installing {part.title}")
    partial = Path(tempfile.mkdtemp(prefix=f"{part.directory.name}.partial-", dir=part.directory.parent))
    try:
        partial.chmod(0o755)
        versions = part.fill(partial, part.directory, progress)
        files = {
            str(path.relative_to(partial)): path.stat().st_size
            for path in sorted(partial.rglob("*"))
            if path.is_file() and not path.is_symlink() and _is_watched(path)
        }
        manifest = {"directory": str(part.directory), "versions": versions, "files": files}
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        with suppress(FileNotFoundError):
            shutil.rmtree(part.directory)
        partial.rename(part.directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    progress(f"installed {part.title}")


def _is_watched(path: Path) -> bool:
    """Return whether a start looks at this file's size: jars, programs and libraries, not texts."""
    return path.suffix in {".jar", ".so"} or ".so." in path.name or path.parent.name == "bin"
