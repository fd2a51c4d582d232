"""One miner through pyasic, for what pyasic_rs does not serve: LuxOS' curtailment and profiles, Braiins over gRPC.

Only parts that are coroutines over asyncio's streams are used, a fresh object for every call: pyasic keeps salts,
sessions and configurations in its objects and takes a stale one for success. Its booleans are passed on as what was
said, never as what is so. It is imported at the first connection, in a thread: that takes a second or two.
"""

import asyncio
import importlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from controllers.drivers.asic.calls import Calls, LibraryError
from controllers.drivers.asic.client import (
    AsicReading,
    AsicUnreachableError,
    CannotSay,
    Capabilities,
    Credentials,
    PoolEntry,
    Said,
    SaidNo,
    SaidNothing,
    SaidYes,
    Told,
    Want,
)
from controllers.drivers.asic.told import BRAIINS, LUXOS
from hcp.model.units import ThPerSecond, Watts

_LUXOS_MODULE, _BRAIINS_MODULE = "pyasic.miners.backends.luxminer", "pyasic.miners.backends.braiins_os"
_CURTAILED: Final[Mapping[str, Told]] = {"Sleep": Told.SLEEP, "None": Told.MINE}
_STATUSES: Final[Mapping[int, Told]] = {2: Told.MINE, 3: Told.SLEEP, 4: Told.SLEEP}
"""MinerStatus of braiins.bos.v1: 2 normal, 3 paused, 4 suspended; 0 is a field that was not sent."""
GH_PER_TH: Final = 1_000.0


class _Pyasic:
    """What both have in common."""

    firmware: str

    def __init__(self, make: Callable[[], Any], *, host: str, model: str) -> None:
        self._make = make
        self._calls = Calls(host)
        self.model = model

    async def stop(self, *, deadline_ms: int) -> Said:
        """Order it to sleep."""
        return await self._order("stop", lambda miner: miner.stop_mining(), deadline_ms=deadline_ms)

    async def resume(self, *, deadline_ms: int) -> Said:
        """Order it to mine."""
        return await self._order("resume", lambda miner: miner.resume_mining(), deadline_ms=deadline_ms)

    async def pools(self, *, deadline_ms: int) -> tuple[PoolEntry, ...] | None:  # noqa: ARG002  # the port's signature
        """Return None: pools are pyasic_rs' to read."""
        return None

    async def restore_pools(self, pools: Sequence[PoolEntry], *, deadline_ms: int) -> Said:  # noqa: ARG002  # as above
        """Send nothing: pyasic is not to write a configuration."""
        return CannotSay(detail="pools must not be written through pyasic")

    async def _order(self, what: str, order: Callable[[Any], Awaitable[bool]], *, deadline_ms: int) -> Said:
        try:
            is_yes = await self._calls.run(lambda: order(self._make()), what=what, deadline_ms=deadline_ms)
        except LibraryError as error:
            is_refusal = "APIError" in str(error)
            return SaidNo(detail=str(error)) if is_refusal else SaidNothing(detail=str(error))
        except AsicUnreachableError as error:
            return SaidNothing(detail=str(error))
        return SaidYes() if is_yes else SaidNo(detail=f"{what} must be taken, the library says no")

    async def _ask(self, what: str, ask: Callable[[Any], Awaitable[Any]], *, deadline_ms: int) -> Any:  # noqa: ANN401  # pyasic has no types
        try:
            return await self._calls.run(lambda: ask(self._make()), what=what, deadline_ms=deadline_ms)
        except LibraryError as error:
            raise AsicUnreachableError(f"{self._calls.host} must answer {what}, did not: {error}") from error


