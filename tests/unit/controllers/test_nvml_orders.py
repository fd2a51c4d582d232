"""Orders to a GPU: each outcome its own value, and a stop that stops what can be stopped."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controllers.drivers.nvml import NvmlDevice
from controllers.ports import Ack, Applied, NotConfirmed, Refused, Unreachable, Unsupported
from hcp.model.units import Watts
from simulators.nvml.layout import Call, NvmlReturn
from tests.nvml_lab import loaded
from tests.unit.controllers.nvml_world import World, eventually, world

DEADLINE_MS = 5_000


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[World]:
    """Two H100."""
    async with world(tmp_path) as made:
        yield made


async def _limit(made: World, limit_watts: float, *, deadline_ms: int = DEADLINE_MS) -> Ack:
    return await made.device().set_power_limit(limit_watts=Watts(limit_watts), deadline_ms=deadline_ms)


async def test_a_limit_that_is_read_back_is_applied(two: World) -> None:
    """It is in force on that GPU and on no other."""
    assert await _limit(two, 333.0) == Applied()
    assert [gpu.power_limit_watts for gpu in two.simulator.gpus] == [333.0, 700.0]


@pytest.mark.parametrize("limit_watts", [199.9, 700.1, 0.0, -1.0, float("nan"), float("inf")])
async def test_out_of_range_is_refused_and_says_the_range(two: World, limit_watts: float) -> None:
    """Nothing changes, and the message words what must be and what was."""
    ack = await _limit(two, limit_watts)
    assert isinstance(ack, Refused)
    assert f"was {limit_watts}" in ack.detail
    assert ("200.0 to 700.0 W" in ack.detail) is (199 < limit_watts < 701)
    assert two.simulator.gpu(0).power_limit_watts == 700.0


CODES: list[tuple[NvmlReturn, type[Ack]]] = [
    (NvmlReturn.NO_PERMISSION, Refused),
    (NvmlReturn.INVALID_ARGUMENT, Refused),
    (NvmlReturn.NOT_SUPPORTED, Unsupported),
    (NvmlReturn.GPU_IS_LOST, Unreachable),
    (NvmlReturn.TIMEOUT, Unreachable),
    (NvmlReturn.DRIVER_NOT_LOADED, Unreachable),
    (NvmlReturn.RESET_REQUIRED, Unreachable),
    (NvmlReturn.UNKNOWN, Refused),
    (NvmlReturn.IN_USE, Refused),
]


@pytest.mark.parametrize(("code", "expected"), CODES)
async def test_each_code_has_its_outcome(two: World, code: NvmlReturn, expected: type[Ack]) -> None:
    """Refused, unsupported and unreachable are told apart; the file shows that nothing was set."""
    two.simulator.gpu(0).ask_fault(code, call=Call.SET_LIMIT)
    ack = await _limit(two, 300.0)
    assert isinstance(ack, expected), ack
    assert two.simulator.gpu(0).power_limit_watts == 700.0


async def test_an_unclear_answer_is_settled_by_reading_back(two: World) -> None:
    """After "unknown error" the limit may stand all the same: what is read back decides."""
    assert await _limit(two, 300.0) == Applied()
    two.simulator.gpu(0).ask_fault(NvmlReturn.UNKNOWN, call=Call.SET_LIMIT)
    assert await _limit(two, 300.0) == Applied()
    ack = await _limit(two, 400.0)
    assert ack == Refused(detail="power limit must be 400.0 W, is 300.0 W, said: Unknown Error")


async def test_a_yes_that_is_not_kept_is_not_confirmed(two: World) -> None:
    """Success and another limit read back is no success."""
    two.simulator.gpu(0).ignore_limit()
    ack = await _limit(two, 300.0)
    assert ack == NotConfirmed(detail="power limit must be read back as 300.0 W, was 700.0 W")


async def test_what_cannot_be_read_back_was_taken_or_is_unreachable(two: World) -> None:
    """A product that does not show its limit is believed; an error while reading back leaves it open."""
    gpu = two.simulator.gpu(0)
    gpu.lack(Call.LIMIT)
    assert await _limit(two, 300.0) == Applied()
    assert gpu.power_limit_watts == 300.0
    gpu.lack()
    gpu.ask_fault(NvmlReturn.UNKNOWN, call=Call.LIMIT)
    assert isinstance(await _limit(two, 301.0), Unreachable)


async def test_a_hung_order_is_unreachable_and_a_late_one_never_begins(two: World) -> None:
    """An order given up before it began changes nothing later; the one that hung may, and said it was open."""
    gpu, device = two.simulator.gpu(0), two.device()
    gpu.ask_hang(call=Call.SET_LIMIT)
    hung = await _limit(two, 300.0, deadline_ms=50)
    assert isinstance(hung, Unreachable)
    assert "was in nvmlDeviceSetPowerManagementLimit for" in hung.detail
    late = await _limit(two, 222.0, deadline_ms=20)
    assert isinstance(late, Unreachable)
    gpu.mend()
    assert (await device.reading()).power.limit_watts == 300.0
    assert await device.set_power_limit(limit_watts=Watts(555.0), deadline_ms=DEADLINE_MS) == Applied()


async def test_orders_go_before_readings_that_wait(two: World) -> None:
    """While the lane is busy readings queue up; an order that comes last is done first."""
    gpu, device = two.simulator.gpu(0), two.device()
    gpu.ask_hang(call=Call.FIELDS)
    first = asyncio.ensure_future(device.reading())
    await eventually(lambda: two.nvml.gpu(gpu.uuid).lane.busy_ms > 0)
    ended: list[str] = []
    second = asyncio.ensure_future(device.reading())
    second.add_done_callback(lambda _: ended.append("reading"))
    await asyncio.sleep(0)
    order = asyncio.ensure_future(device.set_power_limit(limit_watts=Watts(400.0), deadline_ms=DEADLINE_MS))
    order.add_done_callback(lambda _: ended.append("order"))
    await asyncio.sleep(0)
    gpu.mend()
    await asyncio.gather(first, second, order)
    assert ended == ["order", "reading"]


async def test_lost_and_back_needs_no_restart(two: World) -> None:
    """While lost all is unreachable; after a reset the next call finds the GPU by UUID and works at once."""
    gpu, device = two.simulator.gpu(0), two.device()
    assert await _limit(two, 300.0) == Applied()
    gpu.lose()
    lost = await _limit(two, 350.0)
    assert isinstance(lost, Unreachable)
    assert "GPU is lost" in lost.detail
    gpu.recover()
    assert (await device.reading()).power.limit_watts == 700.0
    gpu.lose()
    gpu.recover()
    assert await _limit(two, 350.0) == Applied()
    assert gpu.power_limit_watts == 350.0
    assert loaded().hcp_nvml_inits_open() == 1


def _stop(ack: Ack, called: list[str], name: str) -> "_Stop":
    return _Stop(ack=ack, called=called, name=name)


class _Stop:
    """A workload's stop that answers what it was made with."""

    def __init__(self, *, ack: Ack, called: list[str], name: str) -> None:
        self.ack, self.called, self.name = ack, called, name

    async def __call__(self) -> Ack:
        self.called.append(self.name)
        return self.ack


