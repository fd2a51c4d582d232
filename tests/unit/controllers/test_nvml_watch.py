"""Xids: told to whoever must quarantine, kept for the readings, and sorted as NVIDIA's catalogue sorts them."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from controllers.drivers.nvml_watch import XIDS_KEPT_MAX, XidWatcher
from controllers.drivers.nvml_xid import (
    CATALOGUE,
    GpuBack,
    GpuLost,
    HealthEvent,
    XidSeen,
    XidSeverity,
    meaning_of,
)
from hcp.model.units import EpochMs
from simulators.nvml.layout import Call, NvmlReturn
from tests.nvml_lab import loaded
from tests.unit.controllers.nvml_world import World, eventually, world

TRIES = 10
NOW_MS = EpochMs(1_764_000_000_000)


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[World]:
    """Two H100."""
    async with world(tmp_path) as made:
        yield made


class Watching:
    """A watcher with short waits, and what it told."""

    def __init__(self, made: World) -> None:
        self.told: list[HealthEvent] = []
        self.watcher = XidWatcher(
            indexes=dict.fromkeys(made.nvml.uuids),
            on_event=self.told.append,
            clock=lambda: NOW_MS,
            wait_ms=20,
            retry_ms=1,
        )

    async def started(self, *, sets: int = 2) -> "Watching":
        """Return once as many GPUs are watched."""
        self.watcher.start()
        await eventually(lambda: loaded().hcp_nvml_event_sets_open() == sets)
        return self

    def has_told(self, uuid: str, *, times: int) -> bool:
        """Tell whether so many events of a GPU were told."""
        return sum(event.uuid == uuid for event in self.told) == times

    async def close(self) -> None:
        """End it, and see that no event set is left."""
        assert await self.watcher.close(deadline_ms=10_000)
        assert loaded().hcp_nvml_event_sets_open() == 0


async def test_every_xid_is_told_and_kept(two: World) -> None:
    """In order, with GPU and time; the last 32 are kept for the GPU's readings."""
    watching = await Watching(two).started()
    first, second = two.nvml.uuids
    for xid in (13, 79):
        two.simulator.raise_xid(0, xid)
    two.simulator.raise_xid(1, 94)
    await eventually(lambda: len(watching.told) == 3)
    assert [event for event in watching.told if event.uuid == first] == [
        XidSeen(uuid=first, xid=13, seen_at_ms=NOW_MS),
        XidSeen(uuid=first, xid=79, seen_at_ms=NOW_MS),
    ]
    assert watching.watcher.recent(second) == (XidSeen(uuid=second, xid=94, seen_at_ms=NOW_MS),)
    for xid in range(100, 100 + XIDS_KEPT_MAX + 8):
        two.simulator.raise_xid(1, xid)
    await eventually(lambda: len(watching.told) == 3 + XIDS_KEPT_MAX + 8)
    assert [one.xid for one in watching.watcher.recent(second)] == list(range(108, 108 + XIDS_KEPT_MAX))
    assert watching.watcher.recent("GPU-unknown") == ()
    await watching.close()


async def test_a_gpu_off_the_bus_is_told_once_and_once_when_back(two: World) -> None:
    """Its Xid 79 first, then the loss, then the return; the other GPU is watched all along."""
    watching = await Watching(two).started()
    first, second = two.nvml.uuids
    gpu = two.simulator.gpu(0)
    for _ in range(2):
        watching.told.clear()
        gpu.fall_off_the_bus()
        await eventually(lambda: any(isinstance(event, GpuLost) for event in watching.told))
        for number in range(1, TRIES + 1):  # takes as long as several more tries to register the lost one
            two.simulator.raise_xid(1, 48)
            await eventually(partial(watching.has_told, second, times=number))
        gpu.recover()
        await eventually(lambda: any(isinstance(event, GpuBack) for event in watching.told))
        assert [event for event in watching.told if event.uuid == first] == [
            XidSeen(uuid=first, xid=79, seen_at_ms=NOW_MS),
            GpuLost(uuid=first, seen_at_ms=NOW_MS, detail="GPU is lost"),
            GpuBack(uuid=first, seen_at_ms=NOW_MS),
        ]
    two.simulator.raise_xid(0, 63)
    await eventually(lambda: watching.told[-1] == XidSeen(uuid=first, xid=63, seen_at_ms=NOW_MS))
    await watching.close()


