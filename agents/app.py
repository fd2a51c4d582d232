"""Build a Faust app with the settings that were measured to be safe; nothing is made at import time."""

from typing import Any, Final

import faust

from agents.connections import end_connections_cleanly
from agents.flush import BoundedProducer
from agents.recovery import stop_flow_first
from hcp.settings import Settings
from hcp.topics import DECISION_PARTITIONS

SESSION_SECONDS: Final = 10.0
HEARTBEAT_SECONDS: Final = 1.0
COMMIT_SECONDS: Final = 0.5


def make_app(
    name: str, *, settings: Settings, partitions: int = DECISION_PARTITIONS, app_suffix: str = ""
) -> faust.App:
    """Return the app of one agent: its own consumer group, its own changelog topics, no web server.

    Args:
        name: Of the agent; the consumer group is `hcp-<name><app_suffix>`.
        settings: Broker, state directory, instance.
        partitions: Of the agent's tables; those of its source topics.
        app_suffix: Tells apart runs on one broker (tests).
    """
    hosts = ";".join(f"kafka://{host}" for host in settings.kafka_bootstrap.split(","))
    datadir = settings.state_dir / "agents" / f"{name}{app_suffix}-{settings.instance}"
    datadir.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {
        "broker": hosts,
        "store": "memory://",
        "datadir": str(datadir.absolute()),
        "topic_partitions": partitions,
        "topic_allow_declare": True,
        "topic_disable_leader": True,
        "table_standby_replicas": 0,
        "stream_wait_empty": False,
        "processing_guarantee": "at_least_once",
        "consumer_auto_offset_reset": "earliest",
        "consumer_group_instance_id": f"{name}-{settings.instance}",
        "broker_session_timeout": SESSION_SECONDS,
        "broker_heartbeat_interval": HEARTBEAT_SECONDS,
        "broker_commit_interval": COMMIT_SECONDS,
        "producer_linger": 0.0,
        "producer_acks": -1,
        "web_enabled": False,
    }
    app = faust.App(f"hcp-{name}{app_suffix}", **options)
    setattr(app.transport, "Producer", BoundedProducer)  # noqa: B010  # not of producer_transport, which Faust ignores
    stop_flow_first(app)
    end_connections_cleanly()
    return app
