"""Placement: warm devices at once, cold ones by the protocol, the next best on failure, in turn, all or none."""

from dataclasses import replace

import msgspec
import pytest

from hcp.codecs import decode, encode
from hcp.model.commands import DeviceOutcome
from hcp.model.devices import DeviceMode, DeviceState
from hcp.model.recommendations import ModeDevices
from hcp.model.resources import ResourceState, StateReporter
from hcp.model.units import MS_PER_SECOND
from hcp.model.workloads import WorkloadEventType, WorkloadType
from streams.candidates import Reading
from streams.inventory import count_devices
from streams.placement import FORGET_MS, PATIENCE_MS, TRIES_MAX, on_request
from streams.service_levels import SERVICE_LEVELS, ServiceClass
from streams.shards import report_of
from streams.tickets import Ticket
from tests.unit.streams.placing import DEVICES, a_request, a_site, workload
from tests.unit.streams.world import DEMO_FLEET, GPUS, a_report

REAL_TIME = WorkloadType.INFERENCE_REAL_TIME


def test_a_warm_device_runs_a_workload_at_once() -> None:
    """Placed, starting and started in one step, without a command; its device is nobody else's."""
    site = a_site()
    site.ask(a_request("one"))
    assert site.kinds("one") == ["placed", "starting", "started"]
    assert (site.owners().count(workload("one")), site.commands) == (1, [])
    assert site.events[0].device_ids == f"{GPUS}/000"
    assert "scored" in site.events[0].reason
    assert all(decode(encode(event)) == event for event in site.events)


def test_a_held_device_is_fixed_for_whoever_counts() -> None:
    """Optimizer and orchestrator count it as neither movable nor switching."""
    site = a_site()
    site.ask(a_request("one", device_count=3))
    (count,) = count_devices(report_of(site.shards[GPUS]))
    assert (count.movable, count.switching, count.fixed) == (DEVICES - 3, 0, 3)
    assert ModeDevices(mode=count.mode, movable_count=count.movable, switching_count=0).movable_count == DEVICES - 3


def test_mining_devices_are_switched_first() -> None:
    """Held from the command on; started when the controller has verified all of them."""
    site = a_site(mode=DeviceMode.MINING)
    site.ask(a_request("one", device_count=2))
    assert site.kinds("one") == ["placed", "starting"]
    (command,) = site.commands
    assert (command.to_mode, len(command.device_indexes)) == (DeviceMode.AI_INFERENCE, 2)
    site.answer()
    assert site.kinds("one") == ["placed", "starting", "started"]


def test_a_failed_start_takes_the_next_best_device() -> None:
    """The one that failed has a worse history from then on."""
    site = a_site(mode=DeviceMode.MINING)
    site.ask(a_request("one"))
    first = site.commands[-1].device_indexes
    site.answer(DeviceOutcome.ROLLED_BACK)
    assert site.kinds("one") == ["placed", "starting", "queued", "placed", "starting"]
    assert site.commands[-1].device_indexes != first
    assert site.shards[GPUS].failures == ((first[0], 1),)
    site.answer()
    assert site.kinds("one")[-1] == "started"


def test_tries_are_bounded() -> None:
    """After the last one the workload has failed, and holds nothing."""
    site = a_site(mode=DeviceMode.MINING)
    site.ask(a_request("one"))
    for _ in range(TRIES_MAX):
        site.answer(DeviceOutcome.ROLLED_BACK)
    assert site.kinds("one")[-1] == "failed"
    assert set(site.owners()) == {""}
    assert len(site.commands) == TRIES_MAX


def test_a_gang_gets_all_its_devices_or_waits() -> None:
    """Six are free of eight: seven are not given in part."""
    site = a_site()
    site.ask(a_request("two", device_count=2))
    site.ask(a_request("seven", device_count=7))
    assert site.kinds("seven") == ["queued"]
    assert site.events[-1].queue_position == 1
    assert site.owners().count(workload("seven")) == 0
    site.release("two")
    assert site.kinds("seven")[-1] == "started"
    assert site.owners().count(workload("seven")) == 7


def test_more_devices_than_the_site_has_fail_at_once() -> None:
    """It would wait in vain."""
    site = a_site()
    site.ask(a_request("nine", device_count=9))
    assert site.kinds("nine") == ["failed"]


def test_real_time_preempts_the_batch_that_loses_least() -> None:
    """A checkpoint four seconds old beats one a minute old; the preempted one waits again, at its old turn."""
    site = a_site()
    site.ask(a_request("long", device_count=4, checkpoint_seconds=600))
    site.wait(56 * MS_PER_SECOND)
    site.ask(a_request("short", device_count=4, checkpoint_seconds=600))
    site.wait(4 * MS_PER_SECOND)
    site.ask(a_request("now", workload_type=REAL_TIME))
    assert site.kinds("short")[-3:] == ["preempting", "preempted", "queued"]
    assert site.kinds("now") == ["placed", "starting", "started"]
    assert "preempted" not in site.kinds("long")


@pytest.mark.parametrize("changed", [{"is_preemptible": False}, {"workload_type": REAL_TIME}])
def test_whoever_may_not_be_preempted_is_not(changed: dict[str, object]) -> None:
    """A customer who did not allow it, and one of the same class."""
    site = a_site()
    site.ask(replace(a_request("held", device_count=DEVICES), **changed))  # type: ignore[arg-type]
    site.ask(a_request("now", workload_type=REAL_TIME))
    assert (site.kinds("held")[-1], site.kinds("now")) == ("started", ["queued"])


