"""A hundred replays of what live decided, each a process with a hash seed of its own: the same bytes every time."""

import os
import subprocess
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

import msgspec
import pytest

from hcp.codecs import decode
from hcp.model.commands import OrchestratorCommand
from replay.decisions.child import Task, read_decided
from replay.decisions.plan import Plan, Scores
from replay.decisions.records import write_records
from streams.policies import POLICY_NAMES, policy_named
from tests.agent_process import ROOT
from tests.decision_history import EVER_MS, LivePlatform, wild_prices
from tests.unit.streams.world import DEMO_FLEET

RUNS: Final = 100
PARTITIONS_MAX: Final = 16
TICKS: Final = 12
AT_ONCE: Final = 2
RUN_SECONDS_MAX: Final = 120
HASH_SEED_MAX: Final = 2**32 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What a live platform decided, and the file that tells a process to decide it again."""

    commands: dict[str, list[bytes]]
    task: Task


def recorded(folder: Path, *, partitions: int) -> Recorded:
    """Let a platform live on so many partitions, under one of the policies, and write down its records."""
    policies = POLICY_NAMES.split(", ")
    policy = policies[partitions % len(policies)]
    live = LivePlatform(DEMO_FLEET, policy_named(policy), partitions=partitions)
    live.run(wild_prices(DEMO_FLEET, seed=partitions, ticks=TICKS))
    history, names = live.history(seed=partitions), ("recommendations", "prices")
    paths = [folder / f"{name}-{partitions}" for name in names]
    write_records(paths[0], history.recommendations())
    write_records(paths[1], history.prices())
    task = Task(
        plan=Plan(policy=policy, scores=Scores.AGAIN if partitions % 2 else Scores.RECORDED),
        fleet_file=str(ROOT / "fleet.demo.toml"),
        sites=tuple(site.facility_id for site in DEMO_FLEET.facilities),
        to_ms=EVER_MS,
        recommendations=str(paths[0]),
        prices=str(paths[1]),
        decided="",
        root=str(ROOT),
    )
    return Recorded(commands=live.commands(), task=task)


def decided_in_a_process(task: Task, folder: Path, *, number: int, hash_seed: int) -> dict[str, list[bytes]]:
    """Decide again in a process of its own; return each site's decisions as bytes."""
    decided, told = folder / f"decided-{number}", folder / f"task-{number}.json"
    told.write_bytes(msgspec.json.encode({**msgspec.to_builtins(task), "decided": str(decided)}))
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}  # noqa: TID251  # for a child process
    command = [sys.executable, "-m", "replay.decisions.child", str(told)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=RUN_SECONDS_MAX
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[bytes]] = defaultdict(list)
    for each in read_decided(decided):
        for raw in each.decisions:
            decision = decode(raw)
            assert isinstance(decision, OrchestratorCommand)
            found[decision.facility_id].append(raw)
    return dict(found)


@pytest.mark.timeout(600)
def test_a_hundred_replays_decide_lives_bytes(tmp_path: Path) -> None:
    """Whatever the hash seed, and however many partitions the topics have."""
    dice = Random(20261127)
    known = {count: recorded(tmp_path, partitions=count) for count in range(1, PARTITIONS_MAX + 1)}
    seeds = [dice.randint(0, HASH_SEED_MAX) for _ in range(RUNS)]
    assert len(set(seeds)) == RUNS
    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs = {
            number: pool.submit(
                decided_in_a_process,
                known[number % PARTITIONS_MAX + 1].task,
                tmp_path,
                number=number,
                hash_seed=seed,
            )
            for number, seed in enumerate(seeds)
        }
        for number, run in runs.items():
            assert run.result() == known[number % PARTITIONS_MAX + 1].commands, (number, seeds[number])
    assert all(each.commands for each in known.values())
