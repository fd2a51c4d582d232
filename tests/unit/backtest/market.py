"""Small sites and markets for backtests: few classes, prices at chosen quarters, all made of the demo fleet."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from backtest.engine import BacktestRun, run_backtest
from backtest.history import with_causes
from hcp.model.commands import OrchestratorCommand
from hcp.model.devices import DeviceMode
from hcp.model.facilities import Cluster, Facility, Fleet
from hcp.model.markets import MarketPrice, PriceSeries
from hcp.model.units import EpochMs
from streams.policies import Policy
from tests.unit.streams.world import DEFAULTS, DEMO_FLEET, SITE, START_MS, a_price

QUARTER_MS = 900_000
HUB = "HB_HOUSTON"
MINES_USD_PER_MWH, SLEEPS_USD_PER_MWH = 30.0, 2_000.0
"""An S21 earns at the first and loses at the second."""
ASICS, GPUS = ("s21", 12, DeviceMode.MINING), ("h100", 8, DeviceMode.AI_INFERENCE)


def a_fleet(*parts: tuple[str, int, DeviceMode], power_cap_mw: float = 1_000.0) -> Fleet:
    """Return a fleet of one site, each part a cluster: class, devices, initial mode."""
    clusters = tuple(
        Cluster(
            cluster_id=f"{SITE}.part-{number}",
            facility_id=SITE,
            device_class=device_class,
            device_count=device_count,
            initial_mode=initial_mode,
        )
        for number, (device_class, device_count, initial_mode) in enumerate(parts)
    )
    site = replace(the_site(DEMO_FLEET), clusters=clusters, power_cap_mw=power_cap_mw, ramp_mw_per_minute=power_cap_mw)
    return replace(DEMO_FLEET, facilities=(site,))


def the_site(fleet: Fleet) -> Facility:
    """Return the site that all prices here are for."""
    site = fleet.facility(SITE)
    assert site is not None
    return site


def interval_price(value: float, *, quarter: int) -> MarketPrice:
    """Make the energy price of a quarter of an hour, known at its end."""
    start_ms = START_MS + quarter * QUARTER_MS
    price = a_price(PriceSeries.ENERGY_REAL_TIME, HUB, value, at_ms=start_ms + QUARTER_MS)
    return replace(price, interval_start_ms=EpochMs(start_ms), interval_ms=QUARTER_MS)


def market_of(energy: Sequence[float]) -> Iterator[MarketPrice]:
    """Yield every default price but energy before the first quarter, then one energy price a quarter."""
    for (series, instrument), value in DEFAULTS.items():
        if series is not PriceSeries.ENERGY_REAL_TIME:
            yield a_price(series, instrument, value)
    for quarter, value in enumerate(energy):
        yield interval_price(value, quarter=quarter)


def run_over(
    energy: Sequence[float],
    *,
    fleet: Fleet,
    policies: Sequence[Policy],
    decisions: list[OrchestratorCommand] | None = None,
) -> BacktestRun:
    """Run policies over one energy price a quarter from `START_MS` on."""
    return run_backtest(
        with_causes(market_of(energy)),
        fleet=fleet,
        policies=policies,
        settle_from_ms=START_MS,
        on_decision=lambda decision: None if decisions is None else decisions.append(decision),
    )
