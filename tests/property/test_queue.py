"""The queue of a site: nobody starves, nobody holds what another holds, and a gang is never given in part."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from hcp.model.units import MS_PER_SECOND
from hcp.model.workloads import WorkloadType
from streams.service_levels import SERVICE_LEVELS, ServiceClass
from streams.tickets import PRIORITY_STEP_MS, TicketStatus
from tests.unit.streams.placing import DEVICES, Premises, a_request, a_site, workload
from tests.unit.streams.world import START_MS

HEAD_START_MS_MAX = SERVICE_LEVELS[ServiceClass.P1].head_start_ms + 10 * PRIORITY_STEP_MS
ROUND_MS = 30 * MS_PER_SECOND
ROUNDS_MAX = 200


@given(
    priority=st.integers(1, 8),
    device_count=st.integers(1, DEVICES),
    rivals=st.sampled_from((WorkloadType.INFERENCE_REAL_TIME, WorkloadType.INFERENCE_INTERACTIVE)),
)
@settings(max_examples=15)
def test_nobody_starves_however_many_more_urgent_ones_keep_coming(
    priority: int, device_count: int, rivals: WorkloadType
) -> None:
    """Batch work is placed no later than the head start after it came, while urgent work fills every device anew."""
    site = a_site()
    site.ask(a_request("rival-0", device_count=DEVICES, workload_type=rivals, priority=10))
    site.ask(a_request("batch", device_count=device_count, priority=priority))
    for number in range(1, ROUNDS_MAX):
        site.now_ms += ROUND_MS
        site.ask(
            a_request(f"rival-{number}", device_count=DEVICES, workload_type=rivals, priority=10, at_ms=site.now_ms)
        )
        site.release(f"rival-{number - 1}")
        if site.tickets[workload("batch")].status is TicketStatus.RUNNING:
            break
    waited_ms = site.now_ms - START_MS
    assert "started" in site.kinds("batch")
    # The last one ahead came within the head start, then waits one round and runs one; rounds are whole.
    assert waited_ms <= HEAD_START_MS_MAX + 3 * ROUND_MS


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("ask"),
            st.integers(0, 30),
            st.integers(1, DEVICES),
            st.sampled_from(WorkloadType),
            st.integers(1, 10),
        ),
        st.tuples(st.just("release"), st.integers(0, 30)),
        st.tuples(st.just("wait"), st.integers(1, 300)),
    ),
    max_size=40,
)


def _consistent(site: Premises) -> None:
    held = Counter(owner for owner in site.owners() if owner)
    wanted = {
        name: ticket.device_count
        for name, ticket in site.tickets.items()
        if ticket.status in {TicketStatus.RUNNING, TicketStatus.STARTING}
    }
    assert held == wanted
    claimed = [place for name in wanted for place in site.tickets[name].devices]
    assert len(set(claimed)) == len(claimed)


@given(STEPS)
def test_books_agree_after_every_event(steps: list[tuple[object, ...]]) -> None:
    """Whoever runs holds all its devices, whoever does not holds none, and no device has two holders."""
    site = a_site()
    for step in steps:
        match step:
            case ("ask", int() as number, int() as count, WorkloadType() as kind, int() as priority):
                request = a_request(
                    f"w-{number}", device_count=count, workload_type=kind, priority=priority, at_ms=site.now_ms
                )
                site.ask(request)
            case ("release", int() as number):
                site.release(f"w-{number}")
            case ("wait", int() as wait_s):
                site.wait(wait_s * MS_PER_SECOND)
        _consistent(site)