class PyasicLuxosClient(_Pyasic):
    """LuxOS: what it was told (curtailment), its profile, and the order of a profile by watts."""

    firmware = LUXOS
    capabilities = Capabilities(
        can_sleep=True,
        can_limit_watts=True,
        can_restore_pools=False,
        reads_told=True,
        reports_wall_power=False,
        rewrites_config_on_order=False,
    )

    def __init__(self, make: Callable[[], Any], *, host: str, model: str) -> None:
        """Drive a miner at an address."""
        super().__init__(make, host=host, model=model)
        self._profile_watts: dict[str, Watts] = {}

    @staticmethod
    async def connect(host: str, *, model: str) -> "PyasicLuxosClient":
        """Make a client of a miner that was found to run LuxOS; nothing is sent."""
        module = await asyncio.to_thread(importlib.import_module, _LUXOS_MODULE)
        return PyasicLuxosClient(lambda: module.LUXMiner(host), host=host, model=model)

    async def read(self, want: Want, *, deadline_ms: int) -> AsicReading:
        """Return what it was told and its limit; with POWER or more also its watts.

        Raises:
            AsicUnreachableError: Its configuration was not read.
        """
        answer = await self._ask("config", lambda miner: miner.rpc.config(), deadline_ms=deadline_ms)
        config = _first(answer, "CONFIG")
        profile = str(config.get("Profile", ""))
        if profile and profile not in self._profile_watts:
            await self._read_profiles(deadline_ms=deadline_ms)
        power: Mapping[str, Any] = {}
        if want is not Want.TOLD:
            answer = await self._ask("power", lambda miner: miner.rpc.power(), deadline_ms=deadline_ms)
            power = _first(answer, "POWER")
        return AsicReading(
            told=_CURTAILED.get(config.get("CurtailMode", "")),  # absent is unknown, and "None" is a mode's name
            limit_watts=self._profile_watts.get(profile),
            power_watts=_watts(power.get("Watts")),
        )

    async def limit(self, watts: Watts, *, deadline_ms: int) -> Said:
        """Order the profile that draws most without exceeding `watts`."""
        try:
            await self._read_profiles(deadline_ms=deadline_ms)
        except AsicUnreachableError as error:
            return SaidNothing(detail=str(error))
        fitting = [each for each in self._profile_watts.values() if each <= watts]
        if not fitting:
            lowest = min(self._profile_watts.values(), default=None)
            return SaidNo(detail=f"power target must be at least the lowest profile's {lowest} W, was {watts} W")
        said = await self._order("limit", lambda miner: miner.set_power_limit(int(watts)), deadline_ms=deadline_ms)
        return SaidYes(limit_watts=max(fitting)) if isinstance(said, SaidYes) else said

    async def _read_profiles(self, *, deadline_ms: int) -> None:
        answer = await self._ask("profiles", lambda miner: miner.rpc.profiles(), deadline_ms=deadline_ms)
        rows = answer.get("PROFILES", []) if isinstance(answer, dict) else []
        found = {str(row.get("Profile Name")): _watts(row.get("Watts")) for row in rows if isinstance(row, dict)}
        self._profile_watts = {name: watts for name, watts in found.items() if watts is not None}


class PyasicBraiinsClient(_Pyasic):
    """Braiins OS over its gRPC API, for releases whose REST or GraphQL pyasic_rs does not steer."""

    firmware = BRAIINS
    capabilities = Capabilities(
        can_sleep=True,
        can_limit_watts=True,
        can_restore_pools=False,
        reads_told=True,
        reports_wall_power=False,
        rewrites_config_on_order=False,
    )

    @staticmethod
    async def connect(host: str, *, model: str, credentials: Credentials | None) -> "PyasicBraiinsClient":
        """Make a client of a miner that was found to run Braiins OS; nothing is sent."""
        module = await asyncio.to_thread(importlib.import_module, _BRAIINS_MODULE)

        def make() -> Any:  # noqa: ANN401  # pyasic has no types
            miner = module.BOSer(host)
            if credentials is not None:
                miner.web.username, miner.web.pwd = credentials.username, credentials.password
            return miner

        return PyasicBraiinsClient(make, host=host, model=model)

    async def read(self, want: Want, *, deadline_ms: int) -> AsicReading:
        """Return what it was told and its limit; with POWER or more also its watts and rate.

        Raises:
            AsicUnreachableError: It did not answer.
        """

        async def ask(miner: Any) -> tuple[Any, Any, Any]:  # noqa: ANN401  # pyasic has no types
            details = await miner.web.get_miner_details()
            mode = await miner.web.get_active_performance_mode()
            return details, mode, (await miner.web.get_miner_stats() if want is not Want.TOLD else {})

        details, mode, stats = await self._ask(f"{want}", ask, deadline_ms=deadline_ms)
        rate = _at(stats, "minerStats", "realHashrate", "last5S", "gigahashPerSecond")
        return AsicReading(
            told=_STATUSES.get(int(_at(details, "status") or 0)),
            limit_watts=_watts(_at(mode, "tunerMode", "powerTarget", "powerTarget", "watt")),
            power_watts=_watts(_at(stats, "powerStats", "approximatedConsumption", "watt")),
            hash_rate_th_per_s=ThPerSecond(float(rate) / GH_PER_TH) if isinstance(rate, int | float) else None,
        )

    async def limit(self, watts: Watts, *, deadline_ms: int) -> Said:
        """Order a power target."""
        said = await self._order("limit", lambda miner: miner.set_power_limit(int(watts)), deadline_ms=deadline_ms)
        return SaidYes(limit_watts=Watts(int(watts))) if isinstance(said, SaidYes) else said


def _first(answer: object, name: str) -> Mapping[str, Any]:
    rows = answer.get(name) if isinstance(answer, dict) else None
    return rows[0] if isinstance(rows, list) and rows and isinstance(rows[0], dict) else {}


def _at(value: Any, *path: str) -> Any:  # noqa: ANN401  # pyasic has no types
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _watts(value: object) -> Watts | None:
    return Watts(float(value)) if isinstance(value, int | float) and not isinstance(value, bool) else None
