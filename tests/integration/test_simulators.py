"""The simulators on a real broker: the week arrives whole and in order; the fleet follows its controllers."""

import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from hcp.codecs import decode
from hcp.fleet import load_fleet
from hcp.kafka.admin import ensure_topics
from hcp.kafka.consumer import BatchConsumer
from hcp.kafka.producer import RecordProducer
from hcp.kafka.records import ConsumedRecord
from hcp.model.commands import ControllerResult, DeviceOutcome
from hcp.model.devices import DeviceMode
from hcp.model.markets import MarketPrice
from hcp.model.rejections import Rejected, RejectReason
from hcp.model.telemetry import AsicTelemetry
from hcp.model.units import EpochMs
from hcp.settings import Settings, load_settings
from hcp.stack import StackAddresses
from hcp.topics import MARKET_PRICE, METRICS_ASIC, METRICS_GPU
from simulators.market import run_market, sample_start_ms
from tests.examples import RESULT

pytestmark = pytest.mark.services
ROOT = Path(__file__).parents[2]
DEMO = load_fleet(ROOT / "fleet.demo.toml")
POLLS_MAX = 150
WEEK_RECORDS = 2_766


def _settings(services: StackAddresses) -> Settings:
    return load_settings(kafka_bootstrap=services.kafka_bootstrap, fleet_file=ROOT / "fleet.demo.toml")


def _consumer(services: StackAddresses, *topics: str) -> BatchConsumer:
    return BatchConsumer(bootstrap=services.kafka_bootstrap, group=f"g-{uuid4().hex}", topics=topics)


def _sent_since(consumer: BatchConsumer, since_ms: int, count: int) -> list[ConsumedRecord]:
    """Return at least `count` records with a broker timestamp from `since_ms` on, as far as polling finds them."""
    records: list[ConsumedRecord] = []
    for _ in range(POLLS_MAX):
        records += [r for r in consumer.poll(records_max=5_000, timeout_ms=200) if r.timestamp_ms >= since_ms]
        if len(records) >= count:
            break
    return records


def test_the_sample_week_arrives_whole_and_in_order(services: StackAddresses) -> None:
    """As fast as possible: every record once, event time never back within a facility, wall-clock timestamps."""
    ensure_topics(services.kafka_bootstrap)
    consumer = _consumer(services, MARKET_PRICE.name)
    began_ms = time.time_ns() // 1_000_000
    assert run_market(settings=_settings(services), fleet=DEMO, speed_ratio=0.0) == 0
    records = _sent_since(consumer, began_ms, WEEK_RECORDS)
    consumer.close()
    prices = [decode(record.value) for record in sorted(records, key=lambda r: (r.partition, r.offset))]
    assert len(prices) == WEEK_RECORDS
    assert all(isinstance(price, MarketPrice) for price in prices)
    for site in DEMO.facilities:
        times = [price.observed_at_ms for price in prices if price.facility_id == site.facility_id]
        assert all(before <= after for before, after in pairwise(times))
        assert times[-1] == sample_start_ms() + 7 * 24 * 3_600_000


def test_speed_spreads_events_over_wall_time(services: StackAddresses) -> None:
    """Two hours of events at 3,600 take two seconds, by the broker's timestamps."""
    ensure_topics(services.kafka_bootstrap)
    consumer = _consumer(services, MARKET_PRICE.name)
    began_ms = time.time_ns() // 1_000_000
    origin_ms = sample_start_ms()
    run_market(
        settings=_settings(services),
        fleet=DEMO,
        speed_ratio=3_600.0,
        origin_ms=origin_ms,
        started_ms=EpochMs(began_ms),
        end_ms=origin_ms + 7_200_000,
    )
    took_ms = time.time_ns() // 1_000_000 - began_ms
    records = _sent_since(consumer, began_ms, 40)
    consumer.close()
    assert 2_000 <= took_ms < 10_000
    for record in records:
        price = decode(record.value)
        assert record.timestamp_ms - began_ms >= (price.observed_at_ms - origin_ms) / 3_600.0 - 5


