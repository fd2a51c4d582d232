"""The registry of topics: keys, partitions and names."""

from aiokafka.partitioner import murmur2
from hypothesis import given
from hypothesis import strategies as st

from hcp.topics import TOPICS, all_topics, partition_for, topic_named, topic_of
from tests.examples import EXAMPLES, PRICE, STATE


@given(key=st.text(max_size=64))
def test_partitions_are_those_of_kafkas_default_partitioner(key: str) -> None:
    """Every client that hashes by murmur2 puts a key where we do."""
    assert partition_for(key, 12) == (murmur2(key.encode()) & 0x7FFFFFFF) % 12


def test_every_topic_has_a_dead_letter_topic() -> None:
    """A refused record of any topic has somewhere to go."""
    names = [topic.name for topic in all_topics()]
    assert len(names) == len(set(names)) == 2 * len(TOPICS)
    assert all(topic_named(topic.dead) is not None for topic in TOPICS)


def test_decision_plane_is_co_partitioned_by_facility() -> None:
    """A site's prices, recommendations, states, decisions and results share one partition number."""
    named = {"market.price", "optimizer.recommendation", "orchestrator.command", "resource.state", "controller.result"}
    plane = [topic for topic in TOPICS if topic.name in named]
    assert {topic.partitions for topic in plane} == {12}
    assert {topic.partition_by for topic in plane} == {"facility_id"}
    assert topic_of(STATE).partition_of(STATE) == topic_of(PRICE).partition_of(PRICE)


def test_key_and_partition_fields_exist() -> None:
    """Key and partition of every topic are fields of its record."""
    for example in EXAMPLES[:-1]:
        topic = topic_of(example)
        assert topic.key_of(example)
        assert 0 <= topic.partition_of(example) < topic.partitions
