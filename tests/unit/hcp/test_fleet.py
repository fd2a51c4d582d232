"""fleet.toml: the shipped fleets load, and each mistake is named."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from hcp.errors import FleetError
from hcp.fleet import fleet_from_table, load_fleet

ROOT = Path(__file__).parents[3]


def test_the_default_fleet_is_the_designs() -> None:
    """39,152 devices at three sites, in shards of at most 512."""
    fleet = load_fleet(ROOT / "fleet.toml")
    assert fleet.device_count == 39_152
    assert [site.facility_id for site in fleet.facilities] == ["tx-north", "tx-south", "nd-fargo"]
    shards = list(fleet.shards())
    assert sum(shard.device_count for shard in shards) == fleet.device_count
    assert max(shard.device_count for shard in shards) == 512
    assert len({shard.shard_id for shard in shards}) == len(shards)


def test_the_demo_fleet_is_small() -> None:
    """A few dozen devices for a laptop."""
    assert 20 <= load_fleet(ROOT / "fleet.demo.toml").device_count <= 99


WINDOW = {"months": [6], "start_hour": 15.0, "end_hour": 18.0, "utc_offset_hours": -5.0, "adder_usd_per_kwh": 0.25}
MISTAKES: list[tuple[tuple[str, ...], Any, str]] = [
    (("facilities", "tx-north", "pue"), 0.9, "pue must be 1 or more, was 0.9"),
    (("facilities", "tx-north", "uptime_ratio"), 99, "uptime_ratio must be from 0 to 1, was 99"),
    (("facilities", "tx-north", "clusters", "asic-1", "device_class"), "s99", "device_class must be one of"),
    (("facilities", "tx-north", "clusters", "asic-1", "device_count"), 0, "device_count must be above 0, was 0"),
    (("facilities", "tx-north", "clusters", "asic-1", "initial_mode"), "idle", "initial_mode must be one of"),
    (("device_classes", "s21", "modes", "mining", "enter_ms"), 0, "enter_ms must be above 0, was 0"),
    (("device_classes", "s21", "modes", "mining", "enter_wear_usd"), 0.0, "entering must cost above 0 USD"),
    (("device_classes", "s21", "kind"), "fpga", "fpga"),
    (("facilities", "tx-north", "colour"), "red", "colour"),
    (("facilities", "tx-north", "constraints"), {"switches_per_hour": 61}, "must be from 1 to 60, was 61"),
    (("facilities", "tx-north", "constraints"), {"loss_floor_usd_per_mwh": 0.0}, "must be above 0, was 0.0"),
    (("facilities", "tx-north", "constraints"), {"wear_budget_usd_per_device_day": -1.0}, "must be above 0, was -1.0"),
    (("facilities", "tx-north", "constraints"), {"safe_state_after_minutes": 0}, "must be above 0, was 0"),
    (("facilities", "tx-north", "demand_windows"), [WINDOW | {"months": []}], "months must be from 1 to 12, was []"),
    (("facilities", "tx-north", "demand_windows"), [WINDOW | {"end_hour": 3}], "in order, was 15.0 and 3"),
    (("facilities", "tx-north", "demand_windows"), [WINDOW | {"utc_offset_hours": -20}], "from -14 to 14, was -20"),
    (("facilities", "tx-north", "demand_windows"), [WINDOW | {"adder_usd_per_kwh": 0}], "must be above 0, was 0"),
]


@pytest.mark.parametrize(("path", "value", "words"), MISTAKES, ids=lambda part: str(part)[:40])
def test_each_mistake_is_named(path: tuple[str, ...], value: object, words: str) -> None:
    """A wrong fleet file is refused with the key, what must be and what was."""
    table = tomllib.loads((ROOT / "fleet.demo.toml").read_text(encoding="utf-8"))
    place = table
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(FleetError) as caught:
        fleet_from_table(table, origin="fleet.toml")
    assert words in str(caught.value)


def test_constraints_and_demand_windows_are_read() -> None:
    """What the example in fleet.toml shows is what the site gets."""
    text = (ROOT / "fleet.toml").read_text(encoding="utf-8")
    lines = text.replace("# constraints =", "constraints =").replace("# demand_windows =", "demand_windows =")
    site = fleet_from_table(tomllib.loads(lines), origin="fleet.toml").facility("tx-north")
    assert site is not None
    assert site.constraints.switches_per_hour == 4
    assert site.constraints.safe_state_after_ms == 6 * 3_600_000
    (window,) = site.demand_windows
    assert (window.months, window.start_hour, window.adder_usd_per_kwh) == ((6, 7, 8, 9), 15.0, 0.25)


def test_placement_weights_are_read_and_add_up_to_a_hundred() -> None:
    """A score of 0 to 100 is one only then; what is left out keeps its default."""
    table = tomllib.loads((ROOT / "fleet.demo.toml").read_text(encoding="utf-8"))
    weights = {"placement_weights": {"switching": 30.0, "temperature": 30.0}}
    fleet = fleet_from_table({**table, **weights}, origin="test")
    assert (fleet.placement_weights.switching, fleet.placement_weights.health) == (30.0, 20.0)
    with pytest.raises(FleetError, match="must add up to 100, was 160"):
        fleet_from_table({**table, "placement_weights": {"switching": 100.0}}, origin="test")


def test_how_often_a_run_is_metered_is_read() -> None:
    """A minute without it, and never less than a second."""
    table = tomllib.loads((ROOT / "fleet.toml").read_text(encoding="utf-8"))
    assert fleet_from_table(table, origin="test").meter_ms == 60_000
    assert fleet_from_table({**table, "meter_seconds": 5}, origin="test").meter_ms == 5_000
    with pytest.raises(FleetError, match="meter_seconds must be above 0, was 0"):
        fleet_from_table({**table, "meter_seconds": 0}, origin="test")


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    """No fleet file: the error names the path."""
    with pytest.raises(FleetError, match="fleet file must be readable"):
        load_fleet(tmp_path / "none.toml")