def test_a_workload_is_preempted_only_so_often() -> None:
    """Then it keeps its devices, whoever comes."""
    site = a_site()
    site.ask(a_request("batch", device_count=DEVICES))
    allowed = SERVICE_LEVELS[ServiceClass.P3].preemptions_max
    for number in range(allowed + 1):
        site.ask(a_request(f"now-{number}", workload_type=REAL_TIME))
        site.release(f"now-{number}")
    assert site.kinds("batch").count("preempted") == allowed
    assert site.owners().count(workload("batch")) == DEVICES


def test_the_first_in_the_queue_lets_others_by_only_for_a_while() -> None:
    """Small ones fit beside a large one that waits; once it has been patient, what is free is kept for it."""
    site = a_site()
    site.ask(a_request("half", device_count=5))
    site.ask(a_request("all", device_count=DEVICES))
    site.ask(a_request("small"))
    assert site.kinds("small")[-1] == "started"
    site.wait(PATIENCE_MS + 1)
    site.ask(a_request("late"))
    assert site.kinds("late") == ["queued"]


def test_waiting_ends() -> None:
    """What found no devices in the time of its class has failed, and says why."""
    site = a_site()
    site.ask(a_request("held", device_count=DEVICES, is_preemptible=False))
    site.ask(a_request("now", workload_type=REAL_TIME))
    site.wait(SERVICE_LEVELS[ServiceClass.P1].wait_ms_max)
    assert site.kinds("now")[-1] == "failed"
    (failed,) = (event for event in site.events if event.event_type is WorkloadEventType.FAILED)
    assert "no devices" in failed.reason


def test_a_run_ends_when_its_time_is_up() -> None:
    """At that time, however late the next event comes."""
    site = a_site()
    site.ask(a_request("one", run_seconds_max=100))
    began_ms = site.now_ms
    site.wait(500 * MS_PER_SECOND)
    assert site.kinds("one")[-1] == "completed"
    assert site.events[-1].observed_at_ms == began_ms + 100 * MS_PER_SECOND
    assert set(site.owners()) == {""}


def test_a_lost_device_moves_the_workload() -> None:
    """What cannot be reached serves nobody."""
    site = a_site()
    site.ask(a_request("one"))
    states = (DeviceState.UNREACHABLE, *(DeviceState.ACTIVE,) * (DEVICES - 1))
    site.see(a_report(GPUS, states=states, at_ms=site.now_ms))
    assert site.kinds("one")[3:] == ["preempted", "placed", "starting", "started"]
    assert site.tickets[workload("one")].devices == ((GPUS, 1),)


def test_a_run_is_told_of_as_it_goes_on() -> None:
    """So that what it costs can be seen."""
    site = a_site()
    site.ask(a_request("one"))
    site.wait(DEMO_FLEET.meter_ms)
    assert site.kinds("one")[-1] == "metered"


def test_cool_healthy_devices_come_first() -> None:
    """Each term is worth its points."""
    site = a_site()
    site.readings = {
        (GPUS, index): Reading(temperature_celsius=80.0, utilisation_ratio=0.5) for index in range(DEVICES)
    }
    site.readings[GPUS, 5] = Reading(temperature_celsius=45.0, utilisation_ratio=0.5)
    site.ask(a_request("one"))
    assert site.tickets[workload("one")].devices == ((GPUS, 5),)


def test_a_request_done_twice_gives_the_same_records() -> None:
    """A process that died before it wrote its state does the whole event again."""
    site = a_site(mode=DeviceMode.MINING)
    request = a_request("one", device_count=2)
    once = site.attended(on_request(site.tickets, request, fleet=DEMO_FLEET, cause=site.cause()))
    assert site.ask(request) == once
    again = site.ask(request)
    assert (again.ignored, again.outputs) == ("duplicate", ())


@pytest.mark.parametrize("kept", ["shards", "tickets"])
@pytest.mark.parametrize("mode", [DeviceMode.AI_INFERENCE, DeviceMode.MINING])
def test_half_written_books_give_no_double_placement(kept: str, mode: DeviceMode) -> None:
    """A crash between the two tables' changelogs: done again, the workload holds what it asks for, and no more."""
    site = a_site(mode=mode)
    request = a_request("one", device_count=2)
    whole = site.attended(on_request(site.tickets, request, fleet=DEMO_FLEET, cause=site.cause()))
    half = tuple(each for each in whole.updates if isinstance(each[1], Ticket) is (kept == "tickets"))
    site.keep(replace(whole, updates=half))
    site.ask(request)
    for command in list(site.commands)[-1:]:
        assert command.to_mode is DeviceMode.AI_INFERENCE
        site.answer()
    site.wait(1)
    if site.commands and site.kinds("one")[-1] != "started":
        site.answer()
    assert site.kinds("one")[-1] == "started"
    assert site.owners().count(workload("one")) == 2


def test_what_has_ended_is_forgotten_after_a_while() -> None:
    """The books of a site do not grow for ever."""
    site = a_site()
    site.ask(a_request("one"))
    site.release("one")
    assert workload("one") in site.tickets
    site.wait(FORGET_MS + 1)
    assert site.tickets == {}


def test_a_release_that_comes_first_keeps_the_workload_out() -> None:
    """Its request finds the books closed."""
    site = a_site()
    site.release("one")
    assert site.ask(a_request("one")).ignored == "duplicate"
    assert set(site.owners()) == {""}


def test_tickets_survive_the_changelog() -> None:
    """The table holds them as MessagePack."""
    site = a_site()
    site.ask(a_request("one"))
    ticket = site.tickets[workload("one")]
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(ticket), type=Ticket) == ticket


def test_the_last_report_of_a_step_shows_the_owner() -> None:
    """Whoever reads resource.state sees the placement."""
    site = a_site()
    step = site.ask(a_request("one"))
    reports = [record for record in step.outputs if isinstance(record, ResourceState)]
    assert workload("one") in reports[-1].owners
    assert reports[-1].reported_by is StateReporter.RESOURCES
