"""Consumer groups seen from outside: how far one has come, and who is in it."""

from collections.abc import Iterable
from typing import Final

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException
from confluent_kafka.admin import AdminClient

from hcp.clock import seconds
from hcp.errors import BrokerError
from hcp.kafka.ranges import Place

ANSWER_MS_MAX: Final = 15_000


def committed(bootstrap: str, group: str, topics: Iterable[str]) -> dict[Place, int]:
    """Return a group's next offset by topic and partition; what it never committed is absent.

    Raises:
        BrokerError: The broker does not answer.
    """
    wanted = frozenset(topics)
    admin = _admin(bootstrap)  # held: without it nothing would be answered
    try:
        asked = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])
        found = asked[group].result(timeout=seconds(ANSWER_MS_MAX)).topic_partitions or []
    except KafkaException as error:
        raise _unanswered(bootstrap, error) from error
    return {(each.topic, each.partition): each.offset for each in found if each.topic in wanted and each.offset >= 0}


def members(bootstrap: str, group: str) -> int:
    """Return how many are in a group; 0 for one that is not there.

    Raises:
        BrokerError: The broker does not answer.
    """
    admin = _admin(bootstrap)
    try:
        asked = admin.describe_consumer_groups([group])
        return len(asked[group].result(timeout=seconds(ANSWER_MS_MAX)).members)
    except KafkaException as error:
        raise _unanswered(bootstrap, error) from error


def _admin(bootstrap: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": bootstrap})


def _unanswered(bootstrap: str, error: KafkaException) -> BrokerError:
    return BrokerError(f"Kafka must answer at {bootstrap}, was: {error.args[0].str()}; try `hcp doctor`")
