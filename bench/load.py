"""Records that benchmarks feed to the decision plane."""

from collections.abc import Iterator

from hcp.model.devices import DeviceState
from hcp.model.facilities import Facility
from hcp.model.markets import SERIES_RULES, MarketPrice, PriceSeries
from hcp.model.resources import ResourceState, StateReporter, state_key
from hcp.model.units import EpochMs


def price(site: Facility, series: PriceSeries, *, instrument: str, value: float, at_ms: int) -> MarketPrice:
    """Return one price, in the unit of its series, for the instant it is known at."""
    return MarketPrice(
        facility_id=site.facility_id,
        series=series,
        instrument=instrument,
        value=value,
        unit=SERIES_RULES[series].unit,
        interval_start_ms=EpochMs(at_ms),
        interval_ms=0,
        observed_at_ms=EpochMs(at_ms),
        source="synthetic:bench",
    )


def reports(site: Facility, *, at_ms: int) -> Iterator[ResourceState]:
    """Yield what the fleet monitor reports of every shard: all active, in the mode they begin in."""
    for cluster in site.clusters:
        for shard in cluster.shards():
            count = shard.device_count
            yield ResourceState(
                state_key=state_key(shard_id=shard.shard_id, reported_by=StateReporter.FLEET_MONITOR),
                facility_id=site.facility_id,
                cluster_id=cluster.cluster_id,
                shard_id=shard.shard_id,
                device_class=shard.device_class,
                reported_by=StateReporter.FLEET_MONITOR,
                device_indexes=tuple(range(count)),
                modes=(cluster.initial_mode,) * count,
                states=(DeviceState.ACTIVE,) * count,
                epochs=(0,) * count,
                owners=("",) * count,
                observed_at_ms=EpochMs(at_ms),
            )
