"""hardware.toml: what a controller drives for real, what it simulates, and every way to word it wrongly."""

import math
from pathlib import Path

import pytest

from controllers.drivers.asic.client import Credentials
from controllers.drivers.vllm import Canary
from controllers.hardware_file import HardwareFile, read_hardware_file
from controllers.machines import Machines
from controllers.real_hardware import open_real_hardware
from hcp.errors import SettingsError
from hcp.fleet import load_fleet
from hcp.model.facilities import Fleet
from tests.nvml_lab import host

FLEET_TOML = """
[device_classes.h100]
kind = "gpu"
name = "H"
modes.mining = { power_watts = 440.0, hash_rate_mh_per_s = 99.0, algorithm = "k", enter_ms = 1, enter_wear_usd = 0.001 }
modes.ai_inference = { power_watts = 715.0, enter_ms = 1, enter_wear_usd = 0.001 }
modes.idle = { power_watts = 110.0, enter_ms = 1, enter_wear_usd = 0.001 }

[device_classes.s21]
kind = "asic"
name = "S21"
modes.mining = { power_watts = 3500.0, hash_rate_th_per_s = 200.0, enter_ms = 1, enter_wear_usd = 0.001 }
modes.sleep = { power_watts = 25.0, enter_ms = 1, enter_wear_usd = 0.001 }

[facilities.here]
name = "Here"
energy_market = "HB_WEST"
power_cap_mw = 1.0
ramp_mw_per_minute = 1.0
pue = 1.1
pool_fee_ratio = 0.01
reject_ratio = 0.0
uptime_ratio = 1.0
sla_bonus_ratio = 1.0
clusters.gpu-1 = { device_class = "h100", device_count = 2, initial_mode = "ai_inference" }
clusters.gpu-2 = { device_class = "h100", device_count = 1, initial_mode = "ai_inference" }
clusters.asic-1 = { device_class = "s21", device_count = 3, initial_mode = "mining" }
"""
GPU_ENTRY = """
[[gpu]]
device_id = "here.gpu-1/00/{index:03d}"
uuid = "{uuid}"
xmrig = {{ url = "http://127.0.0.1:44444" }}
[gpu.vllm]
url = "http://127.0.0.1:8000"
model = "m"
canary = {{ prompt = "p", tokens_max = 4, text = "t" }}
"""
ENTRY = GPU_ENTRY.format(index=0, uuid="GPU-0")
ASICS = """
[[asic]]
cluster_id = "here.asic-1"
firmware = "luxos"
addresses = ["10.0.1.7", "10.0.1.254-10.0.2.1"]
"""
BOTH = ENTRY + GPU_ENTRY.format(index=1, uuid="GPU-1")


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    """Two clusters of GPUs and one of ASICs."""
    path = tmp_path / "fleet.toml"
    path.write_text(FLEET_TOML, encoding="utf-8")
    return load_fleet(path)


def read(directory: Path, text: str, fleet: Fleet) -> HardwareFile:
    """Write a file and read it."""
    path = directory / "hardware.toml"
    path.write_text(text, encoding="utf-8")
    return read_hardware_file(path, fleet)


def test_file_is_read_with_its_secrets(tmp_path: Path, fleet: Fleet) -> None:
    """Every value arrives, secrets from the files that are named, what is left out by its default."""
    (tmp_path / "token").write_text("secret\n", encoding="utf-8")
    text = BOTH.replace(
        "xmrig = { url",
        f'xmrig = {{ access_token_file = "{tmp_path}/token", hash_rate_h_per_s_max = 2e6, pid_file = "/run/pid", url',
        1,
    )
    found = read(tmp_path, f'simulated = ["here.asic-1"]\n{text}', fleet)
    assert [shard.shard_id for shard in found.simulated] == ["here.asic-1/00"]
    assert [shard.shard_id for shard in found.real] == ["here.gpu-1/00"]
    first, second = found.gpus["here.gpu-1/00/000"], found.gpus["here.gpu-1/00/001"]
    assert (first.uuid, second.uuid) == ("GPU-0", "GPU-1")
    assert first.workloads.xmrig is not None
    assert (first.workloads.xmrig.access_token, first.workloads.xmrig.pid_file) == ("secret", Path("/run/pid"))
    assert first.workloads.vllm is not None
    assert first.workloads.vllm.canary == Canary(prompt="p", tokens_max=4, text="t")
    assert second.workloads.xmrig is not None
    assert (second.workloads.xmrig.access_token, second.workloads.xmrig.hash_rate_h_per_s_max) == ("", math.inf)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("", "must name a device or a simulated cluster"),
        ("gpu = 1", "must describe hardware"),
        ('simulated = ["here.gpu-9"]', "simulated must name clusters of the fleet, was here.gpu-9"),
        (ENTRY, r"here.gpu-1/00 must be described whole: 2 devices, 1 were not, the first here.gpu-1/00/001"),
        (ENTRY + ENTRY, "must be described once, was twice: here.gpu-1/00/000"),
        (BOTH.replace("GPU-1", "GPU-0"), "must be described once, was twice: GPU-0"),
        (f'simulated = ["here.gpu-1"]\n{BOTH}', "here.gpu-1/00 must be simulated or described, was both"),
        (BOTH + GPU_ENTRY.format(index=2, uuid="GPU-2"), "device_id must be of the fleet, was here.gpu-1/00/002"),
        (BOTH.replace('xmrig = { url = "http://127.0.0.1:44444" }', "", 1), "must have a program for mining, has none"),
        ('[[gpu]]\ndevice_id = "here.asic-1/00/000"\nuuid = "GPU-0"', "must be described whole: 3 devices"),
        (ASICS.replace("luxos", "avalon"), "firmware of here.asic-1 must be one of stock, luxos, whatsminer, braiins"),
        (ASICS.replace("asic-1", "asic-7"), "cluster_id must be of the fleet, was here.asic-7"),
        (ASICS.replace("asic-1", "gpu-1"), "here.gpu-1 must be of a class of ASICs, was h100"),
        (ASICS.replace('"10.0.1.7", ', ""), "addresses of here.asic-1 must be 3, were 2"),
        (ASICS.replace("10.0.1.7", "10.0.1.254"), "must be given once, was twice: 10.0.1.254"),
        (ASICS.replace("10.0.1.7", "miner-7"), "addresses must be like 10.1.0.10 or 10.1.0.10-10.1.3.250, was miner-7"),
        (ASICS.replace("10.0.2.1", "9.0.0.0"), "addresses must ascend"),
        (ASICS + ASICS, "must be described once, was twice: here.asic-1"),
        (ASICS + 'password_file = "/nowhere/key"\n', "password_file of here.asic-1 must hold a secret"),
        (BOTH.replace("tokens_max = 4", "tokens_max = 17"), "tokens_max must be from 1 to 16, was 17"),
        (BOTH.replace('text = "t"', 'text = ""'), "text of the canary must be"),
        (BOTH.replace("http://", "ftp://"), "url must begin with"),
        (BOTH + "sleep_level = 3\n", "sleep_level must be from 0 to 2, was 3"),
        (BOTH + 'api_key_file = "/nowhere/key"\n', "must hold a secret"),
        (BOTH + "sleep = 1\n", "unknown field `sleep`"),
        (BOTH.replace("xmrig = { url", "xmrig = { hash_rate_h_per_s_max = nan, url"), "must be above 0, was nan"),
    ],
)
def test_wrong_file_is_named_with_what_must_be(tmp_path: Path, fleet: Fleet, wrong: str, words: str) -> None:
    """A value out of range, a misspelt name, half a shard and a missing secret stop the start, in words."""
    with pytest.raises(SettingsError, match=words):
        read(tmp_path, wrong, fleet)


