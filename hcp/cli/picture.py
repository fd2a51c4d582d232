"""The demo's live terminal picture: what the database and the broker say, gathered by one thread, drawn by another."""

import threading
from dataclasses import dataclass, field
from typing import Final

from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from hcp.clock import seconds, wall_ms
from hcp.errors import HcpError
from hcp.kafka.admin import group_lag
from hcp.model.devices import DeviceMode
from hcp.model.facilities import Fleet
from hcp.model.units import MS_PER_SECOND
from hcp.settings import Settings
from hcp.topics import (
    CONTROLLER_COMMAND,
    MARKET_PRICE,
    METRICS_ASIC,
    METRICS_GPU,
    OPTIMIZER_RECOMMENDATION,
    ORCHESTRATOR_COMMAND,
    TOPICS,
)
from sinks.timescale.queries import Analytics, SwitchRow

GATHER_MS: Final = 1_000
LAG_EVERY: Final = 3
"""Lag is asked for every third time: it costs a group coordinator a round trip per partition."""
SWITCHES_SHOWN: Final = 8
GROUPS: Final = {
    "optimizer": ("hcp-optimizer", (MARKET_PRICE,)),
    "fleet monitor": ("hcp-fleet_monitor", (METRICS_GPU, METRICS_ASIC)),
    "orchestrator": ("hcp-orchestrator", (OPTIMIZER_RECOMMENDATION,)),
    "resources": ("hcp-resources", (ORCHESTRATOR_COMMAND,)),
    "controller": ("controllers", (CONTROLLER_COMMAND,)),
    "sink": ("hcp-sink-timescale", TOPICS),
}


@dataclass(slots=True, kw_only=True)
class Gathered:
    """The last answers; replaced piece by piece."""

    prices: dict[str, tuple[object, float]] = field(default_factory=dict)
    profits: list[tuple[str, str, str, float, str]] = field(default_factory=list)
    modes: list[tuple[str, str, str, str, int]] = field(default_factory=list)
    switches: list[SwitchRow] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    dead: dict[str, int] = field(default_factory=dict)
    lag: dict[str, int] = field(default_factory=dict)
    problem: str = ""


