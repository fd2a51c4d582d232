"""Properties of policies that remember: bounds, determinism, bounded memory, and no number that is none."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcp.model.devices import DeviceClass, DeviceMode
from hcp.model.recommendations import ClassRecommendation, ModeScore
from hcp.model.units import MS_PER_DAY, MS_PER_HOUR, MS_PER_MINUTE, DurationMs, Usd, UsdPerHour, Watts
from streams.policies import ClassView, Policy, Reading, pair, policy_named
from tests.unit.streams.world import DEMO_FLEET, START_MS

INTERVAL_MS: Final = 15 * MS_PER_MINUTE
HOURS: Final = INTERVAL_MS / MS_PER_HOUR
QUICK = settings(max_examples=60, deadline=None)
REMEMBERING: Final = [policy_named("lcp"), policy_named("predictive")]
MINE, REST = DeviceMode.MINING, DeviceMode.SLEEP
WEAR_USD: Final = 0.5
"""Of either switch: with no revenue nothing else is lost, so a switch there and back costs 1 USD."""
GAINS = st.lists(st.floats(min_value=-40.0, max_value=40.0, allow_nan=False), min_size=2, max_size=120)


def a_class(*, wear_usd: float = WEAR_USD) -> DeviceClass:
    """Return S21s whose switches cost wear alone."""
    known = DEMO_FLEET.device_class("s21")
    assert known is not None
    modes = tuple(
        replace(known.profile(mode), enter_ms=DurationMs(1), enter_wear_usd=Usd(wear_usd), enter_reload_usd=Usd(0.0))
        for mode in (MINE, REST)
    )
    return replace(known, modes=modes)


def scores_of(gain: float) -> ClassRecommendation:
    """Return scores of mining that earns so much more than sleep, revenue 0: a loss is energy's."""
    best, other = (MINE, REST) if gain >= 0.0 else (REST, MINE)
    rows = tuple(
        _row(mode, watts, profit, gain=0.0 if mode is best else abs(gain))
        for mode, watts, profit in ((MINE, 3_500.0, gain), (REST, 25.0, 0.0))
    )
    return ClassRecommendation(
        device_class="s21",
        best_mode=best,
        runner_up_mode=other,
        delta_usd_per_hour=UsdPerHour(abs(gain)),
        confidence=1.0,
        scores=rows,
    )


def _row(mode: DeviceMode, watts: float, profit: float, *, gain: float = 0.0) -> ModeScore:
    return ModeScore(
        mode=mode,
        revenue_usd_per_hour=UsdPerHour(0.0),
        energy_cost_usd_per_hour=UsdPerHour(-profit),
        demand_cost_usd_per_hour=UsdPerHour(0.0),
        wear_usd_per_hour=UsdPerHour(0.0),
        profit_usd_per_hour=UsdPerHour(profit),
        power_watts=Watts(watts),
        gain_usd_per_hour=UsdPerHour(gain),
        switch_cost_usd=Usd(WEAR_USD if gain else 0.0),
        payback_ms=None,
        confidence=1.0,
        break_even_usd_per_mwh=None,
    )


@dataclass(slots=True, kw_only=True)
class Ride:
    """One policy on one series of gains: where it is and what it has cost beside the better mode of each interval."""

    policy: Policy
    device_class: DeviceClass
    mode: DeviceMode = MINE
    memory: bytes = b""
    number: int = 0
    cost_usd: float = 0.0
    switch_count: int = 0

    def learn(self, gain: float) -> None:
        """Take in an interval and choose."""
        scores = scores_of(gain)
        start_ms = START_MS + self.number * INTERVAL_MS
        reading = Reading(device_class=self.device_class, scores=scores, start_ms=start_ms, interval_ms=INTERVAL_MS)
        self.memory = self.policy.observe(self.memory, reading)
        self.number += 1
        view = ClassView(
            recommendation=scores,
            device_class=self.device_class,
            from_mode=self.mode,
            device_count=1,
            memory=self.memory,
        )
        chosen = self.policy.decide(view).to_mode
        if chosen is not self.mode:
            self.mode = chosen
            self.cost_usd += self.device_class.profile(chosen).enter_wear_usd
            self.switch_count += 1

    def serve(self, gain: float) -> None:
        """Be in the mode for an interval."""
        self.cost_usd += max(gain, 0.0) * HOURS - (gain * HOURS if self.mode is MINE else 0.0)


def rode(policy: Policy, gains: Sequence[float], *, lag: int = 1, wear_usd: float = WEAR_USD) -> Ride:
    """Return the ride; with a lag of 1 what is decided on an interval counts from the next, with 0 in itself."""
    ride = Ride(policy=policy, device_class=a_class(wear_usd=wear_usd))
    for gain in gains:
        if lag:
            ride.serve(gain)
            ride.learn(gain)
        else:
            ride.learn(gain)
            ride.serve(gain)
    return ride


