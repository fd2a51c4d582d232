"""The file that says which programs work on which GPU, and the canary that commissioning puts into it."""

import math
from pathlib import Path

import pytest

from controllers.drivers.commission import learn, parser
from controllers.drivers.gpu_config import GpuWorkloads, canary_toml, gpu_machine, read_gpu_workloads
from controllers.drivers.http import open_session
from controllers.drivers.vllm import Canary
from controllers.ports import Applied, Proven
from hcp.errors import SettingsError
from hcp.model.devices import DeviceMode
from simulators.gpu_workloads.launch import running
from tests.gpu_lab import FakeDevice

DEADLINE_MS = 5_000
SERVER = """
[[gpu]]
device_id = "tx-north.gpu-1/00/003"
[gpu.vllm]
url = "http://127.0.0.1:8000"
model = "m"
canary = { prompt = "p", tokens_max = 4, text = "t" }
"""


def written(directory: Path, text: str) -> Path:
    """Write a file."""
    path = directory / "gpus.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_file_is_read_with_its_secrets(tmp_path: Path) -> None:
    """Every value arrives, secrets from the files that are named, what is left out by its default."""
    (tmp_path / "token").write_text("secret\n", encoding="utf-8")
    text = f"""{SERVER}
[gpu.xmrig]
url = "https://rig:1"
access_token_file = "{tmp_path}/token"
hash_rate_h_per_s_max = 2e6
pid_file = "/run/miner.pid"

[[gpu]]
device_id = "tx-north.gpu-1/00/004"
xmrig = {{ url = "http://rig:2" }}
"""
    found = read_gpu_workloads(written(tmp_path, text))
    first, second = found["tx-north.gpu-1/00/003"], found["tx-north.gpu-1/00/004"]
    assert first.xmrig is not None
    assert (first.xmrig.access_token, first.xmrig.pid_file) == ("secret", Path("/run/miner.pid"))
    assert first.vllm is not None
    assert first.vllm.canary == Canary(prompt="p", tokens_max=4, text="t")
    assert second.vllm is None
    assert second.xmrig is not None
    assert (second.xmrig.access_token, second.xmrig.hash_rate_h_per_s_max) == ("", math.inf)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (SERVER.replace("tokens_max = 4", "tokens_max = 17"), "tokens_max must be from 1 to 16, was 17"),
        (SERVER.replace('text = "t"', 'text = ""'), "text of the canary must be"),
        (SERVER.replace("http://", "ftp://"), "url must begin with"),
        (SERVER + "sleep_level = 3\n", "sleep_level must be from 0 to 2, was 3"),
        (SERVER + 'api_key_file = "/nowhere/key"\n', "must hold a secret"),
        (SERVER + "sleep = 1\n", "unknown field `sleep`"),
        (SERVER + SERVER, "given twice"),
        ("gpu = 1", "must describe GPUs"),
        (
            '[[gpu]]\ndevice_id = "d"\nxmrig = { url = "http://r", hash_rate_h_per_s_max = nan }',
            "hash_rate_h_per_s_max must be above 0, was nan",
        ),
    ],
)
def test_wrong_file_is_named_with_what_must_be(tmp_path: Path, wrong: str, words: str) -> None:
    """A value out of range, a misspelt name and a missing secret stop the start, in words."""
    with pytest.raises(SettingsError, match=words):
        read_gpu_workloads(written(tmp_path, wrong))


def test_missing_file_is_a_setting_error(tmp_path: Path) -> None:
    """There is no default to fall back on."""
    with pytest.raises(SettingsError, match=r"none\.toml must describe GPUs"):
        read_gpu_workloads(tmp_path / "none.toml")


@pytest.mark.parametrize("text", ["plain", 'a "quoted" \\ one', "new\nline\t\x00\x7f", "é 東京 \U0001f600"])
def test_canary_comes_back_as_it_was_learned(tmp_path: Path, text: str) -> None:
    """Whatever the model answers, the line in the file gives it back."""
    canary = Canary(prompt=text, tokens_max=4, text=text, token_ids=(1, 2))
    line = 'canary = { prompt = "p", tokens_max = 4, text = "t" }'
    found = read_gpu_workloads(written(tmp_path, SERVER.replace(line, canary_toml(canary))))
    server = found["tx-north.gpu-1/00/003"].vllm
    assert server is not None
    assert server.canary == canary


async def test_commissioned_machine_switches_by_its_file_alone(tmp_path: Path) -> None:
    """Canary learned by the command, put into the file, machine made from the file: both workloads are proven."""
    with running("miner") as miner, running("server", "--weights-mb", "1") as server:
        line = await learn(parser().parse_args(["--url", server.url, "--model", "hcp-canary"]))
        assert line is not None
        text = f"""
[[gpu]]
device_id = "d"
xmrig = {{ url = "{miner.url}" }}
[gpu.vllm]
url = "{server.url}"
model = "hcp-canary"
{line}
"""
        async with open_session() as session:
            workloads = read_gpu_workloads(written(tmp_path, text))["d"]
            machine = gpu_machine(workloads, device=FakeDevice(), session=session)
            assert machine.modes == (DeviceMode.MINING, DeviceMode.AI_INFERENCE, DeviceMode.IDLE)
            assert (await machine.device.safe_stop(reason="test")) == Applied()
            for mode in (DeviceMode.MINING, DeviceMode.AI_INFERENCE):
                workload = machine.workload(mode)
                assert await workload.activate(deadline_ms=DEADLINE_MS) == Applied()
                assert isinstance(await workload.verify(deadline_ms=DEADLINE_MS), Proven)
                assert (await machine.device.safe_stop(reason="test")) == Applied()


async def test_nothing_is_learned_where_nobody_serves(capsys: pytest.CaptureFixture[str]) -> None:
    """Without an answer the command says why and gives no line."""
    assert await learn(parser().parse_args(["--url", "http://127.0.0.1:9", "--model", "m"])) is None
    assert "must be answered" in capsys.readouterr().err


async def test_gpu_without_programs_is_idle_only() -> None:
    """A GPU that is described without a program has the one mode that needs none."""
    async with open_session() as session:
        machine = gpu_machine(GpuWorkloads(xmrig=None, vllm=None), device=FakeDevice(), session=session)
    assert machine.modes == (DeviceMode.IDLE,)
