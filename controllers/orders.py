"""A person's order at the hardware: holds that bind every controller, and stops that ask nobody."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import structlog

from controllers.executor import DeviceReport
from controllers.journal import Journal
from controllers.ports import Applied, Machine
from hcp.clock import seconds
from hcp.model.commands import ControllerCommand, DeviceOutcome
from hcp.model.devices import DeviceClass, DeviceMode, DeviceState, resting_mode
from hcp.model.ids import id_from_content
from hcp.model.orders import OperatorOrder, OrderAction

STOP_MS_MAX: Final = 2_000
_HOLDS: Final = {
    OrderAction.MAINTENANCE: DeviceState.MAINTENANCE,
    OrderAction.PAUSE: DeviceState.PAUSED,
    OrderAction.LOCK_OUT: DeviceState.LOCKED_OUT,
}
_STOPS: Final = frozenset({OrderAction.PAUSE, OrderAction.LOCK_OUT})

_log = structlog.get_logger(__name__)


async def obey(
    order: OperatorOrder, machines: Mapping[int, Machine], *, device_class: DeviceClass, journal: Journal
) -> list[DeviceReport] | None:
    """Hold or release the ordered devices, and stop those that are to be stopped.

    A hold is written before the stop, so that no command starts the device again. What somebody else locked out stays
    as it is. A switch by hand comes as a command and is not for here.

    Returns:
        What became of each stopped device; None when the order stops none.

    Raises:
        StoreError: Redis does not answer; call again.
    """
    locks = await journal.holds(order.shard_id)
    indexes = [index for index in order.device_indexes if not _is_locked_by_other(locks.get(index, ""), order.operator)]
    if not indexes:
        return None
    if order.action is OrderAction.RELEASE:
        await journal.release(order.shard_id, indexes)
    elif order.action in _HOLDS:
        await journal.hold(order.shard_id, indexes, words=f"{_HOLDS[order.action]}|{order.operator}|{order.why}")
    _log.info("order_obeyed", action=str(order.action), shard_id=order.shard_id, devices=len(indexes))
    if order.action not in _STOPS:
        return None
    rest = resting_mode(device_class.kind)
    return list(await asyncio.gather(*[_stop(order, index, machines.get(index), rest=rest) for index in indexes]))


def stop_command(order: OperatorOrder, device_class: DeviceClass, reports: Sequence[DeviceReport]) -> ControllerCommand:
    """Word the stop as the command that its result answers."""
    rest = resting_mode(device_class.kind)
    return ControllerCommand(
        command_id=id_from_content(order.order_id, "stop"),
        decision_id=order.order_id,
        facility_id=order.facility_id,
        cluster_id=order.cluster_id,
        shard_id=order.shard_id,
        device_class=order.device_class,
        from_mode=rest,
        to_mode=rest,
        attempt=1,
        device_indexes=tuple(report.device_index for report in reports),
        epochs=tuple(report.epoch for report in reports),
        observed_at_ms=order.observed_at_ms,
    )


def _is_locked_by_other(words: str, operator: str) -> bool:
    state, _, rest = words.partition("|")
    return state == DeviceState.LOCKED_OUT and rest.partition("|")[0] != operator


async def _stop(order: OperatorOrder, index: int, machine: Machine | None, *, rest: DeviceMode) -> DeviceReport:
    """Stop one device; one that does not answer keeps none waiting for more than 2 s."""
    outcome, detail = DeviceOutcome.UNKNOWN_DEVICE, "device must be in fleet.toml"
    if machine is not None:
        try:
            async with asyncio.timeout(seconds(STOP_MS_MAX)):
                ack = await machine.device.safe_stop(reason=f"{order.action} by {order.operator}: {order.why}")
        except Exception as error:  # noqa: BLE001  # whatever a driver raises, the others are stopped, this one named
            outcome, detail = DeviceOutcome.UNSAFE, f"stop must be answered, was: {error!r:.200}"
        else:
            is_taken = isinstance(ack, Applied)
            outcome = DeviceOutcome.COMMITTED if is_taken else DeviceOutcome.UNSAFE
            detail = "" if isinstance(ack, Applied) else f"stop must be taken: {ack.detail}"
    return DeviceReport(device_index=index, epoch=0, outcome=outcome, mode=rest, detail=detail)
