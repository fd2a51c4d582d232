"""A lock between processes, held by the kernel so that it cannot be left behind."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hcp.errors import StackError
from hcp.stack.values import Progress

POLL_SECONDS = 0.1


@contextmanager
def exclusive(path: Path, *, wait_seconds_max: float, what: str, progress: Progress) -> Iterator[None]:
    """Hold the lock file `path`; another holder is waited for.

    Args:
        path: The lock file; created when missing, never removed.
        wait_seconds_max: How long to wait for another holder.
        what: What the holder does, for the person who waits ("installation").
        progress: Told once when there is somebody to wait for.

    Raises:
        StackError: The other one did not finish in time; names its pid.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _acquire(descriptor, path=path, wait_seconds_max=wait_seconds_max, what=what, progress=progress)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, *, path: Path, wait_seconds_max: float, what: str, progress: Progress) -> None:
    give_up_at = time.monotonic() + wait_seconds_max
    is_told = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace") or "unknown"
            if time.monotonic() > give_up_at:
                raise StackError(
                    f"another {what} (process {holder}) did not finish in {wait_seconds_max:.0f} s; "
                    f"end it or look at {path}"
                ) from error
            if not is_told:
                progress(f"waiting for another {what} (process {holder})")
                is_told = True
            time.sleep(POLL_SECONDS)
        else:
            return
