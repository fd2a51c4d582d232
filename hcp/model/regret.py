"""What an hour made of a device class, beside what hindsight and the best fixed mode would have made so far."""

from dataclasses import dataclass
from typing import Annotated, Final

from hcp.model.devices import DeviceMode
from hcp.model.fields import Field
from hcp.model.types import (
    EARLIEST_EVENT_MS,
    LATEST_EVENT_MS,
    UUID_PATTERN,
    DeviceClassId,
    FacilityId,
    ObservedAtMs,
)
from hcp.model.units import EpochMs

USD_MICROS_MAX: Final = 2**53


@dataclass(frozen=True, slots=True, kw_only=True)
class Regret:
    """One hour of one device class at a site, all its devices; regret is hindsight less realised."""

    regret_id: Annotated[str, Field("Derived from facility, class and hour.", pattern=UUID_PATTERN)]
    facility_id: FacilityId
    device_class: DeviceClassId
    hour_start_ms: Annotated[
        EpochMs,
        Field(
            "Start of the hour; an interval belongs to the hour it starts in.",
            unit="ms since epoch",
            minimum=EARLIEST_EVENT_MS,
            maximum=LATEST_EVENT_MS,
        ),
    ]
    since_ms: Annotated[
        EpochMs,
        Field(
            "Start of the first interval settled: the `so_far` amounts count from then on.",
            unit="ms since epoch",
            minimum=EARLIEST_EVENT_MS,
            maximum=LATEST_EVENT_MS,
        ),
    ]
    covered_ms: Annotated[
        int,
        Field("Time of the hour whose prices are known; gaps are missing.", unit="ms", minimum=0, maximum=2**53),
    ]
    device_count: Annotated[
        int, Field("Devices of the class at the site; the amounts are for all.", unit="1", minimum=1, maximum=1_000_000)
    ]
    counted_ratio: Annotated[
        float,
        Field(
            "Share of them whose mode was known and ours to choose, mean over the time covered; the others count as "
            "doing what these did.",
            unit="1",
            minimum=0.0,
            maximum=1.0,
        ),
    ]
    realised_usd_micros: Annotated[
        int,
        Field(
            "Profit of this hour in the modes they were in, switch costs taken off.",
            unit="USD micros",
            minimum=-USD_MICROS_MAX,
            maximum=USD_MICROS_MAX,
        ),
    ]
    switch_cost_usd_micros: Annotated[
        int,
        Field("What this hour's switches cost.", unit="USD micros", minimum=0, maximum=USD_MICROS_MAX),
    ]
    realised_so_far_usd_micros: Annotated[
        int,
        Field(
            "Realised profit since `since_ms`.",
            unit="USD micros",
            minimum=-USD_MICROS_MAX,
            maximum=USD_MICROS_MAX,
        ),
    ]
    hindsight_so_far_usd_micros: Annotated[
        int,
        Field(
            "The most that any sequence of modes would have made since then, switch costs taken off.",
            unit="USD micros",
            minimum=-USD_MICROS_MAX,
            maximum=USD_MICROS_MAX,
        ),
    ]
    best_fixed_so_far_usd_micros: Annotated[
        int,
        Field(
            "The most that one mode kept throughout would have made, the one switch to get there taken off.",
            unit="USD micros",
            minimum=-USD_MICROS_MAX,
            maximum=USD_MICROS_MAX,
        ),
    ]
    best_fixed_mode: Annotated[DeviceMode, Field("That mode.")]
    observed_at_ms: ObservedAtMs
