"""Table about GPUs: let for inference, mining or idle, at recorded rentals, bitcoin and energy of spring 2026."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from rich.table import Table

from backtest.hindsight import priced_path
from bench.recorded import CZ, Archive, instant, prices, site
from bench.walk import Walk, walked
from hcp.fleet import load_fleet
from hcp.market_data.legs import DEMAND_SEED, utilisation_ratio
from hcp.market_data.series import Point
from hcp.model.devices import DeviceClass, DeviceMode
from hcp.model.markets import PriceSeries
from hcp.model.units import MS_PER_HOUR
from streams.policies import policy_named

NewTable = Callable[..., Table]
FLEET: Final = Path(__file__).resolve().parents[1] / "fleet.toml"
UTILISATIONS: Final = (0.0, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.3, 0.7)
NAMES: Final = ("greedy", "threshold", "lcp", "predictive")
FIXED: Final = ((DeviceMode.AI_INFERENCE, "always AI"), (DeviceMode.MINING, "always mine"), (DeviceMode.IDLE, "idle"))
SITE_OF_DEMAND: Final = "tx-north"


def h100() -> DeviceClass:
    """Return the H100 of fleet.toml."""
    found = load_fleet(FLEET).device_class("h100")
    assert found is not None
    return found


def rented_or_mining(archive: Archive, new_table: NewTable) -> Table:
    """Return USD per GPU of every choice at assumed utilisations; none was recorded for the window."""
    rentals = archive.rentals()
    energy = [point for point in archive.energy(CZ, CZ) if point.interval_start_ms >= rentals[0].observed_at_ms]
    from_ms, until_ms = energy[0].interval_start_ms, energy[-1].observed_at_ms
    days = (until_ms - from_ms) / MS_PER_HOUR / 24.0
    to = new_table(
        f"one H100, {days:.1f} days from 2026-03-11: USD (switches); utilisation ASSUMED",
        "utilisation",
        *(name for _, name in FIXED),
        *NAMES,
        "hindsight",
    )
    levels: list[tuple[str, list[Point]]] = [
        (f"{level:.2f}", [_utilised(level, when_ms=from_ms - MS_PER_HOUR)]) for level in UTILISATIONS
    ]
    levels.append(("synthetic", list(_synthetic(from_ms, until_ms))))
    for label, utilisation in levels:
        to.add_row(label, *_cells(_walk(archive, [*energy, *rentals, *utilisation])))
    return to


def _walk(archive: Archive, points: list[Point]) -> Walk:
    fleet = site(CZ, [h100()], initial_mode=DeviceMode.AI_INFERENCE)
    policies = [policy_named(name) for name in NAMES]
    seen = prices(points, bitcoin=archive.bitcoin(2026), fleet=fleet)
    (walk,) = walked(seen, fleet=fleet, policies=policies).values()
    return walk


def _cells(walk: Walk) -> Iterator[str]:
    stretch = walk.stretch()
    profit, cost = walk.series.profit_usd, walk.series.switch_cost_usd()
    for mode, _ in FIXED:
        at = walk.series.mode_index(mode)
        modes = np.full(len(profit), at, dtype=np.int8)
        path = priced_path(modes, profit_usd=profit, switch_cost_usd=cost, initial_mode=None)
        yield f"{path.profit_usd:,.1f}"
    for name in NAMES:
        done = stretch.policies[name]
        yield f"{done.profit_usd:,.1f} ({done.switch_count:,})"
    yield f"{stretch.hindsight.profit_usd:,.1f} ({stretch.hindsight.switch_count:,})"


def _utilised(level: float, *, when_ms: int) -> Point:
    return instant(PriceSeries.INFERENCE_UTILISATION, "h100", value=level, when_ms=when_ms)


def _synthetic(from_ms: int, until_ms: int) -> Iterator[Point]:
    """Yield the stand-in demand of the market simulator, hour by hour."""
    for hour in range(from_ms // MS_PER_HOUR - 1, until_ms // MS_PER_HOUR):
        level = utilisation_ratio(SITE_OF_DEMAND, "h100", seed=DEMAND_SEED, hour=hour)
        known = _utilised(level, when_ms=(hour + 1) * MS_PER_HOUR)
        yield replace(known, interval_start_ms=hour * MS_PER_HOUR, interval_ms=MS_PER_HOUR)
