"""One row a contender and site, and one for the fleet: what tables, reports and tests read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from backtest.accounting import ClassAccount, ramp_mw_per_minute_max, settle
from backtest.engine import BacktestRun
from backtest.reliability import Reliability, reliability
from backtest.series import DAY_MS, ClassSeries, FloatArray, IntArray
from backtest.yardsticks import Method, Plan, SitePower, best_fixed, hindsight, hours_over_cap
from hcp.model.devices import DeviceMode
from hcp.model.facilities import Facility, Fleet
from hcp.model.units import MS_PER_MINUTE

HINDSIGHT: Final = "hindsight"
BEST_FIXED: Final = "best fixed"
FLEET: Final = "fleet"
"""The facility of the rows that add all sites up."""
_KW_PER_MW: Final = 1_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRow:
    """One contender at one site, over the settled intervals.

    Attributes:
        contender: A policy, `hindsight` or `best fixed`.
        facility_id: The site, or `fleet`.
        profit_usd: Switch costs deducted.
        switch_cost_usd: What those were; None for hindsight and best fixed.
        hindsight_ratio: Profit as a share of hindsight's; None where that is not above 0.
        gap_ratio: (profit - best fixed) / (hindsight - best fixed); None where these two are equal.
        switch_count: Decisions to switch that took effect.
        switches_per_device_day: Devices moved a device and settled day.
        device_hours: Hours by mode, summed over devices.
        curtailed_mwh: Energy not drawn, compared with every device in its most power-hungry mode.
        ramp_mw_per_minute_max: Greatest change of power within a clock minute; None for hindsight and best fixed.
        dwell_minutes_min: Shortest stay in a mode between two switches; None when there was none.
        over_cap_hours: Hours in which the site drew more than its cap.
        method: How the site's hindsight was found, "dp" or "lp"; for the fleet "lp" when any site's was.
    """

    contender: str
    facility_id: str
    profit_usd: float
    switch_cost_usd: float | None
    hindsight_ratio: float | None
    gap_ratio: float | None
    switch_count: int
    switches_per_device_day: float
    device_hours: Mapping[DeviceMode, float]
    curtailed_mwh: float
    ramp_mw_per_minute_max: float | None
    dwell_minutes_min: float | None
    over_cap_hours: float
    method: Method


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SiteResult:
    """One site in full: what the report draws.

    Attributes:
        facility: The site.
        classes: Its classes.
        accounts: For each policy, in order, one a class.
        hindsight: The optimum.
        fixed: The best fixed choice.
        rows: Policies in the order asked, then hindsight and best fixed.
        reliability: How true its probability is, of each policy that says one.
    """

    facility: Facility
    classes: tuple[ClassSeries, ...]
    accounts: Mapping[str, tuple[ClassAccount, ...]]
    hindsight: Plan
    fixed: Plan
    rows: tuple[ResultRow, ...]
    reliability: Mapping[str, Reliability]

    def profit_usd(self, contender: str, *, every_ms: int = DAY_MS) -> tuple[IntArray, FloatArray]:
        """Return stretches of event time and what a contender earned in the intervals that began in each.

        Args:
            contender: A policy, `hindsight` or `best fixed`.
            every_ms: Length of a stretch; they begin at multiples of it since the epoch, so days are UTC days.
        """
        profits: Sequence[FloatArray]
        if contender == HINDSIGHT:
            profits = self.hindsight.profit_usd
        elif contender == BEST_FIXED:
            profits = self.fixed.profit_usd
        else:
            profits = [account.profit_usd for account in self.accounts[contender]]
        starts = np.concatenate([each.starts_ms for each in self.classes]) // every_ms
        stretches, index = np.unique(starts, return_inverse=True)
        earned = np.zeros(len(stretches))
        np.add.at(earned, index, np.concatenate(list(profits)))
        return stretches * every_ms, earned


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BacktestResult:
    """All sites, and the rows of all of them followed by the fleet's."""

    sites: tuple[SiteResult, ...]
    rows: tuple[ResultRow, ...]

    def row(self, contender: str, facility_id: str = FLEET) -> ResultRow:
        """Return one row.

        Raises:
            KeyError: There is none of that contender and site.
        """
        for row in self.rows:
            if (row.contender, row.facility_id) == (contender, facility_id):
                return row
        raise KeyError(f"{contender} at {facility_id} must be in the results, was not")


