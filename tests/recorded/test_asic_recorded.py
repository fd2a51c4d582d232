"""What the drivers read of recorded answers of real miners, device by device, and what they do not.

Each folder of recordings is served as its miner would (what a library asks first and was not recorded is the
simulator's), and read through the very client that a controller uses. `-s` prints the table.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

import pytest
from pyasic_rs import MinerFactory

from controllers.drivers.asic.client import AsicReading, AsicUnknownError, Told, Want
from controllers.drivers.asic.connect import connect
from controllers.drivers.asic.told import BRAIINS, LUXOS, STOCK, WHATSMINER
from hcp.settings import load_settings
from tests.asic_replay import Recording, replayed

pytestmark = pytest.mark.recorded
CONNECT_MS: Final = 10_000
READ_MS: Final = 6_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is to be read of a device.

    Attributes:
        firmware: As the library names it.
        model: As the library names it; for Braiins and Whatsminer it was not recorded.
        power_watts: None where the recording has none that the library reads.
        hash_rate_th_per_s: By the recording, to the digits given.
        chip_celsius: Hottest sensor that the library reads.
        fan_rpm: Mean of the fans.
        shares: Accepted and rejected.
        not_read: Fields of a reading that stay empty.
        told: What it was told; Braiins before 25.07 says so over gRPC alone, which is the simulator's here.
    """

    firmware: str
    model: str | None = None
    power_watts: float | None
    hash_rate_th_per_s: float
    chip_celsius: float | None
    fan_rpm: float
    shares: tuple[int, int]
    not_read: frozenset[str]
    told: Told | None = Told.MINE


def lacks(*names: str) -> frozenset[str]:
    """Return names of fields."""
    return frozenset(names)


DRIVEN: Final = {
    "antminer_stock_s21": Known(
        firmware=STOCK,
        model="S21",
        power_watts=3_250.0,
        hash_rate_th_per_s=203.007,
        chip_celsius=None,
        fan_rpm=5_490.0,
        shares=(11_187, 9),
        not_read=lacks("chip_temperature_celsius", "limit_watts"),
    ),
    "antminer_stock_s19pro_s21": Known(
        firmware=STOCK,
        model="S21",
        power_watts=None,
        hash_rate_th_per_s=110.567,
        chip_celsius=61.75,
        fan_rpm=5_490.0,
        shares=(4_057, 11),
        not_read=lacks("told", "power_watts", "limit_watts"),
        told=None,
    ),
    "luxos_s19kpro": Known(
        firmware=LUXOS,
        model="S19KPro",
        power_watts=1_051.0,
        hash_rate_th_per_s=59.756,
        chip_celsius=47.0,
        fan_rpm=2_130.0,
        shares=(1_483, 1),
        not_read=lacks(),
    ),
    "whatsminer_api_v1": Known(
        firmware=WHATSMINER,
        power_watts=3_417.0,
        hash_rate_th_per_s=67.395,
        chip_celsius=92.5,
        fan_rpm=6_465.0,
        shares=(2_338, 0),
        not_read=lacks(),
    ),
    "whatsminer_api_v2": Known(
        firmware=WHATSMINER,
        power_watts=3_200.0,
        hash_rate_th_per_s=124.5,
        chip_celsius=81.0,
        fan_rpm=5_340.0,
        shares=(5_412, 0),
        not_read=lacks(),
    ),
    "braiins_21_09": Known(
        firmware=BRAIINS,
        power_watts=735.0,
        hash_rate_th_per_s=7.16,
        chip_celsius=89.25,
        fan_rpm=2_415.0,
        shares=(49, 0),
        not_read=lacks(),
    ),
    "braiins_24_09": Known(
        firmware=BRAIINS,
        power_watts=3_572.0,
        hash_rate_th_per_s=230.701,
        chip_celsius=71.4375,
        fan_rpm=6_376.5,
        shares=(111_406, 239),
        not_read=lacks(),
    ),
    "braiins_25_03": Known(
        firmware=BRAIINS,
        power_watts=4_448.0,
        hash_rate_th_per_s=251.235,
        chip_celsius=75.0,
        fan_rpm=6_298.0,
        shares=(10_781, 24),
        not_read=lacks(),
    ),
    "braiins_25_05": Known(
        firmware=BRAIINS,
        power_watts=3_698.0,
        hash_rate_th_per_s=205.75,
        chip_celsius=54.5,
        fan_rpm=6_301.0,
        shares=(92_899, 164),
        not_read=lacks(),
    ),
    "braiins_25_07_s19xp": Known(
        firmware=BRAIINS,
        power_watts=3_137.0,
        hash_rate_th_per_s=141.464,
        chip_celsius=70.5,
        fan_rpm=5_889.0,
        shares=(10_464, 18),
        not_read=lacks(),
    ),
    "braiins_25_11_s19xp": Known(
        firmware=BRAIINS,
        power_watts=2_472.0,
        hash_rate_th_per_s=121.015,
        chip_celsius=71.5,
        fan_rpm=5_879.0,
        shares=(5_048, 10),
        not_read=lacks(),
    ),
}
NOT_DRIVEN: Final = ("avalon_a", "bitaxe", "epic_s19xp", "proto_rig", "pyasic_mskminers19nopic")
"""Firmware outside the families that controllers drive: refused in words, with nothing sent but questions."""


