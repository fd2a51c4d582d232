"""A snapshot and the tail are a full run: on any market, cut anywhere, under any rules."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcp.codecs import encode
from hcp.errors import SettingsError
from replay.decisions.engine import Decided, Replay
from replay.decisions.plan import Devices, Plan, Scores, rules_of, sites_of
from replay.decisions.snapshot import SUFFIX, read_snapshot, snapshot_for, snapshot_of, write_snapshot
from streams.policies import policy_named
from tests.decision_history import EVER_MS, TICK_MS, LivePlatform, fleet_of, wild_prices
from tests.unit.streams.world import START_MS

TICKS = 30
FLEET = fleet_of(3)
SITES = sites_of(FLEET, ())
PLANS = st.builds(
    Plan,
    policy=st.sampled_from(["threshold", "predictive", "lcp", "greedy"]),
    options=st.sampled_from([(), ("switches_per_hour=1",), ("site-0:power_cap_mw=0.02", "ramp_mw_per_minute=0.001")]),
    scores=st.sampled_from(Scores),
    devices=st.sampled_from(Devices),
)


def seen(found: list[Decided]) -> dict[str, list[bytes]]:
    """Return each site's recommendations and decisions in order, as bytes."""
    return {
        site: [
            encode(value)
            for each in found
            if each.recommendation.facility_id == site
            for value in (each.recommendation, *each.decisions)
        ]
        for site in sorted(SITES)
    }


@settings(max_examples=25)
@given(
    plan=PLANS,
    lived=st.sampled_from(["never", "greedy", "predictive"]),
    seed=st.integers(min_value=0, max_value=10_000),
    partitions=st.integers(min_value=1, max_value=4),
    cuts=st.lists(st.integers(min_value=-1, max_value=TICKS + 1), min_size=1, max_size=3).map(sorted),
)
def test_snapshot_and_tail_are_a_full_run(plan: Plan, lived: str, seed: int, partitions: int, cuts: list[int]) -> None:
    """Decisions, recommendations and what is known at the end, through files, however often it was cut."""
    live = LivePlatform(FLEET, policy_named(lived), partitions=partitions).run(
        wild_prices(FLEET, seed=seed, ticks=TICKS)
    )
    rules = rules_of(plan, fleet=FLEET)
    whole = Replay(rules, sites=SITES)
    wanted = list(whole.run(live.history(seed=seed), until_ms=EVER_MS))
    found: list[Decided] = []
    part = Replay(rules, sites=SITES)
    with TemporaryDirectory() as folder:
        for number, cut in enumerate(cuts):
            at_ms = START_MS + cut * TICK_MS
            found += part.run(live.history(seed=seed + number), until_ms=at_ms)
            path = Path(folder) / f"{number}{SUFFIX}"
            write_snapshot(path, snapshot_of(part.memories(), at_ms=at_ms, rules=rules))
            part = Replay(rules, sites=SITES, memories=read_snapshot(path).memories())
    found += part.run(live.history(seed=seed + 7), until_ms=EVER_MS)
    assert seen(found) == seen(wanted)
    assert part.memories() == whole.memories()


def test_the_last_usable_snapshot_of_a_folder_is_taken(tmp_path: Path) -> None:
    """The newest that the range can go on from, made with the same rules; else it is said what there is."""
    rules = rules_of(Plan(policy="greedy"), fleet=FLEET)
    others = rules_of(Plan(policy="greedy", options=("dwell_ms=5",)), fleet=FLEET)
    live = LivePlatform(FLEET, policy_named("greedy")).run(wild_prices(FLEET, seed=1, ticks=5))
    for at_ms, each in ((100, rules), (START_MS + TICK_MS, rules), (START_MS + 2 * TICK_MS, others)):
        replay = Replay(each, sites=SITES)
        list(replay.run(live.history(), until_ms=at_ms))
        write_snapshot(tmp_path / f"{at_ms}{SUFFIX}", snapshot_of(replay.memories(), at_ms=at_ms, rules=each))
    found = snapshot_for(tmp_path, from_ms=START_MS + 3 * TICK_MS, rules=rules)
    assert found.at_ms == START_MS + TICK_MS
    assert snapshot_for(tmp_path, from_ms=START_MS, rules=rules).at_ms == 100
    with pytest.raises(SettingsError, match="snapshot must be of 99 ms or before, was of 100 ms"):
        snapshot_for(tmp_path, from_ms=99, rules=rules)
    with pytest.raises(SettingsError, match="made with the same policy, options and fleet"):
        snapshot_for(tmp_path / f"100{SUFFIX}", from_ms=START_MS, rules=others)


def test_a_file_that_is_no_snapshot_is_refused(tmp_path: Path) -> None:
    """Missing, another file, cut off: one line each."""
    path = tmp_path / "one.snapshot"
    with pytest.raises(SettingsError, match="snapshot must be readable"):
        read_snapshot(path)
    path.write_bytes(b"something else")
    with pytest.raises(SettingsError, match="must be a snapshot of decisions"):
        read_snapshot(path)
    rules = rules_of(Plan(policy="greedy"), fleet=FLEET)
    write_snapshot(path, snapshot_of(Replay(rules, sites=SITES).memories(), at_ms=1, rules=rules))
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(SettingsError, match="must be a whole snapshot"):
        read_snapshot(path)
