"""Agents that die, double and meet bad bytes, on a broker of their own; what must come out is folded from the input."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any, Final

import msgspec
import pytest
from confluent_kafka.admin import AdminClient
from fastavro import parse_schema, schemaless_writer

import schemas
from hcp.codecs import fingerprint_of
from hcp.fleet import load_fleet
from hcp.kafka.admin import group_lag
from hcp.kafka.producer import RecordProducer
from hcp.model.devices import DeviceMode
from hcp.model.facilities import Shard
from hcp.model.ledger import Alert, AlertType
from hcp.model.markets import MarketPrice
from hcp.model.recommendations import Recommendation
from hcp.model.rejections import DeadLetter, RejectReason
from hcp.model.resources import ResourceState
from hcp.model.steps import Cause, Step
from hcp.model.telemetry import AsicTelemetry, GpuTelemetry
from hcp.model.units import EpochMs
from hcp.topics import ALERTS, MARKET_PRICE, METRICS_ASIC, METRICS_GPU, OPTIMIZER_RECOMMENDATION, RESOURCE_STATE
from streams.fleet_monitor import ShardState, on_telemetry
from tests.agent_process import ROOT, AgentProcesses, Reader
from tests.examples import ASIC_TELEMETRY, AT, GPU_TELEMETRY, PRICE
from tests.fix_services import OwnStack

pytestmark = pytest.mark.services
FLEET: Final = load_fleet(ROOT / "fleet.demo.toml")
MODES: Final = {
    "gpu": (DeviceMode.AI_INFERENCE, DeviceMode.MINING),
    "asic": (DeviceMode.MINING, DeviceMode.SLEEP),
}
TICK_MS: Final = 1_000
TICKS_A_ROUND: Final = 40
HOT_CELSIUS: Final = 120.0
KILLS: Final = 2
WAIT_SECONDS_MAX: Final = 180.0


@dataclass(slots=True, kw_only=True)
class Flow:
    """Agents, a producer and a reader on this module's own broker, and the event time that has been reached."""

    bootstrap: str
    agents: AgentProcesses
    producer: RecordProducer
    reader: Reader
    tick: int = 0

    def send(self, *values: object) -> None:
        """Send and wait for the broker."""
        for value in values:
            self.producer.send(value)
        self.producer.flush()

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Read until a condition holds."""
        until = time.monotonic() + WAIT_SECONDS_MAX
        while not condition():
            assert time.monotonic() < until, f"in {WAIT_SECONDS_MAX:.0f} s must be: {what}"
            self.reader.poll()

    def settle(self, group: str, *topics: str) -> None:
        """Wait until a group has committed all there is, whose effects are sent before, and read these effects."""
        self.wait(lambda: group_lag(self.bootstrap, group, topics) == 0, f"{group} is done")
        while self.reader.poll():
            pass


@pytest.fixture(scope="module")
def flow(own_stack: OwnStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    """Give the flow without an agent; end whatever a test has started."""
    bootstrap = own_stack.addresses.kafka_bootstrap
    agents = AgentProcesses(bootstrap=bootstrap, directory=tmp_path_factory.mktemp("agents"))
    topics = (METRICS_GPU, METRICS_ASIC, RESOURCE_STATE, ALERTS, MARKET_PRICE, OPTIMIZER_RECOMMENDATION)
    reader = Reader(bootstrap=bootstrap, topics=[*(topic.name for topic in topics), MARKET_PRICE.dead])
    producer = RecordProducer(bootstrap=bootstrap, produced_by="test")
    try:
        yield Flow(bootstrap=bootstrap, agents=agents, producer=producer, reader=reader)
    finally:
        agents.stop_all()
        reader.close()
        producer.close()


def _batch(shard: Shard, tick: int) -> GpuTelemetry | AsicTelemetry:
    """Return a tick in which one device differs from the tick before; in every tenth one device begins to overheat."""
    kind = "gpu" if ".gpu-" in shard.shard_id else "asic"
    base: Any = GPU_TELEMETRY if kind == "gpu" else ASIC_TELEMETRY
    indexes = tuple(range(shard.device_count))
    heat = "temperature_celsius" if kind == "gpu" else "chip_temperature_celsius"
    columns: dict[str, tuple[object, ...]] = {
        name: (value[0],) * shard.device_count
        for name in base.__slots__
        if isinstance(value := getattr(base, name), tuple)
    }
    columns["device_indexes"] = indexes
    columns["modes"] = tuple(MODES[kind][index == tick % shard.device_count] for index in indexes)
    columns[heat] = tuple(HOT_CELSIUS if index == tick // 10 % shard.device_count else 50.0 for index in indexes)
    batch: GpuTelemetry | AsicTelemetry = replace(
        base,
        facility_id=shard.facility_id,
        cluster_id=shard.cluster_id,
        shard_id=shard.shard_id,
        device_class=shard.device_class,
        observed_at_ms=EpochMs(AT + tick * TICK_MS),
        **columns,
    )
    return batch


def _send_ticks(flow: Flow, *, until_tick: int) -> None:
    """Send every shard's next ticks."""
    for tick in range(flow.tick, until_tick):
        for shard in FLEET.shards():
            flow.producer.send(_batch(shard, tick))
    flow.tick = until_tick
    flow.producer.flush()