def evaluate(run: BacktestRun, *, fleet: Fleet, policies: Sequence[str]) -> BacktestResult:
    """Settle a run and measure it; `policies` are names, in the order wanted."""
    sites = []
    for facility in fleet.facilities:
        classes = tuple(series for series in run.series if series.facility_id == facility.facility_id)
        if classes:
            sites.append(_site(run, facility=facility, classes=classes, policies=policies))
    rows = [row for site in sites for row in site.rows]
    if len(sites) > 1:
        rows.extend(_sum([site.rows[number] for site in sites], sites) for number in range(len(policies) + 2))
    return BacktestResult(sites=tuple(sites), rows=tuple(rows))


def _site(
    run: BacktestRun, *, facility: Facility, classes: tuple[ClassSeries, ...], policies: Sequence[str]
) -> SiteResult:
    power = SitePower(
        cap_kw=facility.power_cap_mw * _KW_PER_MW, ramp_kw_per_minute=facility.ramp_mw_per_minute * _KW_PER_MW
    )
    best = hindsight(classes, power=power)
    fixed = best_fixed(classes, power=power)
    by_key = {(each.policy, each.facility_id, each.device_class): each.moves for each in run.moves}
    accounts: dict[str, tuple[ClassAccount, ...]] = {}
    rows: list[ResultRow] = []
    for policy in policies:
        moves = [by_key[policy, facility.facility_id, series.device_class] for series in classes]
        settled = tuple(settle(series, its_moves) for series, its_moves in zip(classes, moves, strict=True))
        accounts[policy] = settled
        rows.append(
            _policy_row(
                policy,
                facility=facility,
                classes=classes,
                accounts=settled,
                ramp=ramp_mw_per_minute_max(classes, moves),
                yardsticks=(best, fixed),
            )
        )
    for name, plan in ((HINDSIGHT, best), (BEST_FIXED, fixed)):
        rows.append(_plan_row(name, plan, facility=facility, classes=classes, yardsticks=(best, fixed)))
    return SiteResult(
        facility=facility,
        classes=classes,
        accounts=accounts,
        hindsight=best,
        fixed=fixed,
        rows=tuple(rows),
        reliability=_reliability(run, classes=classes, policies=policies),
    )


def _reliability(
    run: BacktestRun, *, classes: Sequence[ClassSeries], policies: Sequence[str]
) -> dict[str, Reliability]:
    said = {(each.policy, each.facility_id, each.device_class): each for each in run.predictions}
    found: dict[str, Reliability] = {}
    for policy in policies:
        keys = [(policy, series.facility_id, series.device_class) for series in classes]
        if all(key in said for key in keys):
            measured = reliability(classes, [said[key] for key in keys])
            if measured is not None:
                found[policy] = measured
    return found


def _policy_row(
    policy: str,
    *,
    facility: Facility,
    classes: Sequence[ClassSeries],
    accounts: Sequence[ClassAccount],
    ramp: float,
    yardsticks: tuple[Plan, Plan],
) -> ResultRow:
    dwells = [account.dwell_ms_min for account in accounts if account.dwell_ms_min is not None]
    return _row(
        policy,
        facility=facility,
        classes=classes,
        counts=[account.counts for account in accounts],
        profit_usd=float(sum(account.profit_usd.sum() for account in accounts)),
        switch_cost_usd=float(sum(account.switch_cost_usd.sum() for account in accounts)),
        switch_count=sum(account.switch_count for account in accounts),
        moved_count=sum(account.moved_count for account in accounts),
        ramp=ramp,
        dwell_minutes_min=min(dwells) / MS_PER_MINUTE if dwells else None,
        yardsticks=yardsticks,
    )


def _plan_row(
    name: str, plan: Plan, *, facility: Facility, classes: Sequence[ClassSeries], yardsticks: tuple[Plan, Plan]
) -> ResultRow:
    return _row(
        name,
        facility=facility,
        classes=classes,
        counts=plan.counts,
        profit_usd=plan.total_usd,
        switch_cost_usd=None,
        switch_count=sum(plan.switch_count),
        moved_count=sum(plan.moved_count),
        ramp=None,
        dwell_minutes_min=None,
        yardsticks=yardsticks,
    )