class Picture:
    """Gathers in the background; `render` only draws, so a slow answer never freezes the screen."""

    def __init__(self, *, settings: Settings, fleet: Fleet, began_ms: int) -> None:
        """Begin to gather."""
        self._settings, self._fleet, self._began_ms = settings, fleet, began_ms
        self.first_switch_ms: int | None = None
        self.analytics = Analytics(settings.timescale_dsn.get_secret_value())
        self._seen = Gathered()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._gather_on, name="picture", daemon=True)
        self._thread.start()

    @property
    def settings(self) -> Settings:
        """Where this run's services are."""
        return self._settings

    @property
    def is_scored(self) -> bool:
        """Tell whether every site has a score for inference: GPU prices have reached whoever decides."""
        scored = {facility for facility, _, mode, *_ in self._seen.profits if mode == DeviceMode.AI_INFERENCE}
        return scored >= {site.facility_id for site in self._fleet.facilities}

    def stop(self) -> None:
        """Stop gathering; the connection stays open for the summary."""
        self._stop.set()
        self._thread.join(seconds(10 * MS_PER_SECOND))

    def close(self) -> None:
        """Stop gathering and close the connection."""
        self.stop()
        self.analytics.close()

    def render(self) -> Group:
        """Draw what is known now."""
        head = Text(f"HCP demo, {(wall_ms() - self._began_ms) / MS_PER_SECOND:.0f} s since its start; Ctrl-C stops it")
        if self._seen.problem:
            head.append(f"\n{self._seen.problem}", style="red")
        grid = Table.grid(padding=(0, 1))
        grid.add_row(
            Panel(self._profits(), title="profit, USD per device-hour (best in bold)"),
            Panel(self._modes(), title="devices by mode"),
        )
        grid.add_row(
            Panel(self._lag(), title="consumer lag, records"), Panel(self._rows(), title="rows in TimescaleDB")
        )
        return Group(
            head, Panel(self._prices(), title="real-time energy"), grid, Panel(self._switches(), title="last switches")
        )

    def _gather_on(self) -> None:
        turn = 0
        while not self._stop.is_set():
            try:
                self._gather(with_lag=turn % LAG_EVERY == 0)
                self._seen.problem = ""
            except HcpError as error:  # said on the screen; the next turn tries again
                self._seen.problem = str(error)
            turn += 1
            self._stop.wait(seconds(GATHER_MS))

    def _gather(self, *, with_lag: bool) -> None:
        seen, ask = self._seen, self.analytics
        seen.prices = dict(ask.energy_prices())
        seen.profits = ask.profits()
        seen.modes = ask.modes()
        seen.switches = ask.last_switches(SWITCHES_SHOWN)
        seen.rows = ask.row_counts()
        seen.dead = ask.dead_letters()
        if seen.switches and self.first_switch_ms is None:
            self.first_switch_ms = wall_ms() - self._began_ms
        if with_lag:
            bootstrap = self._settings.kafka_bootstrap
            seen.lag = {
                name: group_lag(bootstrap, group, [topic.name for topic in topics])
                for name, (group, topics) in GROUPS.items()
            }

    def _prices(self) -> Table:
        table = _table("facility", "market", "event time", "USD/MWh")
        for site in self._fleet.facilities:
            at, price = self._seen.prices.get(site.facility_id, ("-", None))
            shown = "-" if price is None else f"[{'red' if price > 100 else 'green'}]{price:,.2f}[/]"  # noqa: PLR2004
            table.add_row(f"{site.facility_id} ({site.name})", site.energy_market, str(at)[:16], shown)
        return table

    def _profits(self) -> Table:
        table = _table("facility", "class", "modes")
        by_class: dict[tuple[str, str], list[str]] = {}
        for facility, name, mode, profit, best in self._seen.profits:
            text = f"{mode} {profit:+.3f}"
            by_class.setdefault((facility, name), []).append(f"[bold]{text}[/]" if mode == best else text)
        for (facility, name), modes in by_class.items():
            table.add_row(facility, name, "  ".join(modes))
        return table

    def _modes(self) -> Table:
        table = _table("facility", "class", "devices")
        by_class: dict[tuple[str, str], list[str]] = {}
        for facility, name, mode, state, count in self._seen.modes:
            by_class.setdefault((facility, name), []).append(
                f"{count} {mode}" + ("" if state == "active" else f" ({state})")
            )
        for (facility, name), modes in by_class.items():
            table.add_row(facility, name, ", ".join(modes))
        return table

    def _switches(self) -> Table:
        table = _table(
            "event time",
            "site",
            "class",
            "switch",
            "devices",
            "validate",
            "pause",
            "activate",
            "verify",
            "commit",
            "total ms",
        )
        for row in self._seen.switches:
            phases = (row.validate_ms, row.pause_ms, row.activate_ms, row.verify_ms, row.commit_ms, row.total_ms)
            table.add_row(
                f"{row.observed_at:%a %d %H:%M}",
                row.facility_id,
                row.device_class,
                f"{row.from_mode} -> {row.to_mode}",
                f"{row.committed_count}/{row.device_count}",
                *(f"{phase:.1f}" for phase in phases),
            )
        return table

    def _lag(self) -> Table:
        table = _table("consumer", "lag")
        for name, lag in self._seen.lag.items():
            table.add_row(name, f"{lag:,}")
        return table

    def _rows(self) -> Table:
        table = _table("table", "rows")
        for name, count in sorted(self._seen.rows.items(), key=lambda item: -item[1]):
            if count:
                table.add_row(name, f"{count:,}")
        return table


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    return table
