"""The fleet, scores and prices as TimescaleDB has them, kept in memory and brought up to date every second."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from gateway.database import Database, Row
from gateway.records import ModeProfit, Resource
from hcp.clock import Clock, seconds
from hcp.errors import StoreError
from hcp.model.devices import DeviceMode, DeviceState
from hcp.model.facilities import Fleet
from hcp.model.ids import device_id

REFRESH_MS: Final = 1_000
OVERLAP_MS: Final = 60_000
"""Event time that each look reads again: what came late carries an older time."""
USD_MICROS: Final = 1_000_000

_MS: Final = "(extract(epoch from observed_at) * 1000)::bigint as observed_at_ms"
_STATE: Final = f"select device_id, reported_by, mode, state, epoch, owner, kafka_offset, {_MS} from "  # noqa: S608  # parts of ours
_SCORE: Final = (
    "select facility_id, device_class, mode, profit_usd_per_hour, revenue_usd_per_hour, energy_cost_usd_per_hour, "
    "best_mode, confidence, (extract(epoch from observed_at) * 1000)::bigint as observed_at_ms from "
)
_PRICE: Final = f"select facility_id, instrument, value, {_MS} from market_prices where series = 'gpu_rental' "  # noqa: S608  # parts of ours
_SINCE: Final = "observed_at > to_timestamp(%s::double precision / 1000)"


@dataclass(slots=True, kw_only=True)
class _Feed:
    """One kind of row: how it is read at first and from then on, and what is made of it."""

    first: str
    later: str
    apply: Callable[[Row], None]
    seen_ms: int | None = None

    async def read(self, database: Database) -> None:
        if self.seen_ms is None:
            rows = await database.rows(self.first)
        else:
            rows = await database.rows(self.later, self.seen_ms - OVERLAP_MS)
        for row in rows:
            self.apply(row)
            self.seen_ms = max(self.seen_ms or 0, row["observed_at_ms"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """Devices of one class at one site that a customer may have.

    Attributes:
        warm: Active, without owner, serving inference already.
        free: Active and without owner, whatever they do.
    """

    warm: int = 0
    free: int = 0


@dataclass(slots=True, kw_only=True)
class FleetView:
    """Last known state of each device, score of each mode and price of each class.

    Attributes:
        as_of_ms: When it was last read; None before the first reading.
        devices: Every device of the fleet file, by id.
        device_ids: Their ids, sorted.
        profits: The latest score by site, class and mode.
        capacity: What is free, by site and class.
        prices: The latest GPU price by site and class, micro-dollars a device-hour.
    """

    database: Database
    clock: Clock
    fleet: Fleet
    as_of_ms: int | None = None
    devices: dict[str, Resource] = field(default_factory=dict)
    device_ids: list[str] = field(default_factory=list)
    profits: dict[tuple[str, str, str], ModeProfit] = field(default_factory=dict)
    prices: dict[tuple[str, str], int] = field(default_factory=dict)
    capacity: dict[tuple[str, str], Capacity] = field(default_factory=dict)
    _ranks: dict[str, tuple[bool, int]] = field(default_factory=dict)
    _priced_ms: dict[tuple[str, str], int] = field(default_factory=dict)
    _feeds: tuple[_Feed, ...] = ()

    def __post_init__(self) -> None:
        """Begin with the fleet as configured."""
        for shard in self.fleet.shards():
            for index in range(shard.device_count):
                name = device_id(shard_id=shard.shard_id, device_index=index)
                self.devices[name] = Resource(
                    resource_id=name,
                    facility_id=shard.facility_id,
                    cluster_id=shard.cluster_id,
                    shard_id=shard.shard_id,
                    device_class=shard.device_class,
                    mode=None,
                    state=None,
                    epoch=None,
                    owner=None,
                    observed_at_ms=None,
                )
        self.device_ids = sorted(self.devices)
        last_price = " order by facility_id, instrument, observed_at desc"
        self._feeds = (
            _Feed(
                first=_STATE.replace("select ", "select distinct on (device_id, reported_by) ", 1)
                + " resource_states order by device_id, reported_by, kafka_offset desc",
                later=f"{_STATE} resource_states where {_SINCE} order by kafka_offset",
                apply=self.apply_state,
            ),
            _Feed(
                first=f"{_SCORE} profitability_by_class",
                later=f"{_SCORE} recommendations where {_SINCE} order by observed_at, kafka_offset",
                apply=self.apply_score,
            ),
            _Feed(
                first=_PRICE.replace("select ", "select distinct on (facility_id, instrument) ", 1) + last_price,
                later=f"{_PRICE} and {_SINCE} order by observed_at",
                apply=self.apply_price,
            ),
        )

    def apply_state(self, row: Row) -> None:
        """Take a device's state; the Resource Manager's word outranks the fleet monitor's."""
        device = self.devices.get(row["device_id"])
        rank = (row["reported_by"] == "resources", row["kafka_offset"])
        if device is None or rank < self._ranks.get(device.resource_id, (False, -1)):
            return
        self._ranks[device.resource_id] = rank
        self.devices[device.resource_id] = Resource(
            resource_id=device.resource_id,
            facility_id=device.facility_id,
            cluster_id=device.cluster_id,
            shard_id=device.shard_id,
            device_class=device.device_class,
            mode=DeviceMode(row["mode"]),
            state=DeviceState(row["state"]),
            epoch=row["epoch"],
            owner=row["owner"],
            observed_at_ms=row["observed_at_ms"],
        )

    def apply_score(self, row: Row) -> None:
        """Take a score when it is not older than the one known."""
        key = (row["facility_id"], row["device_class"], row["mode"])
        known = self.profits.get(key)
        if known is None or row["observed_at_ms"] >= known.observed_at_ms:
            self.profits[key] = profit_of(row)

    def apply_price(self, row: Row) -> None:
        """Take a price when it is not older than the one known."""
        key = (row["facility_id"], row["instrument"])
        if row["observed_at_ms"] >= self._priced_ms.get(key, 0):
            self._priced_ms[key] = row["observed_at_ms"]
            self.prices[key] = round(row["value"] * USD_MICROS)

    async def refresh(self) -> None:
        """Read what has changed.

        Raises:
            StoreError: TimescaleDB is away, or its sink has not made the tables yet.
        """
        asked_ms = self.clock()
        for feed in self._feeds:
            await feed.read(self.database)
        self.count()
        self.as_of_ms = asked_ms

    def count(self) -> None:
        """Count what is free."""
        warm: Counter[tuple[str, str]] = Counter()
        free: Counter[tuple[str, str]] = Counter()
        for device in self.devices.values():
            if device.state is DeviceState.ACTIVE and not device.owner:
                free[device.facility_id, device.device_class] += 1
                warm[device.facility_id, device.device_class] += device.mode is DeviceMode.AI_INFERENCE
        self.capacity = {key: Capacity(warm=warm[key], free=free[key]) for key in free}

    async def watch(self) -> None:
        """Refresh for ever; the log says once when it fails and once when it works again."""
        log = structlog.get_logger(__name__)
        is_away = False
        while True:
            try:
                await self.refresh()
            except StoreError as error:
                if not is_away:
                    log.warning("view_unreadable", error=str(error))
                is_away = True
            else:
                if is_away:
                    log.info("view_readable")
                is_away = False
            await asyncio.sleep(seconds(REFRESH_MS))


def profit_of(row: Row) -> ModeProfit:
    """Return the score that a row of recommendations holds."""
    return ModeProfit(
        facility_id=row["facility_id"],
        device_class=row["device_class"],
        mode=DeviceMode(row["mode"]),
        profit_usd_per_hour=row["profit_usd_per_hour"],
        revenue_usd_per_hour=row["revenue_usd_per_hour"],
        energy_cost_usd_per_hour=row["energy_cost_usd_per_hour"],
        is_best=row["mode"] == row["best_mode"],
        confidence=row["confidence"],
        observed_at_ms=row["observed_at_ms"],
    )