class _Broken:
    async def __call__(self) -> Ack:
        raise ConnectionResetError("gone")


async def test_a_stop_stops_all_and_takes_the_lowest_limit(two: World) -> None:
    """Every workload is told, and the power is bound as low as it goes."""
    called: list[str] = []
    gpu = two.simulator.gpu(0)
    stops = [_stop(Applied(), called, "miner"), _stop(Applied(), called, "server")]
    device = NvmlDevice(host=two.nvml, uuid=gpu.uuid, stops=stops)
    assert await device.safe_stop(reason="test") == Applied()
    assert sorted(called) == ["miner", "server"]
    assert gpu.power_limit_watts == 200.0


async def test_a_workload_that_does_not_stop_is_told(two: World) -> None:
    """The others are stopped and the limit is set all the same."""
    called: list[str] = []
    gpu = two.simulator.gpu(0)
    refused = Refused(detail="busy")
    stops = [_stop(Applied(), called, "miner"), _stop(refused, called, "server")]
    device = NvmlDevice(host=two.nvml, uuid=gpu.uuid, stops=stops)
    assert await device.safe_stop(reason="test") == refused
    assert called == ["miner", "server"]
    assert gpu.power_limit_watts == 200.0
    broken = NvmlDevice(host=two.nvml, uuid=gpu.uuid, stops=[_Broken()])
    ack = await broken.safe_stop(reason="test")
    assert isinstance(ack, Unreachable)
    assert "ConnectionResetError" in ack.detail


async def test_a_stop_without_a_limit_is_still_a_stop(two: World) -> None:
    """No permission for the limit changes nothing for what was stopped; a lost GPU is told; so is a lone limit."""
    gpu = two.simulator.gpu(0)
    gpu.ask_fault(NvmlReturn.NO_PERMISSION, call=Call.SET_LIMIT)
    stopping = NvmlDevice(host=two.nvml, uuid=gpu.uuid, stops=[_stop(Applied(), [], "miner")])
    alone = NvmlDevice(host=two.nvml, uuid=gpu.uuid)
    assert await stopping.safe_stop(reason="test") == Applied()
    assert isinstance(await alone.safe_stop(reason="test"), Refused)
    gpu.mend()
    gpu.lack(Call.LIMIT_CONSTRAINTS)
    fresh = NvmlDevice(host=two.nvml, uuid=two.simulator.gpu(1).uuid)
    two.simulator.gpu(1).lack(Call.LIMIT_CONSTRAINTS)
    assert isinstance(await fresh.safe_stop(reason="test"), Unsupported)
    gpu.lose()
    assert isinstance(await stopping.safe_stop(reason="test"), Unreachable)
