"""ASIC drivers against miners that speak their vendors' protocols: what is said to be so is so, whatever goes wrong."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pytest
from pyasic_rs import MinerFactory

from controllers.drivers.asic.connect import Connection
from controllers.drivers.asic.machine import AsicMachine
from controllers.drivers.asic.poller import AsicPoller
from controllers.drivers.asic.told import LUXOS
from controllers.drivers.asic.unit import AsicUnit
from controllers.ports import (
    Applied,
    Disproven,
    NotConfirmed,
    ObservedState,
    Proven,
    Refused,
    Unreachable,
    Unsupported,
    observed_mode,
)
from hcp.fleet import load_fleet
from hcp.model.devices import DeviceClass, DeviceMode
from hcp.model.units import Watts
from simulators.asic.families import Family
from simulators.asic.faults import Fault, FaultKind
from simulators.asic.miner import Miner
from simulators.asic.plant import POOLS, WorkMode
from tests.asic_farms import eventually, farm_of

FLEET: Final = load_fleet(Path(__file__).resolve().parents[2] / "fleet.toml")
MINING, ECO, SLEEP = DeviceMode.MINING, DeviceMode.MINING_ECO, DeviceMode.SLEEP
DEADLINE_MS: Final = 400
CONNECT_MS: Final = 10_000
TARGETED: Final = tuple(family for family in Family if family is not Family.STOCK)


def class_for(family: Family) -> DeviceClass:
    """Return the S21; without a power target where the firmware takes none."""
    found = FLEET.device_class("s21")
    assert found is not None
    if family is not Family.STOCK:
        return found
    return replace(found, modes=tuple(each for each in found.modes if each.mode is not ECO))


@dataclass(slots=True, kw_only=True)
class Rack:
    """Some miners and what drives them."""

    machines: list[AsicMachine]
    miners: list[Miner]

    def truth(self, index: int = 0) -> DeviceMode:
        """Return what a miner was really told, by its own state."""
        plant = self.miners[index].plant
        if plant.mode is WorkMode.SLEEP:
            return SLEEP
        modes = self.machines[index].unit.modes
        return ECO if ECO in modes and plant.limit_watts < 0.85 * 3_500.0 else MINING

    async def put_in(self, mode: DeviceMode, index: int = 0) -> None:
        """Bring a sound miner to a mode."""
        ack = await self.machines[index].workload(mode).activate(deadline_ms=CONNECT_MS)
        assert ack == Applied()
        assert self.truth(index) is mode


@asynccontextmanager
async def rack_of(family: Family, *, count: int = 1) -> AsyncIterator[Rack]:
    """Run miners and connect to each."""
    async with farm_of(family, count=count) as made:
        factory = MinerFactory()
        units = [AsicUnit(Connection(host, factory=factory), device_class=class_for(family)) for host in made.miners]
        await asyncio.gather(*(unit.connection.client(deadline_ms=CONNECT_MS) for unit in units))
        yield Rack(machines=[AsicMachine(unit) for unit in units], miners=list(made.miners.values()))


@pytest.mark.parametrize("family", Family)
async def test_every_mode_is_entered_proven_and_true(family: Family) -> None:
    """From each mode to each other: accepted, read back, and so by the miner's own state; the pools stay."""
    async with rack_of(family) as rack:
        (machine,) = rack.machines
        for from_mode in machine.modes:
            for to_mode in machine.modes:
                await rack.put_in(from_mode)
                assert await machine.workload(to_mode).activate(deadline_ms=DEADLINE_MS) == Applied()
                assert isinstance(await machine.workload(to_mode).verify(deadline_ms=DEADLINE_MS), Proven)
                assert await observed_mode(machine) is to_mode
                assert rack.truth() is to_mode
                others = [mode for mode in machine.modes if mode is not to_mode]
                for other in others:
                    assert await machine.workload(other).observed() is ObservedState.PAUSED
        assert rack.miners[0].plant.pools == POOLS
        assert await machine.device.safe_stop(reason="test") == Applied()
        assert rack.truth() is SLEEP


async def test_what_is_so_already_costs_no_order() -> None:
    """Activating what is active sends nothing that could restart the miner."""
    async with rack_of(Family.STOCK) as rack:
        await rack.put_in(MINING)
        before = list(rack.miners[0].plant.orders)
        assert await rack.machines[0].workload(MINING).activate(deadline_ms=DEADLINE_MS) == Applied()
        assert await rack.machines[0].workload(MINING).pause(mode=None, deadline_ms=DEADLINE_MS) == Applied()  # type: ignore[arg-type]
        assert list(rack.miners[0].plant.orders) == before


