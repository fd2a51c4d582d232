"""What a demo did, counted from the database and the topics once everything has stopped."""

from rich.console import Console
from rich.table import Table

from hcp.cli.picture import Picture
from hcp.cli.profits import profits
from hcp.model.facilities import Fleet
from hcp.model.units import MS_PER_HOUR, MS_PER_SECOND
from sinks.timescale.queries import Latency


def print_summary(picture: Picture, *, fleet: Fleet, exit_codes: dict[str, int]) -> None:
    """Print decisions, switches, latencies, profit against both baselines, rows and errors."""
    ask = picture.analytics
    decisions, outcomes = ask.decisions(), ask.outcomes()
    money = profits(picture.settings.kafka_bootstrap, fleet=fleet)
    table = Table(title="summary", box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    hours = money.covered_ms / MS_PER_HOUR / max(1, len(fleet.facilities))
    table.add_row("event time covered", f"{hours:,.1f} h at each of {len(fleet.facilities)} sites")
    table.add_row(
        "decisions",
        f"{decisions.get('switch', 0):,} to switch, {decisions.get('hold', 0):,} to hold "
        f"({_counts(ask.hold_reasons())})",
    )
    table.add_row("device switches", _counts(outcomes) or "none")
    table.add_row("price to command", _latency(ask.price_to_command()))
    table.add_row("GPU switch", _latency(ask.switch_latency("gpu")))
    table.add_row("ASIC switch (accepted)", _latency(ask.switch_latency("asic")))
    table.add_row("profit", f"{money.realised_usd:,.2f} USD, {money.switch_count:,} device switches cost included")
    table.add_row(
        "  against always mine",
        f"{money.always_mine_usd:,.2f} USD ({money.realised_usd - money.always_mine_usd:+,.2f})",
    )
    table.add_row(
        "  against never switch",
        f"{money.never_switch_usd:,.2f} USD ({money.realised_usd - money.never_switch_usd:+,.2f})",
    )
    rows = ask.row_counts()
    table.add_row(
        "rows stored", f"{sum(rows.values()):,} ({_counts({name: count for name, count in rows.items() if count})})"
    )
    table.add_row("refused records", _counts(ask.dead_letters()) or "none")
    failed = {name: code for name, code in exit_codes.items() if code}
    table.add_row("processes that ended badly", _counts(failed) or "none")
    if picture.first_switch_ms is not None:
        table.add_row("start to first switch seen", f"{picture.first_switch_ms / MS_PER_SECOND:.1f} s")
    Console(highlight=False).print(table)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _latency(latency: Latency) -> str:
    if latency.p50_ms is None or latency.p99_ms is None:
        return "nothing to measure"
    return f"p50 {latency.p50_ms:,.1f} ms, p99 {latency.p99_ms:,.1f} ms over {latency.count:,}"