def _expected(flow: Flow) -> tuple[list[object], dict[str, ShardState]]:
    """Return the outputs and the last states that all telemetry on the broker leads to, each record taken in once."""
    states: dict[str, ShardState] = {}
    outputs: list[object] = []
    batches = [(record, value) for record, value in flow.reader.seen if isinstance(value, GpuTelemetry | AsicTelemetry)]
    for record, value in sorted(batches, key=lambda pair: (pair[0].topic, pair[0].partition, pair[0].offset)):
        cause = Cause(
            topic=record.topic, partition=record.partition, offset=record.offset, timestamp_ms=record.timestamp_ms
        )
        step = on_telemetry(states.get(value.shard_id), value, fleet=FLEET, cause=cause)
        assert isinstance(step, Step)
        outputs.extend(step.outputs)
        states.update(step.updates)
    return outputs, states


def _assert_monitored(flow: Flow) -> None:
    """Each report and alert that must be is there, no other is, and each shard's last report is its last state."""
    flow.settle("hcp-fleet_monitor", METRICS_GPU.name, METRICS_ASIC.name)
    outputs, states = _expected(flow)
    sent = [value for _, value in flow.reader.seen if isinstance(value, ResourceState | Alert)]
    reports = {value for value in sent if isinstance(value, ResourceState)}
    alerts = {value for value in sent if isinstance(value, Alert)}
    assert reports == {value for value in outputs if isinstance(value, ResourceState)}
    assert alerts == {value for value in outputs if isinstance(value, Alert)}
    assert len({alert.alert_id for alert in alerts}) == len(alerts)
    assert {alert.alert_type for alert in alerts} == {AlertType.DEVICE_OVERHEATED}
    last = {value.shard_id: value for value in sent if isinstance(value, ResourceState)}
    assert {name: (each.modes, each.states) for name, each in last.items()} == {
        name: (each.modes, each.states) for name, each in states.items()
    }
    assert set(states) == {shard.shard_id for shard in FLEET.shards()}


def _reports(flow: Flow) -> int:
    return len(flow.reader.present(lambda _, value: isinstance(value, ResourceState)))


def test_a_monitor_killed_in_the_middle_loses_no_report_and_doubles_no_alert(flow: Flow) -> None:
    """Kill -9 in the middle of telemetry, more than once: reports and alerts are those of one undisturbed run."""
    _send_ticks(flow, until_tick=TICKS_A_ROUND)
    for round_ in range(KILLS):
        before = _reports(flow)
        flow.agents.start("fleet_monitor")
        flow.reader.find(lambda _, value: isinstance(value, ResourceState), count=before + 1)
        flow.agents.kill("fleet_monitor")
        _send_ticks(flow, until_tick=TICKS_A_ROUND * (round_ + 2))
    flow.agents.start("fleet_monitor")
    _assert_monitored(flow)


def test_a_monitor_remembers_what_it_has_reported(flow: Flow) -> None:
    """After kill -9 with nothing left to read: the same again is no news, the late stays late, the hot stays known."""
    flow.agents.kill("fleet_monitor")
    same = [replace(_batch(shard, flow.tick - 1), observed_at_ms=_at(flow.tick)) for shard in FLEET.shards()]
    late = [_batch(shard, flow.tick - 2) for shard in FLEET.shards()]
    before = _reports(flow)
    flow.agents.start("fleet_monitor")
    flow.send(*same, *late)
    flow.tick += 1
    _assert_monitored(flow)
    assert _reports(flow) == before


def _at(tick: int) -> EpochMs:
    return EpochMs(AT + tick * TICK_MS)


def _shares(flow: Flow, group: str) -> list[int]:
    """Return how many partitions of telemetry each member of a group owns."""
    admin = AdminClient({"bootstrap.servers": flow.bootstrap})
    found = admin.describe_consumer_groups([group])[group].result(timeout=WAIT_SECONDS_MAX)
    topics = {METRICS_GPU.name, METRICS_ASIC.name}
    return sorted(sum(each.topic in topics for each in member.assignment.topic_partitions) for member in found.members)


