"""What a GPU's driver says of its health becomes an order that keeps work off it, until a person releases it."""

import socket
from collections.abc import Callable, Mapping
from typing import Final, assert_never

import structlog

from controllers.drivers.nvml_xid import GpuBack, GpuLost, HealthEvent, XidSeen, XidSeverity, meaning_of
from hcp.model.facilities import Shard
from hcp.model.orders import OperatorOrder, OrderAction, order_of

OPERATOR: Final = "gpu-health"
_WHY_CHARACTERS_MAX: Final = 200
_ACTIONS: Final = {
    XidSeverity.FATAL: OrderAction.PAUSE,
    XidSeverity.DRAIN: OrderAction.MAINTENANCE,
    XidSeverity.UNKNOWN: OrderAction.MAINTENANCE,
}
"""What stops the work, and what lets it end: both keep new work off. Other Xids are a program's own, or nothing."""

_log = structlog.get_logger(__name__)


class GpuHealth:
    """Orders each GPU once for each kind of order until it is back from a reset; an Xid storm is one order."""

    def __init__(self, *, places: Mapping[str, tuple[Shard, int]], send: Callable[[OperatorOrder], None]) -> None:
        """Watch over some GPUs.

        Args:
            places: Shard and device index by UUID.
            send: Must not block; it is called in the event loop.
        """
        self._places = places
        self._send = send
        self._ordered: dict[str, set[OrderAction]] = {}

    def take(self, event: HealthEvent) -> None:
        """Order what an event asks for."""
        place = self._places.get(event.uuid)
        if place is None:
            return  # a GPU of this host that nobody described
        match event:
            case XidSeen():
                meaning = meaning_of(event.xid)
                _log.warning(
                    "gpu_xid", uuid=event.uuid, xid=event.xid, severity=str(meaning.severity), meaning=meaning.meaning
                )
                action = _ACTIONS.get(meaning.severity)
                if action is not None:
                    self._order(event, place, action, f"Xid {event.xid}: {meaning.meaning}")
            case GpuLost():
                _log.warning("gpu_lost", uuid=event.uuid, detail=event.detail)
                self._order(event, place, OrderAction.PAUSE, f"GPU lost: {event.detail}")
            case GpuBack():
                _log.info("gpu_back", uuid=event.uuid)
                self._ordered.pop(event.uuid, None)
            case _:
                assert_never(event)

    def _order(self, event: XidSeen | GpuLost, place: tuple[Shard, int], action: OrderAction, why: str) -> None:
        before = self._ordered.setdefault(event.uuid, set())
        if action in before or OrderAction.PAUSE in before:
            return
        before.add(action)
        shard, index = place
        words = " ".join(why.replace("|", "/").split())[:_WHY_CHARACTERS_MAX]
        self._send(
            order_of(
                action,
                shard,
                (index,),
                operator=OPERATOR,
                origin=socket.gethostname(),
                why=words,
                observed_at_ms=event.seen_at_ms,
            )
        )
