"""What a simulated miner does physically, and where a farm's miners live."""

import time

import pytest

from simulators.asic.families import Family
from simulators.asic.farm import Farm, FarmOptions, hosts
from simulators.asic.faults import FAULTS_MAX, Fault, FaultKind, Faults, parse_fault
from simulators.asic.plant import POOLS, STANDBY_WATTS, Nameplate, Plant, WorkMode
from simulators.asic.protobuf import fields, message
from tests.asic_farms import eventually

PLATE = Nameplate(model="Test", hash_rate_th_per_s=200.0, power_watts=3_500.0, chips_per_board=108)


def _plant(*, ramp_ms: float = 60_000.0, down_ms: float = 60_000.0) -> Plant:
    return Plant(nameplate=PLATE, ramp_ms=ramp_ms, down_ms=down_ms)


def test_a_settled_plant_draws_and_hashes_what_its_nameplate_says() -> None:
    """Before any order: full power, full rate."""
    plant = _plant()
    assert plant.power_watts == PLATE.power_watts
    assert plant.hash_rate_gh_per_s == PLATE.hash_rate_th_per_s * 1_000


def test_an_order_is_accepted_at_once_and_settles_later() -> None:
    """The mode changes with the order; the load needs its time."""
    plant = _plant(down_ms=60_000.0)
    plant.set_mode(WorkMode.SLEEP)
    assert plant.mode is WorkMode.SLEEP
    assert plant.load > 0.9


async def test_the_load_goes_down_and_up_within_its_times() -> None:
    """Asleep it draws what standby draws; woken it comes back to all of it."""
    plant = _plant(ramp_ms=30.0, down_ms=10.0)
    plant.set_mode(WorkMode.SLEEP)
    await eventually(lambda: plant.power_watts == STANDBY_WATTS, timeout_ms=30_000)
    assert plant.hash_rate_gh_per_s == 0.0
    plant.set_mode(WorkMode.NORMAL)
    await eventually(lambda: plant.load == 1.0, timeout_ms=30_000)


async def test_a_power_target_bounds_the_draw() -> None:
    """Settled under a target it draws no more than that."""
    plant = _plant(ramp_ms=10.0, down_ms=10.0)
    plant.set_limit(2_450.0)
    await eventually(lambda: plant.power_watts == pytest.approx(2_450.0), timeout_ms=30_000)


async def test_shares_are_accepted_only_while_it_hashes() -> None:
    """The counter stands still asleep and advances awake."""
    plant = _plant(ramp_ms=1.0, down_ms=1.0)
    plant.set_mode(WorkMode.SLEEP)
    await eventually(lambda: plant.load == 0.0, timeout_ms=30_000)
    still = plant.accepted
    plant.booted_s = time.monotonic()
    assert plant.accepted == still
    plant.set_mode(WorkMode.NORMAL)
    await eventually(lambda: plant.accepted > still, timeout_ms=60_000)


def test_a_restart_keeps_the_configuration() -> None:
    """Uptime begins at 0; mode, target and pools are as before."""
    plant = _plant()
    plant.set_limit(2_450.0)
    plant.set_mode(WorkMode.SLEEP)
    plant.boot()
    assert (plant.elapsed_s, plant.mode, plant.limit_watts, plant.pools) == (0, WorkMode.SLEEP, 2_450.0, POOLS)


def test_hosts_leave_out_network_and_broadcast_addresses() -> None:
    """The last part runs from 1 to 254 and goes on in the next net."""
    assert list(hosts("127.1.0.253", 4)) == ["127.1.0.253", "127.1.0.254", "127.1.1.1", "127.1.1.2"]
    with pytest.raises(ValueError, match=r"must be in 127\.0\.0\.0/8"):
        list(hosts("10.0.0.1", 1))
    with pytest.raises(ValueError, match="count must be from 1"):
        list(hosts("127.1.0.1", 0))


def test_a_farm_that_needs_too_many_files_says_so_before_it_opens_one() -> None:
    """The limit is named with what is needed."""
    options = FarmOptions(family=Family.BRAIINS, first="127.1.0.1", count=5_000)
    try:
        made = Farm(options)
    except ValueError as error:
        assert "open files (ulimit -n) must be at least 15256" in str(error)  # noqa: PT017  # depends on the host's limit
    else:
        assert len(made.miners) == 5_000


def test_faults_are_counted_down_and_bounded() -> None:
    """A fault asked for twice is met twice; the seventeenth is refused."""
    faults = Faults()
    faults.ask(parse_fault("slow:2:150"))
    assert [faults.take(FaultKind.SLOW) is not None for _ in range(3)] == [True, True, False]
    for _ in range(FAULTS_MAX):
        faults.ask(Fault(kind=FaultKind.HANG))
    with pytest.raises(ValueError, match="faults must be at most 16"):
        faults.ask(Fault(kind=FaultKind.HANG))
    with pytest.raises(ValueError, match="fault must be one of"):
        parse_fault("explode")


def test_protobuf_messages_come_back_as_they_went() -> None:
    """Varints of one byte and ten, doubles, text and sub-messages; cut bytes are refused."""
    raw = message((1, 300), (2, "text"), (3, message((1, 2**63))), (4, True), (16, 1.5))
    found = fields(raw)
    assert (found[1], found[2], found[4]) == (300, b"text", 1)
    inner = found[3]
    assert isinstance(inner, bytes)
    assert fields(inner) == {1: 2**63}
    with pytest.raises(ValueError, match="must"):
        fields(raw[:-1])