def test_two_monitors_share_the_work_and_report_every_shard(flow: Flow) -> None:
    """A second worker takes a part of the partitions; over its join, and kill -9 of the first, nothing goes missing."""
    _send_ticks(flow, until_tick=flow.tick + TICKS_A_ROUND)
    flow.agents.start("fleet_monitor", instance="1")
    _send_ticks(flow, until_tick=flow.tick + TICKS_A_ROUND)
    flow.wait(lambda: len(_shares(flow, "hcp-fleet_monitor")) == 2, "two members")
    flow.wait(lambda: min(_shares(flow, "hcp-fleet_monitor")) > 0, "both own partitions")
    shares = _shares(flow, "hcp-fleet_monitor")
    assert sum(shares) == METRICS_GPU.partitions + METRICS_ASIC.partitions
    _assert_monitored(flow)
    _send_ticks(flow, until_tick=flow.tick + TICKS_A_ROUND)
    flow.agents.kill("fleet_monitor")
    _assert_monitored(flow)
    assert flow.agents.stop("fleet_monitor", instance="1") == 0


def _crafted(**changes: object) -> bytes:
    """Return a price as Avro bytes that our own encoder would refuse to make."""
    schema = next(schema for _, schema in schemas.current() if schema["name"] == MarketPrice.__name__)
    body = BytesIO()
    body.write(b"\xc3\x01" + fingerprint_of(schema))
    schemaless_writer(body, parse_schema(schema), msgspec.to_builtins(PRICE) | changes)
    return body.getvalue()


YEAR_1970_MS, YEAR_2100_MS = 0, 4_102_444_800_000
FLOATS_RULE: Final = "from -1e+18 to 1e+18"
PRICE_RULE: Final = "from -5000 to 100000 usd_per_mwh for energy_real_time"
BAD_PRICES: Final[tuple[tuple[dict[str, object], RejectReason, str], ...]] = (
    ({"value": math.nan}, RejectReason.OUT_OF_RANGE, FLOATS_RULE),
    ({"value": math.inf}, RejectReason.OUT_OF_RANGE, FLOATS_RULE),
    ({"value": -math.inf}, RejectReason.OUT_OF_RANGE, FLOATS_RULE),
    ({"value": 1e12}, RejectReason.OUT_OF_RANGE, PRICE_RULE),
    ({"value": -1e12}, RejectReason.OUT_OF_RANGE, PRICE_RULE),
    ({"observed_at_ms": YEAR_1970_MS}, RejectReason.OUT_OF_RANGE, "from 1.23094e+12"),
    ({"interval_start_ms": YEAR_1970_MS}, RejectReason.OUT_OF_RANGE, "from 1.23094e+12"),
    ({"observed_at_ms": YEAR_2100_MS}, RejectReason.FROM_THE_FUTURE, "at most 60000 ms after the record's timestamp"),
)


def test_valid_avro_with_a_bad_value_is_dead_lettered_with_field_value_and_rule(flow: Flow) -> None:
    """NaN, infinities, absurd prices and years: each letter says what broke which rule, and the flow goes on."""
    flow.agents.start("optimizer")
    partition = MARKET_PRICE.partition_of(PRICE)
    good = [replace(PRICE, value=float(number), observed_at_ms=_at(number)) for number in range(len(BAD_PRICES))]
    for number, (changes, _, _) in enumerate(BAD_PRICES):
        flow.producer.send_raw(MARKET_PRICE.name, b"%d" % number, _crafted(**changes), partition=partition)
        flow.producer.send(good[number])
    flow.producer.flush()
    letters = flow.reader.find(lambda _, value: isinstance(value, DeadLetter), count=len(BAD_PRICES))
    assert [letter.record_key for _, letter in letters] == [b"%d" % number for number in range(len(BAD_PRICES))]
    for (_, letter), (changes, reason, rule) in zip(letters, BAD_PRICES, strict=True):
        ((field, value),) = changes.items()
        assert letter.reason is reason
        assert letter.detail.startswith(f"{field} must be {rule}"), letter.detail
        assert letter.detail.endswith(f"was {value}"), letter.detail
        assert letter.record_value == _crafted(**changes)
    answers = flow.reader.find(lambda _, value: isinstance(value, Recommendation), count=len(good))
    shown = [(answer.observed_at_ms, answer.market.energy_price_usd_per_mwh) for _, answer in answers]
    assert shown == [(price.observed_at_ms, price.value) for price in good]
    assert flow.agents.stop("optimizer") == 0
