"""The parts of a controller that need no service: batching, offsets, intake, results, readings, hardware, drivers."""

import asyncio
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controllers.drivers.hardware import Fault, Step
from controllers.executor import DeviceReport
from controllers.gathered import Gathered
from controllers.intake import command_in
from controllers.machines import Machines
from controllers.offsets import InFlight
from controllers.ports import Applied, Disproven, Machine, ObservedState, PauseMode, Proven, Refused, observed_mode
from controllers.readings import READING_AGE_MS_MAX, Readings
from controllers.results import result_of
from hcp.codecs import decode, encode
from hcp.kafka.records import ConsumedRecord
from hcp.model.commands import DeviceOutcome
from hcp.model.devices import DeviceMode
from hcp.model.rejections import Rejected, RejectReason
from hcp.model.units import EpochMs, Watts
from tests.unit.controllers.world import ASIC, AWAY, FLEET, GPU, HOME, SHARDS, command

each_driver = pytest.mark.parametrize("shard_id", [GPU, ASIC])
DEADLINE_MS = 500


@pytest.fixture
def machines(tmp_path: Path) -> Machines:
    """Simulated hardware of the demo fleet."""
    return Machines(fleet=FLEET, facilities=(), state_dir=tmp_path)


def record(offset: int, *, partition: int = 0) -> ConsumedRecord:
    """Return a record at an address."""
    return ConsumedRecord(
        topic="controller.command", partition=partition, offset=offset, timestamp_ms=0, key=None, value=None
    )


async def test_requests_of_one_moment_become_few_calls() -> None:
    """What is submitted while a call is under way goes out together, answers in order."""
    calls: list[int] = []

    async def double(items: Sequence[int]) -> list[int]:
        calls.append(len(items))
        await asyncio.sleep(0)
        return [2 * item for item in items]

    gathered = Gathered(double)
    assert await asyncio.gather(*(gathered.submit(number) for number in range(100))) == [2 * n for n in range(100)]
    assert len(calls) <= 2


async def test_failed_call_fails_everyone_in_it() -> None:
    """Each submitter of a batch learns that the call failed, and the next batch is tried anew."""

    async def fail(_items: Sequence[int]) -> list[int]:
        raise ConnectionError("gone")

    gathered = Gathered(fail)
    for _ in range(2):
        outcomes = await asyncio.gather(gathered.submit(1), gathered.submit(2), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [ConnectionError, ConnectionError]


@given(st.permutations(range(12)))
def test_only_a_finished_run_is_committed(order: list[int]) -> None:
    """In whatever order records finish, no offset is committed before all older ones are finished."""
    in_flight, finished = InFlight(), set[int]()
    records = [record(offset) for offset in range(12)]
    for taken in records:
        in_flight.take(taken)
    for offset in order:
        in_flight.finish(records[offset])
        finished.add(offset)
        for ready in in_flight.committable():
            assert set(range(ready.offset + 1)) <= finished
    assert len(in_flight) == 0


def test_partitions_do_not_wait_for_each_other() -> None:
    """A record under way holds back its own partition only."""
    in_flight = InFlight()
    records = [record(0, partition=partition) for partition in (0, 1)]
    for taken in records:
        in_flight.take(taken)
    in_flight.finish(records[1])
    assert [ready.partition for ready in in_flight.committable()] == [1]


def test_redelivered_record_does_not_block_its_partition() -> None:
    """After a rebalance a record and its redelivery are both under way; both finish, and the partition goes on."""
    in_flight, copies = InFlight(), [record(7), record(7)]
    for copy in copies:
        in_flight.take(copy)
    for copy in copies:
        in_flight.finish(copy)
    assert [ready.offset for ready in in_flight.committable()] == [7]
    assert len(in_flight) == 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"facility_id": "mars"}, RejectReason.UNKNOWN_FACILITY),
        ({"shard_id": "tx-north.gpu-1/09"}, RejectReason.UNKNOWN_SHARD),
        ({"cluster_id": "tx-north.gpu-2"}, RejectReason.UNKNOWN_SHARD),
        ({"device_class": "s21"}, RejectReason.UNKNOWN_DEVICE_CLASS),
        ({"to_mode": DeviceMode.SLEEP}, RejectReason.OUT_OF_RANGE),
    ],
)
def test_command_that_does_not_fit_the_fleet_is_refused(changes: dict[str, str], reason: RejectReason) -> None:
    """A command for what the fleet does not have is refused with what must be and what was."""
    order = replace(command(GPU, to_mode=AWAY[GPU]), **changes)  # type: ignore[arg-type]  # each case names its field
    refused = command_in(encode(order), fleet=FLEET, shards=SHARDS)
    assert isinstance(refused, Rejected)
    assert refused.reason is reason
    assert "was" in refused.detail


def test_command_that_fits_is_taken() -> None:
    """A good command comes through unchanged; bytes that are none are refused."""
    order = command(ASIC, to_mode=AWAY[ASIC])
    assert command_in(encode(order), fleet=FLEET, shards=SHARDS) == order
    assert isinstance(command_in(b"\xc3\x01", fleet=FLEET, shards=SHARDS), Rejected)


