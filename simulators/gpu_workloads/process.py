"""How both workloads live as processes: two ports, one line of JSON when ready, an orderly end."""

import asyncio
import contextlib
import os
import signal
import sys
from typing import Final

import msgspec
from aiohttp import web

LISTEN_HOST: Final = "127.0.0.1"
DRAIN_SECONDS_MAX: Final = 1.0
CALLS_WAITING_MAX: Final = 128


class Ready(msgspec.Struct, frozen=True):
    """What a workload prints when it listens."""

    port: int
    control_port: int
    pid: int


async def serve(*, api: web.Application, control: web.Application, port: int, until_stdin_closes: bool) -> None:
    """Serve both ports until SIGTERM, SIGINT or, if asked, the end of the standard input.

    Args:
        api: What the real program would serve.
        control: Faults and the truth, on a free port of its own.
        port: Port of `api`; 0 takes a free one.
        until_stdin_closes: End with the parent, however that ends: its side of the pipe closes then.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    runners = [web.AppRunner(app, access_log=None, shutdown_timeout=DRAIN_SECONDS_MAX) for app in (api, control)]
    ports: list[int] = []
    for runner, wanted in zip(runners, (port, 0), strict=True):
        await runner.setup()
        await web.TCPSite(runner, LISTEN_HOST, wanted, backlog=CALLS_WAITING_MAX).start()
        ports.append(int(runner.addresses[0][1]))
    ready = Ready(port=ports[0], control_port=ports[1], pid=os.getpid())
    sys.stdout.write(msgspec.json.encode(ready).decode() + "\n")
    sys.stdout.flush()
    if until_stdin_closes:
        loop.add_reader(sys.stdin.fileno(), _read_stdin, stopping)
    await stopping.wait()
    for runner in runners:
        await runner.cleanup()


def _read_stdin(stopping: asyncio.Event) -> None:
    with contextlib.suppress(BlockingIOError):
        if not os.read(sys.stdin.fileno(), 4_096):
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
            stopping.set()
