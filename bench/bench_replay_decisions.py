"""Decisions of the full fleet taken again from their topics, beside the time they took when they were live.

    python -m bench.bench_replay_decisions           a week of prices every 5 minutes at every site

A stack of its own. The history comes from the pure streams over all 39,152 devices with prices that cross break-even
all the time, and lies on the broker as live leaves it. `hcp replay decisions` runs as users run it, its own start
included, and the decisions are held to live's.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from bench.report import machine, show, table
from hcp.fleet import load_fleet
from hcp.kafka.admin import ensure_topics
from hcp.kafka.forwarding import Forwarder
from hcp.kafka.records import ConsumedRecord
from hcp.model.facilities import Fleet
from hcp.model.units import MS_PER_MINUTE, MS_PER_SECOND
from hcp.settings import load_settings
from hcp.stack import default_cache_dir, running_stack
from hcp.topics import MARKET_PRICE, OPTIMIZER_RECOMMENDATION, ORCHESTRATOR_COMMAND
from streams.policies import policy_named
from tests.decision_history import LivePlatform, wild_prices

ROOT: Final = Path(__file__).resolve().parents[1]
FLEET_FILE: Final = ROOT / "fleet.toml"
TICK_MS: Final = 5 * MS_PER_MINUTE
TICKS_PER_DAY: Final = 288
GOAL: Final = 1_000
POLICIES: Final = ("threshold", "predictive")
TOPICS: Final = (MARKET_PRICE, OPTIMIZER_RECOMMENDATION, ORCHESTRATOR_COMMAND)


def history(fleet: Fleet, *, policy: str, ticks: int) -> LivePlatform:
    """Return what live would have left of so many ticks."""
    return LivePlatform(fleet, policy_named(policy), partitions=MARKET_PRICE.partitions).run(
        wild_prices(fleet, seed=7, ticks=ticks)
    )


def publish(bootstrap: str, live: LivePlatform) -> None:
    """Put the logs on the broker, offset by offset."""
    for topic in TOPICS:
        forwarder = Forwarder(bootstrap=bootstrap, topic=topic.name, client_id="bench")
        for (name, _), records in live.logs.items():
            for record in records if name == topic.name else ():
                _forward(forwarder, record)
        forwarder.flush()


def _forward(forwarder: Forwarder, record: ConsumedRecord) -> None:
    forwarder.send(
        key=record.key,
        value=record.value,
        headers=record.headers,
        partition=record.partition,
        timestamp_ms=record.timestamp_ms,
    )


def hcp(bootstrap: str, *arguments: str) -> float:
    """Run a command as a user does; return its seconds."""
    env = {"PATH": "/usr/bin:/bin", "HCP_KAFKA_BOOTSTRAP": bootstrap, "HCP_FLEET_FILE": str(FLEET_FILE)}
    begun_s = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "hcp", *arguments], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{arguments} ended with {done.returncode}: {done.stdout[-800:]} {done.stderr[-800:]}"
    return time.perf_counter() - begun_s


def measure(folder: Path, fleet: Fleet, *, policies: Iterable[str], days: float) -> None:
    """Print how many times faster than live each is."""
    ticks = int(days * TICKS_PER_DAY)
    event_s = ticks * TICK_MS / MS_PER_SECOND
    found = table(
        f"{days:g} days of {fleet.device_count:,} devices, a price every 5 minutes at {len(fleet.facilities)} sites",
        *("policy", "scores", "recommendations", "decisions", "seconds", "times real time", "goal", "/ goal"),
    )
    cache = default_cache_dir(load_settings().cache_dir)
    for policy in policies:
        with running_stack(folder / policy, cache, keep=False) as addresses:
            bootstrap = addresses.kafka_bootstrap
            ensure_topics(bootstrap)
            live = history(fleet, policy=policy, ticks=ticks)
            publish(bootstrap, live)
            counts = {
                topic: sum(len(records) for (name, _), records in live.logs.items() if name == topic.name)
                for topic in TOPICS
            }
            for scores in ("recorded", "again"):
                out = folder / f"{policy}-{scores}"
                options = ("--policy", policy, "--scores", scores, "--out", str(out))
                took_s = hcp(bootstrap, "replay", "decisions", *options)
                hcp(bootstrap, "replay", "diff", "live", str(out))  # ends with 0: nothing differs
                times = event_s / took_s
                found.add_row(
                    policy,
                    scores,
                    f"{counts[OPTIMIZER_RECOMMENDATION]:,}",
                    f"{counts[ORCHESTRATOR_COMMAND]:,}",
                    f"{took_s:.1f}",
                    f"{times:,.0f}",
                    f"{GOAL:,}",
                    f"{times / GOAL:.1f}",
                )
    show(machine(), found)


def parser() -> argparse.ArgumentParser:
    """Return what the command line takes."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--days", type=float, default=7.0)
    made.add_argument("--policy", action="append", help="may be given again; default: threshold and predictive")
    return made


def main() -> None:
    """Measure and print."""
    arguments = parser().parse_args()
    fleet = load_fleet(FLEET_FILE)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        folder = Path(place)
        folder.chmod(0o755)
        measure(folder, fleet, policies=arguments.policy or POLICIES, days=arguments.days)


if __name__ == "__main__":
    main()
