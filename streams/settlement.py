"""What an interval earned, once its price is known: the rule that the profit ledger and the regret job share.

A real-time energy price is published at the end of its interval. So the scores of the first recommendation with a new
energy price are the rates of the interval just ended, and the devices counted with it are those that worked in it: what
is decided on that price counts from then on.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from hcp.model.devices import DeviceClass, DeviceMode
from hcp.model.facilities import Facility
from hcp.model.recommendations import ClassRecommendation, ModeScore, Recommendation
from hcp.model.units import DurationMs, Usd, UsdPerHour, hours
from streams.economics import switch_cost_usd

Rows = Mapping[DeviceMode, ModeScore]
"""One class's scores by mode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A stretch of event time whose prices are known; `end_ms` is above `start_ms`."""

    start_ms: int
    end_ms: int

    @property
    def length_ms(self) -> DurationMs:
        """Return its length."""
        return DurationMs(self.end_ms - self.start_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Devices (or a share of them) that went from one mode to another; `amount` is above 0."""

    from_mode: DeviceMode
    to_mode: DeviceMode
    amount: float


def settled_interval(recommendation: Recommendation, *, settled_until_ms: int) -> Interval | None:
    """Return the interval that a recommendation settles; None when it brings no new energy price.

    What is settled is not settled again: where intervals overlap, the later one begins where the earlier ended. A price
    for an instant (its interval is 0 or unknown) settles nothing, nor does the time between two intervals.

    Args:
        recommendation: Its `market` says which interval the energy price is for.
        settled_until_ms: End of the site's last settled interval; 0 before the first.
    """
    end_ms, length_ms = recommendation.market.energy_observed_at_ms, recommendation.market.energy_interval_ms
    if end_ms is None or not length_ms or end_ms <= settled_until_ms:
        return None
    return Interval(start_ms=max(end_ms - length_ms, settled_until_ms), end_ms=end_ms)


def rows_of(scored: ClassRecommendation) -> dict[DeviceMode, ModeScore]:
    """Return a class's scores by mode."""
    return {row.mode: row for row in scored.scores}


def earned_usd(row: ModeScore, interval: Interval) -> Usd:
    """Return what one device in that mode earned in the interval; negative is a loss."""
    return Usd(row.profit_usd_per_hour * hours(interval.length_ms))


def move_cost_usd(device_class: DeviceClass, *, rows: Rows, from_mode: DeviceMode, to_mode: DeviceMode) -> Usd:
    """Return what one device's switch costs at the revenues of the interval being entered.

    Staying is free; a mode without a score (none of the class's) is left and entered for nothing, as it earns nothing.
    """
    if from_mode is to_mode or from_mode not in rows or to_mode not in rows:
        return Usd(0.0)
    profile = device_class.profile(to_mode)
    return switch_cost_usd(
        from_revenue=UsdPerHour(rows[from_mode].revenue_usd_per_hour),
        to_revenue=UsdPerHour(rows[to_mode].revenue_usd_per_hour),
        enter_ms=profile.enter_ms,
        enter_wear_usd=profile.enter_wear_usd,
        enter_reload_usd=profile.enter_reload_usd,
    )


def moves(before: Mapping[DeviceMode, float], after: Mapping[DeviceMode, float]) -> list[Move]:
    """Return what turns one count into the other; devices that appear or vanish moved nowhere."""
    modes = sorted(before.keys() | after.keys())
    change = {mode: after.get(mode, 0) - before.get(mode, 0) for mode in modes}
    found: list[Move] = []
    for source in modes:
        for target in modes:
            amount = min(-change[source], change[target])
            if amount > 0:
                found.append(Move(from_mode=source, to_mode=target, amount=amount))
                change[source] += amount
                change[target] -= amount
    return found


def initial_counts(facility: Facility, device_class: str) -> dict[DeviceMode, int]:
    """Return the devices of a class at a site by mode, before anybody decided."""
    counts: dict[DeviceMode, int] = {}
    for cluster in facility.clusters:
        if cluster.device_class == device_class:
            counts[cluster.initial_mode] = counts.get(cluster.initial_mode, 0) + cluster.device_count
    return counts