def test_result_has_a_row_for_every_device() -> None:
    """Every column is as long as the command, also for devices that reached no phase; the record encodes."""
    order = command(GPU, to_mode=AWAY[GPU], devices=(0, 1))
    done = DeviceReport(
        device_index=0,
        epoch=1,
        outcome=DeviceOutcome.COMMITTED,
        mode=AWAY[GPU],
        phases_ms={"begin": 1.0, "commit": 2.0},
    )
    fenced = DeviceReport(device_index=1, epoch=1, outcome=DeviceOutcome.FENCED, mode=HOME[GPU], detail="old")
    at_ms = EpochMs(order.observed_at_ms)
    result = result_of(order, [done, fenced], controller_id="c", started_at_ms=at_ms, finished_at_ms=at_ms)
    columns = [getattr(result, item.name) for item in fields(result)]
    assert {len(column) for column in columns if isinstance(column, tuple)} == {2}
    assert (result.begin_ms, result.pause_ms, result.total_ms) == ((1.0, None), (None, None), (3.0, None))
    assert decode(encode(result)) == result


async def test_reading_too_old_is_no_reading(machines: Machines) -> None:
    """Telemetry counts up to its maximum age; a lost device has none, and its neighbours are read all the same."""
    now_s = [0.0]
    readings = Readings(monotonic=lambda: now_s[0])
    machines.hardware.shard(GPU).ask_fault(1, Fault.LOST)
    await readings.refresh(machines.by_device_id(GPU))
    assert readings.fresh(f"{GPU}/001") is None
    now_s[0] = READING_AGE_MS_MAX / 1_000
    assert readings.fresh(f"{GPU}/000") is not None
    now_s[0] += 1
    assert readings.fresh(f"{GPU}/000") is None


@each_driver
async def test_hardware_outlives_its_controller(tmp_path: Path, shard_id: str) -> None:
    """What one process did to the hardware another one sees, and the initial mode is given once."""
    first = Machines(fleet=FLEET, facilities=(), state_dir=tmp_path)
    await first.of_shard(shard_id)[2].device.safe_stop(reason="test")
    second = Machines(fleet=FLEET, facilities=(), state_dir=tmp_path)
    assert await observed_mode(second.of_shard(shard_id)[2]) is None
    assert await observed_mode(second.of_shard(shard_id)[3]) is HOME[shard_id]


@each_driver
async def test_driver_obeys_the_ports(machines: Machines, shard_id: str) -> None:
    """The exam of a driver: pause, activate, prove, read back, and orders given twice change nothing."""
    machine: Machine = machines.of_shard(shard_id)[0]
    home, away = machine.workload(HOME[shard_id]), machine.workload(AWAY[shard_id])
    assert isinstance(await home.verify(deadline_ms=DEADLINE_MS), Proven)
    assert isinstance(await away.verify(deadline_ms=DEADLINE_MS), Disproven)
    for _ in range(2):
        assert isinstance(await home.pause(mode=PauseMode.KEEP, deadline_ms=DEADLINE_MS), Applied)
    assert await home.observed() is ObservedState.PAUSED
    for _ in range(2):
        assert isinstance(await away.activate(deadline_ms=DEADLINE_MS), Applied)
    assert await away.observed() is (ObservedState.RAMPING if shard_id == ASIC else ObservedState.ACTIVE)
    assert isinstance(await away.verify(deadline_ms=DEADLINE_MS), Proven)
    assert await observed_mode(machine) is AWAY[shard_id]
    telemetry = await machine.device.telemetry()
    profile = FLEET.device_class(SHARDS[shard_id].device_class)
    assert profile is not None
    assert telemetry.power_watts == profile.profile(AWAY[shard_id]).power_watts
    limit = await machine.device.set_power_limit(limit_watts=Watts(100.0), deadline_ms=DEADLINE_MS)
    assert isinstance(limit, Applied)


@each_driver
async def test_driver_says_what_goes_wrong(machines: Machines, shard_id: str) -> None:
    """A refusal is a value, a hang ends at the deadline, a loss raises, and nothing is done by any of them."""
    rows, machine = machines.hardware.shard(shard_id), machines.of_shard(shard_id)[0]
    home = machine.workload(HOME[shard_id])
    rows.ask_fault(0, Fault.REFUSE, step=Step.PAUSE, times=1)
    assert isinstance(await home.pause(mode=PauseMode.KEEP, deadline_ms=DEADLINE_MS), Refused)
    rows.ask_fault(0, Fault.HANG, step=Step.PAUSE, times=1)
    with pytest.raises(TimeoutError):
        await home.pause(mode=PauseMode.KEEP, deadline_ms=20)
    rows.ask_fault(0, Fault.LOST)
    with pytest.raises(ConnectionError):
        await home.pause(mode=PauseMode.KEEP, deadline_ms=DEADLINE_MS)
    assert await home.observed() is ObservedState.UNKNOWN
    rows.ask_fault(0, Fault.NONE)
    assert await observed_mode(machine) is HOME[shard_id]
