"""What a controller takes in: a record becomes a command or order that fits the fleet, or a refusal that says why."""

from hcp.codecs import decode
from hcp.model.commands import ControllerCommand
from hcp.model.facilities import Fleet, Shard
from hcp.model.orders import OperatorOrder
from hcp.model.rejections import Rejected, RejectReason


def command_in(value: bytes | None, *, fleet: Fleet, shards: dict[str, Shard]) -> ControllerCommand | Rejected:
    """Decode a record and hold it against the fleet; single devices that are unknown are answered, not refused."""
    command = decode(value)
    if isinstance(command, Rejected):
        return command
    if not isinstance(command, ControllerCommand):
        return Rejected(
            reason=RejectReason.WRONG_TYPE,
            detail=f"record must be a ControllerCommand, was {type(command).__name__}",
        )
    return _misfit(command, fleet=fleet, shard=shards.get(command.shard_id)) or command


def order_in(value: bytes | None, *, fleet: Fleet, shards: dict[str, Shard]) -> OperatorOrder | Rejected:
    """Decode a person's order and hold it against the fleet."""
    order = decode(value)
    if isinstance(order, Rejected):
        return order
    if not isinstance(order, OperatorOrder):
        return Rejected(
            reason=RejectReason.WRONG_TYPE, detail=f"record must be an OperatorOrder, was {type(order).__name__}"
        )
    return _misplaced(order, fleet=fleet, shard=shards.get(order.shard_id)) or order


def _misfit(command: ControllerCommand, *, fleet: Fleet, shard: Shard | None) -> Rejected | None:
    misplaced = _misplaced(command, fleet=fleet, shard=shard)
    if misplaced is not None:
        return misplaced
    device_class = fleet.device_class(command.device_class)
    modes = [profile.mode for profile in device_class.modes] if device_class is not None else []
    for name, mode in (("from_mode", command.from_mode), ("to_mode", command.to_mode)):
        if mode not in modes:
            detail = f"{name} must be one of {', '.join(modes)}, was {mode}"
            return Rejected(reason=RejectReason.OUT_OF_RANGE, detail=detail)
    return None


def _misplaced(command: ControllerCommand | OperatorOrder, *, fleet: Fleet, shard: Shard | None) -> Rejected | None:
    if fleet.facility(command.facility_id) is None:
        detail = f"facility_id must be in fleet.toml, was {command.facility_id}"
        return Rejected(reason=RejectReason.UNKNOWN_FACILITY, detail=detail)
    if shard is None or (shard.cluster_id, shard.facility_id) != (command.cluster_id, command.facility_id):
        detail = f"shard_id must be one of the site's and cluster's, was {command.shard_id}"
        return Rejected(reason=RejectReason.UNKNOWN_SHARD, detail=detail)
    if shard.device_class != command.device_class:
        detail = f"device_class must be {shard.device_class}, was {command.device_class}"
        return Rejected(reason=RejectReason.UNKNOWN_DEVICE_CLASS, detail=detail)
    return None
