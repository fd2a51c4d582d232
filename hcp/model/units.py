"""Units as types and the conversions between them; no conversion factor stands anywhere else."""

from typing import Final, NewType

Watts = NewType("Watts", float)
Celsius = NewType("Celsius", float)
UsdPerHour = NewType("UsdPerHour", float)
UsdPerKwh = NewType("UsdPerKwh", float)
UsdPerMwh = NewType("UsdPerMwh", float)
UsdPerThHour = NewType("UsdPerThHour", float)
"""USD for one TH/s of SHA-256 kept up for an hour."""
UsdPerMhHour = NewType("UsdPerMhHour", float)
"""USD for one MH/s of another proof of work kept up for an hour."""
Usd = NewType("Usd", float)
Btc = NewType("Btc", float)
ThPerSecond = NewType("ThPerSecond", float)
MhPerSecond = NewType("MhPerSecond", float)
Ratio = NewType("Ratio", float)
"""0..1, never percent."""
EpochMs = NewType("EpochMs", int)
"""Milliseconds since 1970-01-01T00:00:00Z."""
DurationMs = NewType("DurationMs", int)

WATTS_PER_KILOWATT: Final = 1_000.0
WATTS_PER_MEGAWATT: Final = 1_000_000.0
KWH_PER_MWH: Final = 1_000.0
MS_PER_SECOND: Final = 1_000
MS_PER_MINUTE: Final = 60_000
MS_PER_HOUR: Final = 3_600_000
MS_PER_DAY: Final = 86_400_000
SECONDS_PER_HOUR: Final = 3_600.0
HASHES_PER_TERAHASH: Final = 1e12
USD_MICROS_PER_USD: Final = 1_000_000


def usd_per_kwh(price_usd_per_mwh: UsdPerMwh) -> UsdPerKwh:
    """Turn a wholesale price into the one a meter is billed in; the sign stays (negative: the grid pays us)."""
    return UsdPerKwh(price_usd_per_mwh / KWH_PER_MWH)


def usd_per_mwh(price_usd_per_kwh: UsdPerKwh) -> UsdPerMwh:
    """Turn a metered price back into a wholesale one."""
    return UsdPerMwh(price_usd_per_kwh * KWH_PER_MWH)


def kilowatts(power_watts: Watts) -> float:
    """Turn watts into kilowatts."""
    return power_watts / WATTS_PER_KILOWATT


def hours(duration_ms: DurationMs) -> float:
    """Turn a duration into hours."""
    return duration_ms / MS_PER_HOUR


def usd_micros(amount_usd: Usd) -> int:
    """Round dollars to the integer micro-dollars a ledger adds up; half to even, so sums are not biased."""
    return round(amount_usd * USD_MICROS_PER_USD)
