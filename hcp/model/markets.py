"""Market records: one price of one series at one facility, and the range each series may have."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

from hcp.model.fields import Field
from hcp.model.types import EARLIEST_EVENT_MS, LATEST_EVENT_MS, FacilityId, ObservedAtMs
from hcp.model.units import MS_PER_HOUR, EpochMs


class PriceSeries(StrEnum):
    """What is priced."""

    ENERGY_REAL_TIME = "energy_real_time"
    ENERGY_DAY_AHEAD = "energy_day_ahead"
    BTC = "btc"
    DIFFICULTY = "difficulty"
    BLOCK_SUBSIDY = "block_subsidy"
    BLOCK_FEES = "block_fees"
    GPU_RENTAL = "gpu_rental"
    GPU_HASH_PRICE = "gpu_hash_price"
    INFERENCE_UTILISATION = "inference_utilisation"


class PriceUnit(StrEnum):
    """In what it is priced."""

    USD_PER_MWH = "usd_per_mwh"
    USD_PER_BTC = "usd_per_btc"
    DIFFICULTY = "difficulty"
    BTC_PER_BLOCK = "btc_per_block"
    USD_PER_GPU_HOUR = "usd_per_gpu_hour"
    USD_PER_MH_HOUR = "usd_per_mh_hour"
    RATIO = "ratio"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesRule:
    """Unit and range of one series; outside of it a value is refused at the edge."""

    unit: PriceUnit
    minimum: float
    maximum: float


SERIES_RULES: Final[dict[PriceSeries, SeriesRule]] = {
    # SPP printed 43,000-55,000 USD/MWh on 2021-02-15/16 (uncorrected scarcity intervals), so those must pass the edge;
    # whether to act on them is the plausibility filter's question.
    PriceSeries.ENERGY_REAL_TIME: SeriesRule(unit=PriceUnit.USD_PER_MWH, minimum=-5_000.0, maximum=100_000.0),
    PriceSeries.ENERGY_DAY_AHEAD: SeriesRule(unit=PriceUnit.USD_PER_MWH, minimum=-5_000.0, maximum=100_000.0),
    PriceSeries.BTC: SeriesRule(unit=PriceUnit.USD_PER_BTC, minimum=0.01, maximum=100_000_000.0),
    PriceSeries.DIFFICULTY: SeriesRule(unit=PriceUnit.DIFFICULTY, minimum=1.0, maximum=1e18),
    PriceSeries.BLOCK_SUBSIDY: SeriesRule(unit=PriceUnit.BTC_PER_BLOCK, minimum=0.0, maximum=50.0),
    PriceSeries.BLOCK_FEES: SeriesRule(unit=PriceUnit.BTC_PER_BLOCK, minimum=0.0, maximum=500.0),
    PriceSeries.GPU_RENTAL: SeriesRule(unit=PriceUnit.USD_PER_GPU_HOUR, minimum=0.0, maximum=1_000.0),
    PriceSeries.GPU_HASH_PRICE: SeriesRule(unit=PriceUnit.USD_PER_MH_HOUR, minimum=0.0, maximum=1_000.0),
    PriceSeries.INFERENCE_UTILISATION: SeriesRule(unit=PriceUnit.RATIO, minimum=0.0, maximum=1.0),
}


def day_ahead_instrument(market: str, interval_start_ms: int) -> str:
    """Return the instrument of an hour's day-ahead price: `HB_WEST/477282`, the hours from 1970 until it begins.

    All hours of a day are published at once: only the hour tells them apart wherever a price is known by its
    instrument and `observed_at_ms`.
    """
    return f"{market}/{interval_start_ms // MS_PER_HOUR}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketPrice:
    """One value of one series, as one facility sees it.

    Global series (BTC, difficulty) are published once per facility, so that the decision plane stays
    co-partitioned by site. A day-ahead price is observed when it is published, before its interval begins; every
    other price once its interval is over.
    """

    facility_id: FacilityId
    series: Annotated[PriceSeries, Field("What is priced.")]
    instrument: Annotated[
        str,
        Field(
            "Which of the series: hub, device class, algorithm or pair.",
            pattern=r"[A-Za-z0-9][A-Za-z0-9_./-]{0,62}",
        ),
    ]
    value: Annotated[
        float,
        Field(
            "The price, in `unit`; the range depends on the series.",
            unit="see unit",
            minimum=-1e18,
            maximum=1e18,
        ),
    ]
    unit: Annotated[PriceUnit, Field("Unit of `value`; each series has exactly one.")]
    interval_start_ms: Annotated[
        EpochMs,
        Field(
            "Start of the interval the price is for.",
            unit="ms since epoch",
            minimum=EARLIEST_EVENT_MS,
            maximum=LATEST_EVENT_MS,
        ),
    ]
    interval_ms: Annotated[
        int,
        Field("Length of that interval; 0 for an instant.", unit="ms", minimum=0, maximum=366 * 24 * MS_PER_HOUR),
    ]
    observed_at_ms: ObservedAtMs
    source: Annotated[
        str,
        Field("Where it comes from: recorded:…, price_list:… or synthetic:….", pattern=r"[a-z_]+:[^\s]{1,120}"),
    ]