FAULTS: Final = [
    Fault(kind=FaultKind.HANG),
    Fault(kind=FaultKind.REFUSE),
    Fault(kind=FaultKind.RESTART, ms=2_000, times=1),
    Fault(kind=FaultKind.RESTART_ON_ORDER, ms=50, times=1),
    Fault(kind=FaultKind.STALE, times=1),
    Fault(kind=FaultKind.STALE),
    Fault(kind=FaultKind.HALF, times=1),
    Fault(kind=FaultKind.HALF),
    Fault(kind=FaultKind.GARBAGE, times=1),
    Fault(kind=FaultKind.GARBAGE),
    Fault(kind=FaultKind.SLOW, ms=30),
    Fault(kind=FaultKind.SLOW, ms=2_000),
    Fault(kind=FaultKind.IGNORE),
    Fault(kind=FaultKind.REFUSE_ORDER),
    Fault(kind=FaultKind.CUT_AFTER_ORDER, times=1),
    Fault(kind=FaultKind.CONFIG_FAILS),
    Fault(kind=FaultKind.NO_MODE),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.kind}-{fault.times}-{fault.ms}")
@pytest.mark.parametrize("family", Family)
async def test_applied_is_said_only_of_what_is_so(family: Family, fault: Fault) -> None:
    """Whatever goes wrong, in time or not: an order is `Applied` only when the miner really was told so."""
    async with rack_of(family) as rack:
        (machine,), (miner,) = rack.machines, rack.miners
        for mode in [each for each in machine.modes if each is not MINING]:
            await rack.put_in(MINING)
            await miner.ask(replace(fault))
            began = time.monotonic()
            ack = await machine.workload(mode).activate(deadline_ms=DEADLINE_MS)
            proof = await machine.workload(mode).verify(deadline_ms=100)
            assert time.monotonic() - began < 2.0
            if isinstance(ack, Applied) or isinstance(proof, Proven):
                assert rack.truth() is mode
            else:
                assert ack.detail
                assert proof.detail
            await asyncio.sleep(0.02)  # a restart after an order begins 5 ms after its answer
            await miner.mend()
            assert miner.plant.pools == POOLS


@pytest.mark.parametrize(
    ("family", "kind", "kinds"),
    [
        (Family.STOCK, FaultKind.HANG, (Unreachable,)),
        (Family.STOCK, FaultKind.REFUSE, (Unreachable,)),
        (Family.WHATSMINER, FaultKind.REFUSE_ORDER, (Refused, NotConfirmed)),
        (Family.LUXOS, FaultKind.IGNORE, (NotConfirmed, Refused)),
        (Family.BRAIINS, FaultKind.IGNORE, (NotConfirmed, Refused)),
    ],
)
async def test_failures_have_their_own_words(family: Family, kind: FaultKind, kinds: tuple[type, ...]) -> None:
    """Who did not answer, who said no and who said yes and did nothing are three different things."""
    async with rack_of(family) as rack:
        await rack.miners[0].ask(Fault(kind=kind))
        ack = await rack.machines[0].workload(SLEEP).activate(deadline_ms=DEADLINE_MS)
        assert isinstance(ack, kinds), ack
        assert rack.truth() is MINING


async def test_stock_firmware_takes_no_target() -> None:
    """An order that does not exist is told apart from one that failed."""
    async with rack_of(Family.STOCK) as rack:
        ack = await rack.machines[0].device.set_power_limit(limit_watts=Watts(2_000.0), deadline_ms=DEADLINE_MS)
        assert isinstance(ack, Unsupported)


@pytest.mark.parametrize("family", TARGETED)
async def test_target_is_read_back(family: Family) -> None:
    """The firmware's own next lower profile counts as taken, and the miner's state has it."""
    async with rack_of(family) as rack:
        ack = await rack.machines[0].device.set_power_limit(limit_watts=Watts(2_700.0), deadline_ms=DEADLINE_MS)
        assert ack == Applied()
        assert 0.85 * 2_700.0 <= rack.miners[0].plant.limit_watts <= 2_700.0


