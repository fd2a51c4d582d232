"""A machine made from its entry in hardware.toml, and the canary that commissioning puts there."""

import msgspec
import pytest

from controllers.drivers.commission import learn, parser
from controllers.drivers.gpu_config import GpuEntry, GpuWorkloads, canary_toml, gpu_machine, gpu_workloads
from controllers.drivers.http import open_session
from controllers.drivers.vllm import Canary
from controllers.ports import Applied, Proven
from hcp.model.devices import DeviceMode
from simulators.gpu_workloads.launch import running
from tests.gpu_lab import FakeDevice

DEADLINE_MS = 5_000
SERVER = """
[[gpu]]
device_id = "tx-north.gpu-1/00/003"
uuid = "GPU-0"
[gpu.vllm]
url = "http://127.0.0.1:8000"
model = "m"
canary = { prompt = "p", tokens_max = 4, text = "t" }
"""


def workloads_of(text: str) -> GpuWorkloads:
    """Return the programs of a file's only GPU."""
    (entry,) = msgspec.toml.decode(text, type=dict[str, tuple[GpuEntry, ...]])["gpu"]
    return gpu_workloads(entry)


@pytest.mark.parametrize("text", ["plain", 'a "quoted" \\ one', "new\nline\t\x00\x7f", "é 東京 \U0001f600"])
def test_canary_comes_back_as_it_was_learned(text: str) -> None:
    """Whatever the model answers, the line in the file gives it back."""
    canary = Canary(prompt=text, tokens_max=4, text=text, token_ids=(1, 2))
    line = 'canary = { prompt = "p", tokens_max = 4, text = "t" }'
    server = workloads_of(SERVER.replace(line, canary_toml(canary))).vllm
    assert server is not None
    assert server.canary == canary


async def test_commissioned_machine_switches_by_its_file_alone() -> None:
    """Canary learned by the command, put into the file, machine made from the file: both workloads are proven."""
    with running("miner") as miner, running("server", "--weights-mb", "1") as server:
        line = await learn(parser().parse_args(["--url", server.url, "--model", "hcp-canary"]))
        assert line is not None
        text = f"""
[[gpu]]
device_id = "d"
uuid = "GPU-0"
xmrig = {{ url = "{miner.url}" }}
[gpu.vllm]
url = "{server.url}"
model = "hcp-canary"
{line}
"""
        async with open_session() as session:
            machine = gpu_machine(workloads_of(text), device=FakeDevice(), session=session)
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