def test_addresses_are_given_in_the_order_of_devices(tmp_path: Path, fleet: Fleet) -> None:
    """Ranges leave out what ends in 0 and 255; every shard of the cluster is driven."""
    (tmp_path / "secret").write_text("pw\n", encoding="utf-8")
    text = f'{ASICS}username = "root"\npassword_file = "{tmp_path}/secret"\n'
    found = read(tmp_path, text, fleet)
    places = found.asics["here.asic-1"]
    assert places.hosts == ("10.0.1.7", "10.0.1.254", "10.0.2.1")
    assert places.credentials == Credentials(username="root", password="pw")  # noqa: S106  # of a test
    assert "pw" not in repr(places)
    assert [shard.shard_id for shard in found.real] == ["here.asic-1/00"]


def test_missing_file_is_a_setting_error(tmp_path: Path, fleet: Fleet) -> None:
    """A file that was asked for and is not there is no reason to simulate."""
    with pytest.raises(SettingsError, match=r"none\.toml must describe hardware"):
        read_hardware_file(tmp_path / "none.toml", fleet)


async def test_controller_drives_what_its_file_names_and_nothing_else(tmp_path: Path, fleet: Fleet) -> None:
    """GPUs through NVML, simulated clusters by rows; controllers of other devices are in another consumer group."""
    with host(tmp_path) as nvml:
        uuids = [gpu.uuid for gpu in nvml.gpus]
        text = "".join(GPU_ENTRY.format(index=index, uuid=uuid) for index, uuid in enumerate(uuids))
        described = read(tmp_path, f'simulated = ["here.asic-1"]\n{text}', fleet)
        async with await open_real_hardware(described, fleet) as real:
            machines = Machines(fleet=fleet, facilities=(), state_dir=tmp_path, described=described, real=real)
            assert set(machines.shards) == {"here.gpu-1/00", "here.asic-1/00"}
            assert set(machines.real) == {"here.gpu-1/00"}
            identity = await machines.of_shard("here.gpu-1/00")[1].device.identify()
            assert identity.vendor == "NVIDIA"
            asic = await machines.of_shard("here.asic-1/00")[0].device.identify()
            assert asic.firmware == "simulated"
            shard = machines.shards["here.gpu-1/00"]
            assert real.places(machines.real) == {uuid: (shard, index) for index, uuid in enumerate(uuids)}
    everything = Machines(fleet=fleet, facilities=(), state_dir=tmp_path)
    other = read(tmp_path, 'simulated = ["here.gpu-2"]', fleet)
    others = Machines(fleet=fleet, facilities=(), state_dir=tmp_path, described=other)
    assert everything.group_suffix == ""
    assert len({machines.group_suffix, others.group_suffix, ""}) == 3


async def test_gpus_without_nvml_stop_the_start(tmp_path: Path, fleet: Fleet) -> None:
    """A host that should have GPUs and has no driver says so at once, not at the first switch."""
    with host(tmp_path) as nvml:
        nvml.refuse_init()
        with pytest.raises(SettingsError, match="must have NVML"):
            await open_real_hardware(read(tmp_path, BOTH, fleet), fleet)
