"""Which client drives which firmware: pyasic_rs says what answers, and what it does not serve is added."""

import asyncio
from typing import Final

from pyasic_rs import MinerFactory

from controllers.drivers.asic.client import AsicClient, AsicUnknownError, AsicUnreachableError, Credentials, Want
from controllers.drivers.asic.combined import CombinedClient
from controllers.drivers.asic.pyasic_client import PyasicBraiinsClient, PyasicLuxosClient
from controllers.drivers.asic.rs_client import PyasicRsClient
from controllers.drivers.asic.told import BRAIINS, LUXOS
from hcp.clock import seconds

CONNECT_MS_MAX: Final = 10_000
"""A stock Antminer is asked seven things before it is known."""


async def connect(
    host: str, *, factory: MinerFactory, credentials: Credentials | None, deadline_ms: int = CONNECT_MS_MAX
) -> AsicClient:
    """Return the client for what answers at an address.

    Raises:
        AsicUnreachableError: Nothing answers by then.
        AsicUnknownError: Something answers, and no library knows it.
    """
    try:
        async with asyncio.timeout(seconds(deadline_ms)):
            first = await PyasicRsClient.connect(
                host, factory=factory, credentials=credentials, deadline_ms=deadline_ms
            )
            if first.firmware == LUXOS:
                return CombinedClient(first, await PyasicLuxosClient.connect(host, model=first.model))
            if first.firmware == BRAIINS and not await _says_told(first, deadline_ms=deadline_ms):
                second = await PyasicBraiinsClient.connect(host, model=first.model, credentials=credentials)
                return CombinedClient(first, second)
            return first
    except TimeoutError as error:
        raise AsicUnreachableError(f"{host} must say what it is within {deadline_ms} ms, did not") from error


async def _says_told(client: AsicClient, *, deadline_ms: int) -> bool:
    """Tell whether a client reads what its miner was told; releases before 25.07 show it over gRPC alone."""
    reading = await client.read(Want.TOLD, deadline_ms=deadline_ms)
    return reading.told is not None


class Connection:
    """One miner's client, made when it is first needed and kept; a failed attempt is made again by the next call."""

    def __init__(
        self,
        host: str,
        *,
        factory: MinerFactory,
        credentials: Credentials | None = None,
        firmware: str | None = None,
    ) -> None:
        """Connect later; a miner that runs another `firmware` than it should is not driven, None: any will do."""
        self.host = host
        self._firmware = firmware
        self._factory = factory
        self._credentials = credentials
        self._made: AsicClient | None = None
        self._making: asyncio.Task[AsicClient] | None = None

    @property
    def known(self) -> AsicClient | None:
        """Return the client where it is made already."""
        return self._made

    async def client(self, *, deadline_ms: int) -> AsicClient:
        """Return the client; several callers wait for one attempt, which goes on when one of them gives up.

        Raises:
            AsicUnreachableError: It was not made by then.
            AsicUnknownError: No library knows what answers.
        """
        if self._made is not None:
            return self._made
        if self._making is None or self._making.done():
            self._making = asyncio.get_running_loop().create_task(self._connect())
            self._making.add_done_callback(_seen)
        try:
            async with asyncio.timeout(seconds(max(deadline_ms, 0))):
                self._made = await asyncio.shield(self._making)
        except TimeoutError as error:
            raise AsicUnreachableError(f"{self.host} must say what it is within {deadline_ms} ms, did not") from error
        return self._made

    async def _connect(self) -> AsicClient:
        made = await connect(self.host, factory=self._factory, credentials=self._credentials)
        if self._firmware is not None and made.firmware != self._firmware:
            raise AsicUnknownError(f"{self.host} must run {self._firmware}, runs {made.firmware}")
        return made


def _seen(task: "asyncio.Task[AsicClient]") -> None:
    """Take note of a failure nobody waits for any more."""
    if not task.cancelled():
        task.exception()
