"""Agents as processes on a real broker: causes, bad records, late ones, recovery after kill -9, a second worker."""

import math
import time
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import count
from typing import Any, Final

import msgspec
import pytest
from fastavro import parse_schema, schemaless_writer

import schemas
from hcp.codecs import encode, fingerprint_of
from hcp.kafka.admin import ensure_topics, group_lag
from hcp.kafka.producer import RecordProducer
from hcp.kafka.records import ConsumedRecord
from hcp.model.markets import SERIES_RULES, MarketPrice, PriceSeries
from hcp.model.recommendations import Recommendation
from hcp.model.rejections import DeadLetter, RejectReason
from hcp.model.units import MS_PER_MINUTE, EpochMs
from hcp.stack import StackAddresses
from hcp.topics import MARKET_PRICE, METRICS_GPU, OPTIMIZER_RECOMMENDATION, RESOURCE_STATE, topic_of
from tests.agent_process import AgentProcesses, Reader
from tests.examples import AT, AUDIT, GPU_TELEMETRY, PRICE

pytestmark = pytest.mark.services
SITES: Final = ("tx-north", "tx-south")
GLOBAL_PRICES: Final = (
    (PriceSeries.BTC, "BTC/USD", 26_000.0),
    (PriceSeries.DIFFICULTY, "BTC", 5.2e13),
    (PriceSeries.BLOCK_SUBSIDY, "BTC", 6.25),
    (PriceSeries.BLOCK_FEES, "BTC", 0.2),
)
BACKLOG: Final = 5_000
COMMIT_SECONDS_MAX: Final = 120.0
_minutes = count(1)