async def test_a_gpu_that_hangs_while_it_registers_silences_no_other(two: World) -> None:
    """The other's Xids are told, and closing says that one thread is still in the driver."""
    two.simulator.gpu(0).ask_hang(call=Call.REGISTER_EVENTS)
    watching = await Watching(two).started()
    two.simulator.raise_xid(1, 95)
    await eventually(lambda: len(watching.told) == 1)
    assert not await watching.watcher.close(deadline_ms=100)
    two.simulator.gpu(0).mend()
    await watching.close()


async def test_a_gpu_without_events_is_left(two: World) -> None:
    """Not supported is for good: no retry, no alarm."""
    two.simulator.gpu(0).lack(Call.REGISTER_EVENTS)
    watching = await Watching(two).started(sets=1)
    assert watching.told == []
    await watching.close()


async def test_a_host_is_watched_once_and_its_readings_carry_xids(two: World) -> None:
    """`watch` serves the readings; a second one is a mistake."""
    told: list[HealthEvent] = []
    assert two.nvml.recent_xids(two.nvml.uuids[0]) == ()
    two.nvml.watch(told.append)
    with pytest.raises(ValueError, match="watched once"):
        two.nvml.watch(told.append)
    await eventually(lambda: loaded().hcp_nvml_event_sets_open() == 2)
    two.simulator.raise_xid(0, 48)
    await eventually(lambda: len(told) == 1)
    reading = await two.device().reading()
    assert [(one.xid, one.is_fatal) for one in reading.xids] == [(48, True)]
    assert (await two.device(1).reading()).xids == ()


async def test_an_error_of_the_wait_is_tried_again(two: World) -> None:
    """An unknown error ends one wait and not the watch."""
    watching = await Watching(two).started()
    two.simulator.gpu(0).ask_fault(NvmlReturn.UNKNOWN, call=Call.EVENT_WAIT, times=1)
    await eventually(lambda: [type(event) for event in watching.told] == [GpuLost, GpuBack])
    await watching.close()


async def test_a_lost_neighbour_does_not_keep_a_gpu_from_being_watched(two: World) -> None:
    """A search by UUID fails while any GPU is lost; by its index a GPU is found all the same."""
    two.simulator.gpu(0).lose()
    told: list[HealthEvent] = []
    two.nvml.watch(told.append)
    first, second = two.nvml.uuids
    await eventually(lambda: [type(event) for event in told] == [GpuLost])
    assert told[0].uuid == first
    await eventually(lambda: loaded().hcp_nvml_event_sets_open() == 1)
    two.simulator.raise_xid(1, 31)
    await eventually(lambda: len(told) == 2)
    assert [one.xid for one in two.nvml.recent_xids(second)] == [31]


FATAL = (48, 62, 64, 74, 79, 95, 109, 119, 120, 140)
OTHERS = {
    13: XidSeverity.APPLICATION,
    31: XidSeverity.APPLICATION,
    43: XidSeverity.APPLICATION,
    45: XidSeverity.APPLICATION,
    63: XidSeverity.DRAIN,
    94: XidSeverity.DRAIN,
    154: XidSeverity.NOTICE,
    999: XidSeverity.UNKNOWN,
}


@pytest.mark.parametrize("xid", FATAL)
def test_what_needs_a_reset_or_a_repair_is_fatal(xid: int) -> None:
    """These end the GPU's work until somebody resets, reboots or repairs it."""
    assert XidSeen(uuid="GPU-1", xid=xid, seen_at_ms=NOW_MS).is_fatal


@pytest.mark.parametrize(("xid", "severity"), OTHERS.items())
def test_an_applications_error_is_not_the_hardwares(xid: int, severity: XidSeverity) -> None:
    """Programs' errors, repaired memory and notices quarantine nothing; what is not listed is known as unknown."""
    seen = XidSeen(uuid="GPU-1", xid=xid, seen_at_ms=NOW_MS)
    assert (seen.severity, seen.is_fatal) == (severity, False)


def test_the_catalogue_says_what_each_xid_means() -> None:
    """A line for each, and never an empty one."""
    assert all(line.meaning and line.severity is not XidSeverity.UNKNOWN for line in CATALOGUE.values())
    assert meaning_of(0).severity is XidSeverity.UNKNOWN
