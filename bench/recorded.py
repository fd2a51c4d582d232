"""Recorded markets for benchmarks of policies: who decides on them, and where each price comes from.

A file that is not in a shape of `hcp.market_data` (the Czech day-ahead prices in euro, GPU rentals) is read here.
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from backtest.history import prices_of
from hcp.market_data.replay import recorded_market
from hcp.market_data.series import Point, Recording, merged, read_source
from hcp.model.devices import DeviceClass, DeviceKind, DeviceMode, ModeProfile
from hcp.model.facilities import Cluster, Facility, Fleet
from hcp.model.markets import MarketPrice, PriceSeries
from hcp.model.steps import Cause
from hcp.model.units import (
    MS_PER_MINUTE,
    MS_PER_SECOND,
    DurationMs,
    Ratio,
    ThPerSecond,
    Usd,
    UsdPerKwh,
    Watts,
)
from hcp.settings import load_settings

ERCOT: Final = "electricity/ercot_rt_15min_hubs_2023-2024.parquet"
SPP: Final = "electricity/spp_rt_5min_hubs_2024-04_2024-12.parquet"
MISO: Final = "electricity/miso_rt_hourly_hubs_2023-2024.parquet"
CZ: Final = "CZ"
_CZ_PRICES: Final = "electricity/cz_dam_15min_2026-03_2026-05.csv"
_EURO: Final = "electricity/fx_eur_usd_daily_2026-03_2026-05.csv"
_BITCOIN: Final = {
    2023: ("btc/btcusdt_spot_1h_2023-2024.csv", "btc/btc_difficulty_epochs.csv"),
    2026: ("btc/btcusdt_spot_1h_2026-03_2026-05.csv", "btc/btc_difficulty_epochs.csv"),
}
_RENTALS: Final = "gpu_prices/gpu_rental_2h_vast_runpod_lambda_2026-03_2026-05.csv"
_RENTED: Final = "H100"
_ENTER_MS: Final = DurationMs(5 * MS_PER_MINUTE)
_ENTER_WEAR_USD: Final = Usd(0.02)
_NOTHING: Final = Usd(0.0)

Prices = Iterator[tuple[MarketPrice, Cause]]


def at_ms(day: str) -> int:
    """Return the event time of an ISO date or time, UTC unless it says."""
    when = datetime.fromisoformat(day)
    return round((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * MS_PER_SECOND)


def data_dir() -> Path | None:
    """Return the folder of recorded data; None without HCP_DATA_DIR."""
    return load_settings().data_dir


def miner(name: str, *, terahash: float, watts: float, eco: tuple[float, float] | None = None) -> DeviceClass:
    """Return an ASIC of the benchmark's terms: five minutes and 0.02 USD to hash, asleep without power or cost.

    Args:
        name: Its id.
        terahash: TH/s when it mines.
        watts: At the wall, when it mines.
        eco: TH/s and watts of its power target, where it has one.
    """
    rates = [(DeviceMode.MINING, terahash, watts)]
    if eco is not None:
        rates.append((DeviceMode.MINING_ECO, *eco))
    mining = tuple(
        ModeProfile(
            mode=mode,
            power_watts=Watts(draw),
            hash_rate_th_per_s=ThPerSecond(rate),
            enter_ms=_ENTER_MS,
            enter_wear_usd=_ENTER_WEAR_USD,
            enter_reload_usd=_NOTHING,
        )
        for mode, rate, draw in rates
    )
    sleep = ModeProfile(
        mode=DeviceMode.SLEEP,
        power_watts=Watts(0.0),
        enter_ms=DurationMs(0),
        enter_wear_usd=_NOTHING,
        enter_reload_usd=_NOTHING,
    )
    return DeviceClass(device_class=name, kind=DeviceKind.ASIC, name=name, modes=(*mining, sleep))


S21: Final = miner("s21", terahash=200.0, watts=3_500.0)
S19XP: Final = miner("s19xp", terahash=140.0, watts=3_010.0)
S21_ECO: Final = miner("s21", terahash=200.0, watts=3_500.0, eco=(151.6, 2_450.0))
MINERS: Final = (S21, S19XP)


def dearer(device_class: DeviceClass, factor: float) -> DeviceClass:
    """Return a class whose switches cost that many times as much."""
    return replace(
        device_class,
        modes=tuple(
            replace(
                mode,
                enter_ms=DurationMs(round(mode.enter_ms * factor)),
                enter_wear_usd=Usd(mode.enter_wear_usd * factor),
            )
            for mode in device_class.modes
        ),
    )


def site(hub: str, classes: Sequence[DeviceClass], *, initial_mode: DeviceMode = DeviceMode.MINING) -> Fleet:
    """Return a fleet of one site at a hub with one device of each class and no limit that could bind."""
    clusters = tuple(
        Cluster(
            cluster_id=f"bench.{each.device_class}",
            facility_id="bench",
            device_class=each.device_class,
            device_count=1,
            initial_mode=initial_mode,
        )
        for each in classes
    )
    facility = Facility(
        facility_id="bench",
        name=hub,
        energy_market=hub,
        power_cap_mw=1_000.0,
        ramp_mw_per_minute=1_000.0,
        pue=1.1,
        demand_adder_usd_per_kwh=UsdPerKwh(0.0),
        pool_fee_ratio=Ratio(0.01),
        reject_ratio=Ratio(0.002),
        uptime_ratio=Ratio(0.99),
        sla_bonus_ratio=1.0,
        clusters=clusters,
    )
    return Fleet(facilities=(facility,), device_classes=tuple(classes))


def _recording(points: Iterable[Point]) -> Recording:
    return Recording(points=tuple(points), empty_rows=0, repeated_rows=0)


@dataclass(slots=True, kw_only=True)
class Archive:
    """The recorded files of one folder, each read once."""

    folder: Path
    _files: dict[str, dict[str, list[Point]]] = field(default_factory=dict)
    _bitcoin: dict[int, Recording] = field(default_factory=dict)

    def hubs(self, name: str) -> tuple[str, ...]:
        """Return the hubs of a file of energy prices."""
        return tuple(sorted(self._file(name)))

    def energy(self, name: str, hub: str) -> list[Point]:
        """Return the energy prices of a hub."""
        return self._file(name)[hub]

    def bitcoin(self, year: int) -> Recording:
        """Return bitcoin and difficulty of 2023 and 2024, or of March to May 2026."""
        if year not in self._bitcoin:
            self._bitcoin[year] = merged([read_source(self.folder / name) for name in _BITCOIN[year]])
        return self._bitcoin[year]

    def _file(self, name: str) -> dict[str, list[Point]]:
        if name not in self._files:
            by_hub: dict[str, list[Point]] = {}
            points = self._czech() if name == CZ else read_source(self.folder / name).points
            for point in points:
                by_hub.setdefault(point.instrument, []).append(point)
            self._files[name] = by_hub
        return self._files[name]

    def _rows(self, name: str) -> Iterator[dict[str, str]]:
        with (self.folder / name).open(encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file)

    def _czech(self) -> Iterator[Point]:
        """Yield day-ahead prices as if each were known at the end of its interval only, like a real-time price."""
        fixings = [(at_ms(row["date"]), float(row["usd_per_eur_derived"])) for row in self._rows(_EURO)]
        for row in self._rows(_CZ_PRICES):
            start_ms = at_ms(row["interval_start_utc"])
            usd_per_eur = [rate for since_ms, rate in fixings if since_ms <= start_ms][-1]
            yield Point(
                observed_at_ms=start_ms + 15 * MS_PER_MINUTE,
                series=PriceSeries.ENERGY_REAL_TIME,
                instrument=CZ,
                value=float(row["price_eur_per_mwh"]) * usd_per_eur,
                interval_start_ms=start_ms,
                interval_ms=15 * MS_PER_MINUTE,
                source=f"recorded:{_CZ_PRICES}",
            )

    def rentals(self) -> list[Point]:
        """Return what an H100 was let for: at each scrape the lowest of the providers' medians."""
        lowest: dict[str, float] = {}
        for row in self._rows(_RENTALS):
            if row["gpu_model"] == _RENTED and row["median_usd_per_gpu_h"]:
                when, price = row["observed_at_utc"], float(row["median_usd_per_gpu_h"])
                lowest[when] = min(price, lowest.get(when, price))
        return [
            instant(PriceSeries.GPU_RENTAL, "h100", value=price, when_ms=at_ms(when))
            for when, price in sorted(lowest.items())
        ]


def instant(series: PriceSeries, instrument: str, *, value: float, when_ms: int) -> Point:
    """Return a value that holds from a moment on."""
    return Point(
        observed_at_ms=when_ms,
        series=series,
        instrument=instrument,
        value=value,
        interval_start_ms=when_ms,
        interval_ms=0,
        source="recorded:bench",
    )


def prices(points: Iterable[Point], *, bitcoin: Recording, fleet: Fleet, from_ms: int = 0) -> Prices:
    """Yield what a site sees, from when all that is needed is known, or later."""
    market = recorded_market(merged([_recording(points), bitcoin]), fleet=fleet)
    assert not market.lacking, market.lacking
    return prices_of(market, from_ms=max(market.start_ms, from_ms), until_ms=market.end_ms)
