"""Recorded decisions taken again: the same bytes by the same rules, and others by others."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hcp.codecs import decode, encode
from hcp.errors import HcpError, SettingsError
from hcp.model.commands import DecisionAction, OrchestratorCommand
from hcp.model.facilities import UNCONSTRAINED, Fleet
from hcp.model.recommendations import Recommendation
from hcp.model.units import MS_PER_HOUR, DurationMs, EpochMs
from hcp.topics import MARKET_PRICE, OPTIMIZER_RECOMMENDATION
from replay.decisions.engine import Decided, Replay
from replay.decisions.options import option_names
from replay.decisions.plan import Devices, Plan, Scores, rules_of, sites_of
from replay.decisions.records import History, read_records, write_records
from streams.policies import POLICY_NAMES, Choice, ClassView, policy_named
from streams.policies.base import PATIENT
from streams.policies.baselines import Greedy, Threshold
from streams.situation import LIMITS
from tests.decision_history import EVER_MS, TICK_MS, LivePlatform, fleet_of, wild_prices
from tests.examples import RECOMMENDATION as EXAMPLE
from tests.unit.streams.world import START_MS

FLEET = fleet_of(3)
EVERYWHERE = sites_of(FLEET, ())


def decided(
    plan: Plan, history: History, *, fleet: Fleet = FLEET, sites: frozenset[str] = EVERYWHERE
) -> tuple[Replay, list[Decided]]:
    """Run a plan over all there is."""
    replay = Replay(rules_of(plan, fleet=fleet), sites=sites)
    return replay, list(replay.run(history, until_ms=EVER_MS))


def by_site(found: Sequence[Decided]) -> dict[str, list[bytes]]:
    """Return each site's decisions as bytes."""
    encoded: dict[str, list[bytes]] = defaultdict(list)
    for each in found:
        for decision in each.decisions:
            encoded[decision.facility_id].append(encode(decision))
    return dict(encoded)


def switches(found: Sequence[Decided]) -> list[OrchestratorCommand]:
    """Return the decisions that move devices."""
    return [each for one in found for each in one.decisions if each.action is DecisionAction.SWITCH]


@pytest.mark.parametrize("scores", Scores)
@pytest.mark.parametrize("policy", POLICY_NAMES.split(", "))
def test_the_same_rules_give_the_same_bytes(policy: str, scores: Scores) -> None:
    """Decisions and the orchestrator's state are live's, from recommendations as recorded or scored again."""
    live = LivePlatform(FLEET, policy_named(policy), partitions=4).run(wild_prices(FLEET, seed=3, ticks=60))
    replay, found = decided(Plan(policy=policy, scores=scores), live.history(seed=5))
    assert by_site(found) == live.commands()
    assert {each.facility_id: each.site for each in replay.memories()} == live.sites
    assert not replay.passed_over
    if scores is Scores.AGAIN:
        assert {each.facility_id: each.market for each in replay.memories()} == live.markets


def test_a_repeated_stretch_of_recommendations_is_decided_as_live_did() -> None:
    """An optimizer that was killed publishes some twice; what the orchestrator made of that is made again."""
    live = LivePlatform(FLEET, policy_named("greedy")).run(wild_prices(FLEET, seed=1, ticks=20))
    for record in list(live.records(OPTIMIZER_RECOMMENDATION))[-7:]:
        repeated = decode(record.value)
        assert isinstance(repeated, Recommendation)
        live.decide(repeated, timestamp_ms=record.timestamp_ms)
    for scores in Scores:
        _, found = decided(Plan(policy="greedy", scores=scores), live.history())
        assert by_site(found) == live.commands()


@pytest.mark.parametrize("lived", ["never", "threshold"])
@pytest.mark.parametrize("policy", ["greedy", "lcp", "predictive"])
def test_followed_devices_show_what_another_policy_would_have_done(lived: str, policy: str) -> None:
    """What one policy recorded, decided by another, is what that one does when it is live, byte for byte."""
    live = LivePlatform(FLEET, policy_named(lived)).run(wild_prices(FLEET, seed=9, ticks=60))
    instead = LivePlatform(FLEET, policy_named(policy)).run(wild_prices(FLEET, seed=9, ticks=60))
    _, found = decided(Plan(policy=policy, devices=Devices.FOLLOWED), live.history())
    assert by_site(found) == instead.commands()
    assert switches(found)


