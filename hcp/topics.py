"""THE topic registry: name, record, key, partitions, cleanup and retention of every topic."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

from hcp.model.commands import ControllerCommand, ControllerResult, OrchestratorCommand
from hcp.model.ledger import Alert, AuditEvent, BillingUsage
from hcp.model.markets import MarketPrice
from hcp.model.orders import OperatorOrder
from hcp.model.outlook import Outlook
from hcp.model.recommendations import Recommendation
from hcp.model.regret import Regret
from hcp.model.rejections import DeadLetter
from hcp.model.resources import ResourceState
from hcp.model.telemetry import AsicTelemetry, GpuTelemetry
from hcp.model.workloads import AllocationRequest, WorkloadEvent

DECISION_PARTITIONS: Final = 12
TELEMETRY_PARTITIONS: Final = 24
DEAD_PARTITIONS: Final = 1
DEAD_SUFFIX: Final = ".dead"
_DAY_MS: Final = 24 * 3_600_000


class Cleanup(StrEnum):
    """How Kafka forgets."""

    DELETE = "delete"
    COMPACT = "compact"


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One topic.

    Attributes:
        name: As on the broker.
        record: The one record class it carries.
        key: Field of the record that is its Kafka key.
        partition_by: Field whose murmur2 hash picks the partition; differs from `key` where a compacted record must
            stay co-partitioned with its site.
        partitions: Fixed for ever; changing it would move keys.
        cleanup: delete or compact.
        retention_ms: How long records are kept, by broker timestamp; -1 for ever.
        doc: What it is for.
    """

    name: str
    record: type
    key: str
    partition_by: str
    partitions: int
    cleanup: Cleanup
    retention_ms: int
    doc: str

    @property
    def dead(self) -> str:
        """Name of its dead-letter topic."""
        return self.name + DEAD_SUFFIX

    def key_of(self, value: object) -> bytes:
        """Return the Kafka key of a record."""
        return str(getattr(value, self.key)).encode()

    def partition_of(self, value: object) -> int:
        """Return the partition of a record; every producer asks here, so librdkafka and aiokafka agree."""
        return partition_for(str(getattr(value, self.partition_by)), self.partitions)


@lru_cache(maxsize=65_536)
def partition_for(key: str, partitions: int) -> int:
    """Return the partition that Kafka's default partitioner (murmur2) gives a key."""
    return (_murmur2(key.encode()) & 0x7FFF_FFFF) % partitions


def _murmur2(data: bytes) -> int:
    """Hash as org.apache.kafka.common.utils.Utils.murmur2 does; the tests hold it against aiokafka's."""
    mask, multiplier = 0xFFFF_FFFF, 0x5BD1_E995
    result = 0x9747_B28C ^ len(data)
    whole = len(data) & ~3
    for start in range(0, whole, 4):
        word = int.from_bytes(data[start : start + 4], "little") * multiplier & mask
        word = (word ^ (word >> 24)) * multiplier & mask
        result = (result * multiplier & mask) ^ word
    tail = data[whole:]
    if tail:
        result = (result ^ int.from_bytes(tail, "little")) * multiplier & mask
    result = (result ^ (result >> 13)) * multiplier & mask
    return result ^ (result >> 15)


def _topic(  # a row of the table below
    name: str,
    record: type,
    *,
    key: str,
    doc: str,
    partition_by: str | None = None,
    partitions: int = DECISION_PARTITIONS,
    cleanup: Cleanup = Cleanup.DELETE,
    retention_days: int = 30,
) -> Topic:
    return Topic(
        name=name,
        record=record,
        key=key,
        partition_by=partition_by or key,
        partitions=partitions,
        cleanup=cleanup,
        retention_ms=retention_days * _DAY_MS if cleanup is Cleanup.DELETE else -1,
        doc=doc,
    )