def best_cost_usd(gains: Sequence[float]) -> float:
    """Return what the best sequence of modes costs beside the better mode of each interval, by dynamic programming."""
    mine_usd, rest_usd = 0.0, WEAR_USD
    for gain in gains:
        mine_usd, rest_usd = min(mine_usd, rest_usd + WEAR_USD), min(rest_usd, mine_usd + WEAR_USD)
        mine_usd += max(-gain, 0.0) * HOURS
        rest_usd += max(gain, 0.0) * HOURS
    return min(mine_usd, rest_usd)


def flip(ride: Ride) -> Iterator[float]:
    """Set each price against where the policy is."""
    for _ in range(1_500):
        yield -9.0 if ride.mode is MINE else 9.0


def small_flip(ride: Ride) -> Iterator[float]:
    """The same, each hardly worth a switch."""
    for _ in range(1_500):
        yield -2.5 if ride.mode is MINE else 2.5


def tease(ride: Ride) -> Iterator[float]:
    """Days that are calm until the policy trusts them."""
    for number in range(1_500):
        yield -60.0 if number % 96 >= 70 and ride.mode is MINE else 8.0


def walk(ride: Ride) -> Iterator[float]:
    """No adversary: waves and noise."""
    del ride
    for number in range(1_500):
        yield 10.0 * math.sin(number / 9.0) + 6.0 * math.sin(number * 1.7)


ADVERSARIES: Final = [flip, small_flip, tease, walk]


def against(adversary: Callable[[Ride], Iterator[float]], *, policy: Policy, lag: int) -> tuple[Ride, list[float]]:
    """Let an adversary see the policy's mode before it sets each price; return the ride and the prices."""
    ride = Ride(policy=policy, device_class=a_class())
    gains: list[float] = []
    for gain in adversary(ride):
        gains.append(gain)
        if lag:
            ride.serve(gain)
            ride.learn(gain)
        else:
            ride.learn(gain)
            ride.serve(gain)
    return ride, gains


@QUICK
@given(gains=GAINS)
def test_lcp_costs_at_most_three_times_the_best(gains: list[float]) -> None:
    """Without the information lag, on any market; one switch there and back is the additive constant."""
    assert rode(policy_named("lcp"), gains, lag=0).cost_usd <= 3.0 * best_cost_usd(gains) + 2.0 * WEAR_USD + 1e-9


@pytest.mark.parametrize("adversary", ADVERSARIES, ids=lambda each: each.__name__)
def test_lcp_keeps_its_bound_against_an_adversary(adversary: Callable[[Ride], Iterator[float]]) -> None:
    """Prices set against its mode before every interval."""
    ride, gains = against(adversary, policy=policy_named("lcp"), lag=0)
    assert ride.cost_usd <= 3.0 * best_cost_usd(gains) + 2.0 * WEAR_USD + 1e-6


@pytest.mark.parametrize("adversary", ADVERSARIES, ids=lambda each: each.__name__)
def test_predictive_loses_to_lcp_no_more_than_its_bound(adversary: Callable[[Ride], Iterator[float]]) -> None:
    """At most (exits + 1) * (guard + largest move + 2) switches there and back, prices set against it."""
    ride, gains = against(adversary, policy=policy_named("predictive"), lag=1)
    exits = exits_of(ride, gains)
    lcp = rode(policy_named("lcp"), gains)
    largest = max(abs(gain) for gain in gains) * HOURS / (2.0 * WEAR_USD)
    bound_usd = (exits + 1) * (pair.GUARD_MAX + largest + 2.0) * 2.0 * WEAR_USD
    assert ride.cost_usd - lcp.cost_usd <= bound_usd


def exits_of(ride: Ride, gains: Sequence[float]) -> int:
    """Count how often the learner had to give the word away."""
    count, was_out = 0, False
    row = pair.new_row()
    for number, gain in enumerate(gains):
        seen = pair.Interval(START_MS + number * INTERVAL_MS, INTERVAL_MS, gain, WEAR_USD, WEAR_USD)
        pair.observe(row, seen)
        is_out = bool(row[pair.IS_OUT])
        count += is_out and not was_out
        was_out = is_out
    assert row.tobytes() == ride.memory[-8 * pair.ROW_LENGTH :]
    return count