def folder_of(name: str) -> Path:
    """Return a folder of recordings; without it the test fails, never skips."""
    data_dir = load_settings().data_dir
    if data_dir is None or not (data_dir / "asic" / name).is_dir():
        pytest.fail(f"HCP_DATA_DIR must hold asic/{name}, was {data_dir}", pytrace=False)
    return data_dir / "asic" / name


def empty_fields(reading: AsicReading) -> frozenset[str]:
    """Return what was not read."""
    return frozenset(field.name for field in fields(reading) if getattr(reading, field.name) is None)


def show(name: str, reading: AsicReading, recording: Recording) -> None:
    """Print a device's line of the exam."""
    read = ", ".join(
        f"{field.name}={getattr(reading, field.name)}" for field in fields(reading) if field.name != "pools"
    )
    unused = ", ".join(sorted(set(recording.files) - recording.asked)) or "nothing"
    print(f"\n{name}: {read}\n  answers nobody asked for: {unused}; asked for in vain: {sorted(recording.lacked)}")  # noqa: T201


@pytest.mark.parametrize("name", DRIVEN)
async def test_recorded_miner_is_read(name: str) -> None:
    """Every value is the recording's own, and what is empty is known to be."""
    known = DRIVEN[name]
    recording = Recording(folder_of(name))
    async with replayed(recording) as host:
        client = await connect(host, factory=MinerFactory(), credentials=None, deadline_ms=CONNECT_MS)
        assert client.firmware == known.firmware
        if known.model is not None:
            assert client.model == known.model
        reading = await client.read(Want.TELEMETRY, deadline_ms=READ_MS)
    show(name, reading, recording)
    assert reading.told is known.told
    assert reading.power_watts == known.power_watts
    assert reading.hash_rate_th_per_s == pytest.approx(known.hash_rate_th_per_s, abs=0.001)
    assert reading.chip_temperature_celsius == known.chip_celsius
    assert reading.fan_speed_rpm == known.fan_rpm
    assert (reading.accepted, reading.rejected) == known.shares
    assert empty_fields(reading) == known.not_read


@pytest.mark.parametrize("name", NOT_DRIVEN)
async def test_firmware_that_is_not_driven_is_named(name: str) -> None:
    """An answer that no library knows is told apart from none at all."""
    async with replayed(Recording(folder_of(name))) as host:
        with pytest.raises(AsicUnknownError, match="must be a miner that pyasic_rs knows"):
            await connect(host, factory=MinerFactory(), credentials=None, deadline_ms=CONNECT_MS)


def test_every_recording_is_examined() -> None:
    """A folder that is added is no secret."""
    folders = {path.name for path in folder_of("luxos_s19kpro").parent.iterdir() if path.is_dir()}
    assert folders == {*DRIVEN, *NOT_DRIVEN}
