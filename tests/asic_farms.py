"""Simulated miners for tests: in the test's own loop, at addresses no other run uses."""

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from simulators.asic.families import Family
from simulators.asic.farm import Farm, FarmOptions, farm

_NETS = itertools.count()
RAMP_MS = 400
DOWN_MS = 100


def free_address() -> str:
    """Return the first address of a net of 254 that this run has not used."""
    return f"127.{64 + os.getpid() % 180}.{next(_NETS) % 250}.1"


@asynccontextmanager
async def farm_of(
    family: Family, *, count: int = 1, ramp_ms: int = RAMP_MS, down_ms: int = DOWN_MS
) -> AsyncIterator[Farm]:
    """Run miners of one family, quick to ramp; skips where port 80 is not ours to take."""
    options = FarmOptions(family=family, first=free_address(), count=count, ramp_ms=ramp_ms, down_ms=down_ms)
    try:
        running = farm(options)
        made = await running.__aenter__()
    except PermissionError as error:
        pytest.skip(f"{family} needs root or net.ipv4.ip_unprivileged_port_start=80: {error}")
    try:
        yield made
    finally:
        await running.__aexit__(None, None, None)


def host_of(made: Farm, index: int = 0) -> str:
    """Return the address of one of its miners."""
    return tuple(made.miners)[index]


async def eventually(condition: Callable[[], bool], *, timeout_ms: int = 60_000) -> None:
    """Wait until a condition holds; fail when it does not within the time."""
    until_s = time.monotonic() + timeout_ms / 1_000
    while not condition():
        if time.monotonic() >= until_s:
            pytest.fail(f"condition must hold within {timeout_ms} ms, did not", pytrace=False)
        await asyncio.sleep(0.005)
