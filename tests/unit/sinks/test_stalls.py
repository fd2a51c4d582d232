"""A partition that stands still before its end is told once; one that moves, is at its end, or was tried is not."""

from hcp.kafka.consumer import Partition
from sinks.stalls import StallWatch

A: Partition = ("a", 0)
B: Partition = ("b", 3)


def test_standing_still_is_told_at_the_second_look() -> None:
    """The first look only says where it is; a partition of which nothing is stored counts from its start."""
    watch = StallWatch()
    assert watch.look({A: 5}, {A: 9, B: 2}) == ()
    assert watch.look({A: 5}, {A: 9, B: 2}) == (A, B)


def test_what_moves_or_has_nothing_more_is_no_stall() -> None:
    """Slow is not still; the end is the end; another member's partition is nobody's here."""
    watch = StallWatch()
    assert watch.look({A: 5, B: 2}, {A: 9, B: 2}) == ()
    assert watch.look({A: 6, B: 2}, {A: 9, B: 2}) == ()
    assert watch.look({A: 6, B: 2}, {B: 2}) == ()
    assert watch.look({A: 6, B: 2}, {A: 9, B: 3}) == ()


def test_what_stays_after_it_was_read_anew_is_left_alone_until_it_moves() -> None:
    """A transaction's marker has an offset and no record."""
    watch = StallWatch()
    looks = [watch.look({A: 5}, {A: 6}) for _ in range(4)]
    assert looks == [(), (A,), (), ()]
    assert watch.look({A: 5}, {A: 7}) == (A,)
    assert watch.look({A: 7}, {A: 8}) == ()
    assert watch.look({A: 7}, {A: 8}) == (A,)
