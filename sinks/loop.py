"""The loop of a small sink: poll, effect, then commit; a store that is away is waited for, and told once."""

import signal
import threading
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from hcp.clock import seconds
from hcp.codecs import decode
from hcp.errors import StoreUnavailableError
from hcp.kafka.consumer import BatchConsumer
from hcp.kafka.producer import RecordProducer
from hcp.kafka.records import ConsumedRecord
from hcp.kafka.replays import refused_if_replayed
from hcp.model.rejections import Rejected
from hcp.settings import Settings
from hcp.telemetry import RECORDS

RECORDS_MAX: Final = 500
POLL_MS: Final = 100
AGAIN_MS_MIN: Final = 100
AGAIN_MS_MAX: Final = 5_000
Told = tuple[ConsumedRecord, object]
"""A record and the value it holds."""
_log = structlog.get_logger(__name__)


def follow(name: str, *, settings: Settings, topics: Sequence[str], effect: Callable[[list[Told]], None]) -> int:
    """Give `effect` every record of the topics, at least once, until SIGTERM or SIGINT; return the exit code.

    What is no record becomes a dead letter.

    Args:
        name: Of the sink; the consumer group is `hcp-sink-<name>`.
        settings: Broker.
        topics: To read.
        effect: Idempotent by topic, partition and offset; raises StoreUnavailableError to be called again.

    Raises:
        BrokerError: A topic is missing or the broker refuses.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    process = f"sink.{name}"
    consumer = BatchConsumer(
        bootstrap=settings.kafka_bootstrap,
        group=f"hcp-sink-{name}",
        topics=topics,
        client_id=f"sink-{name}-{settings.instance}",
    )
    producer = RecordProducer(bootstrap=settings.kafka_bootstrap, produced_by=process)
    _log.info("sink_ready", sink=name)
    try:
        while not stop.is_set():
            records = consumer.poll(records_max=RECORDS_MAX, timeout_ms=POLL_MS, is_prompt=True)
            if not records:
                continue
            told = _decoded(records, producer=producer)
            if not _done(lambda told=told: effect(told), stop=stop):  # type: ignore[misc]  # bound now
                break
            consumer.commit(records)
            for record in records:
                RECORDS.labels(process, record.topic).inc()
    finally:
        consumer.close()
        producer.close()
    return 0


def _decoded(records: Sequence[ConsumedRecord], *, producer: RecordProducer) -> list[Told]:
    told: list[Told] = []
    for record in records:
        value = refused_if_replayed(record) or decode(record.value)
        if isinstance(value, Rejected):
            producer.send_dead(record, value)
        else:
            told.append((record, value))
    producer.flush()
    return told


def _done(attempt: Callable[[], None], *, stop: threading.Event) -> bool:
    """Try until it works; False when told to stop before."""
    again_ms, is_logged = AGAIN_MS_MIN, False
    while not stop.is_set():
        try:
            attempt()
        except StoreUnavailableError as error:
            if not is_logged:
                _log.warning("store_unavailable", error=str(error))
                is_logged = True
            stop.wait(seconds(again_ms))
            again_ms = min(again_ms * 2, AGAIN_MS_MAX)
        else:
            if is_logged:
                _log.info("store_available_again")
            return True
    return False
