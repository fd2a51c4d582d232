"""What a live platform decided, decided again from its topics by the same pure functions: the same bytes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest

from hcp.codecs import encode
from hcp.fleet import load_fleet
from hcp.kafka.records import ConsumedRecord
from hcp.model.commands import DecisionAction, OrchestratorCommand
from hcp.model.facilities import Fleet
from hcp.model.markets import MarketPrice
from hcp.model.recommendations import Recommendation
from hcp.model.rejections import Rejected
from hcp.model.resources import ResourceState
from hcp.model.steps import Cause
from hcp.topics import MARKET_PRICE, OPTIMIZER_RECOMMENDATION, ORCHESTRATOR_COMMAND, RESOURCE_STATE
from simulators.market import sample_start_ms
from streams.inventory import SiteInventory, on_resource_state
from streams.market import MarketState
from streams.optimizer import on_price
from tests.agent_process import ROOT, AgentProcesses, Reader
from tests.decision_history import decided_again
from tests.fix_services import OwnStack

pytestmark = pytest.mark.services
FLEET_FILE: Final = "fleet.demo.toml"
SPEED: Final = 10_800.0
"""Three hours a second: prices of all sites come a few milliseconds apart, while devices take their time."""
SWITCHES_MIN: Final = 12
PLAY_SECONDS_MAX: Final = 180.0
QUIET_SECONDS: Final = 3.0
POLICY: Final = "lcp"
Value = TypeVar("Value")


@contextmanager
def _child(name: str, arguments: tuple[str, ...], *, environment: dict[str, str], folder: Path) -> Iterator[None]:
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=90)


@contextmanager
def _platform(own_stack: OwnStack, folder: Path, agents: AgentProcesses) -> Iterator[None]:
    """Run agents, a controller, a simulated fleet and the recorded week; no prices any more when it is left."""
    environment = {
        **os.environ,  # noqa: TID251  # for child processes
        "HCP_KAFKA_BOOTSTRAP": own_stack.addresses.kafka_bootstrap,
        "HCP_REDIS_URL": own_stack.addresses.redis_url,
        "HCP_STATE_DIR": str(folder),
        "HCP_FLEET_FILE": str(ROOT / FLEET_FILE),
    }
    clock = ("--speed", str(SPEED), "--origin-ms", str(sample_start_ms()), "--started-ms", str(time.time_ns() // 10**6))
    for name in ("fleet_monitor", "optimizer", "resources"):
        agents.start(name)
    agents.start("orchestrator", "--policy", POLICY)
    with ExitStack() as cleanup:
        for name, arguments in {
            "controller": ("controllers",),
            "fleet": ("hcp", "simulate", "fleet", *clock),
            "market": ("hcp", "simulate", "market", *clock),
        }.items():
            cleanup.enter_context(_child(name, arguments, environment=environment, folder=folder))
        yield


def _switch_count(reader: Reader) -> int:
    return len(reader.present(lambda _, value: _is_switch(value)))


def _is_switch(value: object) -> bool:
    return isinstance(value, OrchestratorCommand) and value.action is DecisionAction.SWITCH


def _read_until(reader: Reader, switch_count: int) -> None:
    until = time.monotonic() + PLAY_SECONDS_MAX
    while _switch_count(reader) < switch_count:
        assert time.monotonic() < until, f"{switch_count} switches must come, was {_switch_count(reader)}"
        reader.poll()


def _read_all(reader: Reader) -> None:
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < QUIET_SECONDS:
        if reader.poll():
            quiet_since = time.monotonic()


def _of(reader: Reader, kind: type[Value]) -> list[tuple[Value, Cause]]:
    """Return the values of a kind with their records, each partition in its order."""
    found: list[tuple[ConsumedRecord, Any]] = reader.present(lambda _, value: isinstance(value, kind))
    return [
        (
            value,
            Cause(
                topic=record.topic, partition=record.partition, offset=record.offset, timestamp_ms=record.timestamp_ms
            ),
        )
        for record, value in sorted(found, key=lambda pair: (pair[0].partition, pair[0].offset))
    ]


def _encoded(commands: list[OrchestratorCommand]) -> dict[str, list[bytes]]:
    """Return each site's decisions in order; a repeat (at least once) is the same bytes and counts once."""
    found: dict[str, dict[bytes, None]] = {}
    for command in commands:
        found.setdefault(command.facility_id, {})[encode(command)] = None
    return {facility_id: list(each) for facility_id, each in found.items()}


