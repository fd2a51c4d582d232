"""`hcp replay decisions|snapshot` over topics of a real broker: live's bytes, by these streams and by a commit's."""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pytest

from hcp.cli.replay_diff import DIFFERS
from hcp.codecs import encode
from hcp.decisions_parquet import read_decisions
from hcp.stack import StackAddresses
from replay.decisions.output import DECISIONS, what_ran
from streams.policies import policy_named
from tests.cli_runs import Said, hcp
from tests.decision_history import LivePlatform, wild_prices
from tests.replayed_topics import published
from tests.unit.streams.world import DEMO_FLEET

pytestmark = pytest.mark.services
POLICY = "threshold"
FLEET_FILE = "fleet.demo.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What a platform decided, and where its records are."""

    services: StackAddresses
    live: LivePlatform
    prefix: str

    def hcp(self, command: str, *arguments: str) -> Said:
        """Run `hcp replay COMMAND` over the world's topics."""
        given = ("--prefix", self.prefix, "--fleet", FLEET_FILE, *arguments)
        return hcp(self.services, "replay", command, *given)


@pytest.fixture(scope="module")
def world(services: StackAddresses) -> World:
    """Let the demo's fleet live through wild prices, on four partitions."""
    live = LivePlatform(DEMO_FLEET, policy_named(POLICY), partitions=4).run(wild_prices(DEMO_FLEET, seed=9, ticks=40))
    return World(services=services, live=live, prefix=published(live, services.kafka_bootstrap))


def decided(path: Path) -> dict[str, list[bytes]]:
    """Return each site's decisions in a file, as bytes."""
    found: dict[str, list[bytes]] = defaultdict(list)
    for decision in read_decisions(path):
        found[decision.facility_id].append(encode(decision))
    return dict(found)


@pytest.mark.parametrize("scores", ["recorded", "again"])
def test_the_same_rules_write_lives_bytes(world: World, tmp_path: Path, scores: str) -> None:
    """From recommendations as recorded, and from prices alone."""
    said = world.hcp("decisions", "--out", str(tmp_path / "again"), "--policy", POLICY, "--scores", scores)
    assert said.code == 0, said.err
    assert decided(tmp_path / "again" / DECISIONS) == world.live.commands()
    what = what_ran(tmp_path / "again")
    assert what.switches + what.holds == sum(map(len, world.live.commands().values()))


def test_the_streams_of_a_commit_decide_in_a_process_of_their_own(world: World, tmp_path: Path) -> None:
    """HEAD's streams give the same bytes; a name that is no commit is one line."""
    out = tmp_path / "head.parquet"
    said = world.hcp("decisions", "--out", str(out), "--policy", POLICY, "--code", "HEAD")
    assert said.code == 0, said.err
    assert decided(out) == world.live.commands()
    refused = world.hcp("decisions", "--out", str(out), "--code", "no-such-commit")
    assert (refused.code, "--code must be a commit" in refused.err) == (1, True)


def test_from_a_snapshot_on_the_rest_is_the_same(world: World, tmp_path: Path) -> None:
    """State at a time, and the tail after it, come to what the whole run decided after that time."""
    whole, tail, kept = tmp_path / "whole", tmp_path / "tail", tmp_path / "kept"
    rules = ("--policy", POLICY, "--scores", "again")
    assert world.hcp("decisions", "--out", str(whole), *rules).code == 0
    at_ms = sorted(each.observed_at_ms for each in read_decisions(whole / DECISIONS))[20]
    said = world.hcp("snapshot", "--at", str(at_ms), "--out", str(kept), *rules)
    assert said.code == 0, said.err
    said = world.hcp("decisions", "--out", str(tail), "--from", str(at_ms), "--from-snapshot", str(kept), *rules)
    assert said.code == 0, said.err
    wanted = [encode(each) for each in read_decisions(whole / DECISIONS) if each.observed_at_ms >= at_ms]
    assert sorted(encode(each) for each in read_decisions(tail / DECISIONS)) == sorted(wanted)
    other = world.hcp("decisions", "--out", str(tail), "--from-snapshot", str(kept), "--policy", "greedy")
    assert other.code == 1
    assert "snapshot" in other.err


def test_what_live_decided_differs_in_nothing_and_from_another_policy_in_money(world: World, tmp_path: Path) -> None:
    """Exit code 0 and no difference; 3, a table, JSON lines and a page for another policy."""
    again, other, page = tmp_path / "again", tmp_path / "other", tmp_path / "diff.html"
    assert world.hcp("decisions", "--out", str(again), "--policy", POLICY).code == 0
    said = world.hcp("decisions", "--out", str(other), "--policy", "never", "--devices", "followed")
    assert said.code == 0, said.err
    same = world.hcp("diff", "live", str(again), "--json")
    assert (same.code, same.out) == (0, "")
    differs = world.hcp("diff", "live", str(other), "--html", str(page))
    assert differs.code == DIFFERS
    assert "B - A" in differs.out
    assert "policy_never" in differs.out
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    lines = [json.loads(line) for line in world.hcp("diff", "live", str(other), "--json").out.splitlines()]
    assert {line["site"] for line in lines} <= {site.facility_id for site in DEMO_FLEET.facilities}
    nothing = world.hcp("diff", str(tmp_path), "live")
    assert (nothing.code, "finished `hcp replay decisions`" in nothing.err) == (1, True)
