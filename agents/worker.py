"""Run one agent as a process: topics checked first, ready when its tables are recovered, a clean end on SIGTERM."""

import asyncio
from collections.abc import Callable
from typing import Final

import faust
import uvloop

from agents import billing, fleet_monitor, optimizer, orchestrator, regret, resources, router
from agents.app import make_app
from agents.deps import Deps
from hcp.errors import BrokerError, SettingsError
from hcp.kafka.admin import describe, ensure_topics
from hcp.model.facilities import Fleet
from hcp.settings import Settings
from hcp.topics import DECISION_PARTITIONS, TELEMETRY_PARTITIONS, Cleanup, Topic, all_topics
from streams.policies import policy_named

REGISTER: Final[dict[str, Callable[[faust.App, Deps], None]]] = {
    "optimizer": optimizer.register,
    "fleet_monitor": fleet_monitor.register,
    "orchestrator": orchestrator.register,
    "resources": resources.register,
    "regret": regret.register,
    "router": router.register,
    "billing": billing.register,
}


def run_agent(name: str, *, settings: Settings, fleet: Fleet, policy: str = "threshold", app_suffix: str = "") -> int:
    """Run an agent until SIGTERM or SIGINT; return the exit code.

    Raises:
        BrokerError: A topic is missing or the broker does not answer.
        SettingsError: No policy of that name.
    """
    _check_topics(settings.kafka_bootstrap)
    try:
        chosen = policy_named(policy)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    partitions = TELEMETRY_PARTITIONS if name == "fleet_monitor" else DECISION_PARTITIONS
    app = make_app(name, settings=settings, partitions=partitions, app_suffix=app_suffix)
    REGISTER[name](app, Deps(fleet=fleet, policy=chosen, process=f"agent.{name}"))
    _make_changelogs(app, bootstrap=settings.kafka_bootstrap)
    worker = faust.Worker(app, loglevel="WARNING", quiet=True, redirect_stdouts=False)
    try:
        worker.execute_from_commandline()  # never returns: it raises SystemExit
    except SystemExit as ended:
        code = ended.code
    return code if isinstance(code, int) else 0


def _make_changelogs(app: faust.App, *, bootstrap: str) -> None:
    """Make the tables' changelog topics before Faust looks for them; it ignores one that is not there yet."""
    wanted = [
        Topic(
            name=table.changelog_topic.get_topic_name(),
            record=bytes,
            key="",
            partition_by="",
            partitions=table.partitions,
            cleanup=Cleanup.COMPACT,
            retention_ms=-1,
            doc="Changelog of a table.",
        )
        for table in app.tables.values()
    ]
    ensure_topics(bootstrap, wanted)


def _check_topics(bootstrap: str) -> None:
    """Faust ignores a missing source topic in silence; this says which one."""
    missing = [
        found.name for found in describe(bootstrap, [topic.name for topic in all_topics()]) if not found.partitions
    ]
    if missing:
        raise BrokerError(f"topics must exist, was missing {', '.join(missing[:3])}; run `hcp topics create`")
