"""Many simulated miners in one process, each at its own address."""

import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from simulators.asic.families import BUILDS, Family
from simulators.asic.miner import Miner
from simulators.asic.plant import Plant

MINERS_MAX: Final = 5_000
RAMP_MS: Final = 60_000
DOWN_MS: Final = 1_500
FILES_SPARE: Final = 256
LOOPBACK: Final = 127


@dataclass(frozen=True, slots=True, kw_only=True)
class FarmOptions:
    """Which miners to simulate.

    Attributes:
        family: Of all of them.
        first: Address of the first, 127.x.y.z; the others follow it, last part 1 to 254.
        count: 1 to 5,000.
        ramp_ms: From standing still to full power, above 0.
        down_ms: From full power to standing still, above 0.
    """

    family: Family
    first: str
    count: int
    ramp_ms: int = RAMP_MS
    down_ms: int = DOWN_MS


def hosts(first: str, count: int) -> Iterator[str]:
    """Return `count` addresses from `first` on, last part 1 to 254.

    Raises:
        ValueError: An address is not in 127.0.0.0/8, or there are too many.
    """
    address = IPv4Address(first)
    if not 1 <= count <= MINERS_MAX:
        raise ValueError(f"count must be from 1 to {MINERS_MAX}, was {count}")
    given = 0
    while given < count:
        if address.packed[0] != LOOPBACK:
            raise ValueError(f"address must be in 127.0.0.0/8, was {address}")
        if address.packed[3] not in {0, 255}:
            given += 1
            yield str(address)
        address += 1


class Farm:
    """Miners by address."""

    def __init__(self, options: FarmOptions) -> None:
        """Make them, closed.

        Raises:
            ValueError: As `hosts`, or the process may not open enough files.
        """
        build = BUILDS[options.family]
        ports = len(build.ports())
        files_max = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if options.count * ports + FILES_SPARE > files_max:
            needed = options.count * ports + FILES_SPARE
            raise ValueError(f"open files (ulimit -n) must be at least {needed}, was {files_max}")
        self.options = options
        self.miners: dict[str, Miner] = {
            host: Miner(
                host=host,
                plant=Plant(nameplate=build.nameplate, ramp_ms=options.ramp_ms, down_ms=options.down_ms),
                ports=build.ports(),
            )
            for host in hosts(options.first, options.count)
        }

    def __getitem__(self, host: str) -> Miner:
        return self.miners[host]

    async def open(self) -> None:
        """Let every miner listen.

        Raises:
            OSError: A port is taken, or needs root.
        """
        try:
            for miner in self.miners.values():
                await miner.open()
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Close every port and connection."""
        for miner in self.miners.values():
            miner.close()


@asynccontextmanager
async def farm(options: FarmOptions) -> AsyncIterator[Farm]:
    """Run miners for the length of a `with` block."""
    made = Farm(options)
    await made.open()
    try:
        yield made
    finally:
        made.close()