MARKET_PRICE: Final = _topic(
    "market.price", MarketPrice, key="facility_id", doc="Prices as each site sees them.", retention_days=730
)
METRICS_GPU: Final = _topic(
    "metrics.gpu",
    GpuTelemetry,
    key="cluster_id",
    partitions=TELEMETRY_PARTITIONS,
    retention_days=7,
    doc="GPU telemetry, one record a shard and tick.",
)
METRICS_ASIC: Final = _topic(
    "metrics.asic",
    AsicTelemetry,
    key="cluster_id",
    partitions=TELEMETRY_PARTITIONS,
    retention_days=7,
    doc="ASIC telemetry, one record a shard and tick.",
)
WORKLOAD_EVENTS: Final = _topic(
    "workload.events",
    WorkloadEvent,
    key="workload_id",
    retention_days=365,
    doc="Life of customers' workloads.",
)
ALLOCATION_REQUEST: Final = _topic(
    "allocation.request", AllocationRequest, key="facility_id", doc="Devices wanted for workloads."
)
OPTIMIZER_RECOMMENDATION: Final = _topic(
    "optimizer.recommendation",
    Recommendation,
    key="facility_id",
    doc="Scores of every mode of every class, per price.",
)
OPTIMIZER_REGRET: Final = _topic(
    "optimizer.regret",
    Regret,
    key="facility_id",
    retention_days=365,
    doc="Realised profit beside hindsight, per class and hour.",
)
ORCHESTRATOR_COMMAND: Final = _topic(
    "orchestrator.command",
    OrchestratorCommand,
    key="facility_id",
    retention_days=365,
    doc="Decisions: switch, or hold and why.",
)
ORCHESTRATOR_OUTLOOK: Final = _topic(
    "orchestrator.outlook",
    Outlook,
    key="facility_id",
    doc="Switches that have become likely, for controllers to prepare.",
)
CONTROLLER_COMMAND: Final = _topic(
    "controller.command",
    ControllerCommand,
    key="cluster_id",
    partitions=TELEMETRY_PARTITIONS,
    doc="What controllers are told, columnar.",
)
CONTROLLER_RESULT: Final = _topic(
    "controller.result",
    ControllerResult,
    key="facility_id",
    retention_days=365,
    doc="What became of it, with phase times.",
)
OPERATOR_ORDER: Final = _topic(
    "operator.order",
    OperatorOrder,
    key="facility_id",
    retention_days=365,
    doc="What people order: maintenance, pause, lock-out, release, a switch by hand.",
)
RESOURCE_STATE: Final = _topic(
    "resource.state",
    ResourceState,
    key="state_key",
    partition_by="facility_id",
    cleanup=Cleanup.COMPACT,
    doc="Hard state of each shard, by reporter.",
)
BILLING_USAGE: Final = _topic(
    "billing.usage",
    BillingUsage,
    key="customer_id",
    retention_days=730,
    doc="Device-seconds and what they cost.",
)
ALERTS: Final = _topic("alerts", Alert, key="facility_id", retention_days=90, doc="What a person should know.")
AUDIT_EVENTS: Final = _topic("audit.events", AuditEvent, key="subject", retention_days=3650, doc="Who changed what.")

TOPICS: Final[tuple[Topic, ...]] = (
    MARKET_PRICE,
    METRICS_GPU,
    METRICS_ASIC,
    WORKLOAD_EVENTS,
    ALLOCATION_REQUEST,
    OPTIMIZER_RECOMMENDATION,
    OPTIMIZER_REGRET,
    ORCHESTRATOR_COMMAND,
    ORCHESTRATOR_OUTLOOK,
    CONTROLLER_COMMAND,
    CONTROLLER_RESULT,
    OPERATOR_ORDER,
    RESOURCE_STATE,
    BILLING_USAGE,
    ALERTS,
    AUDIT_EVENTS,
)


def topic_named(name: str) -> Topic | None:
    """Return the topic of that name, dead-letter topics included, or None."""
    return next((topic for topic in all_topics() if topic.name == name), None)


def topic_of(value: object) -> Topic:
    """Return the topic a record belongs to.

    Raises:
        KeyError: No topic carries records of that class.
    """
    for topic in TOPICS:
        if topic.record is type(value):
            return topic
    raise KeyError(f"record must be of a class in the topic registry, was {type(value).__name__}")


def dead_topic_of(topic: Topic) -> Topic:
    """Return the dead-letter topic of a topic."""
    return Topic(
        name=topic.dead,
        record=DeadLetter,
        key="source_topic",
        partition_by="source_topic",
        partitions=DEAD_PARTITIONS,
        cleanup=Cleanup.DELETE,
        retention_ms=90 * _DAY_MS,
        doc=f"Refused records of {topic.name}, whole and with the reason.",
    )


def all_topics() -> Iterator[Topic]:
    """Yield every topic and its dead-letter topic."""
    for topic in TOPICS:
        yield topic
        yield dead_topic_of(topic)
