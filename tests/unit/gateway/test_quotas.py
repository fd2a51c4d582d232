"""What a submission reserves and when it breaks a quota."""

import pytest

from gateway.quotas import Quota, QuotaExceeded, reserved_usd_micros


@pytest.mark.parametrize(
    ("count", "seconds", "price", "reserved"),
    [
        (1, 3_600, 4_000_000, 4_000_000),
        (2, 1, 1, 1),
        (3, 1_800, 3_000_001, 4_500_002),
        (512, 2_592_000, 10**9, 368_640 * 10**9),
    ],
)
def test_a_reservation_is_rounded_up(count: int, seconds: int, price: int, reserved: int) -> None:
    """A fraction of a micro-dollar is reserved as a whole one: no run costs more than it has reserved."""
    assert (
        reserved_usd_micros(device_count=count, run_seconds_max=seconds, price_usd_micros_per_device_hour=price)
        == reserved
    )


@pytest.mark.parametrize(
    ("devices", "spend", "word"),
    [(2, 50, None), (3, 50, "devices at once"), (2, 51, "spend a day"), (3, 51, "devices")],
)
def test_a_quota_holds_up_to_its_bound(devices: int, spend: int, word: str | None) -> None:
    """The bound itself fits; one more of either does not, and the answer says which."""
    quota = Quota(devices_max=5, devices=3, spend_usd_micros_max=100, spend_usd_micros=50)
    refused = quota.refuses(device_count=devices, reserved_usd_micros=spend)
    assert (refused is None) == (word is None)
    if isinstance(refused, QuotaExceeded):
        assert str(word) in refused.reason
