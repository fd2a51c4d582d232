"""What the driver says of a GPU becomes orders: which Xids, how many, and whose GPU."""

from typing import Final

import pytest

from controllers.drivers.nvml_xid import GpuBack, GpuLost, HealthEvent, XidSeen
from controllers.health import OPERATOR, GpuHealth
from hcp.model.orders import OperatorOrder, OrderAction
from hcp.model.units import EpochMs
from hcp.model.validation import check
from tests.unit.controllers.world import GPU, SHARDS

UUID: Final = "GPU-5f7d2c1e"
AT: Final = EpochMs(1_764_000_000_000)


def xid(number: int, *, uuid: str = UUID) -> XidSeen:
    """Return an Xid."""
    return XidSeen(uuid=uuid, xid=number, seen_at_ms=AT)


def lost(detail: str = "GPU is lost") -> GpuLost:
    """Return a loss."""
    return GpuLost(uuid=UUID, seen_at_ms=AT, detail=detail)


BACK: Final = GpuBack(uuid=UUID, seen_at_ms=AT)


def orders_after(*events: HealthEvent) -> list[OperatorOrder]:
    """Return what is ordered for device 1 of the shard."""
    sent: list[OperatorOrder] = []
    health = GpuHealth(places={UUID: (SHARDS[GPU], 1)}, send=sent.append)
    for event in events:
        health.take(event)
    assert all(check(order) is None for order in sent)
    return sent


@pytest.mark.parametrize(
    ("number", "action"),
    [
        (79, OrderAction.PAUSE),
        (48, OrderAction.PAUSE),
        (63, OrderAction.MAINTENANCE),
        (94, OrderAction.MAINTENANCE),
        (999, OrderAction.MAINTENANCE),
        (31, None),
        (154, None),
    ],
)
def test_severity_decides_what_is_ordered(number: int, action: OrderAction | None) -> None:
    """Fatal stops, draining lets end, an unknown one keeps new work off, a program's own error is the program's."""
    ordered = orders_after(xid(number))
    assert [order.action for order in ordered] == ([] if action is None else [action])
    for order in ordered:
        assert (order.shard_id, order.device_indexes, order.operator) == (GPU, (1,), OPERATOR)
        assert order.why.startswith(f"Xid {number}: ")


@pytest.mark.parametrize(
    ("events", "actions"),
    [
        ((xid(79),) * 50, [OrderAction.PAUSE]),
        ((xid(79), lost()), [OrderAction.PAUSE]),
        ((xid(79), xid(63)), [OrderAction.PAUSE]),
        ((xid(63), xid(63), xid(48)), [OrderAction.MAINTENANCE, OrderAction.PAUSE]),
        ((lost(), BACK, lost()), [OrderAction.PAUSE, OrderAction.PAUSE]),
        ((BACK,), []),
        ((xid(79, uuid="GPU-other"),), []),
    ],
)
def test_a_storm_is_one_order_and_worse_is_another(events: tuple[HealthEvent, ...], actions: list[OrderAction]) -> None:
    """Each kind of order once until the GPU is back; a GPU that nobody described is not ours."""
    assert [order.action for order in orders_after(*events)] == actions


def test_drivers_words_fit_an_order_whatever_they_are() -> None:
    """Line ends, separators and length of NVML's text do not spoil the order."""
    (order,) = orders_after(lost("a|b\nc " + "x" * 500))
    assert order.why.startswith("GPU lost: a/b c xxx")