def _start_fleet(services: StackAddresses, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "simulators", "fleet", "--fleet-file", "fleet.demo.toml", "--tick-ms", "300"]
    environment = {"HCP_KAFKA_BOOTSTRAP": services.kafka_bootstrap}
    return subprocess.Popen([*command, *arguments], cwd=ROOT, env=environment)


def test_the_fleet_follows_results_and_knows_them_after_kill(services: StackAddresses) -> None:
    """Committed switches show in telemetry, and still do when the simulator was killed and started again."""
    ensure_topics(services.kafka_bootstrap)
    shard = next(shard for shard in DEMO.shards() if shard.cluster_id == "tx-south.asic-1")
    producer = RecordProducer(bootstrap=services.kafka_bootstrap, produced_by="test")
    producer.send(_committed(shard.shard_id, index=2, mode=DeviceMode.SLEEP))
    producer.send(_committed(shard.shard_id, index=3, mode=DeviceMode.MINING))
    producer.flush()
    for _ in range(2):
        consumer = _consumer(services, METRICS_ASIC.name)
        began_ms = time.time_ns() // 1_000_000
        process = _start_fleet(services)
        try:
            batch = _first_batch(consumer, began_ms, shard.shard_id)
        finally:
            process.kill()
            process.wait(timeout=90)
            consumer.close()
        assert batch.modes[2] is DeviceMode.SLEEP
        assert batch.modes[3] is DeviceMode.MINING


def _committed(shard_id: str, *, index: int, mode: DeviceMode) -> ControllerResult:
    """Return a switch of one device; its epoch is the time, so that it outranks what other tests left on the topic."""
    cluster_id = shard_id.rsplit("/", 1)[0]
    columns = ((name, getattr(RESULT, name)) for name in RESULT.__slots__)
    single: dict[str, Any] = {name: value[:1] for name, value in columns if isinstance(value, tuple)}
    told = {
        "device_indexes": (index,),
        "epochs": (time.time_ns() // 1_000_000,),
        "outcomes": (DeviceOutcome.COMMITTED,),
        "modes": (mode,),
    }
    return replace(
        RESULT,
        facility_id=cluster_id.split(".")[0],
        cluster_id=cluster_id,
        shard_id=shard_id,
        device_class="s21",
        to_mode=mode,
        **(single | told),
    )


def _first_batch(consumer: BatchConsumer, since_ms: int, shard_id: str) -> AsicTelemetry:
    for _ in range(POLLS_MAX):
        for record in consumer.poll(records_max=1_000, timeout_ms=200):
            batch = decode(record.value)
            if record.timestamp_ms >= since_ms and isinstance(batch, AsicTelemetry) and batch.shard_id == shard_id:
                return batch
    pytest.fail(f"no telemetry of {shard_id}")


def test_faults_come_out_and_sigterm_ends_cleanly(services: StackAddresses) -> None:
    """Corrupt batches are refused with the right reason, the rest stay good, and SIGTERM ends with code 0."""
    ensure_topics(services.kafka_bootstrap)
    consumer = _consumer(services, METRICS_ASIC.name, METRICS_GPU.name)
    began_ms = time.time_ns() // 1_000_000
    process = _start_fleet(services, "--fault", "nan:tx-north.gpu-2/00/1", "--fault", "unequal:tx-north.asic-2/00")
    try:
        decoded = [decode(record.value) for record in _sent_since(consumer, began_ms, 28)]
    finally:
        process.terminate()
        code = process.wait(timeout=90)
        consumer.close()
    reasons = {value.reason for value in decoded if isinstance(value, Rejected)}
    assert reasons == {RejectReason.OUT_OF_RANGE, RejectReason.UNEQUAL_COLUMNS}
    assert sum(not isinstance(value, Rejected) for value in decoded) > len(decoded) / 2
    assert code == 0
