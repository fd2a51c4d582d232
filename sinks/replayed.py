"""Where a sink takes a replay from, and the database of its own that it puts it into."""

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from hcp.clock import seconds
from hcp.errors import BrokerError, SettingsError
from hcp.kafka.replays import replay_name
from hcp.stack.health import create_analytics_database
from hcp.topics import topic_named

ANSWER_MS_MAX = 15_000
NAME_CHARACTERS_MAX = 63
"""PostgreSQL cuts longer names off, and two could become one."""


def prefix_of(replay: str) -> str:
    """Return what the names of a replay's topics begin with."""
    return f"{replay_name(replay)}."


def database_of(dsn: str, replay: str) -> str:
    """Return the DSN of a replay's database: beside the live one, named after it and the replay.

    Raises:
        SettingsError: The name would be too long for PostgreSQL.
    """
    live = str(conninfo_to_dict(dsn).get("dbname", ""))
    name = f"{live}_{replay_name(replay).replace('-', '_')}"
    if not live or len(name) > NAME_CHARACTERS_MAX:
        raise SettingsError(f"a replay's database must have a name of at most {NAME_CHARACTERS_MAX}, was {name}")
    return make_conninfo(dsn, dbname=name)


def prepare(dsn: str, replay: str) -> str:
    """Make a replay's database where it is missing; return its DSN.

    Raises:
        StackError: PostgreSQL refuses.
    """
    own = database_of(dsn, replay)
    create_analytics_database(own)
    return own


def topics_of(bootstrap: str, replay: str) -> tuple[str, ...]:
    """Return the topics of the registry that a replay has, without its name.

    Raises:
        SettingsError: It has none.
        BrokerError: The broker does not answer.
    """
    try:
        found = AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=seconds(ANSWER_MS_MAX)).topics
    except KafkaException as error:
        raise BrokerError(f"Kafka must answer at {bootstrap}, was: {error.args[0].str()}") from error
    prefix = prefix_of(replay)
    names = (name.removeprefix(prefix) for name in sorted(found) if name.startswith(prefix))
    known = tuple(name for name in names if topic_named(name) is not None)
    if not known:
        raise SettingsError(f"--replay must have topics of the registry, see `hcp replay list`, was {replay}")
    return known
