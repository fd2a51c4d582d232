"""Outlooks at the controller: warmed ahead, cooled when withdrawn, never in the way of a switch."""

import asyncio
from dataclasses import dataclass, field, replace

import pytest

from controllers.ports import Ack, Applied, ObservedState, PauseMode, Refused
from controllers.prewarm import Prewarmer
from hcp.codecs import encode
from hcp.model.devices import DeviceMode
from hcp.model.outlook import Outlook
from tests.examples import OUTLOOK
from tests.unit.controllers.world import FLEET, GPU, SHARDS

INFERENCE = DeviceMode.AI_INFERENCE
SITE = SHARDS[GPU].facility_id
LIKELY = replace(OUTLOOK, facility_id=SITE, device_class="h100", to_mode=INFERENCE)
GONE = replace(LIKELY, to_mode=None, probability=0.01)


@dataclass(slots=True, kw_only=True)
class Warmable:
    """A workload that notes what it is told; `state` is what it is observed to do."""

    answer: Ack = field(default_factory=Applied)
    state: ObservedState = ObservedState.PAUSED
    warmed: int = 0
    paused: int = 0

    async def prewarm(self, *, deadline_ms: int) -> Ack:
        """Count."""
        assert deadline_ms > 0
        self.warmed += 1
        return self.answer

    async def observed(self) -> ObservedState:
        """Say what it is set to do."""
        return self.state

    async def pause(self, *, mode: PauseMode, deadline_ms: int) -> Ack:
        """Count."""
        assert (mode, deadline_ms > 0) == (PauseMode.KEEP, True)
        self.paused += 1
        return Applied()


@dataclass(slots=True, kw_only=True)
class Gpu:
    """A machine with one workload that can be warmed and one that cannot."""

    inference: Warmable = field(default_factory=Warmable)

    @property
    def modes(self) -> tuple[DeviceMode, ...]:
        """Both."""
        return (INFERENCE, DeviceMode.IDLE)

    def workload(self, mode: DeviceMode) -> object:
        """Return it."""
        return self.inference if mode is INFERENCE else object()


@pytest.fixture
def gpus() -> dict[int, Gpu]:
    """The machines of one shard."""
    return {index: Gpu() for index in range(4)}


@pytest.fixture
def lock() -> asyncio.Lock:
    """The shard's."""
    return asyncio.Lock()


@pytest.fixture
def prewarmer(gpus: dict[int, Gpu], lock: asyncio.Lock) -> Prewarmer:
    """One for the GPUs of one shard; no other shard is ever opened."""

    def machines_of(shard_id: str) -> dict[int, Gpu]:
        assert shard_id == GPU
        return gpus

    return Prewarmer(shards=SHARDS, machines_of=machines_of, lock_of=lambda _: lock)  # type: ignore[arg-type]  # a fake


async def follow(prewarmer: Prewarmer, outlook: Outlook, *, age_ms: int = 0) -> None:
    """Let it take a record and end what it began."""
    prewarmer.take(encode(outlook), age_ms=age_ms)
    for _ in range(20):
        await asyncio.sleep(0)


async def test_what_is_likely_is_warmed_on_every_device_of_the_class(
    prewarmer: Prewarmer, gpus: dict[int, Gpu]
) -> None:
    """One that refuses keeps no other cold; a class of another site is left alone."""
    gpus[1].inference.answer = Refused(detail="memory must be free, was full")
    await follow(prewarmer, LIKELY)
    assert [gpu.inference.warmed for gpu in gpus.values()] == [1] * 4
    await follow(prewarmer, replace(LIKELY, facility_id="mars"))
    await follow(prewarmer, replace(LIKELY, to_mode=DeviceMode.IDLE))
    assert [gpu.inference.warmed for gpu in gpus.values()] == [1] * 4


async def test_what_is_withdrawn_is_paused_again_unless_it_works(prewarmer: Prewarmer, gpus: dict[int, Gpu]) -> None:
    """A workload that a switch has activated since is not touched; what was never warmed neither."""
    await follow(prewarmer, GONE)
    assert [gpu.inference.paused for gpu in gpus.values()] == [0] * 4
    await follow(prewarmer, LIKELY)
    gpus[2].inference.state = ObservedState.ACTIVE
    await follow(prewarmer, GONE)
    assert [gpu.inference.paused for gpu in gpus.values()] == [1, 1, 0, 1]


async def test_cooling_waits_for_the_commands_of_its_shard(
    prewarmer: Prewarmer, gpus: dict[int, Gpu], lock: asyncio.Lock
) -> None:
    """A switch under way may be activating the very workload: it is looked at only afterwards."""
    await follow(prewarmer, LIKELY)
    async with lock:
        await follow(prewarmer, GONE)
        for gpu in gpus.values():
            gpu.inference.state = ObservedState.ACTIVE
    await asyncio.sleep(0.01)
    assert [gpu.inference.paused for gpu in gpus.values()] == [0] * 4
    await prewarmer.close()


async def test_old_outlooks_and_rubbish_are_passed_over(prewarmer: Prewarmer, gpus: dict[int, Gpu]) -> None:
    """After a restart hours later nothing is warmed for what was likely then."""
    await follow(prewarmer, LIKELY, age_ms=LIKELY.horizon_ms + 1)
    prewarmer.take(b"junk", age_ms=0)
    prewarmer.take(None, age_ms=0)
    await asyncio.sleep(0)
    assert [gpu.inference.warmed for gpu in gpus.values()] == [0] * 4
    assert FLEET.device_class("h100") is not None