def _recommended_again(
    prices: Iterable[tuple[MarketPrice, Cause]],
    reports: Sequence[tuple[ResourceState, Cause]],
    *,
    counted_until: Sequence[int | None],
    fleet: Fleet,
) -> Iterator[Recommendation]:
    """Yield what each price of one site led to.

    Args:
        prices: The site's, in the order of their topic.
        reports: The site's, in the order of their topic.
        counted_until: For each price that led to a recommendation, the last offset of `reports` counted in it.
        fleet: As it was.
    """
    market: MarketState | None = None
    inventory: SiteInventory | None = None
    waiting, limits = list(reversed(reports)), iter(counted_until)
    limit: int | None = next(limits, None)
    for price, cause in prices:
        while waiting and limit is not None and waiting[-1][1].offset <= limit:
            report, report_cause = waiting.pop()
            counted = on_resource_state(inventory, report, fleet=fleet, cause=report_cause)
            if not isinstance(counted, Rejected):
                inventory = dict(counted.updates).get(price.facility_id, inventory)
        step = on_price(market, price, inventory=inventory, fleet=fleet, cause=cause)
        if isinstance(step, Rejected):
            continue
        market = dict(step.updates).get(price.facility_id, market)
        for output in step.outputs:
            if isinstance(output, Recommendation):
                yield output
                limit = next(limits, None)


def test_live_and_backtest_decide_the_same_bytes(own_stack: OwnStack, tmp_path: Path) -> None:
    """With the orchestrator killed in the middle: its memory comes back, and its decisions follow from topics alone."""
    bootstrap = own_stack.addresses.kafka_bootstrap
    agents = AgentProcesses(bootstrap=bootstrap, directory=tmp_path)
    topics = (MARKET_PRICE, RESOURCE_STATE, OPTIMIZER_RECOMMENDATION, ORCHESTRATOR_COMMAND)
    reader = Reader(bootstrap=bootstrap, topics=[topic.name for topic in topics])
    with ExitStack() as cleanup:
        cleanup.callback(reader.close)
        cleanup.callback(agents.stop_all)
        with _platform(own_stack, tmp_path, agents):
            _read_until(reader, SWITCHES_MIN // 3)
            agents.kill("orchestrator")
            agents.start("orchestrator", "--policy", POLICY)
            _read_until(reader, SWITCHES_MIN)
        _read_all(reader)
    fleet = load_fleet(ROOT / FLEET_FILE)
    _check_decisions(reader, fleet=fleet)
    _check_recommendations(reader, [value for value, _ in _of(reader, Recommendation)], fleet=fleet)


def _check_decisions(reader: Reader, *, fleet: Fleet) -> None:
    live = _encoded([value for value, _ in _of(reader, OrchestratorCommand)])
    read = reader.present(lambda _, value: isinstance(value, Recommendation))
    again = _encoded(decided_again([record for record, _ in read], fleet=fleet, policy=POLICY))
    assert live == again
    assert sum(map(len, live.values())) >= SWITCHES_MIN


def _check_recommendations(reader: Reader, live: list[Recommendation], *, fleet: Fleet) -> None:
    for site in fleet.facilities:
        wanted = [each for each in live if each.facility_id == site.facility_id]
        again = _recommended_again(
            [(price, cause) for price, cause in _of(reader, MarketPrice) if price.facility_id == site.facility_id],
            [(report, cause) for report, cause in _of(reader, ResourceState) if report.facility_id == site.facility_id],
            counted_until=[each.resource_state_offset for each in wanted],
            fleet=fleet,
        )
        assert [encode(each) for each in again] == [encode(each) for each in wanted]
        assert any(each.devices for each in wanted)
