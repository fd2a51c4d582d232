"""Ending tasks for certain."""

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog

CANCELS_MAX: Final = 20
CANCEL_SECONDS: Final = 0.25


async def end_all(tasks: "Sequence[asyncio.Task[None]]") -> None:
    """Cancel until all have ended: a cancellation that meets a timeout may be taken for it (redis-py, `wait_for`)."""
    pending = set(tasks)
    for _ in range(CANCELS_MAX):
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(tasks, timeout=CANCEL_SECONDS)
        if not pending:
            break
    else:
        structlog.get_logger(__name__).error("gateway_tasks_hang", count=len(pending))
    await asyncio.gather(*(set(tasks) - pending), return_exceptions=True)  # what they raised has been reported
