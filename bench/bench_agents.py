"""Agents as processes: price -> recommendation -> decision latency for both fleets, and Faust's throughput.

Run: `.venv/bin/python bench/bench_agents.py [fleet files]` (starts a stack of its own). Latencies are differences of
broker timestamps, so they hold encoding, both hops, decoding, tables and transformations.
"""

import argparse
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import quantiles
from typing import Any, Final
from uuid import uuid4

from rich.console import Console
from rich.table import Table

from hcp.codecs import decode
from hcp.fleet import load_fleet
from hcp.kafka.admin import ensure_topics
from hcp.kafka.consumer import BatchConsumer
from hcp.kafka.producer import RecordProducer
from hcp.kafka.records import ConsumedRecord
from hcp.model.devices import DeviceState
from hcp.model.facilities import Fleet
from hcp.model.markets import SERIES_RULES, MarketPrice, PriceSeries
from hcp.model.resources import ResourceState, StateReporter, state_key
from hcp.model.units import MS_PER_HOUR, EpochMs
from hcp.settings import load_settings
from hcp.stack import default_cache_dir, running_stack
from hcp.topics import MARKET_PRICE, OPTIMIZER_RECOMMENDATION, ORCHESTRATOR_COMMAND
from tests.agent_process import AgentProcesses

PRICES: Final = 300
PRICES_PER_SECOND: Final = 20
BACKLOG: Final = 5_000
SEED_EVERY: Final = 80
STEP_MS: Final = 7 * MS_PER_HOUR
"""More than a pending switch blocks its class, so that each price is decided afresh."""
LIMIT_MS: Final = 250.0
LOW, HIGH = 5.0, 900.0
START_MS: Final = 1_692_493_200_000
QUIET_POLLS: Final = 15
BACKLOG_READS: Final = 4
GLOBAL_PRICES: Final = (
    (PriceSeries.BTC, "BTC/USD", 26_000.0),
    (PriceSeries.DIFFICULTY, "BTC", 5.2e13),
    (PriceSeries.BLOCK_SUBSIDY, "BTC", 6.25),
    (PriceSeries.BLOCK_FEES, "BTC", 0.2),
)
Found = list[tuple[ConsumedRecord, Any]]


def price(site: str, instrument: str, *, series: PriceSeries, value: float, at: int) -> MarketPrice:
    """Return one price."""
    return MarketPrice(
        facility_id=site,
        series=series,
        instrument=instrument,
        value=value,
        unit=SERIES_RULES[series].unit,
        interval_start_ms=EpochMs(at),
        interval_ms=0,
        observed_at_ms=EpochMs(at),
        source="synthetic:bench",
    )


def reports(fleet: Fleet, at: int) -> list[ResourceState]:
    """Return what a fleet monitor would report of devices that all run their first mode."""
    found = []
    for cluster in (cluster for site in fleet.facilities for cluster in site.clusters):
        for shard in cluster.shards():
            size = shard.device_count
            found.append(
                ResourceState(
                    state_key=state_key(shard_id=shard.shard_id, reported_by=StateReporter.FLEET_MONITOR),
                    facility_id=shard.facility_id,
                    cluster_id=shard.cluster_id,
                    shard_id=shard.shard_id,
                    device_class=shard.device_class,
                    reported_by=StateReporter.FLEET_MONITOR,
                    device_indexes=tuple(range(size)),
                    modes=(cluster.initial_mode,) * size,
                    states=(DeviceState.ACTIVE,) * size,
                    epochs=(0,) * size,
                    owners=("",) * size,
                    observed_at_ms=EpochMs(at),
                )
            )
    return found


def read_all(bootstrap: str, *topics: str) -> Found:
    """Return every record of some topics; a quiet time ends it."""
    consumer = BatchConsumer(bootstrap=bootstrap, group=f"bench-{uuid4().hex}", topics=topics)
    found: Found = []
    quiet = 0
    try:
        while quiet < QUIET_POLLS:
            polled = consumer.poll(records_max=1_000, timeout_ms=300)
            quiet = 0 if polled else quiet + 1
            found += [(record, decode(record.value)) for record in polled]
    finally:
        consumer.close()
    return found


