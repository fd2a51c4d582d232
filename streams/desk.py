"""What one event does to a site's devices and workloads, gathered: the working copy behind a placement step."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from hcp.model.devices import DeviceMode, DeviceState
from hcp.model.facilities import Facility, Fleet
from hcp.model.steps import Cause, Step
from hcp.model.workloads import WorkloadEventType
from streams.candidates import Candidate, Readings, candidates_of
from streams.shards import ShardAllocation, report_of, send, with_columns
from streams.tickets import Place, Ticket, TicketStatus, event_of

Books = ShardAllocation | Ticket | None
"""The state of a table key after a step; None: it has none any more."""
PLACEMENT_ATTEMPTS_MAX: Final = 1
"""A placement that fails takes the next best device, rather than the same one again."""


@dataclass(slots=True, kw_only=True)
class Desk:
    """Working copies; `step` says what came of them.

    Attributes:
        facility: The site.
        fleet: All sites.
        cause: The event.
        readings: Latest telemetry of the site's devices.
        shards: Books of its shards; read through `shard`.
        tickets: Books of its workloads.
    """

    facility: Facility
    fleet: Fleet
    cause: Cause
    readings: Readings
    shards: Mapping[str, ShardAllocation]
    tickets: Mapping[str, Ticket]
    _shards: dict[str, ShardAllocation] = field(default_factory=dict)
    _tickets: dict[str, Ticket] = field(default_factory=dict)
    _in_turn: dict[str, Ticket] | None = None
    _outputs: list[object] = field(default_factory=list)
    _told: int = 0
    _forgotten: tuple[str, ...] = ()

    @property
    def now_ms(self) -> int:
        """Return the time by the broker's clock, which workloads live by."""
        return self.cause.timestamp_ms

    def begin_with(self, step: Step[Books]) -> None:
        """Take over what the event has done already."""
        for key, state in step.updates:
            if isinstance(state, Ticket):
                self._tickets[key] = state
            elif state is not None:
                self._shards[key] = state
        self._outputs.extend(step.outputs)

    def ticket(self, workload_id: str) -> Ticket | None:
        """Return a workload's books as they are now."""
        return self._tickets.get(workload_id) or self.tickets.get(workload_id)

    def all_tickets(self) -> list[Ticket]:
        """Return the site's workloads as they are now, in the order of their turns; what was over before is left out.

        A turn never changes, so the order is made once, and again only for workloads that are new to it.
        """
        if self._in_turn is None:
            self._in_turn = _by_turn(each for each in self.tickets.values() if self._is_here(each))
        known = self._in_turn
        new = [each for name, each in self._tickets.items() if name not in known]
        if new:
            known = self._in_turn = _by_turn((*known.values(), *new))
        return [self._tickets.get(name, each) for name, each in known.items()]

    def _is_here(self, ticket: Ticket) -> bool:
        return ticket.facility_id == self.facility.facility_id and (not is_over(ticket) or bool(ticket.devices))

    def shard(self, shard_id: str) -> ShardAllocation | None:
        """Return a shard's books as they are now."""
        return self._shards.get(shard_id) or self.shards.get(shard_id)

    def shards_of(self, device_class: str) -> list[ShardAllocation]:
        """Return the books of a class's shards that have been seen, in the order of the fleet."""
        names = [each.shard_id for each in self.facility.shards() if each.device_class == device_class]
        return [shard for name in names if (shard := self.shard(name)) is not None]

    def keep(self, ticket: Ticket) -> Ticket:
        """Put a workload's books in place of those before."""
        self._tickets[ticket.workload_id] = ticket
        return ticket

    def tell(
        self,
        ticket: Ticket,
        kind: WorkloadEventType,
        *,
        reason: str = "",
        at_ms: int | None = None,
        queue_position: int | None = None,
    ) -> None:
        """Send an event of a workload."""
        self._outputs.append(
            event_of(
                ticket,
                kind,
                cause=self.cause,
                ordinal=self._told,
                at_ms=self.now_ms if at_ms is None else at_ms,
                reason=reason,
                queue_position=queue_position,
            )
        )
        self._told += 1

    def state_of(self, place: Place) -> tuple[DeviceMode, DeviceState, str] | None:
        """Return mode, state and owner of a device; None when it is not in the books."""
        shard = self.shard(place[0])
        if shard is None or place[1] not in shard.device_indexes:
            return None
        row = shard.device_indexes.index(place[1])
        return shard.modes[row], shard.states[row], shard.owners[row]

    def candidates(self, ticket: Ticket) -> list[Candidate]:
        """Return the devices that a workload could have, best first."""
        device_class = self.fleet.device_class(ticket.device_class)
        assert device_class is not None, "a ticket's class is the fleet's"
        return candidates_of(
            self.shards_of(ticket.device_class),
            device_class=device_class,
            device_count=ticket.device_count,
            holder=ticket.workload_id,
            weights=self.fleet.placement_weights,
            readings=self.readings,
        )

    def own(self, places: Iterable[Place], *, owner: str) -> None:
        """Write who holds these devices; an empty name frees them."""
        for shard_id, indexes in _by_shard(places).items():
            shard = self.shard(shard_id)
            if shard is not None:
                self._shards[shard_id] = with_columns(shard, owners=dict.fromkeys(indexes, owner))

    def switch(self, ticket: Ticket, places: Iterable[Place]) -> None:
        """Send those devices to inference through the switch protocol."""
        for shard_id, indexes in sorted(_by_shard(places).items()):
            shard = self.shard(shard_id)
            assert shard is not None, "a candidate's shard is in the books"
            modes = dict(zip(shard.device_indexes, shard.modes, strict=True))
            after, command = send(
                shard,
                decision_id=ticket.placement_id,
                from_mode=modes[indexes[0]],
                to_mode=DeviceMode.AI_INFERENCE,
                attempt=1,
                device_indexes=indexes,
                epoch_floor=0,
                sent_wall_ms=self.now_ms,
                observed_at_ms=shard.observed_at_ms,
                attempts_max=PLACEMENT_ATTEMPTS_MAX,
            )
            self._shards[shard_id] = after
            self._outputs.append(command)

    def free(self, ticket: Ticket) -> Ticket:
        """Give back what a workload holds; a device that somebody else holds stays his."""
        held = [place for place in ticket.devices if self._owner(place) == ticket.workload_id]
        self.own(held, owner="")
        return self.keep(replace(ticket, devices=()))

    def forget(self, names: Iterable[str]) -> None:
        """Close the books of workloads that ended long ago."""
        self._forgotten = tuple(name for name in names if name not in self._tickets)

    def step(self, before: Step[Books]) -> Step[Books]:
        """Say what came of it: books that changed, and everything to send; each changed shard is reported."""
        known = dict(before.updates)
        changed = [
            shard for name, shard in self._shards.items() if known.get(name) != shard and self.shards.get(name) != shard
        ]
        reports = tuple(report_of(shard) for shard in changed)
        updates: dict[str, Books] = {**known, **self._shards}
        updates |= {name: each for name, each in self._tickets.items() if self.tickets.get(name) != each}
        updates |= dict.fromkeys(self._forgotten)
        outputs = (*self._outputs, *reports)
        is_same = len(outputs) == len(before.outputs)
        return Step(updates=tuple(updates.items()), outputs=outputs, ignored=before.ignored if is_same else None)

    def _owner(self, place: Place) -> str | None:
        state = self.state_of(place)
        return None if state is None else state[2]


def is_over(ticket: Ticket) -> bool:
    """Say whether nothing more is done for a workload."""
    return ticket.status is TicketStatus.OVER


def _by_turn(tickets: Iterable[Ticket]) -> dict[str, Ticket]:
    return {each.workload_id: each for each in sorted(tickets, key=_turn)}


def _turn(ticket: Ticket) -> tuple[int, int, str]:
    return ticket.turn


def _by_shard(places: Iterable[Place]) -> dict[str, tuple[int, ...]]:
    found: dict[str, list[int]] = {}
    for shard_id, index in places:
        found.setdefault(shard_id, []).append(index)
    return {shard_id: tuple(sorted(indexes)) for shard_id, indexes in found.items()}
