"""Signal processes that are known by pid and start time, wait for their end, and quote their logs."""

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hcp.stack.supervisor import Identity, is_alive

POLL_SECONDS = 0.02
LOG_LINES = 3


def send(identity: Identity, signal_number: int) -> None:
    """Signal this very process, or nobody when it has gone."""
    if is_alive(identity):
        with suppress(ProcessLookupError):
            os.kill(identity.pid, signal_number)


def wait_gone(identities: Sequence[Identity], *, seconds_max: float) -> bool:
    """Wait until none of these processes lives; return whether that came true in time."""
    give_up_at = time.monotonic() + seconds_max
    while any(is_alive(identity) for identity in identities):
        if time.monotonic() > give_up_at:
            return False
        time.sleep(POLL_SECONDS)
    return True


def log_tail(log: Path) -> str:
    """Return the last lines of a log as a part of an error message, with the log's path."""
    try:
        lines = [
            line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()
        ]
    except OSError:
        lines = []
    said = " | ".join(lines[-LOG_LINES:]) or "it said nothing"
    return f"{said} (log: {log})"
