"""What an agent is handed by its composition root."""

from dataclasses import dataclass

import faust

from agents.guard import Guard
from agents.sender import Sender
from agents.states import Keeper
from hcp.model.facilities import Fleet
from hcp.topics import Topic
from streams.policies import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Deps:
    """The fleet, the policy, and who this process is."""

    fleet: Fleet
    policy: Policy
    process: str


def source(app: faust.App, topic: Topic) -> faust.TopicT:
    """Return a registry topic as a source of raw bytes: decoding belongs inside the guard."""
    return app.topic(topic.name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")


def guard(app: faust.App, topic: Topic, *, deps: Deps, states: Keeper) -> Guard:
    """Return the guard of one topic's loop."""
    return Guard(topic=topic, process=deps.process, sender=Sender(app, process=deps.process), states=states)
