"""The Resource Manager's placement: workloads wait in turn, get all their devices at once, and keep them or move on.

`on_request` opens and closes a workload's books; `attend`, after every event of the site, does for all workloads what
has become possible or due. Both are pure; an event done twice gives the same commands and events.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Final

from hcp.model.devices import DeviceMode, DeviceState
from hcp.model.facilities import Facility, Fleet
from hcp.model.rejections import Rejected, RejectReason
from hcp.model.steps import Cause, Step
from hcp.model.units import MS_PER_MINUTE, MS_PER_SECOND
from hcp.model.workloads import AllocationAction, AllocationRequest, WorkloadEventType
from streams.candidates import Candidate, Readings, explain
from streams.desk import Books, Desk, is_over
from streams.rejecting import known_facility
from streams.shards import ShardAllocation
from streams.tickets import Place, Ticket, TicketStatus, ticket_of

TRIES_MAX: Final = 5
"""Placements that may fail one after the other before a workload is given up."""
PATIENCE_MS: Final = MS_PER_MINUTE
"""How long the first in a queue lets others by that fit where it does not; then devices are kept for it."""
LET_BY_MAX: Final = 32
"""Workloads of a queue that are looked at beyond the first, in one step."""
FORGET_MS: Final = 60 * MS_PER_MINUTE
"""How long a workload that has ended is remembered, to tell a request delivered again."""
FORGOTTEN_MAX: Final = 16
"""Workloads forgotten in one step."""
POSITIONS_TOLD_MAX: Final = 16
"""Places of a queue whose changes are told; further back only the first word is."""
_LOST: Final = frozenset({DeviceState.QUARANTINED, DeviceState.UNREACHABLE, DeviceState.PAUSED, DeviceState.LOCKED_OUT})

Shards = Mapping[str, ShardAllocation]
Tickets = Mapping[str, Ticket]


def on_request(tickets: Tickets, request: AllocationRequest, *, fleet: Fleet, cause: Cause) -> Step[Books] | Rejected:
    """Open a workload's books, or close them; what is then done for it is `attend`'s."""
    facility = known_facility(fleet, request.facility_id)
    if isinstance(facility, Rejected):
        return facility
    if request.device_class not in facility.device_classes():
        return Rejected(
            reason=RejectReason.UNKNOWN_DEVICE_CLASS,
            detail=f"device_class must be one of {request.facility_id}, was {request.device_class}",
        )
    ticket = tickets.get(request.workload_id)
    if request.action is AllocationAction.RELEASE:
        if ticket is not None and is_over(ticket):
            return Step(ignored="duplicate")
        ticket = ticket or ticket_of(request, now_ms=cause.timestamp_ms)  # a request that comes later finds it closed
        closed = replace(ticket, status=TicketStatus.OVER, over_at_ms=cause.timestamp_ms)
        return Step(updates=((ticket.workload_id, closed),))
    if ticket is not None:
        return Step(ignored="duplicate")
    return Step(updates=((request.workload_id, ticket_of(request, now_ms=cause.timestamp_ms)),))


def attend(
    step: Step[Books],
    shards: Shards,
    tickets: Tickets,
    *,
    facility: Facility,
    fleet: Fleet,
    cause: Cause,
    readings: Readings,
) -> Step[Books]:
    """Do for a site's workloads what the event made possible or due.

    Runs that have ended give back; starts that have succeeded are told; devices that were lost are replaced; whoever
    waits gets devices, in turn.
    """
    desk = Desk(facility=facility, fleet=fleet, cause=cause, readings=readings, shards=shards, tickets=tickets)
    desk.begin_with(step)
    desk.forget(islice(_forgettable(tickets, now_ms=cause.timestamp_ms), FORGOTTEN_MAX))
    alive = [ticket for ticket in desk.all_tickets() if not is_over(ticket) or ticket.devices]
    for ticket in alive:
        if is_over(ticket):
            desk.free(ticket)
        elif ticket.status is TicketStatus.STARTING:
            _look_at_start(desk, ticket)
        elif ticket.status is TicketStatus.RUNNING:
            _look_at_run(desk, ticket)
        else:
            _look_at_wait(desk, ticket)
    for device_class in sorted({ticket.device_class for ticket in alive}):
        _serve(desk, device_class)
    return desk.step(step)


def _look_at_start(desk: Desk, ticket: Ticket) -> None:
    """Say that it runs once all its devices do; when one did not get there, let it take the next best."""
    bad: Place | None = None
    for place in ticket.devices:
        found = desk.state_of(place)
        if found is not None and found[1] is DeviceState.SWITCHING:
            return
        if found is None or found[0] is not DeviceMode.AI_INFERENCE or found[1] is not DeviceState.ACTIVE:
            bad = bad or place
    if bad is None:
        _start(desk, ticket)
        return
    what = f"{bad[0]}/{bad[1]:03d} did not start"
    again = desk.free(replace(ticket, tries=ticket.tries + 1))
    if again.tries >= TRIES_MAX:
        _end(desk, again, WorkloadEventType.FAILED, reason=f"{what}, the last of {TRIES_MAX} tries")
        return
    _wait_again(desk, again, reason=f"{what}; the next best is tried")


def _look_at_run(desk: Desk, ticket: Ticket) -> None:
    """End a run whose time is up or whose device is lost; else tell of it now and then."""
    ends_at_ms = ticket.ends_at_ms()
    if ends_at_ms is not None and desk.now_ms >= ends_at_ms:
        done = desk.free(replace(ticket, ran_ms=ticket.ran_ms + ends_at_ms - ticket.started_at_ms))
        _end(desk, done, WorkloadEventType.COMPLETED, reason="its time is up", at_ms=ends_at_ms)
        return
    for place in ticket.devices:
        found = desk.state_of(place)
        if found is None or found[1] in _LOST or found[2] not in {"", ticket.workload_id}:
            _take(desk, ticket, reason=f"{place[0]}/{place[1]:03d} was lost")
            return
        if found[0] is not DeviceMode.AI_INFERENCE and found[1] is DeviceState.ACTIVE:
            _take(desk, ticket, reason=f"{place[0]}/{place[1]:03d} does not serve any more")
            return
        if not found[2]:  # a crash lost the owner's name, not the run
            desk.own((place,), owner=ticket.workload_id)
    if desk.now_ms - ticket.metered_at_ms >= desk.fleet.meter_ms:
        desk.tell(desk.keep(replace(ticket, metered_at_ms=desk.now_ms)), WorkloadEventType.METERED)


def _look_at_wait(desk: Desk, ticket: Ticket) -> None:
    """Give up what no device of the site can serve, and what has waited too long."""
    device_count = sum(
        shard.device_count for shard in desk.facility.shards() if shard.device_class == ticket.device_class
    )
    if ticket.device_count > device_count:
        reason = f"device_count must be at most {device_count} at {ticket.facility_id}, was {ticket.device_count}"
        _end(desk, ticket, WorkloadEventType.FAILED, reason=reason)
    elif desk.now_ms - ticket.waiting_since_ms >= ticket.level.wait_ms_max:
        waited = ticket.level.wait_ms_max // MS_PER_SECOND
        _end(desk, ticket, WorkloadEventType.FAILED, reason=f"no devices became free in {waited} s")


def _serve(desk: Desk, device_class: str) -> None:
    """Place who waits, in turn. Others may go by the first while it is patient, and take nothing away from it then."""
    waiting = [
        ticket
        for ticket in desk.all_tickets()
        if ticket.status is TicketStatus.WAITING and ticket.device_class == device_class
    ]
    left: list[Ticket] = []
    for seen, ticket in enumerate(waiting):
        is_first = not left
        if not is_first and (seen > LET_BY_MAX or desk.now_ms - left[0].waiting_since_ms > PATIENCE_MS):
            left.extend(waiting[seen:])
            break
        if not _place(desk, ticket, may_preempt=is_first):
            left.append(ticket)
    # Whom somebody more urgent has just stopped waits as well.
    left += [
        ticket
        for ticket in desk.all_tickets()
        if ticket.status is TicketStatus.WAITING and ticket.device_class == device_class and ticket not in waiting
    ]
    for position, ticket in enumerate(sorted(left, key=lambda each: each.turn), start=1):
        is_new = ticket.told_position == 0
        if ticket.told_position != position and (is_new or position <= POSITIONS_TOLD_MAX):
            desk.keep(replace(ticket, told_position=position))
            desk.tell(ticket, WorkloadEventType.QUEUED, reason="waits for devices", queue_position=position)


def _place(desk: Desk, ticket: Ticket, *, may_preempt: bool) -> bool:
    """Give a workload all its devices; False when it cannot have them."""
    found = desk.candidates(ticket)
    if len(found) < ticket.device_count and may_preempt:
        victims = _victims(desk, ticket, wanted=ticket.device_count - len(found))
        for victim in victims:
            desk.tell(victim, WorkloadEventType.PREEMPTING, reason=f"for {ticket.workload_id}")
            _take(desk, replace(victim, preemptions=victim.preemptions + 1), reason=f"for {ticket.workload_id}")
        found = desk.candidates(ticket) if victims else found
    if len(found) < ticket.device_count:
        return False
    chosen = found[: ticket.device_count]
    placed = desk.keep(
        replace(
            ticket,
            status=TicketStatus.STARTING,
            run_number=ticket.run_number + 1,
            devices=tuple(sorted(each.place for each in chosen)),
            told_position=0,
        )
    )
    desk.own(placed.devices, owner=placed.workload_id)
    desk.tell(placed, WorkloadEventType.PLACED, reason=explain(chosen, weights=desk.fleet.placement_weights))
    _begin(desk, placed, chosen)
    return True


def _begin(desk: Desk, ticket: Ticket, chosen: list[Candidate]) -> None:
    """Start at once on warm devices; the others are switched first."""
    cold = [each.place for each in chosen if not each.is_warm]
    desk.tell(ticket, WorkloadEventType.STARTING, reason=f"{len(cold)} of {len(chosen)} devices are to be switched")
    if cold:
        desk.switch(ticket, cold)
    else:
        _start(desk, ticket)


def _start(desk: Desk, ticket: Ticket) -> None:
    now_ms = desk.now_ms
    running = replace(
        ticket, status=TicketStatus.RUNNING, started_at_ms=now_ms, metered_at_ms=now_ms, tries=0, told_position=0
    )
    desk.tell(desk.keep(running), WorkloadEventType.STARTED)


def _victims(desk: Desk, ticket: Ticket, *, wanted: int) -> tuple[Ticket, ...]:
    """Return whose devices a workload may take: of lower classes, least urgent and least lost work first; or none.

    Nobody is stopped in vain: without enough devices nobody is, and whoever is not needed in the end goes on.
    """
    may = [
        other
        for other in desk.all_tickets()
        if other.status is TicketStatus.RUNNING
        and other.device_class == ticket.device_class
        and other.is_preemptible
        and other.level.rank > ticket.level.rank
        and other.preemptions < other.level.preemptions_max
    ]
    may.sort(key=lambda other: (-other.level.rank, other.lost_work_ms(desk.now_ms), other.workload_id))
    chosen: list[Ticket] = []
    freed = 0
    for other in may:
        if freed >= wanted:
            break
        chosen.append(other)
        freed += len(other.devices)
    if freed < wanted:
        return ()
    for other in reversed(chosen[:-1]):
        if freed - len(other.devices) >= wanted:
            chosen.remove(other)
            freed -= len(other.devices)
    return tuple(chosen)


def _take(desk: Desk, ticket: Ticket, *, reason: str) -> None:
    """End a run that is not over: the workload waits again, at the turn it always had."""
    ran_ms = ticket.ran_ms + max(desk.now_ms - ticket.started_at_ms, 0)
    stopped = desk.free(replace(ticket, ran_ms=ran_ms, started_at_ms=0))
    desk.tell(stopped, WorkloadEventType.PREEMPTED, reason=reason)
    _wait_again(desk, stopped, reason=None)


def _wait_again(desk: Desk, ticket: Ticket, *, reason: str | None) -> None:
    waits = replace(ticket, status=TicketStatus.WAITING, waiting_since_ms=desk.now_ms, told_position=0)
    desk.keep(waits)
    if reason is not None:
        desk.tell(waits, WorkloadEventType.QUEUED, reason=reason)


def _end(desk: Desk, ticket: Ticket, kind: WorkloadEventType, *, reason: str, at_ms: int | None = None) -> None:
    over = replace(ticket, status=TicketStatus.OVER, over_at_ms=desk.now_ms)
    desk.tell(desk.keep(over), kind, reason=reason, at_ms=at_ms)


def _forgettable(tickets: Tickets, *, now_ms: int) -> Iterator[str]:
    """Yield the workloads that ended so long ago that no request for them will come again."""
    for name, ticket in tickets.items():
        if is_over(ticket) and not ticket.devices and now_ms - ticket.over_at_ms > FORGET_MS:
            yield name
