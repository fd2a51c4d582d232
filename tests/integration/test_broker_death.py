"""Kill -9 of the broker under optimizer, orchestrator, controller, sink and fleet simulator: each goes on by itself."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from hcp.kafka.producer import RecordProducer
from hcp.model.commands import ControllerCommand, ControllerResult
from hcp.model.markets import SERIES_RULES, MarketPrice, PriceSeries
from hcp.model.recommendations import Recommendation
from hcp.model.telemetry import AsicTelemetry, GpuTelemetry
from hcp.model.units import MS_PER_MINUTE, EpochMs
from hcp.stack.values import Service
from hcp.topics import CONTROLLER_RESULT, MARKET_PRICE, METRICS_ASIC, METRICS_GPU, OPTIMIZER_RECOMMENDATION
from tests.agent_process import ROOT, AgentProcesses, Reader
from tests.examples import AT, PRICE
from tests.fix_services import OwnStack
from tests.sink_process import Database, fresh_database, sink_process, wait_until
from tests.unit.controllers.world import AWAY, GPU, command

pytestmark = pytest.mark.services
HUBS: Final = {"tx-north": "HB_WEST", "tx-south": "HB_HOUSTON"}
SITES: Final = tuple(HUBS)
PRICES_A_PHASE: Final = 30
COMMANDS_A_PHASE: Final = 2
WAIT_SECONDS_MAX: Final = 180.0
FLUSH_MS_MAX: Final = 180_000


class Child:
    """A process of HCP with a log."""

    def __init__(self, arguments: tuple[str, ...], *, environment: dict[str, str], log: Path) -> None:
        """Start it."""
        self._log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *arguments], cwd=ROOT, env=environment, stdout=output, stderr=output
            )

    def said(self) -> str:
        """Return its log."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def stop(self) -> int:
        """End it by SIGTERM; return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=90)

    def kill(self) -> None:
        """End it whatever happens."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(timeout=90)


def _seeds() -> list[MarketPrice]:
    """Return what mining is scored by, so that recommendations have classes, and these have rows."""
    series = (
        (PriceSeries.BTC, "BTC/USD", 26_000.0),
        (PriceSeries.DIFFICULTY, "BTC", 5.2e13),
        (PriceSeries.BLOCK_SUBSIDY, "BTC", 6.25),
        (PriceSeries.BLOCK_FEES, "BTC", 0.2),
    )
    return [
        replace(PRICE, facility_id=site, series=kind, instrument=instrument, value=value, unit=SERIES_RULES[kind].unit)
        for site in SITES
        for kind, instrument, value in series
    ]


def _prices(phase: int) -> list[MarketPrice]:
    """Return the prices of a phase, each site's later than those before."""
    return [
        replace(
            PRICE,
            facility_id=SITES[number % 2],
            instrument=HUBS[SITES[number % 2]],
            value=float(number),
            observed_at_ms=EpochMs(AT + (phase * PRICES_A_PHASE + number) * MS_PER_MINUTE),
        )
        for number in range(PRICES_A_PHASE)
    ]


