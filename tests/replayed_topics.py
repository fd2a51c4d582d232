"""A history of decisions on topics of its own, as copies of the platform's under a prefix."""

from uuid import uuid4

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from hcp.topics import MARKET_PRICE, OPTIMIZER_RECOMMENDATION, ORCHESTRATOR_COMMAND
from tests.decision_history import LivePlatform

WAIT_SECONDS_MAX = 120.0


def published(live: LivePlatform, bootstrap: str) -> str:
    """Put what lies in a platform's logs on fresh topics, each record at its offset; return their prefix."""
    prefix = f"t-{uuid4().hex[:12]}"
    topics = (MARKET_PRICE, OPTIMIZER_RECOMMENDATION, ORCHESTRATOR_COMMAND)
    made = [NewTopic(f"{prefix}.{topic.name}", num_partitions=live.partitions) for topic in topics]
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_topics(made).values():
        future.result(timeout=WAIT_SECONDS_MAX)
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    for (topic, partition), log in live.logs.items():
        for record in log:
            producer.produce(
                f"{prefix}.{topic}", record.value, record.key, partition=partition, timestamp=record.timestamp_ms
            )
    assert producer.flush(WAIT_SECONDS_MAX) == 0
    return prefix
