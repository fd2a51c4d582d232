"""Regret: hindsight one interval at a time, checked by hand and against the offline programme of the backtest."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.hindsight import best_fixed as best_fixed_offline
from backtest.hindsight import best_path
from hcp.model.devices import DeviceMode
from hcp.model.ids import id_from_content
from hcp.model.recommendations import ClassDevices, ClassRecommendation, ModeDevices, ModeScore, Recommendation
from hcp.model.regret import Regret
from hcp.model.rejections import Rejected, RejectReason
from hcp.model.units import EpochMs, UsdPerHour
from streams.regret import ClassRegret, RegretState, best_fixed, hindsight_usd, on_recommendation_settled
from streams.settlement import move_cost_usd
from tests.examples import RECOMMENDATION
from tests.unit.streams.world import DEMO_FLEET, MINUTE_MS, SITE, step

HOUR_MS, QUARTER_MS = 60 * MINUTE_MS, 15 * MINUTE_MS
BEGIN_MS = 472_222 * HOUR_MS
"""A full hour."""
MINE, SLEEP = DeviceMode.MINING, DeviceMode.SLEEP
S21 = DEMO_FLEET.device_class("s21")
COUNT = 12
TEMPLATE = RECOMMENDATION.classes[0].scores[0]
QUICK = settings(max_examples=60, deadline=None)
RATES = st.floats(min_value=-2.0, max_value=2.0, allow_nan=False)


def a_score(mode: DeviceMode, *, profit: float, revenue: float) -> ModeScore:
    """Score a mode; only profit and revenue matter to regret."""
    return replace(
        TEMPLATE, mode=mode, profit_usd_per_hour=UsdPerHour(profit), revenue_usd_per_hour=UsdPerHour(revenue)
    )


def advice(
    end_ms: int,
    *,
    mining: float,
    revenue: float = 0.0,
    sleep: float = 0.0,
    counts: dict[DeviceMode, int] | None = None,
    interval_ms: int | None = QUARTER_MS,
    name: str = "",
) -> Recommendation:
    """Recommend for the twelve S21s of the site, for the interval that ends at `end_ms`."""
    scores = (a_score(MINE, profit=mining, revenue=revenue), a_score(SLEEP, profit=sleep, revenue=0.0))
    modes = tuple(
        ModeDevices(mode=mode, movable_count=count, switching_count=0)
        for mode, count in ({MINE: COUNT} if counts is None else counts).items()
    )
    known = ClassRecommendation(
        device_class="s21",
        best_mode=MINE,
        runner_up_mode=SLEEP,
        delta_usd_per_hour=UsdPerHour(0.0),
        confidence=0.5,
        scores=scores,
    )
    return replace(
        RECOMMENDATION,
        recommendation_id=id_from_content("regret", end_ms, name),
        facility_id=SITE,
        observed_at_ms=EpochMs(end_ms),
        market=replace(RECOMMENDATION.market, energy_observed_at_ms=end_ms, energy_interval_ms=interval_ms),
        classes=(known,),
        devices=(ClassDevices(device_class="s21", modes=modes, stale_count=0, epoch_sum=0),),
    )


def run(*all_advice: Recommendation, state: RegretState | None = None) -> tuple[RegretState, list[Regret]]:
    """Settle recommendations in order; return the state and the hours that closed."""
    hours: list[Regret] = []
    for each in all_advice:
        done = step(on_recommendation_settled(state, each, fleet=DEMO_FLEET))
        state = dict(done.updates).get(SITE, state)
        hours += [output for output in done.outputs if isinstance(output, Regret)]
    assert state is not None
    return state, hours


def class_of(state: RegretState) -> ClassRegret:
    """Return the only class."""
    (known,) = state.classes
    return known


def test_an_hour_by_hand() -> None:
    """Two quarters at +0.4 and two at -1.0 USD/h: hindsight sleeps for the second half, fixed is to sleep throughout.

    To sleep costs 0.001 and five seconds of the better revenue. The devices mined three quarters, then slept:
    12 * (2 * 0.1 - 0.25 - 0.0) less the switch.
    """
    quarters = [
        advice(BEGIN_MS + QUARTER_MS, mining=0.4, revenue=0.6),
        advice(BEGIN_MS + 2 * QUARTER_MS, mining=0.4, revenue=0.6),
        advice(BEGIN_MS + 3 * QUARTER_MS, mining=-1.0, revenue=0.6),
        advice(BEGIN_MS + 4 * QUARTER_MS, mining=-1.0, revenue=0.6, counts={SLEEP: COUNT}),
    ]
    following = advice(BEGIN_MS + 5 * QUARTER_MS, mining=0.4, revenue=0.6, counts={SLEEP: COUNT})
    to_sleep_usd = 0.6 * 5 / 3_600 + 0.001
    _, (hour,) = run(*quarters, following)
    assert hour == Regret(
        regret_id=id_from_content(SITE, "s21", BEGIN_MS),
        facility_id=SITE,
        device_class="s21",
        hour_start_ms=EpochMs(BEGIN_MS),
        since_ms=EpochMs(BEGIN_MS),
        covered_ms=HOUR_MS,
        device_count=COUNT,
        counted_ratio=1.0,
        realised_usd_micros=round(12e6 * (0.2 - 0.25 - to_sleep_usd)),
        switch_cost_usd_micros=round(12e6 * to_sleep_usd),
        realised_so_far_usd_micros=round(12e6 * (0.2 - 0.25 - to_sleep_usd)),
        hindsight_so_far_usd_micros=round(12e6 * (0.2 - to_sleep_usd)),
        best_fixed_so_far_usd_micros=round(-12e6 * to_sleep_usd),
        best_fixed_mode=SLEEP,
        observed_at_ms=EpochMs(BEGIN_MS + HOUR_MS),
    )


def test_hours_add_up_to_the_total_and_name_their_gaps() -> None:
    """The second hour has one quarter only; a quarter that no price is for is missing, not zero or carried on."""
    told = [
        advice(BEGIN_MS + QUARTER_MS, mining=0.4),
        advice(BEGIN_MS + HOUR_MS + 2 * QUARTER_MS, mining=0.8),
        advice(BEGIN_MS + 2 * HOUR_MS + QUARTER_MS, mining=0.1),
    ]
    _, (first, second) = run(*told)
    assert (first.covered_ms, second.covered_ms) == (QUARTER_MS, QUARTER_MS)
    assert second.hour_start_ms == BEGIN_MS + HOUR_MS
    assert second.since_ms == BEGIN_MS
    assert (first.realised_usd_micros, second.realised_usd_micros) == (1_200_000, 2_400_000)
    assert second.realised_so_far_usd_micros == first.realised_usd_micros + second.realised_usd_micros


def test_what_is_late_double_or_brings_no_new_price_changes_nothing() -> None:
    """At-least-once delivery, corrections that come late and other prices at the same time have no effect."""
    first, second = advice(BEGIN_MS + QUARTER_MS, mining=0.4), advice(BEGIN_MS + 2 * QUARTER_MS, mining=0.4)
    state, _ = run(first, second)
    seen = [
        (second, "duplicate"),
        (first, "late"),
        (replace(second, recommendation_id=id_from_content("other")), None),
        (advice(BEGIN_MS + 3 * QUARTER_MS, mining=9.0, interval_ms=None), None),
        (advice(BEGIN_MS + 3 * QUARTER_MS, mining=9.0, interval_ms=0), None),
    ]
    for each, ignored in seen:
        done = step(on_recommendation_settled(state, each, fleet=DEMO_FLEET))
        assert (done.updates, done.outputs, done.ignored) == ((), (), ignored)


def test_an_unknown_site_is_refused() -> None:
    """A record of a site that the fleet does not have is dead-lettered with the reason."""
    refused = on_recommendation_settled(None, replace(RECOMMENDATION, facility_id="nowhere"), fleet=DEMO_FLEET)
    assert isinstance(refused, Rejected)
    assert refused.reason is RejectReason.UNKNOWN_FACILITY


def test_devices_that_are_not_counted_count_as_doing_what_the_others_do() -> None:
    """Nine of twelve seen: amounts are for twelve, and the record says three quarters; none seen: as they last did."""
    told = [
        advice(BEGIN_MS + QUARTER_MS, mining=0.4, counts={MINE: 9}),
        advice(BEGIN_MS + 2 * QUARTER_MS, mining=0.4, counts={}),
        advice(BEGIN_MS + HOUR_MS + QUARTER_MS, mining=0.4),
    ]
    _, (hour,) = run(*told)
    assert hour.realised_usd_micros == round(12 * 2 * 0.1 * 1e6)
    assert hour.switch_cost_usd_micros == 0
    assert hour.counted_ratio == pytest.approx(0.75 / 2)


def test_a_class_whose_devices_changed_in_the_fleet_file_begins_anew() -> None:
    """Totals of ten devices and of twelve are not one total."""
    state, _ = run(advice(BEGIN_MS + QUARTER_MS, mining=0.4))
    site = DEMO_FLEET.facility(SITE)
    assert site is not None
    grown = replace(site, clusters=tuple(replace(each, device_count=each.device_count + 1) for each in site.clusters))
    fleet = replace(DEMO_FLEET, facilities=(grown,))
    done = step(on_recommendation_settled(state, advice(BEGIN_MS + 2 * QUARTER_MS, mining=0.4), fleet=fleet))
    known = class_of(dict(done.updates)[SITE])
    assert (known.device_count, known.since_ms) == (COUNT + 1, BEGIN_MS + QUARTER_MS)


def test_absurd_prices_stay_within_what_a_record_may_hold() -> None:
    """Rates at the edge of their range give an hour that can be sent, so that one price does not stop the job."""
    _, (hour,) = run(
        advice(BEGIN_MS + QUARTER_MS, mining=1e9, revenue=1e9),
        advice(BEGIN_MS + HOUR_MS + QUARTER_MS, mining=0.0),
    )
    assert hour.hindsight_so_far_usd_micros <= 2**53


PATHS = st.lists(
    st.tuples(RATES, st.floats(min_value=0.0, max_value=3.0, allow_nan=False), RATES, st.integers(0, COUNT)),
    min_size=1,
    max_size=25,
)
"""(profit and revenue of mining, profit of sleep, devices that mined), interval by interval."""


def settled(path: list[tuple[float, float, float, int]]) -> ClassRegret:
    """Run a path of quarters."""
    told = [
        advice(
            BEGIN_MS + (place + 1) * QUARTER_MS,
            mining=mining,
            revenue=revenue,
            sleep=sleep,
            counts={MINE: miners, SLEEP: COUNT - miners},
        )
        for place, (mining, revenue, sleep, miners) in enumerate(path)
    ]
    return class_of(run(*told)[0])


@QUICK
@given(path=PATHS)
def test_neither_what_was_made_nor_a_fixed_mode_beats_hindsight(path: list[tuple[float, float, float, int]]) -> None:
    """True of any mix of modes: each device of it walks a path, and costs what hindsight would pay for that path."""
    known = settled(path)
    total = hindsight_usd(known)
    assert COUNT * known.realised_usd <= total + 1e-9
    assert best_fixed(known)[1] <= total + 1e-9


@QUICK
@given(path=PATHS)
def test_hindsight_one_interval_at_a_time_is_that_of_the_whole_history(
    path: list[tuple[float, float, float, int]],
) -> None:
    """The online programme equals the offline one of the backtest, and so does the best fixed mode."""
    assert S21 is not None
    modes = (MINE, SLEEP)
    profit = np.array([[mining / 4, sleep / 4] for mining, _, sleep, _ in path])
    rows = [
        {MINE: a_score(MINE, profit=mining, revenue=revenue), SLEEP: a_score(SLEEP, profit=sleep, revenue=0.0)}
        for mining, revenue, sleep, _ in path
    ]
    cost = np.array(
        [[[move_cost_usd(S21, rows=row, from_mode=i, to_mode=j) for j in modes] for i in modes] for row in rows]
    )
    known = settled(path)
    offline = best_path(profit, cost, initial_mode=0)
    assert hindsight_usd(known) == pytest.approx(COUNT * offline.profit_usd, abs=1e-9)
    fixed = best_fixed_offline(profit, cost, initial_mode=0)
    assert best_fixed(known)[1] == pytest.approx(COUNT * fixed.profit_usd, abs=1e-9)


def test_sites_that_begin_in_several_modes_are_compared_from_each() -> None:
    """Half of the devices begin asleep: hindsight and the fixed modes pay the way from where each began."""
    assert S21 is not None
    site = DEMO_FLEET.facility(SITE)
    assert site is not None
    asics = next(cluster for cluster in site.clusters if cluster.device_class == "s21")
    other = replace(asics, cluster_id=f"{SITE}.asic-2", initial_mode=SLEEP)
    fleet = replace(DEMO_FLEET, facilities=(replace(site, clusters=(asics, other)),))
    told = advice(BEGIN_MS + QUARTER_MS, mining=4.0, revenue=4.0, counts={MINE: COUNT, SLEEP: COUNT})
    known = class_of(dict(step(on_recommendation_settled(None, told, fleet=fleet)).updates)[SITE])
    to_mine = 4.0 * 300 / 3_600 + 0.02
    assert hindsight_usd(known) == pytest.approx(COUNT * 1.0 + COUNT * (1.0 - to_mine))
    assert best_fixed(known) == (MINE, pytest.approx(COUNT * (2.0 - to_mine)))
    assert known.device_count * known.realised_usd == pytest.approx(COUNT * 1.0)