def test_without_following_devices_stay_where_the_record_has_them() -> None:
    """A policy that wants to move devices which never move orders it again and again: said in the documentation."""
    live = LivePlatform(FLEET, policy_named("never")).run(wild_prices(FLEET, seed=9, ticks=60))
    _, open_loop = decided(Plan(policy="greedy"), live.history())
    _, followed = decided(Plan(policy="greedy", devices=Devices.FOLLOWED), live.history())
    first = switches(open_loop)[0]
    assert {each.from_mode for each in switches(open_loop) if each.device_class == first.device_class} == {
        first.from_mode
    }
    assert len({each.from_mode for each in switches(followed) if each.device_class == first.device_class}) > 1


def test_what_live_dead_lettered_changes_nothing() -> None:
    """Bytes that are none, another record, a time from the future and a site of another fleet are counted by reason."""
    live = LivePlatform(FLEET, policy_named("greedy")).run(wild_prices(FLEET, seed=2, ticks=20))
    good = list(live.records(OPTIMIZER_RECOMMENDATION))
    price = next(live.records(MARKET_PRICE))
    bad = [
        replace(good[0], value=b"none"),
        replace(good[0], value=price.value),
        replace(good[0], value=None),
        replace(good[-1], timestamp_ms=START_MS - 10 * MS_PER_HOUR),
        replace(good[0], value=encode(replace(EXAMPLE, observed_at_ms=EpochMs(START_MS)))),
    ]
    mixed = History(recommendations=lambda: [*bad, *good], prices=lambda: ())
    replay, found = decided(Plan(policy="greedy"), mixed)
    assert by_site(found) == live.commands()
    assert replay.passed_over == {
        "not_a_record": 2,
        "wrong_type": 1,
        "from_the_future": 1,
        "another site's": 1,
    }


def test_a_transformation_that_fails_is_passed_over() -> None:
    """As the agents' guard does: the state stays, the flow goes on."""
    live = LivePlatform(FLEET, policy_named("greedy")).run(wild_prices(FLEET, seed=2, ticks=5))
    rules = replace(rules_of(Plan(policy="greedy"), fleet=FLEET), policy=_Broken())
    replay = Replay(rules, sites=EVERYWHERE)
    found = list(replay.run(live.history(), until_ms=EVER_MS))
    assert not by_site(found)
    assert replay.passed_over["transform_failed"] > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Broken(Greedy):
    """A policy with a defect."""

    def decide(self, view: ClassView) -> Choice:
        """Fail."""
        raise ZeroDivisionError(view.device_class.device_class)


def test_a_range_ends_at_its_end_and_only_sites_wanted_are_decided() -> None:
    """The end is not included; what other sites decide is the same without them."""
    live = LivePlatform(FLEET, policy_named("greedy")).run(wild_prices(FLEET, seed=4, ticks=40))
    until_ms = START_MS + 20 * TICK_MS
    replay = Replay(rules_of(Plan(policy="greedy"), fleet=FLEET), sites=sites_of(FLEET, ["site-1"]))
    found = list(replay.run(live.history(), until_ms=until_ms))
    assert max(each.recommendation.observed_at_ms for each in found) == until_ms - TICK_MS
    wanted = live.commands()["site-1"]
    got = by_site(found)
    assert list(got) == ["site-1"]
    assert got["site-1"] == wanted[: len(got["site-1"])]
    assert 0 < len(got["site-1"]) < len(wanted)


