"""What every policy makes of recorded markets: share of the gap, switches, sensitivity, its probability, its time.

Run: `python -m bench.bench_policies`, HCP_DATA_DIR set; no service is needed, one core, some minutes. `--table` picks
tables. Scores, policies and timing guards are those that run live, in the loop of `bench/walk.py`; one row is also run
through `backtest.engine`. docs/policies.md says what was chosen on which stretch.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from rich import box
from rich.table import Table

from backtest.engine import run_backtest
from backtest.results import evaluate
from bench import policies_gpu, policies_inside
from bench.recorded import CZ, ERCOT, MINERS, MISO, S21, S21_ECO, SPP, Archive, at_ms, data_dir, dearer, prices, site
from bench.report import machine, show, table
from bench.walk import Stretch, Walk, walked
from hcp.model.devices import DeviceClass
from streams.policies import Policy, policy_named

NAMES: Final = ("greedy", "threshold", "lcp", "predictive")
POLICIES: Final[tuple[Policy, ...]] = tuple(policy_named(name) for name in NAMES)
HUBS: Final = ("HB_WEST", "HB_HOUSTON")
"""On which the predictive policy's structure was chosen."""
STRETCHES: Final = (
    ("in-sample", "2023-01-01", "2023-07-01"),
    ("selection", "2023-07-01", "2024-01-01"),
    ("out, warm", "2024-01-01", "2025-01-01"),
    ("both years", "2023-01-01", "2025-01-01"),
)
YEAR, END, SPP_SPLIT = "2024-01-01", "2025-01-01", "2024-07-01"
FACTORS: Final = (0.25, 0.5, 1.0, 2.0, 4.0)
COLUMNS: Final = ("gap USD", *NAMES, "late", "best", "ratio")
"""`late`: hindsight an interval late; `best`: hindsight's switches; `ratio`: predictive's switches over greedy's."""


def in_markdown(title: str, *columns: str) -> Table:
    """Return an empty table that prints as docs/policies.md shows it."""
    made = table(title, *columns)
    made.box = box.MARKDOWN
    return made


def cells(stretch: Stretch) -> tuple[str, ...]:
    """Return what `COLUMNS` names."""
    done = stretch.policies
    ratio = done["predictive"].switch_count / max(done["greedy"].switch_count, 1)
    shares = (f"{done[name].gap_ratio:.3f}/{done[name].switch_count}" for name in NAMES)
    return (
        f"{stretch.gap_usd:,.0f}",
        *shares,
        f"{stretch.late.gap_ratio:.3f}",
        f"{stretch.hindsight.switch_count}",
        f"{ratio:.2f}",
    )


def walk_of(
    archive: Archive, name: str, hub: str, *, classes: Sequence[DeviceClass], from_day: str = "1970-01-01"
) -> Mapping[str, Walk]:
    """Walk all policies over a hub of a file, from the beginning or from a day on, nothing remembered."""
    fleet = site(hub, classes)
    bitcoin = archive.bitcoin(2026 if name == CZ else 2023)
    seen = prices(archive.energy(name, hub), bitcoin=bitcoin, fleet=fleet, from_ms=at_ms(from_day))
    return walked(seen, fleet=fleet, policies=POLICIES)


def add(to: Table, where: str, walks: Mapping[str, Walk], *, from_day: str, until_day: str) -> None:
    """Add one row for each class over a stretch."""
    for name, walk in walks.items():
        to.add_row(f"{where}, {name}", *cells(walk.stretch(at_ms(from_day), at_ms(until_day))))


def gaps(archive: Archive) -> Table:
    """Return shares of the gap at every recorded hub."""
    to = in_markdown("share of the gap/switches of one device", "market", *COLUMNS)
    add_chosen(to, archive, MINERS)
    add_engine(to, archive)
    for hub in (each for each in archive.hubs(ERCOT) if each not in HUBS):
        walks = walk_of(archive, ERCOT, hub, classes=MINERS)
        for name, from_day, until_day in STRETCHES[2:]:
            add(to, f"{hub}, {name}", walks, from_day=from_day, until_day=until_day)
    south = walk_of(archive, SPP, "SPPSOUTH_HUB", classes=MINERS)
    add(to, "SPP South, in-sample", south, from_day="2024-01-01", until_day=SPP_SPLIT)
    add(to, "SPP South, out, warm", south, from_day=SPP_SPLIT, until_day=END)
    north = walk_of(archive, SPP, "SPPNORTH_HUB", classes=MINERS)
    add(to, "SPP North", north, from_day="2024-01-01", until_day=END)
    for hub in archive.hubs(MISO):
        walks = walk_of(archive, MISO, hub, classes=MINERS)
        add(to, f"MISO {hub.removesuffix('.HUB').title()}", walks, from_day="2023-01-01", until_day=END)
    add(
        to,
        "CZ day-ahead 2026",
        walk_of(archive, CZ, CZ, classes=MINERS),
        from_day="2026-01-01",
        until_day="2027-01-01",
    )
    return to