def send_prices(fleet: Fleet, producer: RecordProducer) -> int:
    """Send prices that flip modes at a steady pace, with telemetry kept fresh; return the last event time."""
    for site in fleet.facilities:
        for series, instrument, value in GLOBAL_PRICES:
            producer.send(price(site.facility_id, instrument, series=series, value=value, at=START_MS))
    producer.flush()
    at = START_MS
    began = time.monotonic()
    for number in range(PRICES):
        site = fleet.facilities[number % len(fleet.facilities)]
        at = START_MS + (number + 1) * STEP_MS
        if number % SEED_EVERY == 0:
            for report in reports(fleet, at):
                producer.send(report)
        value = HIGH if (number // len(fleet.facilities)) % 2 else LOW
        series = PriceSeries.ENERGY_REAL_TIME
        time.sleep(max(began + number / PRICES_PER_SECOND - time.monotonic(), 0.0))
        producer.send(price(site.facility_id, site.energy_market, series=series, value=value, at=at))
    producer.flush()
    return at


def latencies(found: Found, topic: str) -> list[float]:
    """Return broker time of each output after the price that caused it."""
    return [float(record.timestamp_ms - value.cause_timestamp_ms) for record, value in found if record.topic == topic]


def latency_rows(table: Table, fleet_file: str, found: Found) -> None:
    """Add a row per hop."""
    for name, topic in (("recommendation", OPTIMIZER_RECOMMENDATION.name), ("command", ORCHESTRATOR_COMMAND.name)):
        values = latencies(found, topic)
        cuts = quantiles(values, n=100, method="inclusive")
        cells = (f"{cuts[49]:.0f}", f"{cuts[98]:.0f}", f"{max(values):.0f}", f"{cuts[98] / LIMIT_MS:.2f}")
        table.add_row(fleet_file, f"price -> {name}", str(len(values)), *cells)


def throughput(fleet: Fleet, *, agents: AgentProcesses, bootstrap: str, fleet_file: str, at: int) -> str:
    """Time the optimizer on a backlog against a bare consumer that polls and decodes the same records."""
    agents.stop("optimizer")
    producer = RecordProducer(bootstrap=bootstrap, produced_by="bench")
    for number in range(BACKLOG):
        site = fleet.facilities[number % len(fleet.facilities)]
        series = PriceSeries.ENERGY_REAL_TIME
        fresh = price(site.facility_id, site.energy_market, series=series, value=LOW, at=at)
        producer.send(replace(fresh, value=LOW + number % 7, observed_at_ms=EpochMs(at + number + 1)))
    producer.flush()
    agents.start("optimizer", fleet_file=fleet_file)
    found: Found = []
    for _ in range(BACKLOG_READS):
        found = [pair for pair in read_all(bootstrap, OPTIMIZER_RECOMMENDATION.name) if pair[1].observed_at_ms > at]
        if len(found) >= BACKLOG:
            break
    stamps = [record.timestamp_ms for record, _ in found]
    faust_rate = len(found) / max((max(stamps) - min(stamps)) / 1_000, 1e-3)
    consumer = BatchConsumer(bootstrap=bootstrap, group=f"bare-{uuid4().hex}", topics=[MARKET_PRICE.name])
    first = consumer.poll(records_max=1, timeout_ms=30_000)
    began, count = time.perf_counter(), len(first)
    while count < BACKLOG:
        polled = consumer.poll(records_max=500, timeout_ms=1_000)
        for record in polled:
            decode(record.value)
        count += len(polled)
    bare_rate = count / (time.perf_counter() - began)
    consumer.close()
    return (
        f"{fleet_file}: optimizer {len(found)} of {BACKLOG} prices at {faust_rate:.0f}/s (first to last output); bare "
        f"poll + decode {bare_rate:.0f}/s; ratio {faust_rate / bare_rate:.3f}"
    )


def bench_fleet(fleet_file: str, *, table: Table, console: Console) -> None:
    """Measure one fleet on a stack of its own."""
    fleet = load_fleet(Path(fleet_file))
    with ExitStack() as cleanup:
        directory = Path(cleanup.enter_context(tempfile.TemporaryDirectory()))
        cache = default_cache_dir(load_settings().cache_dir)
        bootstrap = cleanup.enter_context(running_stack(directory / "stack", cache, keep=False)).kafka_bootstrap
        ensure_topics(bootstrap)
        agents = AgentProcesses(bootstrap=bootstrap, directory=directory)
        cleanup.callback(agents.stop_all)
        agents.start("optimizer", fleet_file=fleet_file)
        agents.start("orchestrator", "--policy", "greedy", fleet_file=fleet_file)
        at = send_prices(fleet, RecordProducer(bootstrap=bootstrap, produced_by="bench"))
        latency_rows(table, fleet_file, read_all(bootstrap, OPTIMIZER_RECOMMENDATION.name, ORCHESTRATOR_COMMAND.name))
        console.print(table)
        agents.stop("orchestrator")
        console.print(throughput(fleet, agents=agents, bootstrap=bootstrap, fleet_file=fleet_file, at=at))


def parser() -> argparse.ArgumentParser:
    """Return what the command line takes."""
    found = argparse.ArgumentParser(description=__doc__)
    found.add_argument("fleet_files", nargs="*", default=["fleet.demo.toml", "fleet.toml"], help="default: both")
    return found


def main() -> None:
    """Run both fleets, or those named."""
    console = Console(width=120)
    title = f"{PRICES} prices at {PRICES_PER_SECOND}/s, ms by broker timestamps; limit {LIMIT_MS:.0f} ms"
    table = Table("fleet", "hop", "n", "p50", "p99", "max", "p99 / limit", title=title)
    for fleet_file in parser().parse_args().fleet_files:
        bench_fleet(fleet_file, table=table, console=console)


if __name__ == "__main__":
    main()
