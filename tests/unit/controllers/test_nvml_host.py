"""NVML of a host: absent, opened, hung and closed; one GPU's trouble is no other's, and nothing is left behind."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controllers.drivers.nvml_api import Budget
from controllers.drivers.nvml_host import (
    GPUS_MAX,
    GpuUnreachableError,
    NvmlAbsent,
    NvmlHost,
    open_nvml,
)
from controllers.drivers.nvml_lanes import WAITING_MAX, Lane, LaneTimeoutError
from controllers.drivers.nvml_reading import GpuReading
from controllers.ports import Applied
from hcp.model.units import Watts
from simulators.nvml.layout import Call, NvmlReturn
from simulators.nvml.models import H100
from tests.nvml_lab import host, loaded
from tests.unit.controllers.nvml_world import World, eventually, world

CYCLES = 1_000
DEADLINE_MS = 5_000


def _files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _threads() -> list[str]:
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("nvml-"))


@pytest.fixture
async def eight(tmp_path: Path) -> AsyncIterator[World]:
    """Eight H100."""
    async with world(tmp_path, (H100,) * 8) as made:
        yield made


async def test_without_a_driver_nvml_is_absent(tmp_path: Path) -> None:
    """A value says so, and nothing is left running; with the driver back the same process opens it."""
    with host(tmp_path) as simulator:
        simulator.refuse_init(NvmlReturn.DRIVER_NOT_LOADED)
        absent = await open_nvml()
        assert absent == NvmlAbsent(detail="libnvidia-ml.so.1 and a driver must be there, was: Driver Not Loaded")
        await eventually(lambda: _threads() == [])
        simulator.refuse_init(NvmlReturn.SUCCESS)
        opened = await open_nvml()
        assert isinstance(opened, NvmlHost)
        assert opened.uuids == tuple(gpu.uuid for gpu in simulator.gpus)
        assert await opened.close(deadline_ms=DEADLINE_MS)


async def test_one_hung_gpu_delays_no_other(eight: World) -> None:
    """Seven are read and ordered while the eighth does not come back; its callers are told in which call it is."""
    for index in range(8):
        await eight.device(index).reading()
    sick = eight.simulator.gpu(3)
    sick.ask_hang()
    threads_before = len(_threads())
    for _ in range(5):
        readings = await asyncio.gather(
            *(eight.device(index, read_deadline_ms=50 if index == 3 else DEADLINE_MS).reading() for index in range(8)),
            return_exceptions=True,
        )
        assert [index for index, one in enumerate(readings) if not isinstance(one, GpuReading)] == [3]
        assert isinstance(readings[3], GpuUnreachableError)
        assert "must answer within 50 ms, was in nvmlDeviceGetFieldValues for" in str(readings[3])
    acks = await asyncio.gather(
        *(
            eight.device(index).set_power_limit(limit_watts=Watts(300.0), deadline_ms=DEADLINE_MS)
            for index in range(8)
            if index != 3
        )
    )
    assert acks == [Applied()] * 7
    assert len(_threads()) == threads_before
    sick.mend()
    assert (await eight.device(3).reading()).power.limit_watts == 700.0


async def test_a_hung_lane_takes_only_so_much_waiting(eight: World) -> None:
    """Beyond 16 callers one more is refused at once, and those given up on make room."""
    gpu = eight.simulator.gpu(0)
    lane = eight.nvml.gpu(gpu.uuid).lane
    gpu.ask_hang()
    waiting = [asyncio.ensure_future(eight.device(0, read_deadline_ms=60_000).reading()) for _ in range(1)]
    await eventually(lambda: lane.busy_ms > 0)
    waiting += [asyncio.ensure_future(eight.device(0, read_deadline_ms=60_000).reading()) for _ in range(WAITING_MAX)]
    await asyncio.sleep(0)
    with pytest.raises(GpuUnreachableError, match=f"must have at most {WAITING_MAX} calls waiting"):
        await eight.device(0).reading()
    for task in waiting[1:]:
        task.cancel()
    await asyncio.gather(*waiting[1:], return_exceptions=True)
    late = asyncio.ensure_future(eight.device(0).reading())
    await asyncio.sleep(0)
    gpu.mend()
    assert (await late).facts.uuid == (await waiting[0]).facts.uuid == gpu.uuid


async def test_a_slow_gpu_within_its_deadline_is_read(eight: World) -> None:
    """Slow is not hung: an answer in time counts, also while it slows every single call."""
    eight.simulator.gpu(2).ask_slow(3)
    reading = await eight.device(2, read_deadline_ms=30_000).reading()
    assert reading.power.instant_watts == 70.0


async def test_a_gpu_lost_at_the_start_hides_only_itself(tmp_path: Path) -> None:
    """It is told as missing, and found when it is looked for after a reset; so is one named before it was there."""
    with host(tmp_path, (H100,) * 3) as simulator:
        simulator.gpu(1).lose()
        opened = await open_nvml()
        assert isinstance(opened, NvmlHost)
        assert opened.uuids == (simulator.gpu(0).uuid, simulator.gpu(2).uuid)
        assert [(one.index, "lost" in one.detail) for one in opened.missing] == [(1, True)]
        with pytest.raises(GpuUnreachableError, match="must answer, said: GPU is lost"):
            await opened.read(simulator.gpu(1).uuid, deadline_ms=DEADLINE_MS)
        simulator.gpu(1).recover()
        await opened.find()
        assert opened.missing == ()
        assert set(opened.uuids) == {gpu.uuid for gpu in simulator.gpus}
        assert (await opened.read(simulator.gpu(1).uuid, deadline_ms=DEADLINE_MS)).power.instant_watts == 70.0
        assert await opened.close(deadline_ms=DEADLINE_MS)
        assert _threads() == []


async def test_a_lost_gpu_keeps_no_other_from_coming_back(tmp_path: Path) -> None:
    """Searching by UUID fails while any GPU is lost, and waits for one that hangs; each is found by its own index."""
    async with world(tmp_path, (H100,) * 3) as made:
        lost, hung, back = made.simulator.gpus
        lost.lose()
        hung.ask_hang(call=Call.HANDLE)
        back.lose()
        back.recover()
        assert (await made.device(2).reading()).facts.uuid == back.uuid
        with pytest.raises(GpuUnreachableError, match="GPU is lost"):
            await made.device(0).reading()


async def test_a_gpu_that_was_renumbered_is_found_by_uuid(eight: World) -> None:
    """The index it had may be another's by now, or none: then its UUID is searched for."""
    for uuid, wrong in zip(eight.nvml.uuids[:2], (5, 99), strict=True):
        gpu = eight.nvml.gpu(uuid)
        gpu.index = wrong
        assert (await eight.nvml.read(uuid, deadline_ms=DEADLINE_MS)).facts.uuid == uuid


