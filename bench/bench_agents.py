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
from typing import Any, Final
from uuid import uuid4

from rich.table import Table

from bench.load import price, reports
from bench.report import against, machine, p50_p99, show, table
from hcp.codecs import decode
from hcp.fleet import load_fleet
from hcp.kafka.admin import ensure_topics
from hcp.kafka.consumer import BatchConsumer
from hcp.kafka.producer import RecordProducer
from hcp.kafka.records import ConsumedRecord
from hcp.model.facilities import Facility, Fleet
from hcp.model.markets import MarketPrice, PriceSeries
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


def _energy(site: Facility, value: float, *, at_ms: int) -> MarketPrice:
    return price(site, PriceSeries.ENERGY_REAL_TIME, instrument=site.energy_market, value=value, at_ms=at_ms)


def send_prices(fleet: Fleet, producer: RecordProducer) -> int:
    """Send prices that flip modes at a steady pace, with telemetry kept fresh; return the last event time."""
    for site in fleet.facilities:
        for series, instrument, value in GLOBAL_PRICES:
            producer.send(price(site, series, instrument=instrument, value=value, at_ms=START_MS))
    producer.flush()
    at = START_MS
    began = time.monotonic()
    for number in range(PRICES):
        site = fleet.facilities[number % len(fleet.facilities)]
        at = START_MS + (number + 1) * STEP_MS
        if number % SEED_EVERY == 0:
            for report in (report for each in fleet.facilities for report in reports(each, at_ms=at)):
                producer.send(report)
        value = HIGH if (number // len(fleet.facilities)) % 2 else LOW
        time.sleep(max(began + number / PRICES_PER_SECOND - time.monotonic(), 0.0))
        producer.send(_energy(site, value, at_ms=at))
    producer.flush()
    return at


def latencies(found: Found, topic: str) -> list[float]:
    """Return broker time of each output after the price that caused it."""
    return [float(record.timestamp_ms - value.cause_timestamp_ms) for record, value in found if record.topic == topic]


def latency_rows(to: Table, fleet_file: str, found: Found) -> None:
    """Add a row per hop."""
    for name, topic in (("recommendation", OPTIMIZER_RECOMMENDATION.name), ("command", ORCHESTRATOR_COMMAND.name)):
        values = latencies(found, topic)
        p50, p99 = p50_p99(values)
        cells = (f"{p50:.0f}", f"{p99:.0f}", f"{max(values):.0f}")
        to.add_row(fleet_file, f"price -> {name}", str(len(values)), *cells, *against(p99, LIMIT_MS))


def throughput(fleet: Fleet, *, agents: AgentProcesses, bootstrap: str, fleet_file: str, at: int) -> str:
    """Time the optimizer on a backlog against a bare consumer that polls and decodes the same records."""
    agents.stop("optimizer")
    producer = RecordProducer(bootstrap=bootstrap, produced_by="bench")
    for number in range(BACKLOG):
        site = fleet.facilities[number % len(fleet.facilities)]
        fresh = _energy(site, LOW + number % 7, at_ms=at)
        producer.send(replace(fresh, observed_at_ms=EpochMs(at + number + 1)))
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


def bench_fleet(fleet_file: str, *, to: Table) -> None:
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
        latency_rows(to, fleet_file, read_all(bootstrap, OPTIMIZER_RECOMMENDATION.name, ORCHESTRATOR_COMMAND.name))
        show(to)
        agents.stop("orchestrator")
        show(throughput(fleet, agents=agents, bootstrap=bootstrap, fleet_file=fleet_file, at=at))


def parser() -> argparse.ArgumentParser:
    """Return what the command line takes."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("fleet_files", nargs="*", default=["fleet.demo.toml", "fleet.toml"], help="default: both")
    return made


def main() -> None:
    """Run both fleets, or those named."""
    title = f"{PRICES} prices at {PRICES_PER_SECOND}/s, ms by broker timestamps"
    show(machine())
    for fleet_file in parser().parse_args().fleet_files:
        columns = ("fleet", "hop", "n", "p50", "p99", "max", "limit", "p99 / limit")
        bench_fleet(fleet_file, to=table(title, *columns))


if __name__ == "__main__":
    main()