@QUICK
@given(
    gains=st.lists(
        st.one_of(
            st.floats(min_value=-1e9, max_value=1e9, allow_nan=False),
            st.sampled_from([0.0, 1e9, -1e9, 1e-300, -1e-300]),
        ),
        min_size=1,
        max_size=60,
    ),
    interval_ms=st.sampled_from([1_000, INTERVAL_MS, MS_PER_HOUR, MS_PER_DAY, 366 * MS_PER_DAY]),
    wear_usd=st.sampled_from([1e-6, 0.02, 1e6]),
    policy=st.sampled_from(REMEMBERING),
)
def test_memory_stays_finite_and_of_one_size(
    gains: list[float], interval_ms: int, wear_usd: float, policy: Policy
) -> None:
    """Whatever is in range: nothing weighed is NaN or infinite, memory keeps its size, twice is the same."""
    device_class = a_class(wear_usd=wear_usd)
    memories = []
    for _ in range(2):
        memory = b""
        for number, gain in enumerate(gains):
            start_ms = START_MS + number * interval_ms
            memory = policy.observe(
                memory,
                Reading(device_class=device_class, scores=scores_of(gain), start_ms=start_ms, interval_ms=interval_ms),
            )
        memories.append(memory)
    assert memories[0] == memories[1]
    first = policy.observe(
        b"",
        Reading(device_class=device_class, scores=scores_of(1.0), start_ms=START_MS, interval_ms=interval_ms),
    )
    assert len(memories[0]) == len(first)
    for mode in (MINE, REST):
        view = ClassView(
            recommendation=scores_of(gains[-1]),
            device_class=device_class,
            from_mode=mode,
            device_count=1,
            memory=memories[0],
        )
        choice = policy.decide(view)
        assert choice.advantage_usd is None or math.isfinite(choice.advantage_usd)
        assert choice.advantage_threshold_usd is None or math.isfinite(choice.advantage_threshold_usd)
        assert choice.confidence is None or 0.0 <= choice.confidence <= 1.0


@QUICK
@given(
    gains=GAINS, policy=st.sampled_from(REMEMBERING), other=st.sampled_from([b"x", b"prd1", b"lcp1\x02", bytes(3_556)])
)
def test_memory_of_another_layout_is_begun_anew(gains: list[float], policy: Policy, other: bytes) -> None:
    """A policy that is changed, or replaced by another, does not misread what was kept."""
    reading = Reading(device_class=a_class(), scores=scores_of(gains[0]), start_ms=START_MS, interval_ms=INTERVAL_MS)
    assert policy.observe(other, reading) == policy.observe(b"", reading)


@QUICK
@given(gains=GAINS)
def test_dearer_switches_never_add_switches_to_lcp(gains: list[float]) -> None:
    """Twice the cost, at most as many switches, and one that the end of the series may cut off."""
    cheap, dear = (rode(policy_named("lcp"), gains, wear_usd=wear).switch_count for wear in (WEAR_USD, 2.0 * WEAR_USD))
    assert dear <= cheap + 1


@QUICK
@given(gains=GAINS, more=st.floats(min_value=0.0, max_value=20.0))
def test_more_revenue_never_turns_lcps_mine_into_sleep(gains: list[float], more: float) -> None:
    """If every interval had earned more, lcp would mine wherever it did."""
    plain, richer = (
        Ride(policy=policy_named("lcp"), device_class=a_class()),
        Ride(policy=policy_named("lcp"), device_class=a_class()),
    )
    for gain in gains:
        plain.learn(gain)
        richer.learn(gain + more)
        assert plain.mode is not MINE or richer.mode is MINE


def test_a_class_of_three_modes_wakes_for_a_small_lasting_gain() -> None:
    """Asleep at the start, a gain of a tenth of a switch an hour: it mines within days, as lazy provisioning does."""
    known = DEMO_FLEET.device_class("s21")
    assert known is not None
    eco = replace(known.profile(MINE), mode=DeviceMode.MINING_ECO, power_watts=Watts(2_450.0))
    device_class = replace(known, modes=(known.profile(MINE), eco, known.profile(REST)))
    rows = tuple(
        _row(mode, watts, profit)
        for mode, watts, profit in ((MINE, 3_500.0, 0.004), (eco.mode, 2_450.0, 0.003), (REST, 25.0, 0.0))
    )
    scores = replace(scores_of(1.0), scores=rows)
    policy, memory = policy_named("predictive"), b""
    chosen = REST
    for number in range(96 * 7):
        start_ms = START_MS + number * INTERVAL_MS
        reading = Reading(device_class=device_class, scores=scores, start_ms=start_ms, interval_ms=INTERVAL_MS)
        memory = policy.observe(memory, reading)
        view = ClassView(
            recommendation=scores, device_class=device_class, from_mode=chosen, device_count=1, memory=memory
        )
        chosen = policy.decide(view).to_mode
    assert chosen is MINE


def test_one_absurd_interval_does_not_spoil_what_was_learned() -> None:
    """A gain of a billion is taught as 25 switches: afterwards the policy costs little more than if it had not been."""
    gains = [10.0 * math.sin(number / 9.0) + 6.0 * math.sin(number * 1.7) for number in range(3_000)]
    plain, spoiled = (Ride(policy=policy_named("predictive"), device_class=a_class()) for _ in range(2))
    spoiled.learn(1e9)
    for gain in gains:
        for ride in (plain, spoiled):
            ride.serve(gain)
            ride.learn(gain)
    assert spoiled.cost_usd <= 1.25 * plain.cost_usd
