"""A site with customers in a few lines: requests, events, and controllers that do what they are told, or do not."""

from dataclasses import dataclass, field, replace
from typing import Any

from hcp.model.commands import ControllerCommand, DeviceOutcome
from hcp.model.devices import DeviceMode
from hcp.model.facilities import Facility
from hcp.model.ids import id_from_content
from hcp.model.rejections import Rejected
from hcp.model.resources import ResourceState
from hcp.model.steps import Cause, Step
from hcp.model.units import EpochMs
from hcp.model.workloads import AllocationAction, AllocationRequest, WorkloadEvent, WorkloadType
from streams.allocation import on_observed, on_result
from streams.candidates import Reading
from streams.desk import Books
from streams.placement import attend, on_request
from streams.shards import ShardAllocation
from streams.tickets import Place, Ticket
from tests import examples
from tests.unit.streams.world import DEMO_FLEET, GPUS, SITE, START_MS, a_report, a_result

DEVICES = 8
"""H100s of the site, all in one shard."""


def workload(name: str) -> str:
    """Name a workload."""
    return id_from_content("placing", name)


def a_request(
    name: str,
    *,
    device_count: int = 1,
    workload_type: WorkloadType = WorkloadType.BATCH,
    priority: int = 5,
    at_ms: int = START_MS,
    **more: Any,  # any field
) -> AllocationRequest:
    """Ask for H100s of the site."""
    request = replace(
        examples.REQUEST,
        allocation_id=id_from_content("placing", name, "request"),
        workload_id=workload(name),
        facility_id=SITE,
        device_count=device_count,
        workload_type=workload_type,
        priority=priority,
        observed_at_ms=EpochMs(at_ms),
        action=AllocationAction.RESERVE,
        run_seconds_max=None,
        checkpoint_seconds=None,
    )
    return replace(request, **more)


@dataclass(slots=True, kw_only=True)
class Premises:
    """Books and events of a site; each event has an offset of its own."""

    shards: dict[str, ShardAllocation] = field(default_factory=dict)
    tickets: dict[str, Ticket] = field(default_factory=dict)
    events: list[WorkloadEvent] = field(default_factory=list)
    commands: list[ControllerCommand] = field(default_factory=list)
    readings: dict[Place, Reading] = field(default_factory=dict)
    now_ms: int = START_MS
    offset: int = 0

    def cause(self) -> Cause:
        """Name the next event."""
        return Cause(topic="allocation.request", partition=0, offset=self.offset, timestamp_ms=self.now_ms)

    def take(self, step: Step[Any] | Rejected) -> Step[Books]:
        """Attend to the site after an event, and keep what comes of it."""
        after = self.attended(step)
        self.keep(after)
        self.offset += 1
        return after

    def attended(self, step: Step[Any] | Rejected) -> Step[Books]:
        """Attend to the site without keeping anything."""
        assert not isinstance(step, Rejected), step
        return attend(
            step,
            self.shards,
            self.tickets,
            facility=_site(),
            fleet=DEMO_FLEET,
            cause=self.cause(),
            readings=self.readings,
        )

    def keep(self, step: Step[Books]) -> None:
        """Write what came of an event."""
        for key, state in step.updates:
            if state is None:
                del self.tickets[key]
            elif isinstance(state, Ticket):
                self.tickets[key] = state
            else:
                self.shards[key] = state
        self.events += [record for record in step.outputs if isinstance(record, WorkloadEvent)]
        self.commands += [record for record in step.outputs if isinstance(record, ControllerCommand)]

    def ask(self, request: AllocationRequest) -> Step[Books]:
        """Let a request come."""
        return self.take(on_request(self.tickets, request, fleet=DEMO_FLEET, cause=self.cause()))

    def release(self, name: str) -> Step[Books]:
        """Let a workload end."""
        return self.ask(replace(a_request(name), action=AllocationAction.RELEASE))

    def see(self, report: ResourceState) -> Step[Books]:
        """Let telemetry come."""
        return self.take(on_observed(self.shards, report, fleet=DEMO_FLEET, cause=self.cause()))

    def answer(self, outcome: DeviceOutcome = DeviceOutcome.COMMITTED) -> Step[Books]:
        """Let the controller answer the last command."""
        result = a_result(self.commands[-1], outcome=outcome)
        return self.take(on_result(self.shards, result, fleet=DEMO_FLEET, cause=self.cause()))

    def wait(self, wait_ms: int) -> None:
        """Let time pass until the next event, a heartbeat of the fleet monitor that changes nothing."""
        self.now_ms += wait_ms
        shard = self.shards[GPUS]
        self.see(a_report(GPUS, modes=shard.modes, at_ms=START_MS))

    def kinds(self, name: str) -> list[str]:
        """Return what was told of a workload, in order."""
        return [
            event.event_type.value.partition(".")[2] for event in self.events if event.workload_id == workload(name)
        ]

    def owners(self) -> list[str]:
        """Return who holds each H100."""
        return list(self.shards[GPUS].owners)


def a_site(*, mode: DeviceMode = DeviceMode.AI_INFERENCE) -> Premises:
    """Return the site with all its H100s in one mode."""
    site = Premises()
    site.see(a_report(GPUS, modes=(mode,) * DEVICES))
    return site


def _site() -> Facility:
    site = DEMO_FLEET.facility(SITE)
    assert site is not None
    return site