def _commands(phase: int) -> list[ControllerCommand]:
    first = phase * COMMANDS_A_PHASE
    return [
        command(GPU, to_mode=AWAY[GPU], devices=(index,), epoch=time.time_ns() // 1_000_000)
        for index in range(first, first + COMMANDS_A_PHASE)
    ]


def _send(producer: RecordProducer, values: list[Any]) -> None:
    for value in values:
        producer.send(value)


@contextmanager
def _children(own_stack: OwnStack, folder: Path) -> Iterator[dict[str, Child]]:
    """Run a controller and a fleet simulator."""
    environment = {
        **os.environ,  # noqa: TID251  # for child processes
        "HCP_KAFKA_BOOTSTRAP": own_stack.addresses.kafka_bootstrap,
        "HCP_REDIS_URL": own_stack.addresses.redis_url,
        "HCP_STATE_DIR": str(folder),
        "HCP_FLEET_FILE": str(ROOT / "fleet.demo.toml"),
    }
    programs = {
        "controller": ("controllers",),
        "simulator": ("hcp", "simulate", "fleet", "--tick-ms", "300"),
    }
    with ExitStack() as cleanup:
        found = {}
        for name, arguments in programs.items():
            found[name] = Child(arguments, environment=environment, log=folder / f"{name}.log")
            cleanup.callback(found[name].kill)
        wait_until(lambda: "controller_ready" in found["controller"].said(), "the controller ready")
        wait_until(lambda: "fleet_started" in found["simulator"].said(), "the simulator started")
        yield found


def _wait(reader: Reader, condition: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + WAIT_SECONDS_MAX
    while not condition():
        assert time.monotonic() < until, f"must be: {what}"
        reader.poll()


def _answers(reader: Reader, prices: list[MarketPrice]) -> dict[int, set[str]]:
    """Return the ids of the recommendations that each price led to, by the price's place."""
    causes = {
        (record.partition, record.offset): prices.index(value)
        for record, value in reader.seen
        if isinstance(value, MarketPrice) and value in prices
    }
    found: dict[int, set[str]] = {place: set() for place in range(len(prices))}
    for _, value in reader.seen:
        if isinstance(value, Recommendation) and (value.cause_partition, value.cause_offset) in causes:
            found[causes[value.cause_partition, value.cause_offset]].add(value.recommendation_id)
    return found


def _results(reader: Reader, order: ControllerCommand) -> list[ControllerResult]:
    return [
        value
        for _, value in reader.seen
        if isinstance(value, ControllerResult) and value.command_id == order.command_id
    ]


def test_every_process_outlives_the_broker(own_stack: OwnStack, tmp_path: Path) -> None:
    """Before, during and after: each price one recommendation by id, each command one result, each event one row."""
    bootstrap = own_stack.addresses.kafka_bootstrap
    producer = RecordProducer(bootstrap=bootstrap, produced_by="test")
    agents = AgentProcesses(bootstrap=bootstrap, directory=tmp_path)
    topics = (MARKET_PRICE, OPTIMIZER_RECOMMENDATION, CONTROLLER_RESULT, METRICS_GPU, METRICS_ASIC)
    reader = Reader(bootstrap=bootstrap, topics=[topic.name for topic in topics])
    prices = [price for phase in range(3) for price in _prices(phase)]
    orders = [order for phase in range(3) for order in _commands(phase)]
    with ExitStack() as cleanup:
        cleanup.callback(reader.close)
        cleanup.callback(agents.stop_all)
        agents.start("optimizer")
        agents.start("orchestrator")
        database = cleanup.enter_context(fresh_database(own_stack.addresses))
        sink = cleanup.enter_context(sink_process(own_stack.addresses, database, tmp_path))
        sink.wait_said("sink_ready")
        children = cleanup.enter_context(_children(own_stack, tmp_path))
        _send(producer, [*_seeds(), *prices[:PRICES_A_PHASE], *orders[:COMMANDS_A_PHASE]])
        producer.flush(timeout_ms=FLUSH_MS_MAX)
        own_stack.kill(Service.KAFKA)
        down = slice(PRICES_A_PHASE, 2 * PRICES_A_PHASE)
        _send(producer, [*prices[down], *orders[COMMANDS_A_PHASE : 2 * COMMANDS_A_PHASE]])
        producer.flush(timeout_ms=FLUSH_MS_MAX)
        back_ms = time.time_ns() // 1_000_000
        _send(producer, [*prices[2 * PRICES_A_PHASE :], *orders[2 * COMMANDS_A_PHASE :]])
        producer.flush(timeout_ms=FLUSH_MS_MAX)
        _wait(reader, lambda: all(_answers(reader, prices).values()), "a recommendation for each price")
        _wait(reader, lambda: all(_results(reader, order) for order in orders), "a result for each command")
        _wait(reader, lambda: _is_measured(reader, back_ms), "telemetry again")
        wait_until(lambda: database.count("market_prices") == len(prices) + len(_seeds()), "each price a row")
        wait_until(lambda: database.count("switches") == len(orders), "each result a row")
        ids = [each for found in _answers(reader, prices).values() for each in found]
        assert len(ids) == len(set(ids)) == len(prices)
        assert all(len(set(_results(reader, order))) == 1 for order in orders)
        scored = {value.recommendation_id for _, value in reader.seen if _is_scored(value)}
        assert set(ids) <= scored
        wait_until(lambda: _stored_ids(database) == scored, "each recommendation stored")
        codes = {name: child.stop() for name, child in children.items()}
        codes |= {name: agents.stop(name) for name in ("optimizer", "orchestrator")}
        assert codes == dict.fromkeys(codes, 0)
    producer.close()


def _is_scored(value: object) -> bool:
    return isinstance(value, Recommendation) and bool(value.classes)


def _stored_ids(database: Database) -> set[str]:
    rows = database.ask("select distinct recommendation_id from recommendations")
    return {str(row["recommendation_id"]) for row in rows}


def _is_measured(reader: Reader, since_ms: int) -> bool:
    return any(
        record.timestamp_ms >= since_ms and isinstance(value, GpuTelemetry | AsicTelemetry)
        for record, value in reader.seen
    )
