"""Every term of a device's economics, in USD per device-hour; docs/economics.md works them through by hand."""

import math
from typing import Final

from hcp.model.facilities import Facility
from hcp.model.units import (
    HASHES_PER_TERAHASH,
    KWH_PER_MWH,
    MS_PER_DAY,
    MS_PER_HOUR,
    SECONDS_PER_HOUR,
    WATTS_PER_KILOWATT,
    Btc,
    DurationMs,
    MhPerSecond,
    Ratio,
    ThPerSecond,
    Usd,
    UsdPerHour,
    UsdPerKwh,
    UsdPerMhHour,
    UsdPerMwh,
    UsdPerThHour,
    Watts,
    hours,
    kilowatts,
    usd_per_mwh,
)

HASHES_PER_DIFFICULTY: Final = 2.0**32
"""Expected hashes of a block at difficulty 1, to 1 in 65,536 (Bitcoin Wiki, "Difficulty")."""
SWITCH_COST_USD_MIN: Final = Usd(1e-6)
"""A switch is never free: a zero would let a policy flap without end."""


def hash_price_usd_per_th_hour(
    *, difficulty: float, subsidy_btc: Btc, fees_btc_per_block: Btc, btc_price_usd: float
) -> UsdPerThHour:
    """Return what 1 TH/s of SHA-256 earns in an hour, before the pool's fee.

    Args:
        difficulty: Network difficulty, 1 or more.
        subsidy_btc: Block subsidy; 3.125 from height 840,000 (April 2024) on.
        fees_btc_per_block: Mean fees of a block; 0 or more.
        btc_price_usd: USD for one bitcoin; 0 or more.

    Raises:
        ValueError: `difficulty` is not above 0.
    """
    if not difficulty > 0.0:
        raise ValueError(f"difficulty must be above 0, was {difficulty}")
    blocks_per_th_hour = HASHES_PER_TERAHASH * SECONDS_PER_HOUR / (difficulty * HASHES_PER_DIFFICULTY)
    return UsdPerThHour(blocks_per_th_hour * (subsidy_btc + fees_btc_per_block) * btc_price_usd)


def asic_mining_revenue_usd_per_hour(
    *,
    hash_rate_th_per_s: ThPerSecond,
    hash_price: UsdPerThHour,
    pool_fee_ratio: Ratio,
    reject_ratio: Ratio,
    uptime_ratio: Ratio,
) -> UsdPerHour:
    """Return what one ASIC earns in an hour after the pool's fee, refused shares and downtime."""
    gross = hash_rate_th_per_s * hash_price
    return UsdPerHour(gross * (1.0 - pool_fee_ratio) * (1.0 - reject_ratio) * uptime_ratio)


def gpu_mining_revenue_usd_per_hour(*, hash_rate_mh_per_s: MhPerSecond, hash_price: UsdPerMhHour) -> UsdPerHour:
    """Return what one GPU earns in an hour; the algorithm's hash price is quoted net, paid in BTC by the pool."""
    return UsdPerHour(hash_rate_mh_per_s * hash_price)


def inference_revenue_usd_per_hour(
    *, rental_usd_per_hour: UsdPerHour, utilisation_ratio: Ratio, sla_bonus_ratio: float
) -> UsdPerHour:
    """Return what one GPU earns in an hour of serving; a bonus of 1 is none."""
    return UsdPerHour(rental_usd_per_hour * utilisation_ratio * sla_bonus_ratio)


def site_kilowatts(*, power_watts: Watts, pue: float) -> float:
    """Return what the site draws for one device, cooling and distribution included.

    Raises:
        ValueError: `power_watts` is negative or not a number.
    """
    if not power_watts >= 0.0:  # also refuses NaN
        raise ValueError(f"power_watts must be 0 or more, was {power_watts}")
    return kilowatts(power_watts) * pue


def energy_cost_usd_per_hour(*, power_watts: Watts, pue: float, price_usd_per_kwh: UsdPerKwh) -> UsdPerHour:
    """Return the energy one device takes in an hour; negative when the price is: then the grid pays us."""
    return UsdPerHour(site_kilowatts(power_watts=power_watts, pue=pue) * price_usd_per_kwh)


def demand_adder_usd_per_kwh(facility: Facility, *, at_ms: int) -> UsdPerKwh:
    """Return what the site's energy costs on top of its price at a moment: its adder, and those of open windows."""
    adder = facility.demand_adder_usd_per_kwh
    for window in facility.demand_windows:
        day, left_ms = divmod(at_ms + round(window.utc_offset_hours * MS_PER_HOUR), MS_PER_DAY)
        if month_of(day) in window.months and window.start_hour <= left_ms / MS_PER_HOUR < window.end_hour:
            adder = UsdPerKwh(adder + window.adder_usd_per_kwh)
    return adder