async def test_an_unclear_fact_is_asked_for_again(eight: World) -> None:
    """A passing error of one call must not leave a GPU without its constraints for good."""
    eight.simulator.gpu(0).ask_fault(NvmlReturn.UNKNOWN, call=Call.LIMIT_CONSTRAINTS, times=1)
    facts = [(await eight.device(0).reading()).facts.power_limit_min_watts for _ in range(2)]
    assert facts == [None, 200.0]


async def test_the_pool_is_bounded(eight: World) -> None:
    """A host has lanes for 32 GPUs and no more."""
    for number in range(GPUS_MAX - 8):
        eight.nvml.gpu(f"GPU-unknown-{number}")
    with pytest.raises(ValueError, match="at most 32, was asked for GPU-one-too-many"):
        eight.nvml.gpu("GPU-one-too-many")
    with pytest.raises(GpuUnreachableError, match="Not Found"):
        await eight.nvml.read("GPU-unknown-0", deadline_ms=DEADLINE_MS)


async def test_closing_with_a_call_in_the_driver_leaves_nvml_alone(tmp_path: Path) -> None:
    """It says so and pulls nothing from under the call; the thread ends when the driver lets it go."""
    async with world(tmp_path) as made:
        gpu = made.simulator.gpu(0)
        gpu.ask_hang()
        with pytest.raises(GpuUnreachableError):
            await made.device(read_deadline_ms=20).reading()
        assert not await made.nvml.close(deadline_ms=50)
        assert loaded().hcp_nvml_inits_open() == 1
        with pytest.raises(GpuUnreachableError, match="must be open, was closed"):
            await made.device().reading()
        gpu.mend()
        await eventually(lambda: _threads() == [])


async def test_nothing_is_left_behind_after_a_thousand_cycles(tmp_path: Path) -> None:
    """Open, read, order, watch and close 1,000 times: as many threads, files, inits and event sets as before."""
    with host(tmp_path, (H100,)) as simulator:
        uuid = simulator.gpu(0).uuid
        seen: list[object] = []
        files = -1
        for cycle in range(CYCLES):
            opened = await open_nvml()
            assert isinstance(opened, NvmlHost)
            watcher = opened.watch(seen.append, wait_ms=1)
            await eventually(lambda: loaded().hcp_nvml_event_sets_open() == 1)
            assert (await opened.read(uuid, deadline_ms=DEADLINE_MS)).facts.uuid == uuid
            assert await opened.close(deadline_ms=DEADLINE_MS), watcher
            if cycle == 0:
                files = _files()
        assert _threads() == []
        assert (loaded().hcp_nvml_inits_open(), loaded().hcp_nvml_event_sets_open()) == (0, 0)
        assert _files() == files
        assert seen == []


async def test_a_lane_hands_on_what_work_raises() -> None:
    """Errors of the work reach the caller as they are; work begun too late says so as the hardware being late."""

    def broken(budget: Budget) -> None:
        raise KeyError(budget.call_name)

    def late(budget: Budget) -> None:
        while budget.left_s > 0:
            pass
        budget.enter("nvmlDeviceGetName")

    lane = Lane("test")
    with pytest.raises(KeyError, match="the queue"):
        await lane.run(broken, deadline_ms=DEADLINE_MS)
    with pytest.raises(LaneTimeoutError, match="must answer within 5 ms"):
        await lane.run(late, deadline_ms=5)
    assert await lane.close(deadline_ms=DEADLINE_MS)
    assert not lane.is_alive
    with pytest.raises(LaneTimeoutError, match="must be open, was closed"):
        await lane.run(broken, deadline_ms=DEADLINE_MS)


async def test_closing_tells_those_who_wait() -> None:
    """A caller whose work was not begun gets an error, not a cancellation of its own task."""
    lane, go = Lane("test"), threading.Event()
    busy = asyncio.ensure_future(lane.run(lambda _: go.wait(DEADLINE_MS), deadline_ms=DEADLINE_MS))
    await eventually(lambda: lane.busy_ms > 0)
    waiting = asyncio.ensure_future(lane.run(lambda _: None, deadline_ms=DEADLINE_MS))
    await asyncio.sleep(0)
    assert not await lane.close(deadline_ms=0)
    with pytest.raises(LaneTimeoutError, match="was closed"):
        await waiting
    go.set()
    assert await busy is True
    assert await lane.close(deadline_ms=DEADLINE_MS)
