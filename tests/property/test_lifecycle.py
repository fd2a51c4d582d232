"""The life of a workload: whatever events come, in whatever order and however often, only legal steps are taken."""

from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from hcp.model.ids import id_from_content
from hcp.model.units import EpochMs
from hcp.model.workloads import WorkloadEvent, WorkloadEventType, WorkloadStatus
from streams.lifecycle import ENDED, TRANSITIONS, Life, Refusal, advance, refuse
from tests.examples import AT, EVENT

RUNS_MAX, SECONDS_MAX = 4, 10_000


def an_event(kind: WorkloadEventType, *, run_number: int = 0, after_ms: int = 0, number: int = 0) -> WorkloadEvent:
    """Make one event."""
    return replace(
        EVENT,
        event_id=id_from_content("life", kind, run_number, number),
        event_type=kind,
        run_number=run_number,
        observed_at_ms=EpochMs(AT + after_ms),
    )


EVENTS = st.lists(
    st.builds(
        an_event,
        st.sampled_from(WorkloadEventType),
        run_number=st.integers(0, RUNS_MAX),
        after_ms=st.integers(0, SECONDS_MAX),
        number=st.integers(0, 3),
    ),
    max_size=40,
)


def lived(events: list[WorkloadEvent]) -> tuple[Life | None, list[Life], int]:
    """Return the life after these events, every life on the way, and how many events were refused."""
    life, lives, refused = None, [], 0
    for event in events:
        after = advance(life, event)
        if isinstance(after, Refusal):
            refused += life is not None
            life = None if life is None else refuse(life)
        else:
            life = after
            lives.append(after)
    return life, lives, refused


@given(EVENTS)
def test_only_legal_steps_are_taken_and_the_rest_is_counted(events: list[WorkloadEvent]) -> None:
    """Each status follows from the one before by the table; every other event adds one to the refused."""
    life, lives, refused = lived(events)
    for before, after in pairwise(lives):
        assert after.status in TRANSITIONS[before.status].values()
        assert after.run_number >= before.run_number
        assert after.changed_at_ms >= before.changed_at_ms
    assert (0 if life is None else life.refused) == refused


@given(EVENTS)
def test_an_end_is_final(events: list[WorkloadEvent]) -> None:
    """No event changes a workload that has completed, failed or been cancelled."""
    _, lives, _ = lived(events)
    ended = [place for place, life in enumerate(lives) if life.status in ENDED]
    assert ended in ([], [len(lives) - 1])
    assert all((life.finished_at_ms is not None) is life.is_over for life in lives)


@given(EVENTS, st.data())
def test_a_duplicate_changes_nothing(events: list[WorkloadEvent], data: st.DataObject) -> None:
    """The same event again, at once, is refused."""
    if not events:
        return
    place = data.draw(st.integers(0, len(events) - 1))
    once, _, _ = lived(events[: place + 1])
    after = None if once is None else advance(once, events[place])
    assert after is None or isinstance(after, Refusal) or after.status is once.status  # type: ignore[union-attr]  # None above


@given(EVENTS)
def test_the_service_clock_never_exceeds_the_time_that_passed(events: list[WorkloadEvent]) -> None:
    """A wait is not negative, an availability lies in 0..1, and running time fits in between."""
    life, _, _ = lived(events)
    if life is None:
        return
    assert life.wait_ms is None or life.wait_ms >= 0
    share = life.availability_ratio(AT + SECONDS_MAX)
    assert share is None or 0.0 <= share <= 1.0
    if life.first_started_at_ms is not None:
        assert life.running_ms <= max(life.changed_at_ms, AT + SECONDS_MAX) - life.first_started_at_ms


def test_a_whole_life_with_a_preemption() -> None:
    """Queued, placed, started, preempted, placed again and completed; both runs count, the gap does not."""
    kinds = WorkloadEventType
    told = [
        an_event(kinds.CREATED),
        an_event(kinds.QUEUED, after_ms=10),
        an_event(kinds.PLACED, run_number=1, after_ms=20),
        an_event(kinds.STARTING, run_number=1, after_ms=30),
        an_event(kinds.STARTED, run_number=1, after_ms=100),
        an_event(kinds.METERED, run_number=1, after_ms=500),
        an_event(kinds.PREEMPTING, run_number=1, after_ms=900),
        an_event(kinds.PREEMPTED, run_number=1, after_ms=1_100),
        an_event(kinds.QUEUED, run_number=1, after_ms=1_100, number=1),
        an_event(kinds.PLACED, run_number=2, after_ms=2_000),
        an_event(kinds.STARTED, run_number=2, after_ms=2_100),
        an_event(kinds.COMPLETED, run_number=2, after_ms=3_100),
    ]
    life, _, refused = lived(told)
    assert life is not None
    assert (life.status, refused, life.preemptions) == (WorkloadStatus.COMPLETED, 0, 1)
    assert (life.wait_ms, life.running_ms) == (100, 2_000)
    assert life.availability_ratio(AT) == 2_000 / 3_000


def test_a_cancellation_that_overtakes_the_creation_wins() -> None:
    """The creation comes too late, and nothing is placed."""
    life, _, refused = lived([an_event(WorkloadEventType.CANCELLED), an_event(WorkloadEventType.CREATED)])
    assert life is not None
    assert (life.status, refused) == (WorkloadStatus.CANCELLED, 1)


def test_what_is_said_of_an_older_run_is_late() -> None:
    """The router's first word of the queue must not undo a placement that has overtaken it."""
    told = [an_event(WorkloadEventType.CREATED), an_event(WorkloadEventType.PLACED, run_number=1)]
    life, _, _ = lived(told)
    assert advance(life, an_event(WorkloadEventType.QUEUED)) is Refusal.LATE
