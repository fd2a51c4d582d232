"""Look up what a record speaks of; what the fleet does not have is refused, in the same words everywhere."""

from hcp.model.facilities import Facility, Fleet, Shard
from hcp.model.rejections import Rejected, RejectReason


def known_facility(fleet: Fleet, facility_id: str) -> Facility | Rejected:
    """Return the facility, or refuse."""
    facility = fleet.facility(facility_id)
    if facility is None:
        return Rejected(
            reason=RejectReason.UNKNOWN_FACILITY,
            detail=f"facility_id must be one of the fleet, was {facility_id}",
        )
    return facility


def known_shard(fleet: Fleet, *, facility_id: str, shard_id: str, device_class: str) -> Shard | Rejected:
    """Return the shard when the facility has it and it holds that class, or refuse."""
    facility = known_facility(fleet, facility_id)
    if isinstance(facility, Rejected):
        return facility
    cluster_id = shard_id.rpartition("/")[0]
    for cluster in facility.clusters:
        if cluster.cluster_id != cluster_id:
            continue
        for shard in cluster.shards():
            if shard.shard_id == shard_id:
                return shard if shard.device_class == device_class else _other_class(shard, device_class)
    return Rejected(reason=RejectReason.UNKNOWN_SHARD, detail=f"shard_id must be one of {facility_id}, was {shard_id}")


def check_indexes(shard: Shard, device_indexes: tuple[int, ...]) -> Rejected | None:
    """Refuse positions that the shard does not have, or that come twice."""
    if device_indexes and max(device_indexes) >= shard.device_count:
        return Rejected(
            reason=RejectReason.UNKNOWN_DEVICE,
            detail=f"device_indexes must be below {shard.device_count} in {shard.shard_id}, was {max(device_indexes)}",
        )
    if len(set(device_indexes)) != len(device_indexes):
        return Rejected(
            reason=RejectReason.UNEQUAL_COLUMNS,
            detail=f"device_indexes must name each device of {shard.shard_id} once, was {len(device_indexes)} "
            f"entries of {len(set(device_indexes))} devices",
        )
    return None


def _other_class(shard: Shard, device_class: str) -> Rejected:
    return Rejected(
        reason=RejectReason.UNKNOWN_DEVICE_CLASS,
        detail=f"device_class must be {shard.device_class} in {shard.shard_id}, was {device_class}",
    )