def test_a_price_that_scores_no_longer_is_said() -> None:
    """A recommendation whose price is not on the topic any more cannot be made again."""
    live = LivePlatform(FLEET, policy_named("greedy")).run(wild_prices(FLEET, seed=4, ticks=5))
    without = History(recommendations=live.history().recommendations, prices=lambda: ())
    replay, found = decided(Plan(policy="greedy", scores=Scores.AGAIN), without)
    assert not found
    assert set(replay.passed_over) == {"no recommendation any more"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["treshold=1"], "must be NAME=VALUE with one of confidence_min, dwell_ms, horizon_ms, .* for threshold, was"),
        (["dwell_ms"], "must be NAME=VALUE"),
        ([":power_cap_mw=1"], "must be NAME=VALUE"),
        (["confidence_min=1.5"], "confidence_min must be a number of 0 to 1, was '1.5'"),
        (["confidence_min=nan"], "confidence_min must be a number"),
        (["dwell_ms=1.5"], "dwell_ms must be a whole number"),
        (["switches_per_hour=0"], "switches_per_hour must be a whole number of 1 to 60, or none, was '0'"),
        (["horizon_ms=none"], "horizon_ms must be a whole number"),
        (["site-9:power_cap_mw=1"], "must name a site of site-0, site-1, site-2, was site-9"),
        (["site-0:dwell_ms=1"], "of one site must be one of power_cap_mw, .* was dwell_ms"),
    ],
)
def test_options_that_are_none_are_refused(options: list[str], words: str) -> None:
    """By name and by range, with what there is."""
    with pytest.raises(SettingsError, match=words):
        rules_of(Plan(policy="threshold", options=tuple(options)), fleet=FLEET)


def test_options_reach_the_rules() -> None:
    """A policy's own, its minimum times, the limits and what binds one site or all."""
    options = (
        "horizon_ms=600000",
        "dwell_ms=0",
        "price_age_ms_max=1",
        "loss_floor_usd_per_mwh=4",
        "site-1:switches_per_hour=2",
        "site-1:loss_floor_usd_per_mwh=none",
        "ramp_mw_per_minute=0.5",
    )
    plan = Plan(policy="threshold", options=options)
    rules = rules_of(plan, fleet=FLEET)
    assert rules.policy == replace(Threshold(), horizon_ms=DurationMs(600_000), timing=replace(PATIENT, dwell_ms=0))
    assert rules.limits == replace(LIMITS, price_age_ms_max=1)
    bounds = [(site.constraints, site.ramp_mw_per_minute) for site in rules.fleet.facilities]
    floored = replace(UNCONSTRAINED, loss_floor_usd_per_mwh=4.0)
    assert bounds == [(floored, 0.5), (replace(UNCONSTRAINED, switches_per_hour=2), 0.5), (floored, 0.5)]
    assert rules.fingerprint() != rules_of(replace(plan, options=options[:-1]), fleet=FLEET).fingerprint()


def test_a_lower_threshold_switches_more() -> None:
    """An option changes what is decided, and holds that it makes are explained as ever."""
    live = LivePlatform(FLEET, policy_named("threshold")).run(wild_prices(FLEET, seed=11, ticks=80))
    counts = []
    for options in (("confidence_min=1", "horizon_ms=60000"), ("confidence_min=0", "dwell_ms=0")):
        plan = Plan(policy="threshold", options=options, devices=Devices.FOLLOWED)
        counts.append(len(switches(decided(plan, live.history())[1])))
    assert counts[0] < counts[1]


def test_policies_without_options_have_their_times() -> None:
    """Names follow from the policy's code, so that a policy of another version has its own."""
    assert "dwell_ms" in option_names(policy_named("lcp"), limits=LIMITS)
    assert "horizon_ms" not in option_names(policy_named("lcp"), limits=LIMITS)
    assert "horizon_ms" in option_names(policy_named("threshold"), limits=LIMITS)


def test_an_unknown_site_or_policy_is_refused() -> None:
    """With what there is."""
    with pytest.raises(SettingsError, match="site must be one of site-0, site-1, site-2, was tx"):
        sites_of(FLEET, ["tx"])
    with pytest.raises(SettingsError, match="policy must be one of threshold"):
        rules_of(Plan(policy="best"), fleet=FLEET)


def test_records_survive_a_file(tmp_path: Path) -> None:
    """What decides is kept; a file that was cut off is refused."""
    live = LivePlatform(FLEET, policy_named("greedy")).run(wild_prices(FLEET, seed=2, ticks=3))
    records = list(live.records(OPTIMIZER_RECOMMENDATION))
    path = tmp_path / "records"
    assert write_records(path, records) == len(records)
    assert list(read_records(path)) == [replace(each, key=None) for each in records]
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(HcpError, match="must end with a whole record"):
        list(read_records(path))