def _next_ms() -> EpochMs:
    """Return an event time later than any before in this run."""
    return EpochMs(AT + next(_minutes) * MS_PER_MINUTE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """What a test needs: processes, a producer, a reader."""

    agents: AgentProcesses
    producer: RecordProducer
    reader: Reader

    def send(self, *values: object) -> None:
        """Send and wait for the broker."""
        for value in values:
            self.producer.send(value)
        self.producer.flush()

    def address(self, price: MarketPrice) -> ConsumedRecord:
        """Return the (last) record that carries this price."""
        return self.reader.find(lambda _, value: value == price)[-1][0]

    def recommendation(self, price: MarketPrice) -> tuple[ConsumedRecord, Recommendation]:
        """Wait for the recommendation that this price caused."""
        return self.reader.find(_caused_by(self.address(price)))[0]


def _caused_by(cause: ConsumedRecord) -> Callable[[ConsumedRecord, Any], bool]:
    def wanted(_: ConsumedRecord, value: object) -> bool:
        return isinstance(value, Recommendation) and (value.cause_partition, value.cause_offset) == (
            cause.partition,
            cause.offset,
        )

    return wanted


def _price(value: float = 30.0, *, site: str = "tx-north", at: EpochMs | None = None) -> MarketPrice:
    return replace(PRICE, facility_id=site, value=value, observed_at_ms=at or _next_ms())


def _global_prices(site: str) -> list[MarketPrice]:
    return [
        replace(
            _price(value, site=site),
            series=series,
            instrument=instrument,
            unit=SERIES_RULES[series].unit,
        )
        for series, instrument, value in GLOBAL_PRICES
    ]


@pytest.fixture(scope="module")
def flow(services: StackAddresses, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    """Run the optimizer and the fleet monitor; end them whatever happens."""
    bootstrap = services.kafka_bootstrap
    ensure_topics(bootstrap)
    agents = AgentProcesses(bootstrap=bootstrap, directory=tmp_path_factory.mktemp("agents"))
    topics = [OPTIMIZER_RECOMMENDATION, MARKET_PRICE, RESOURCE_STATE]
    reader = Reader(
        bootstrap=bootstrap, topics=[*(topic.name for topic in topics), MARKET_PRICE.dead, METRICS_GPU.dead]
    )
    try:
        agents.start("optimizer")
        agents.start("fleet_monitor")
        yield Flow(agents=agents, producer=RecordProducer(bootstrap=bootstrap, produced_by="test"), reader=reader)
    finally:
        agents.stop_all()
        reader.close()


def test_a_price_becomes_one_recommendation_in_its_trace(flow: Flow) -> None:
    """A recommendation names the record that caused it and stays in its trace."""
    price = _price()
    flow.send(price)
    cause = flow.address(price)
    record, advice = flow.recommendation(price)
    assert (advice.cause_topic, advice.cause_timestamp_ms) == ("market.price", cause.timestamp_ms)
    assert advice.facility_id == "tx-north"
    assert record.partition == cause.partition
    traces = [dict(each.headers)["traceparent"].split(b"-") for each in (cause, record)]
    assert traces[0][1] == traces[1][1]
    assert traces[0][2] != traces[1][2]
    assert dict(record.headers)["produced_by"] == b"agent.optimizer"


def _crafted(value: object, /, **changes: object) -> bytes:
    """Return bytes that our own encoder would refuse to make."""
    schema = dict(_schemas_by_name())[type(value).__name__]
    body = BytesIO()
    body.write(b"\xc3\x01" + fingerprint_of(schema))
    fields = msgspec.to_builtins(value, builtin_types=(bytes,)) | changes
    schemaless_writer(body, parse_schema(schema), fields)
    return body.getvalue()


def _schemas_by_name() -> Iterator[tuple[str, schemas.Schema]]:
    """Yield every current schema with its record's name."""
    for _, schema in schemas.current():
        yield schema["name"], schema


BAD_PRICES: Final[tuple[tuple[str, Callable[[], bytes], RejectReason], ...]] = (
    ("junk", lambda: b"\x00\xffjunk", RejectReason.NOT_A_RECORD),
    ("schema", lambda: b"\xc3\x01" + bytes(8) + b"body", RejectReason.UNKNOWN_SCHEMA),
    ("cut", lambda: encode(PRICE)[:-4], RejectReason.UNDECODABLE),
    ("audit", lambda: encode(AUDIT), RejectReason.WRONG_TYPE),
    ("nan", lambda: _crafted(PRICE, value=math.nan), RejectReason.OUT_OF_RANGE),
    ("huge", lambda: _crafted(PRICE, value=1e12), RejectReason.OUT_OF_RANGE),
    ("1970", lambda: _crafted(PRICE, observed_at_ms=0), RejectReason.OUT_OF_RANGE),
    (
        "future",
        lambda: encode(_price(at=EpochMs(round(time.time()) * 1_000 + 600_000))),
        RejectReason.FROM_THE_FUTURE,
    ),
    ("site", lambda: encode(replace(PRICE, facility_id="nowhere")), RejectReason.UNKNOWN_FACILITY),
)


def test_each_kind_of_bad_price_is_dead_lettered_and_the_flow_goes_on(flow: Flow) -> None:
    """A bad record is kept whole with its reason and stops nothing behind it in its partition."""
    partition = MARKET_PRICE.partition_of(PRICE)
    sent = {name: make() for name, make, _ in BAD_PRICES}
    for name, raw in sent.items():
        flow.producer.send_raw(MARKET_PRICE.name, name.encode(), raw, partition=partition)
    after = _price()
    flow.send(after)
    flow.recommendation(after)
    letters = flow.reader.find(lambda _, value: _is_letter(value, "market.price", set(sent.values())), count=len(sent))
    reasons = {value.record_key: (value.record_value, value.reason) for _, value in letters}
    assert reasons == {name.encode(): (sent[name], reason) for name, _, reason in BAD_PRICES}
    assert {value.rejected_by for _, value in letters} == {"agent.optimizer"}


def _is_letter(value: object, topic: str, sent: Container[bytes]) -> bool:
    """Return whether it is about one of the records sent: other tests' letters lie on the same topic."""
    return isinstance(value, DeadLetter) and value.source_topic == topic and value.record_value in sent


def test_bad_telemetry_is_dead_lettered_and_the_shard_still_reported(flow: Flow) -> None:
    """Columns that do not fit, shards and devices the fleet does not have: refused, the next batch counts."""
    bad = {
        _crafted(GPU_TELEMETRY, power_watts=[650.0]): RejectReason.UNEQUAL_COLUMNS,
        encode(replace(GPU_TELEMETRY, shard_id="tx-north.gpu-1/99")): RejectReason.UNKNOWN_SHARD,
        encode(replace(GPU_TELEMETRY, device_indexes=(0, 99))): RejectReason.UNKNOWN_DEVICE,
        encode(replace(GPU_TELEMETRY, device_class="a100")): RejectReason.UNKNOWN_DEVICE_CLASS,
    }
    partition = METRICS_GPU.partition_of(GPU_TELEMETRY)
    for raw in bad:
        flow.producer.send_raw(METRICS_GPU.name, None, raw, partition=partition)
    good = replace(GPU_TELEMETRY, observed_at_ms=_next_ms())
    flow.send(good)
    flow.reader.find(
        lambda record, value: record.topic == RESOURCE_STATE.name and value.observed_at_ms == good.observed_at_ms
    )
    letters = flow.reader.find(lambda _, value: _is_letter(value, "metrics.gpu", bad), count=len(bad))
    assert {value.record_value: value.reason for _, value in letters} == bad


def test_a_duplicate_and_a_late_price_have_no_effect(flow: Flow) -> None:
    """Delivery at least once and out of order gives the same recommendations as once and in order."""
    early, price = _price(10.0), _price(20.0)
    flow.send(price, price, early)
    after = _price(25.0)
    flow.send(after)
    flow.recommendation(after)
    copies = flow.reader.find(lambda _, value: value == price, count=2)
    answered = [len(flow.reader.present(_caused_by(record))) for record, _ in copies]
    assert answered == [1, 0]
    assert flow.reader.present(_caused_by(flow.address(early))) == []


def test_a_killed_optimizer_goes_on_from_its_recovered_table(flow: Flow) -> None:
    """After kill -9 the prices known before are known again: full scores, and what is late stays late."""
    before = _price(30.0)
    known = [before, *_global_prices("tx-north")]
    flow.send(*known)
    _, full = flow.recommendation(known[-1])
    assert "s21" in {scored.device_class for scored in full.classes}
    flow.agents.kill("optimizer")
    flow.agents.start("optimizer")
    late, fresh = _price(99.0, at=EpochMs(before.observed_at_ms - 1)), _price(40.0)
    flow.send(late, fresh)
    _, advice = flow.recommendation(fresh)
    assert advice.market.btc_price_usd == 26_000.0
    assert advice.market.energy_price_usd_per_mwh == 40.0
    assert [each.device_class for each in advice.classes] == [each.device_class for each in full.classes]
    assert flow.reader.present(_caused_by(flow.address(late))) == []


def test_a_backlog_after_a_restart_loses_nothing(flow: Flow, services: StackAddresses) -> None:
    """Each price that arrived while the optimizer was down is answered, and its offset committed."""
    assert flow.agents.stop("optimizer") == 0
    prices = [_price(float(number % 90), site=SITES[number % 2]) for number in range(BACKLOG)]
    flow.send(*prices)
    flow.agents.start("optimizer")
    sent = {price.observed_at_ms for price in prices}
    flow.reader.find(
        lambda _, value: isinstance(value, Recommendation) and value.observed_at_ms in sent, count=len(prices)
    )
    until = time.monotonic() + COMMIT_SECONDS_MAX
    while lag := group_lag(services.kafka_bootstrap, "hcp-optimizer", [MARKET_PRICE.name]):
        assert time.monotonic() < until, f"all offsets must be committed, was {lag} behind"


def test_a_second_worker_joins_and_takes_over_without_loss(flow: Flow) -> None:
    """Over a join, and a take-over once the first worker has left, each price has one recommendation by id."""
    prices = [_price(float(number), site=SITES[number % 2]) for number in range(40)]
    flow.send(*prices[:10])
    flow.agents.start("optimizer", instance="1")
    flow.send(*prices[10:30])
    flow.recommendation(prices[29])
    assert flow.agents.stop("optimizer") == 0
    flow.send(*prices[30:])
    found = [flow.recommendation(price)[1] for price in prices]
    assert len({advice.recommendation_id for advice in found}) == len(prices)
    sent = {price.observed_at_ms for price in prices}
    answered = flow.reader.present(lambda _, value: isinstance(value, Recommendation) and value.observed_at_ms in sent)
    assert {value.recommendation_id for _, value in answered} == {advice.recommendation_id for advice in found}
    assert {topic_of(value).partition_of(value) == record.partition for record, value in answered} == {True}