def _row(
    contender: str,
    *,
    facility: Facility,
    classes: Sequence[ClassSeries],
    counts: Sequence[FloatArray],
    profit_usd: float,
    switch_cost_usd: float | None,
    switch_count: int,
    moved_count: float,
    ramp: float | None,
    dwell_minutes_min: float | None,
    yardsticks: tuple[Plan, Plan],
) -> ResultRow:
    best, fixed = yardsticks
    curtailed_kwh = sum(
        float((each.hours * (each.power_kw.max() * each.device_count - planned @ each.power_kw)).sum())
        for each, planned in zip(classes, counts, strict=True)
    )
    return ResultRow(
        contender=contender,
        facility_id=facility.facility_id,
        profit_usd=profit_usd,
        switch_cost_usd=switch_cost_usd,
        hindsight_ratio=_ratio(profit_usd, best.total_usd),
        gap_ratio=_gap(profit_usd, best.total_usd, fixed.total_usd),
        switch_count=switch_count,
        switches_per_device_day=moved_count / max(_device_days(classes), 1e-9),
        device_hours=_device_hours(classes, counts),
        curtailed_mwh=curtailed_kwh / _KW_PER_MW,
        ramp_mw_per_minute_max=ramp,
        dwell_minutes_min=dwell_minutes_min,
        over_cap_hours=hours_over_cap(classes, counts, power_cap_kw=facility.power_cap_mw * _KW_PER_MW),
        method=best.method,
    )


def _sum(rows: Sequence[ResultRow], sites: Sequence[SiteResult]) -> ResultRow:
    """Add one contender's rows up over all sites; greatest ramp and shortest dwell of any."""
    profit = sum(row.profit_usd for row in rows)
    best = sum(site.hindsight.total_usd for site in sites)
    fixed = sum(site.fixed.total_usd for site in sites)
    days = [_device_days(site.classes) for site in sites]
    moved = sum(row.switches_per_device_day * share for row, share in zip(rows, days, strict=True))
    costs = [row.switch_cost_usd for row in rows if row.switch_cost_usd is not None]
    hours: dict[DeviceMode, float] = {}
    for row in rows:
        for mode, spent in row.device_hours.items():
            hours[mode] = hours.get(mode, 0.0) + spent
    return ResultRow(
        contender=rows[0].contender,
        facility_id=FLEET,
        profit_usd=profit,
        switch_cost_usd=sum(costs) if costs else None,
        hindsight_ratio=_ratio(profit, best),
        gap_ratio=_gap(profit, best, fixed),
        switch_count=sum(row.switch_count for row in rows),
        switches_per_device_day=moved / max(sum(days), 1e-9),
        device_hours=hours,
        curtailed_mwh=sum(row.curtailed_mwh for row in rows),
        ramp_mw_per_minute_max=max(
            (row.ramp_mw_per_minute_max for row in rows if row.ramp_mw_per_minute_max is not None), default=None
        ),
        dwell_minutes_min=min(
            (row.dwell_minutes_min for row in rows if row.dwell_minutes_min is not None), default=None
        ),
        over_cap_hours=sum(row.over_cap_hours for row in rows),
        method="lp" if any(row.method == "lp" for row in rows) else "dp",
    )


def _ratio(profit: float, best: float) -> float | None:
    return profit / best if best > 0.0 else None


def _gap(profit: float, best: float, fixed: float) -> float | None:
    return (profit - fixed) / (best - fixed) if best - fixed > 1e-9 * max(abs(best), 1.0) else None


def _device_days(classes: Sequence[ClassSeries]) -> float:
    return sum(float(each.interval_ms.sum()) / DAY_MS * each.device_count for each in classes)


def _device_hours(classes: Sequence[ClassSeries], counts: Sequence[FloatArray]) -> dict[DeviceMode, float]:
    spent: dict[DeviceMode, float] = {}
    for each, planned in zip(classes, counts, strict=True):
        by_mode = (planned * each.hours[:, None]).sum(axis=0)
        for profile, hours in zip(each.modes, by_mode.tolist(), strict=True):
            spent[profile.mode] = spent.get(profile.mode, 0.0) + hours
    return spent