def add_chosen(to: Table, archive: Archive, classes: Sequence[DeviceClass]) -> None:
    """Add the stretches of the two hubs that the goals name, the year 2024 also begun without history."""
    for hub in HUBS:
        walks = walk_of(archive, ERCOT, hub, classes=classes)
        for name, from_day, until_day in STRETCHES:
            add(to, f"{hub}, {name}", walks, from_day=from_day, until_day=until_day)
        cold = walk_of(archive, ERCOT, hub, classes=classes, from_day=YEAR)
        add(to, f"{hub}, out, cold", cold, from_day=YEAR, until_day=END)


def add_engine(to: Table, archive: Archive) -> None:
    """Add the in-sample half of HB_WEST as the backtest has it, the whole orchestrator running."""
    fleet = site(HUBS[0], [S21])
    _, from_day, until_day = STRETCHES[0]
    seen = (
        (price, cause)
        for price, cause in prices(archive.energy(ERCOT, HUBS[0]), bitcoin=archive.bitcoin(2023), fleet=fleet)
        if price.observed_at_ms <= at_ms(until_day)
    )
    run = run_backtest(seen, fleet=fleet, policies=POLICIES, settle_from_ms=at_ms(from_day))
    result = evaluate(run, fleet=fleet, policies=NAMES)
    (place,) = (facility.facility_id for facility in fleet.facilities)
    rows = [result.row(name, place) for name in NAMES]
    best, fixed = result.row("hindsight", place), result.row("best fixed", place)
    to.add_row(
        f"{HUBS[0]}, in-sample, engine",
        f"{best.profit_usd - fixed.profit_usd:,.0f}",
        *(f"{row.gap_ratio or 0.0:.3f}/{row.switch_count}" for row in rows),
        "",
        f"{best.switch_count}",
        f"{rows[-1].switch_count / max(rows[0].switch_count, 1):.2f}",
    )


def with_power_target(archive: Archive) -> Table:
    """Return the same for an S21 with a third mode."""
    to = in_markdown("S21 with mining_eco (2,450 W, 151.6 TH/s): share of the gap/switches", "market", *COLUMNS)
    add_chosen(to, archive, [S21_ECO])
    return to


def by_switch_cost(archive: Archive) -> Table:
    """Return what dearer and cheaper switches do."""
    to = in_markdown("S21, switches at a multiple of their cost: share of the gap/switches", "market", *COLUMNS)
    for name, hub in ((ERCOT, HUBS[0]), (SPP, "SPPSOUTH_HUB")):
        for factor in FACTORS:
            (walk,) = walk_of(archive, name, hub, classes=[dearer(S21, factor)]).values()
            to.add_row(f"{hub}, x{factor:g}", *cells(walk.stretch()))
    return to


TABLES: Final[Mapping[str, Callable[[Archive], Table]]] = {
    "gap": gaps,
    "power-target": with_power_target,
    "switch-cost": by_switch_cost,
    "probability": lambda archive: policies_inside.probability(archive, in_markdown),
    "scarcity": lambda archive: policies_inside.scarcity(archive, in_markdown),
    "gpu": lambda archive: policies_gpu.rented_or_mining(archive, in_markdown),
    "time": lambda archive: policies_inside.times(archive, in_markdown),
}


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = argparse.ArgumentParser(prog="python -m bench.bench_policies")
    made.add_argument("--table", choices=tuple(TABLES), action="append", help="may be given again; default: all")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables asked for, each as soon as it is done."""
    asked = parser().parse_args(arguments).table
    folder = data_dir()
    if folder is None:
        show("Nothing was measured: HCP_DATA_DIR must be the folder of recorded data, was not set.")
        return 0
    archive = Archive(folder=folder)
    show(machine())
    for name, make in TABLES.items():
        if asked is None or name in asked:
            show(make(archive), "")
    return 0


if __name__ == "__main__":
    sys.exit(main())
