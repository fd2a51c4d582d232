"""The rate limit's arithmetic: never more than the burst and what has been earned since."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.limits import Allowance, allowance_of, gcra

US_PER_S = 1_000_000


@given(
    rate_per_s=st.floats(min_value=0.1, max_value=1_000.0),
    burst=st.integers(min_value=1, max_value=50),
    gaps_us=st.lists(st.integers(min_value=0, max_value=3 * US_PER_S), min_size=1, max_size=200),
)
def test_no_span_of_time_grants_more_than_burst_and_rate(rate_per_s: float, burst: int, gaps_us: list[int]) -> None:
    """Whatever the calls' times: grants within any span are at most the burst and what the span earns."""
    allowance = Allowance(rate_per_s=rate_per_s, burst=burst)
    arrival_us, now_us, granted_us = 0, 0, []
    for gap_us in gaps_us:
        now_us += gap_us
        arrival_us, granted = gcra(arrival_us=arrival_us, now_us=now_us, allowance=allowance)
        if granted.is_allowed:
            granted_us.append(now_us)
        assert (granted.retry_after_s > 0.0) is not granted.is_allowed
    for first, begin_us in enumerate(granted_us):
        for last in range(first, len(granted_us)):
            earned = (granted_us[last] - begin_us) / US_PER_S * rate_per_s
            rounding = len(gaps_us) * rate_per_s / US_PER_S
            assert last - first + 1 <= burst + earned + rounding + 1e-6


def test_a_refused_call_is_allowed_after_the_wait_it_was_told() -> None:
    """`Retry-After` is no guess."""
    allowance = allowance_of(2.0)
    arrival_us = 0
    for _ in range(allowance.burst):
        arrival_us, granted = gcra(arrival_us=arrival_us, now_us=1, allowance=allowance)
        assert granted.is_allowed
    _, refused = gcra(arrival_us=arrival_us, now_us=1, allowance=allowance)
    later_us = 1 + round(refused.retry_after_s * US_PER_S)
    _, granted = gcra(arrival_us=arrival_us, now_us=later_us, allowance=allowance)
    assert (refused.is_allowed, granted.is_allowed) == (False, True)
    assert refused.headers() == {
        "ratelimit-limit": "4",
        "ratelimit-remaining": "0",
        "ratelimit-reset": "2",
        "retry-after": "1",
    }
