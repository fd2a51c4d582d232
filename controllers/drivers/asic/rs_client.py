"""One miner through pyasic_rs: the first choice for every firmware it knows.

Facts of 0.8.6 that this rests on: a failed read raises nothing and leaves None (and `is_mining` True); one read ends
after 5 s on a hung miner; a cancelled call closes its sockets; `pause()` may raise although it took effect, and a False
may mean that nobody answered.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import chain
from typing import Final

from pyasic_rs import Miner, MinerFactory, PoolGroup
from pyasic_rs.data import DataField, HashRateUnit, MinerData, OperatingState, TuningTarget

from controllers.drivers.asic.calls import Calls, LibraryError, shortened
from controllers.drivers.asic.client import (
    AsicReading,
    AsicUnknownError,
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
from controllers.drivers.asic.told import BRAIINS, LUXOS, STOCK, WHATSMINER, Evidence, told_by
from hcp.model.units import Celsius, ThPerSecond, Watts

_FIELDS: Final[Mapping[str, DataField]] = {
    name: getattr(DataField, name) for name in dir(DataField) if name[:1].isupper()
}
_TOLD_FIELDS: Final[Mapping[str, frozenset[str]]] = {
    STOCK: frozenset({"IsMining", "TuningTarget"}),
    BRAIINS: frozenset({"OperatingState", "TuningTarget"}),
    WHATSMINER: frozenset({"IsMining", "TuningTarget", "FirmwareVersion", "Hashrate"}),
    LUXOS: frozenset({"TuningTarget"}),
}
_TOLD_OTHERS: Final = frozenset({"IsMining", "OperatingState", "TuningTarget", "FirmwareVersion"})
_POWER: Final = frozenset({"Wattage", "Hashrate"})
_TELEMETRY: Final = frozenset({"Hashboards", "Fans", "Pools"})
_REFUSALS: Final = ("error status", "HTTP error:", "status code", "not supported")
"""In the text of what pyasic_rs raises when the firmware did answer, with no."""
HASHES_LAG_S: Final = 180.0
"""How long after a stop the rate of the last seconds or minutes may still be shown."""
_WALL_POWER: Final = frozenset({STOCK, WHATSMINER})
"""Firmware whose watts are its power supply's; LuxOS and Braiins estimate them."""


