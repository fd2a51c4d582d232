"""`python -m simulators.asic --family luxos --first 127.1.0.1 --count 100`: miners until SIGTERM.

Prints one line of JSON when all listen. Port 80 (stock and Braiins) needs root, CAP_NET_BIND_SERVICE or the sysctl
net.ipv4.ip_unprivileged_port_start=80; a network namespace keeps the addresses apart from another farm's.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from typing import Final

import msgspec
import uvloop

from simulators.asic.control import serve_control
from simulators.asic.families import Family
from simulators.asic.farm import DOWN_MS, RAMP_MS, Farm, FarmOptions
from simulators.asic.faults import Fault, parse_fault

USAGE_STATUS: Final = 2


class Ready(msgspec.Struct, frozen=True):
    """What is printed when every miner listens."""

    family: str
    first: str
    count: int
    control_port: int
    pid: int


def main() -> int:
    """Run a farm; 2 and one line on standard error when it cannot be."""
    given = parser().parse_args()
    options = FarmOptions(
        family=Family(given.family),
        first=given.first,
        count=given.count,
        ramp_ms=given.ramp_ms,
        down_ms=given.down_ms,
    )
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(
                _run(
                    Farm(options),
                    faults=tuple(given.fault),
                    control_port=given.control_port,
                    until_stdin_closes=given.until_stdin_closes,
                )
            )
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)  # noqa: T201  # a person reads it
        return USAGE_STATUS
    return 0


async def _run(farm: Farm, *, faults: tuple[Fault, ...], control_port: int, until_stdin_closes: bool) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    await farm.open()
    try:
        control = await serve_control(farm, port=control_port)
        for miner in farm.miners.values():
            for fault in faults:
                await miner.ask(Fault(kind=fault.kind, times=fault.times, ms=fault.ms))
        ready = Ready(
            family=farm.options.family,
            first=farm.options.first,
            count=len(farm.miners),
            control_port=int(control.sockets[0].getsockname()[1]),
            pid=os.getpid(),
        )
        sys.stdout.write(msgspec.json.encode(ready).decode() + "\n")
        sys.stdout.flush()
        if until_stdin_closes:
            loop.add_reader(sys.stdin.fileno(), _read_stdin, stopping)
        await stopping.wait()
        control.close()
    finally:
        farm.close()


def _read_stdin(stopping: asyncio.Event) -> None:
    with contextlib.suppress(BlockingIOError):
        if not os.read(sys.stdin.fileno(), 4_096):
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
            stopping.set()


def parser() -> argparse.ArgumentParser:
    """Return what the command line may say."""
    made = argparse.ArgumentParser(prog="python -m simulators.asic", description=__doc__)
    made.add_argument("--family", choices=tuple(Family), required=True)
    made.add_argument("--first", default="127.1.0.1", help="address of the first miner, 127.x.y.z")
    made.add_argument("--count", type=int, default=1, help="how many, 1 to 5,000")
    made.add_argument("--ramp-ms", type=int, default=RAMP_MS, help="from standing still to full power")
    made.add_argument("--down-ms", type=int, default=DOWN_MS, help="from full power to standing still")
    made.add_argument("--fault", type=parse_fault, action="append", default=[], help="kind[:times[:ms]], of each")
    made.add_argument("--control-port", type=int, default=0, help="0 takes a free one, printed when ready")
    made.add_argument("--until-stdin-closes", action="store_true", help="end with the parent, however that ends")
    return made


if __name__ == "__main__":
    sys.exit(main())
