"""Consumer groups seen from outside: how far one has come, and who is in it."""

import time
from collections.abc import Iterable
from typing import Final

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException
from confluent_kafka.admin import AdminClient

from hcp.clock import seconds
from hcp.errors import BrokerError, HcpError
from hcp.kafka.ranges import Place

ANSWER_MS_MAX: Final = 15_000
SESSION_MS: Final = 15_000
"""Longer than an agent's session, 10 s."""
LOOK_MS: Final = 500


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


def wait_empty(bootstrap: str, group: str, *, what: str) -> None:
    """Wait for a group to have no members: one with a name of its own stays until its session is over.

    Raises:
        HcpError: Somebody is still there; `what` says who should not be.
        BrokerError: The broker does not answer.
    """
    until = time.monotonic() + seconds(SESSION_MS)
    while at_work := members(bootstrap, group):
        if time.monotonic() > until:
            raise HcpError(f"{what} must be stopped while its tables are written, was: {at_work} at work")
        time.sleep(seconds(LOOK_MS))


def _admin(bootstrap: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": bootstrap})


def _unanswered(bootstrap: str, error: KafkaException) -> BrokerError:
    return BrokerError(f"Kafka must answer at {bootstrap}, was: {error.args[0].str()}; try `hcp doctor`")