def month_of(day: int) -> int:
    """Return the month, 1 to 12, of a day counted from 1970-01-01, in the Gregorian calendar.

    By years that begin in March and eras of 400 years (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms"):
    the modules that know calendars know clocks too, and nothing here may.
    """
    day_of_era = (day + 719_468) % 146_097
    year = (day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year + year // 4 - year // 100)
    month_from_march = (5 * day_of_year + 2) // 153
    return (month_from_march + 2) % 12 + 1


def demand_cost_usd_per_hour(*, power_watts: Watts, pue: float, adder_usd_per_kwh: UsdPerKwh) -> UsdPerHour:
    """Return transmission and capacity charges on that energy; never negative."""
    return UsdPerHour(site_kilowatts(power_watts=power_watts, pue=pue) * adder_usd_per_kwh)


def profit_usd_per_hour(
    *, revenue: UsdPerHour, energy_cost: UsdPerHour, demand_cost: UsdPerHour, wear: UsdPerHour
) -> UsdPerHour:
    """Return revenue less the three costs."""
    return UsdPerHour(revenue - energy_cost - demand_cost - wear)


def switch_cost_usd(
    *,
    from_revenue: UsdPerHour,
    to_revenue: UsdPerHour,
    enter_ms: DurationMs,
    enter_wear_usd: Usd,
    enter_reload_usd: Usd,
) -> Usd:
    """Return what one device's switch costs; never zero.

    While the new mode is entered neither mode earns, so the better of the two revenues is lost (the energy of those
    minutes is in the new mode's own cost), plus the wear of one start and the work that is loaded again.
    """
    lost = max(from_revenue, to_revenue, 0.0) * hours(enter_ms)
    return Usd(max(lost + enter_wear_usd + enter_reload_usd, SWITCH_COST_USD_MIN))


def payback_hours(*, switch_cost: Usd, gain: UsdPerHour) -> float:
    """Return how long the gain takes to pay the switch; infinite when there is no gain."""
    return switch_cost / gain if gain > 0.0 else math.inf


def confidence(*, gain: UsdPerHour, sigma_usd_per_hour: float, horizon_hours: float) -> float:
    """Return the probability that a gain is still above 0 after the horizon.

    The gain is taken as a driftless normal walk: Phi(gain / (sigma * sqrt(horizon))).

    Args:
        gain: Advantage now; 0 or more.
        sigma_usd_per_hour: Standard deviation of the gain's change over one hour.
        horizon_hours: How far ahead; infinite gives 0.5, a toss-up.
    """
    if gain <= 0.0 or math.isinf(horizon_hours):
        return 0.5
    spread = sigma_usd_per_hour * math.sqrt(horizon_hours)
    if spread <= 0.0:
        return 1.0
    return min(1.0, 0.5 * math.erfc(-gain / spread / math.sqrt(2.0)))


def break_even_usd_per_mwh(
    *, net_difference: UsdPerHour, kilowatt_difference: float, adder_usd_per_kwh: UsdPerKwh
) -> UsdPerMwh | None:
    """Return the energy price at which two modes earn the same; None when they draw the same.

    Args:
        net_difference: Revenue less wear of the one mode, less that of the other.
        kilowatt_difference: Site draw of the one, less that of the other; PUE included.
        adder_usd_per_kwh: Demand adder, paid on top of the energy price.
    """
    if kilowatt_difference == 0.0:
        return None
    return usd_per_mwh(UsdPerKwh(net_difference / kilowatt_difference - adder_usd_per_kwh))


def asic_revenue_at(facility: Facility, *, hash_rate_th_per_s: ThPerSecond, hash_price: UsdPerThHour) -> UsdPerHour:
    """Return `asic_mining_revenue_usd_per_hour` with the ratios of a facility."""
    return asic_mining_revenue_usd_per_hour(
        hash_rate_th_per_s=hash_rate_th_per_s,
        hash_price=hash_price,
        pool_fee_ratio=facility.pool_fee_ratio,
        reject_ratio=facility.reject_ratio,
        uptime_ratio=facility.uptime_ratio,
    )


def flip_usd_per_mwh(
    *, energy_usd_per_mwh: float, gain: UsdPerHour, threshold: UsdPerHour, watts_difference: float, pue: float
) -> UsdPerMwh | None:
    """Return the energy price at which a gain would just reach the threshold; None when no price moves it.

    Args:
        energy_usd_per_mwh: Price now.
        gain: Of the better mode at that price.
        threshold: What the gain must reach.
        watts_difference: Draw of the better mode less that of the present one.
        pue: Of the site.
    """
    if watts_difference == 0.0:
        return None
    site_kilowatts_difference = watts_difference / WATTS_PER_KILOWATT * pue
    return UsdPerMwh(energy_usd_per_mwh + (gain - threshold) / site_kilowatts_difference * KWH_PER_MWH)
