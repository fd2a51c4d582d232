"""Where a workload would run, answered before it is submitted: as the router would choose."""

import pytest

from gateway.records import Requirements, RouteAnswer, Submission
from gateway.routing import WARM_START_MS, route_of
from gateway.view import Capacity
from hcp.model.devices import DeviceMode
from hcp.model.workloads import WorkloadType
from tests.unit.streams.world import DEMO_FLEET

NORTH, SOUTH = ("tx-north", "h100"), ("tx-south", "h100")
PRICES = {NORTH: 3_000_000, SOUTH: 2_000_000}


def answer(
    capacity: dict[tuple[str, str], Capacity],
    *,
    kind: WorkloadType = WorkloadType.INFERENCE_REAL_TIME,
    count: int = 1,
    price_max: int = 4_000_000,
    device_class: str = "h100",
) -> RouteAnswer:
    """Ask for H100s."""
    wants = Requirements(device_class=device_class, device_count=count, price_usd_micros_per_device_hour_max=price_max)
    submission = Submission(workload_type=kind, requirements=wants)
    return route_of(submission, fleet=DEMO_FLEET, capacity=capacity, prices=PRICES, as_of_ms=7)


@pytest.mark.parametrize(
    ("kind", "site"), [(WorkloadType.INFERENCE_REAL_TIME, "tx-north"), (WorkloadType.BATCH, "tx-south")]
)
def test_urgent_work_goes_where_it_starts_first_and_batch_where_it_is_cheapest(kind: WorkloadType, site: str) -> None:
    """The north is warm and dear, the south cold and cheap."""
    found = answer({NORTH: Capacity(warm=1, free=1), SOUTH: Capacity(warm=0, free=8)}, kind=kind)
    assert (found.is_possible, found.facility_id) == (True, site)


def test_a_start_takes_as_long_as_the_switch_before_it() -> None:
    """Warm devices are aimed at in a fraction of a second; others enter inference first."""
    h100 = DEMO_FLEET.device_class("h100")
    assert h100 is not None
    enter_ms = h100.profile(DeviceMode.AI_INFERENCE).enter_ms
    warm = answer({NORTH: Capacity(warm=2, free=2)}, count=2)
    cold = answer({NORTH: Capacity(warm=1, free=2)}, count=2)
    assert (warm.start_ms, cold.start_ms) == (WARM_START_MS, WARM_START_MS + enter_ms)


def test_where_all_is_busy_it_waits_and_nobody_says_how_long() -> None:
    """The router would queue it there, so that it is possible."""
    found = answer({NORTH: Capacity(warm=1, free=1)}, count=2)
    assert (found.is_possible, found.facility_id, found.start_ms) == (True, "tx-south", None)
    assert "it would wait for devices" in found.reasons


def test_what_no_site_takes_is_said_site_by_site() -> None:
    """Too dear everywhere; or no device of that class does inference."""
    dear = answer({NORTH: Capacity(warm=1, free=1)}, price_max=1_000_000)
    assert (dear.is_possible, dear.facility_id, dear.start_ms) == (False, None, None)
    assert [reason.split(":")[0] for reason in dear.reasons] == ["tx-north", "tx-south"]
    assert answer({}, device_class="s21").reasons == ["device_class must be a GPU class of the fleet, was s21"]