class PyasicRsClient:
    """The AsicClient port over a Miner of pyasic_rs."""

    def __init__(self, miner: Miner, *, host: str) -> None:
        """Drive a miner that was identified."""
        self._miner = miner
        self._calls = Calls(host)
        self._was_seen_asleep = False
        self._stop_open_until_s = 0.0
        self._pool_groups: list[PoolGroup] = []
        self.model = str(miner.model)
        self.firmware = str(miner.firmware)
        self.capabilities = Capabilities(
            can_sleep=miner.supports_pause and miner.supports_resume,
            can_limit_watts=miner.supports_set_power_limit,
            can_restore_pools=self.firmware == STOCK,
            reads_told=self.firmware != LUXOS,
            reports_wall_power=self.firmware in _WALL_POWER,
            rewrites_config_on_order=self.firmware == STOCK,
        )

    @staticmethod
    async def connect(
        host: str, *, factory: MinerFactory, credentials: Credentials | None, deadline_ms: int
    ) -> "PyasicRsClient":
        """Find out what answers at an address.

        Raises:
            AsicUnreachableError: Nothing answers by then.
            AsicUnknownError: Something answers, and the library does not know it.
        """
        try:
            miner = await Calls(host).run(lambda: factory.get_miner(host), what="what it is", deadline_ms=deadline_ms)
        except LibraryError as error:
            raise AsicUnreachableError(f"{host} must say what it is, did not: {error}") from error
        if miner is None:
            raise AsicUnknownError(f"{host} must be a miner that pyasic_rs knows, was none")
        if credentials is not None:
            miner.set_auth(credentials.username, credentials.password)
        return PyasicRsClient(miner, host=host)

    async def read(self, want: Want, *, deadline_ms: int) -> AsicReading:
        """Return a fresh reading.

        Raises:
            AsicUnreachableError: Nothing at all was read.
        """
        fields = set(_TOLD_FIELDS.get(self.firmware, _TOLD_OTHERS))
        if want is not Want.TOLD:
            fields |= _POWER
        if want is Want.TELEMETRY:
            fields |= _TELEMETRY
        exclude = [field for name, field in _FIELDS.items() if name not in fields]
        try:
            data = await self._calls.run(
                lambda: self._miner.get_data(exclude=exclude), what=f"{want}", deadline_ms=deadline_ms
            )
        except LibraryError as error:
            raise AsicUnreachableError(f"{self._calls.host} must answer {want}, did not: {error}") from error
        reading = self._reading(data)
        if reading == AsicReading():
            raise AsicUnreachableError(f"{self._calls.host} must answer {want}, nothing was read")
        return reading

    async def stop(self, *, deadline_ms: int) -> Said:
        """Order it to sleep."""
        self._stop_open_until_s = time.monotonic() + HASHES_LAG_S
        return await self._order("stop", self._miner.pause, deadline_ms=deadline_ms)

    async def resume(self, *, deadline_ms: int) -> Said:
        """Order it to mine."""
        return await self._order("resume", self._miner.resume, deadline_ms=deadline_ms)

    async def limit(self, watts: Watts, *, deadline_ms: int) -> Said:
        """Order a power target."""
        if not self.capabilities.can_limit_watts:
            return CannotSay(detail=f"{self.firmware} must take a power target through pyasic_rs, takes none")
        said = await self._order("limit", lambda: self._miner.set_power_limit(watts), deadline_ms=deadline_ms)
        return SaidYes(limit_watts=watts) if isinstance(said, SaidYes) else said

    async def pools(self, *, deadline_ms: int) -> tuple[PoolEntry, ...] | None:
        """Return the configured pools; None when they could not be read."""
        try:
            groups = await self._calls.run(self._miner.get_pools_config, what="pools", deadline_ms=deadline_ms)
        except (LibraryError, AsicUnreachableError):
            return None
        entries = tuple(
            PoolEntry(url=_url(pool.url), user=pool.username) for group in groups or () for pool in group.pools
        )
        if entries:
            self._pool_groups = list(groups or ())
        # A failed read leaves no group at all; only stock firmware shows a group without pools when they are gone.
        return entries if entries or (groups and self.firmware == STOCK) else None

    async def restore_pools(self, pools: Sequence[PoolEntry], *, deadline_ms: int) -> Said:
        """Write back the pools read last, which must be these: only they have their passwords."""
        known = [(_url(pool.url), pool.username) for group in self._pool_groups for pool in group.pools]
        if not self.capabilities.can_restore_pools or known != [(pool.url, pool.user) for pool in pools]:
            return CannotSay(detail=f"pools of {self.firmware} must have been read with their passwords, were not")
        groups = self._pool_groups
        return await self._order("pools", lambda: self._miner.set_pools_config(groups), deadline_ms=deadline_ms)

    async def _order(self, what: str, order: Callable[[], Awaitable[bool]], *, deadline_ms: int) -> Said:
        try:
            is_yes = await self._calls.run(order, what=what, deadline_ms=deadline_ms)
        except LibraryError as error:
            text = shortened(error)
            return SaidNo(detail=text) if any(each in text for each in _REFUSALS) else SaidNothing(detail=text)
        except AsicUnreachableError as error:
            return SaidNothing(detail=str(error))
        return SaidYes() if is_yes else SaidNo(detail=f"{what} must be taken, the library says no")

    def _reading(self, data: MinerData) -> AsicReading:
        rate = data.hashrate
        hash_rate = ThPerSecond(rate.as_unit(HashRateUnit.TH).value) if rate is not None else None
        told = told_by(
            self.firmware,
            Evidence(
                is_mining=data.is_mining,
                mining_mode_read=isinstance(data.tuning_target, TuningTarget.Mode),
                operating_state=_state_name(data.operating_state),
                device_answered=data.firmware_version is not None,
                hash_rate_th_per_s=hash_rate,
                was_seen_asleep=self._was_seen_asleep,
                is_stop_open=time.monotonic() < self._stop_open_until_s,
            ),
        )
        if told is Told.SLEEP:
            self._stop_open_until_s = 0.0
        self._was_seen_asleep = self._was_seen_asleep or told is Told.SLEEP
        target = data.tuning_target
        pools = [pool for group in data.pools for pool in group.pools]
        fans = [fan.rpm for fan in data.fans if fan.rpm is not None]
        heats = chain.from_iterable(
            (board.board_temperature, board.inlet_chip_temperature, board.outlet_chip_temperature)
            for board in data.hashboards
        )
        return AsicReading(
            told=told,
            power_watts=Watts(data.wattage) if data.wattage is not None else None,
            limit_watts=Watts(target.watts) if isinstance(target, TuningTarget.Power) else None,
            hash_rate_th_per_s=hash_rate,
            chip_temperature_celsius=max((Celsius(heat) for heat in heats if heat is not None), default=None),
            fan_speed_rpm=sum(fans) / len(fans) if fans else None,
            accepted=_total([pool.accepted_shares for pool in pools]),
            rejected=_total([pool.rejected_shares for pool in pools]),
            pools=tuple(PoolEntry(url=_url(pool.url), user=pool.user or "") for pool in pools) or None,
        )


def _state_name(state: OperatingState | None) -> str:
    return type(state).__name__.rpartition("_")[2] if state is not None else ""


def _url(url: object) -> str:
    return str(url) if url is not None else ""


def _total(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