async def test_miner_that_does_not_say_whether_it_mines_is_not_believed() -> None:
    """A library's default is no reading: the mode is unknown and nothing is proven."""
    async with rack_of(Family.STOCK) as rack:
        await rack.miners[0].ask(Fault(kind=FaultKind.NO_MODE))
        machine = rack.machines[0]
        assert await observed_mode(machine) is None
        assert isinstance(await machine.workload(MINING).verify(deadline_ms=100), Disproven)


@pytest.mark.parametrize("family", Family)
async def test_silence_after_a_stop_is_not_taken_for_mining(family: Family) -> None:
    """The stop took effect, and what says so has gone: hashes that lag and a library's default prove nothing."""
    async with rack_of(family) as rack:
        await rack.put_in(SLEEP)
        await rack.put_in(MINING)
        await rack.miners[0].ask(Fault(kind=FaultKind.NO_MODE))
        machine = rack.machines[0]
        assert not isinstance(await machine.workload(SLEEP).activate(deadline_ms=DEADLINE_MS), Applied)
        assert isinstance(await machine.workload(MINING).verify(deadline_ms=100), Disproven)


async def test_miner_of_another_firmware_is_not_driven() -> None:
    """An address that was given to another machine gets no orders."""
    async with farm_of(Family.STOCK) as made:
        (host,) = made.miners
        unit = AsicUnit(Connection(host, factory=MinerFactory(), firmware=LUXOS), device_class=class_for(Family.LUXOS))
        ack = await AsicMachine(unit).workload(SLEEP).activate(deadline_ms=CONNECT_MS)
        assert isinstance(ack, Unreachable)
        assert "must run LuxOS, runs AntMiner Stock" in ack.detail
        assert made[host].plant.mode is WorkMode.NORMAL


async def test_hung_miners_delay_no_other() -> None:
    """With a third of a rack hung, the others are polled in their time and stopped in theirs; the hung come back."""
    async with rack_of(Family.WHATSMINER, count=24) as rack:
        for miner in rack.miners[:8]:
            await miner.ask(Fault(kind=FaultKind.HANG))
        poller = AsicPoller([machine.unit for machine in rack.machines], every_ms=200, read_ms_max=500)
        await poller.start(first_round_ms_max=5_000)
        try:
            before = poller.counts
            await asyncio.sleep(1.5)
            during = poller.counts
            assert during.read - before.read >= 16 * 4  # of 16 * 7
            assert during.failed - before.failed <= 8 * 3  # asked ever less often
            began = time.monotonic()
            stops = [machine.device.safe_stop(reason="test") for machine in rack.machines[8:]]
            assert set(await asyncio.gather(*stops)) == {Applied()}
            assert time.monotonic() - began < 1.5
            for miner in rack.miners[:8]:
                await miner.mend()
            await eventually(lambda: all(machine.unit.seen(age_ms_max=400) for machine in rack.machines))
            assert (await rack.machines[0].device.telemetry()).mode is MINING
            assert (await rack.machines[20].device.telemetry()).mode is SLEEP
        finally:
            await poller.close()


async def test_poll_that_began_before_an_order_does_not_undo_it() -> None:
    """A slow reading of the mode before comes in after the order: what was read back stays."""
    async with rack_of(Family.WHATSMINER) as rack:
        (machine,), (miner,) = rack.machines, rack.miners
        poller = AsicPoller([machine.unit], every_ms=50)
        await poller.start(first_round_ms_max=5_000)
        try:
            for mode in (SLEEP, MINING) * 5:
                assert await machine.workload(mode).activate(deadline_ms=DEADLINE_MS) == Applied()
                for _ in range(10):
                    assert (await machine.device.telemetry()).mode is mode
                    await asyncio.sleep(0.01)
        finally:
            await poller.close()
        assert miner.plant.mode is WorkMode.NORMAL


async def test_a_thousand_miners_are_switched_at_once() -> None:
    """One process drives a thousand, each at its own address: all asleep, by their own state."""
    async with rack_of(Family.WHATSMINER, count=1_000) as rack:
        slots = asyncio.Semaphore(128)

        async def sleep(machine: AsicMachine) -> object:
            async with slots:
                return await machine.workload(SLEEP).activate(deadline_ms=5_000)

        assert set(await asyncio.gather(*(sleep(machine) for machine in rack.machines))) == {Applied()}
        assert {rack.truth(index) for index in range(1_000)} == {SLEEP}
        assert all(miner.plant.pools == POOLS for miner in rack.miners)
