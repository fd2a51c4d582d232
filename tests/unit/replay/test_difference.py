"""Two runs side by side: what counts as the same, and what the difference is worth."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcp.model.commands import DecisionAction, OrchestratorCommand
from hcp.model.units import MS_PER_HOUR
from replay.decisions.difference import Difference, Kind, Run, difference, run_of
from replay.decisions.engine import Replay
from replay.decisions.page import write_page
from replay.decisions.plan import Devices, Plan, rules_of, sites_of
from replay.decisions.worth import worth_of
from streams.policies import policy_named
from tests.decision_history import EVER_MS, LivePlatform, fleet_of, wild_prices

FLEET = fleet_of(2)


def run(policy: str, *, live: LivePlatform, name: str = "") -> Run:
    """Decide a platform's history again, devices where the policy leads them."""
    rules = rules_of(Plan(policy=policy, devices=Devices.FOLLOWED), fleet=FLEET)
    found = list(Replay(rules, sites=sites_of(FLEET, ())).run(live.history(), until_ms=EVER_MS))
    worth = worth_of((each.recommendation for each in found), fleet=FLEET)
    return run_of(name or policy, [decision for each in found for decision in each.decisions], worth=worth)


@pytest.fixture(scope="module")
def live() -> LivePlatform:
    """A platform that lived under `threshold`."""
    return LivePlatform(FLEET, policy_named("threshold"), partitions=2).run(wild_prices(FLEET, seed=4, ticks=60))


@pytest.fixture(scope="module")
def decisions(live: LivePlatform) -> list[OrchestratorCommand]:
    """What `threshold` decides."""
    return list(run("threshold", live=live).decisions.values())


def total(found: Difference, kind: Kind) -> int:
    """Count the differences of a kind over all classes."""
    return sum(each.kinds[kind] for each in found.classes)


def test_a_run_against_itself_differs_in_nothing(live: LivePlatform) -> None:
    """No decision and no dollar."""
    found = difference(run("threshold", live=live), run("threshold", live=live))
    assert found.differing == ()
    assert [each.usd_micros for each in found.classes] == [0] * len(found.classes)
    assert all(each.same == each.decisions_a == each.decisions_b > 0 for each in found.classes)


def test_never_switching_differs_by_the_switches_and_what_they_earned(live: LivePlatform) -> None:
    """Its dollars are those of devices that stay; hours add up to the whole."""
    threshold, never = run("threshold", live=live), run("never", live=live)
    found = difference(threshold, never)
    assert sum(each.switches_a for each in found.classes) > 0
    assert sum(each.switches_b for each in found.classes) == 0
    assert never.worth is not None
    assert threshold.worth is not None
    assert all(each.switch_cost_usd_micros == 0 for each in never.worth.values())
    assert any(each.switch_cost_usd_micros > 0 for each in threshold.worth.values())
    for worth in (*never.worth.values(), *threshold.worth.values()):
        assert sum(worth.by_hour.values()) == worth.usd_micros
        assert all(hour % MS_PER_HOUR == 0 for hour in worth.by_hour)
    assert any(each.usd_micros for each in found.classes)


@given(data=st.data())
def test_what_was_taken_changed_or_added_is_found_and_nothing_else(
    decisions: list[OrchestratorCommand], data: st.DataObject
) -> None:
    """Each decision is kept, changed, dropped or said twice on B's side, and told as what it is."""
    fates = [data.draw(st.sampled_from(["keep", "change", "drop", "repeat", "contradict"])) for _ in decisions]
    other = []
    for decision, fate in zip(decisions, fates, strict=True):
        changed = replace(decision, confidence=decision.confidence / 2 + 0.01)
        other += {
            "keep": [decision],
            "change": [changed],
            "drop": [],
            "repeat": [decision, decision],
            "contradict": [decision, changed],
        }[fate]
    a, b = run_of("a", decisions, worth=None), run_of("b", other, worth=None)
    found = difference(a, b)
    assert total(found, Kind.CHANGED) == fates.count("change")
    assert total(found, Kind.ONLY_A) == fates.count("drop")
    assert total(found, Kind.CONTRADICTED) == fates.count("contradict")
    assert total(difference(b, a), Kind.ONLY_B) == fates.count("drop")
    assert all(each.changes() in {(), ("confidence",)} for each in found.differing)
    assert [each.either.observed_at_ms for each in found.differing] == sorted(
        each.either.observed_at_ms for each in found.differing
    )


def test_the_page_says_what_differs_and_escapes_names(live: LivePlatform, tmp_path: Path) -> None:
    """Tables, the money, and a name that is no markup."""
    a, b = run("threshold", live=live, name="<b>a</b>"), run("never", live=live)
    page = tmp_path / "diff.html"
    found = difference(a, b)
    write_page(page, found, a=a, b=b)
    text = page.read_text(encoding="utf-8")
    assert "&lt;b&gt;a&lt;/b&gt;" in text
    assert f"{len(found.differing):,} decisions differ" in text
    assert 'id="money"' in text
    switch = next(each.either for each in found.differing if each.either.action is DecisionAction.SWITCH)
    assert switch.reason in text
