"""Every constraint holds on every generated market, under every policy."""

from dataclasses import dataclass, replace
from itertools import accumulate

from hypothesis import given, settings
from hypothesis import strategies as st

from hcp.model.commands import DecisionAction
from hcp.model.devices import DeviceMode
from hcp.model.facilities import Constraints, Facility, Fleet
from hcp.model.units import MS_PER_DAY, MS_PER_HOUR
from streams.guards import wear_capacity_usd
from streams.policies import POLICIES, Policy
from streams.site_limits import RAMP_BURST_MS
from tests.unit.streams.world import DEMO_FLEET, MINUTE_MS, SITE, START_MS, Plane

ROUNDING = 1.0 + 1e-6
PRICES = st.one_of(
    st.floats(min_value=-300.0, max_value=9_000.0, allow_nan=False),
    st.floats(min_value=60.0, max_value=160.0, allow_nan=False),
)
TICKS = st.lists(
    st.tuples(st.sampled_from([5, 5, 15, 60]).map(lambda minutes: minutes * MINUTE_MS), PRICES), min_size=3, max_size=25
)
OR_NONE = st.none()
CONSTRAINTS = st.builds(
    Constraints,
    switches_per_hour=st.one_of(OR_NONE, st.integers(min_value=1, max_value=4)),
    loss_floor_usd_per_mwh=st.one_of(OR_NONE, st.floats(min_value=1.0, max_value=500.0)),
    wear_budget_usd_per_device_day=st.one_of(OR_NONE, st.floats(min_value=0.01, max_value=0.2)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Raise:
    """Devices of a class that went to more power."""

    device_class: str
    at_ms: int
    added_kw: float
    wear_usd: float


def a_site(*, constraints: Constraints, power_cap_kw: float, ramp_kw_per_minute: float) -> Facility:
    """Return tx-south with these limits."""
    facility = DEMO_FLEET.facility(SITE)
    assert facility is not None
    return replace(
        facility,
        constraints=constraints,
        power_cap_mw=power_cap_kw / 1_000.0,
        ramp_mw_per_minute=ramp_kw_per_minute / 1_000.0,
    )


def kilowatts(fleet: Fleet, site: Facility, device_class: str, mode: DeviceMode) -> float:
    """Return the site draw of one device."""
    known = fleet.device_class(device_class)
    assert known is not None
    return known.profile(mode).power_watts / 1_000.0 * site.pue


def draw_kw(plane: Plane, site: Facility) -> float:
    """Return what the site draws."""
    return sum(
        kilowatts(plane.fleet, site, shard.device_class, mode)
        for shard in plane.shards.values()
        for mode in shard.modes
    )


def raises_of(plane: Plane, site: Facility) -> list[Raise]:
    """Return every decision that raised power, in order."""
    found: list[Raise] = []
    for decision in plane.decisions:
        if decision.action is not DecisionAction.SWITCH:
            continue
        name, known = decision.device_class, plane.fleet.device_class(decision.device_class)
        assert known is not None
        each_kw = kilowatts(plane.fleet, site, name, decision.to_mode)
        each_kw -= kilowatts(plane.fleet, site, name, decision.from_mode)
        total = sum(cluster.device_count for cluster in site.clusters if cluster.device_class == name)
        if each_kw > 0.0:
            found.append(
                Raise(
                    device_class=name,
                    at_ms=decision.observed_at_ms,
                    added_kw=each_kw * decision.device_count,
                    wear_usd=known.profile(decision.to_mode).enter_wear_usd * decision.device_count / total,
                )
            )
    return found


def check_no_loss_beyond_floor(plane: Plane, floor: float | None) -> None:
    """No device is left in a mode that loses more than the floor while one of less power loses less."""
    if floor is None:
        return
    for scored in plane.recommendations[-1].classes:
        rows = {row.mode: row for row in scored.scores}
        for shard in plane.shards.values():
            for mode in set(shard.modes) if shard.device_class == scored.device_class else ():
                here = rows[mode]
                is_below = here.profit_usd_per_hour < -floor * here.power_watts / 1e6 * 1.1 * ROUNDING
                lower = [row for row in scored.scores if row.power_watts < here.power_watts]
                assert not is_below or all(row.profit_usd_per_hour <= here.profit_usd_per_hour for row in lower)


@settings(max_examples=80, deadline=None)
@given(
    ticks=TICKS,
    policy=st.sampled_from(POLICIES),
    constraints=CONSTRAINTS,
    power_cap_kw=st.floats(min_value=8.0, max_value=120.0),
    ramp_kw_per_minute=st.floats(min_value=1.0, max_value=30.0),
)
def test_every_constraint_holds_on_every_market(
    ticks: list[tuple[int, float]],
    policy: Policy,
    constraints: Constraints,
    power_cap_kw: float,
    ramp_kw_per_minute: float,
) -> None:
    """Cap, ramp, raises an hour, wear budget and loss floor, checked from outside by what was decided."""
    site = a_site(constraints=constraints, power_cap_kw=power_cap_kw, ramp_kw_per_minute=ramp_kw_per_minute)
    fleet = replace(
        DEMO_FLEET,
        facilities=tuple(site if known.facility_id == SITE else known for known in DEMO_FLEET.facilities),
    )
    plane = Plane(policy=policy, fleet=fleet)
    plane.see_devices()
    plane.see_prices()
    for number, (at_ms, (_, value)) in enumerate(
        zip(accumulate((passed for passed, _ in ticks), initial=START_MS), ticks, strict=False)
    ):
        plane.energy(value, at_ms=at_ms + 10 * MINUTE_MS)
        if number >= 1:  # the site begins above the cap; each class sheds by one order a price
            assert draw_kw(plane, site) <= power_cap_kw * ROUNDING
            check_no_loss_beyond_floor(plane, constraints.loss_floor_usd_per_mwh)
    raises = raises_of(plane, site)
    for first, begun in enumerate(raises):
        added_kw = 0.0
        for last in raises[first:]:
            added_kw += last.added_kw
            minutes = (last.at_ms - begun.at_ms + RAMP_BURST_MS) / MINUTE_MS
            assert added_kw <= ramp_kw_per_minute * minutes * ROUNDING
    check_class_budgets(raises, constraints)


def check_class_budgets(raises: list[Raise], constraints: Constraints) -> None:
    """Raises an hour and wear, class by class, over every window."""
    limit, budget = constraints.switches_per_hour, constraints.wear_budget_usd_per_device_day
    for first, begun in enumerate(raises):
        mine = [each for each in raises[first:] if each.device_class == begun.device_class]
        if limit is not None:
            assert sum(each.at_ms - begun.at_ms < MS_PER_HOUR for each in mine) <= limit
        for place, last in enumerate(mine if budget is not None else ()):
            assert budget is not None
            spent_usd = sum(each.wear_usd for each in mine[: place + 1])
            won_usd = budget * (last.at_ms - begun.at_ms) / MS_PER_DAY
            assert spent_usd <= (won_usd + wear_capacity_usd(budget, 0.02)) * ROUNDING
